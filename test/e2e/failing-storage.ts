// Storage that fails when a test says so, below a real daemon, in two ways. nbdkit over a script, which nbdfuse shows as a
// file: the kernel's own EIO comes up, where FUSE mounts are permitted. And a library that is loaded before libc, which can
// also let files fail that a daemon makes itself.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { mounted } from '../fuse.ts'
import { Program } from '../program.ts'
import { temporaryFolderOnTmpfs } from '../store/folder.ts'
import { findTool, needTool, skipHere } from '../tools.ts'
import { afterwards, folder } from './sites.ts'

const deadlineSeconds = 60

export interface Fault {
  begin(): void
  end(): Promise<void>
}

export interface Faults {
  /** Each sync fails, and nothing else. */
  readonly syncs: Fault
  /** Reads of the bad range fail. */
  readonly reads: Fault
}

export interface FailingFile extends Faults {
  readonly path: string
  /** For the daemon that serves it. */
  readonly env: NodeJS.ProcessEnv
}

export interface BadRange {
  readonly offset: number
  readonly length: number
}

/** A file web01.img with this content at first. The test is skipped where there is no such storage. */
type MakeFailingFile = (context: Mocha.Context, content: Buffer, bad: BadRange) => Promise<FailingFile>

export const failingFiles: Readonly<Record<string, MakeFailingFile>> = {
  'a file that nbdfuse shows': fileThroughFuse,
  'a file below a library': fileBelowLibrary,
}

/** `writes`: while there is a fault, they wait. */
export async function fileThroughFuse(
  context: Mocha.Context,
  content: Buffer,
  bad: BadRange = { offset: 0, length: 0 },
): Promise<FailingFile & { readonly writes: Fault }> {
  needTool(context, 'nbdkit', 'nbdfuse')
  if (!existsSync('/dev/fuse')) skipHere(context, 'there is no /dev/fuse')
  const place = folder()
  const [backing, path] = [join(place, 'backing'), join(place, 'web01.img')]
  writeFileSync(backing, content)
  writeFileSync(path, '')
  const { syncs, reads } = faultsIn(place)
  const writes = faultOf(join(place, 'no-writes-yet'))
  const fails = (why: string) => `{ echo "EIO ${why}" >&2; exit 1; }`
  const isBad = `[ $4 -lt ${bad.offset + bad.length} ] && [ $(($4 + $3)) -gt ${bad.offset} ]`
  const script = {
    get_size: `echo ${content.length}`,
    can_write: 'exit 0',
    can_flush: 'exit 0',
    pread: `[ -e ${reads.trigger} ] && ${isBad} && ${fails('a sector cannot be read')}
exec dd if=${backing} skip=$4 count=$3 bs=64k iflag=skip_bytes,count_bytes status=none`,
    pwrite: `while [ -e ${writes.trigger} ]; do sleep 0.05; done
exec dd of=${backing} seek=$4 bs=64k oflag=seek_bytes conv=notrunc status=none`,
    flush: `[ ! -e ${syncs.trigger} ] || ${fails('the cache of the device is lost')}`,
  }
  const server = ['nbdkit', '-s', 'eval', ...Object.entries(script).map(([call, lines]) => `${call}=${lines}`)]
  const fuse = new Program('nbdfuse', findTool('nbdfuse')!, [path, '--command', ...server])
  afterwards(async () => {
    fuse.signal('SIGTERM') // It unmounts, once the daemon has closed the file.
    await fuse.ended(deadlineSeconds)
  })
  await mounted(context, fuse, path, content.length)
  return { path, env: {}, syncs, reads, writes }
}

/** On a tmpfs, where reads go through libc: elsewhere those of the page cache do not. */
async function fileBelowLibrary(context: Mocha.Context, content: Buffer, bad: BadRange): Promise<FailingFile> {
  const path = join(temporaryFolderOnTmpfs(context), 'web01.img')
  writeFileSync(path, content)
  const { env, syncs, reads } = failingStorage(context, '.img')
  return { path, env: { ...env, FAILING_STORAGE_BAD: `${bad.offset} ${bad.length}` }, syncs, reads }
}

/** Of files whose names end so, in daemons that are started with `env`. */
export function failingStorage(context: Mocha.Context, suffix: string): Faults & Pick<FailingFile, 'env'> {
  needTool(context, 'gcc')
  const place = folder()
  const [library, source] = [join(place, 'failing-storage.so'), join(import.meta.dirname, 'failing-storage.c')]
  execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o', library, source])
  const env = { LD_PRELOAD: library, FAILING_STORAGE: place, FAILING_STORAGE_SUFFIX: suffix }
  return { env, ...faultsIn(place) }
}

function faultsIn(place: string) {
  return { syncs: faultOf(join(place, 'no-syncs')), reads: faultOf(join(place, 'no-reads')) }
}

/** There while the file `trigger` is. */
function faultOf(trigger: string): Fault & { readonly trigger: string } {
  return {
    trigger,
    begin: () => {
      assert(!existsSync(trigger))
      writeFileSync(trigger, '')
    },
    end: () => rm(trigger),
  }
}
