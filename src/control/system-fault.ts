// What the operating system refused the daemon, as a sentence for its operator. Pure.

import { type ErrorView, ExitCode } from './types.ts'

const meanings: Readonly<Record<string, readonly [what: string, next: string]>> = {
  EMFILE: [
    'it has as many files and connections open as it may',
    'Give it more (LimitNOFILE= in its unit, or ulimit -n), or have clients leave.',
  ],
  ENFILE: ['the host has as many files open as it can', 'Raise fs.file-max, or end what holds them.'],
  ENOSPC: ['a file system is full', 'Make room there.'],
  EDQUOT: ['its quota on a file system is used up', 'Raise the quota, or make room there.'],
  EROFS: ['a file system is read-only', 'See in the log of the kernel why; it may have found itself damaged.'],
  EACCES: ['it may not use a file', "See who owns it: the daemon's user must be able to use it."],
  EPERM: ['it may not do that', "See the log for what it was: the daemon's user lacks the right."],
  EIO: ['the storage failed', 'See the log of the kernel, and mend the storage first.'],
  ENOMEM: ['the host has no memory for it', 'Make room in memory.'],
}

/** undefined: `error` is none of the system, or one that nobody foresaw. */
export function systemFaultOf(error: unknown): ErrorView | undefined {
  const { code, syscall, path } = (error ?? {}) as NodeJS.ErrnoException
  const meaning = code === undefined || syscall === undefined ? undefined : meanings[code]
  if (!meaning) return undefined
  const where = path === undefined ? '' : ` ${path}`
  return {
    code: 'system',
    exit: ExitCode.other,
    message: `The system refused what the daemon needed: ${meaning[0]} (${code}, ${syscall}${where}).`,
    safe: 'What could not be done is not on record; disks and guests are as before.',
    next: meaning[1],
  }
}
