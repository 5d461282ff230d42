// What a file system's error means for whoever moves a disk through the folder.

import { TransportError, type TransportErrorCode } from 'vmstore/transport'

interface Meaning {
  readonly code: TransportErrorCode
  readonly says: string
}

const meanings: Readonly<Record<string, Meaning>> = {
  EACCES: { code: 'denied', says: 'this account has no right to it' },
  EPERM: { code: 'denied', says: 'this account has no right to it' },
  EROFS: { code: 'denied', says: 'its file system is mounted read-only' },
  ELOOP: { code: 'denied', says: 'a symbolic link lies where a file or folder of the store belongs' },
  ENOENT: { code: 'missing', says: 'it is not there: make it, or mount what belongs there' },
  ENOTDIR: { code: 'missing', says: 'it is no folder' },
  ENOSPC: { code: 'unavailable', says: 'its file system is full: make room there' },
  EDQUOT: { code: 'unavailable', says: "this account's quota there is used up: make room there" },
  ESTALE: { code: 'unavailable', says: 'its server has forgotten it: mount it anew' },
  EMFILE: { code: 'throttled', says: 'this process has too many files open' },
  ENFILE: { code: 'throttled', says: 'this host has too many files open' },
}

/** How link(2) says that a file system has no hard links. */
const noLinks = new Set(['EPERM', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP'])

export const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code

/** `what` is the beginning of a sentence: "objects cannot be put into /mnt/relay". */
export function transportError(what: string, error: unknown): Error {
  if (error instanceof TransportError) return error
  const meaning = meanings[codeOf(error) ?? '']
  if (!meaning) return new TransportError('unavailable', `${what}: ${(error as Error).message}`, { cause: error })
  return new TransportError(meaning.code, `${what}: ${meaning.says}`, { cause: error })
}

export function lacksLinks(error: unknown): boolean {
  return noLinks.has(codeOf(error) ?? '')
}

/** undefined: it is not there. */
export async function ifThere<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined
    throw error
  }
}
