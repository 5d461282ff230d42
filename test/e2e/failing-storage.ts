// Storage that fails when a test says so, below a real daemon. A file of its own kind for disks that are served where they
// lie: nbdkit over a script, which nbdfuse shows as a file, so that the kernel's own EIO comes up. And a library for the
// files that a daemon makes itself: it is loaded before libc, and lets the syncs of block files fail.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { mounted } from '../fuse.ts'
import { Program } from '../program.ts'
import { findTool, needTool, skipHere } from '../tools.ts'
import { afterwards, folder } from './sites.ts'

const deadlineSeconds = 15

export interface Fault {
  begin(): void
  end(): Promise<void>
}

export interface FailingFile {
  readonly path: string
  /** Each sync fails, and nothing else. */
  readonly syncs: Fault
  /** Reads of the bad range fail. */
  readonly reads: Fault
}

export interface BadRange {
  readonly offset: number
  readonly length: number
}

/** The test is skipped where FUSE mounts are not permitted. `content` is what the file has at first. */
export async function failingFile(context: Mocha.Context, content: Buffer, bad: BadRange): Promise<FailingFile> {
  needTool(context, 'nbdkit', 'nbdfuse')
  if (!existsSync('/dev/fuse')) skipHere(context, 'there is no /dev/fuse')
  const place = folder()
  const [backing, path] = [join(place, 'backing'), join(place, 'web01.img')]
  writeFileSync(backing, content)
  writeFileSync(path, '')
  const [syncs, reads] = [faultOf(join(place, 'no-syncs')), faultOf(join(place, 'no-reads'))]
  const fails = (why: string) => `{ echo "EIO ${why}" >&2; exit 1; }`
  const isBad = `[ $4 -lt ${bad.offset + bad.length} ] && [ $(($4 + $3)) -gt ${bad.offset} ]`
  const script = {
    get_size: `echo ${content.length}`,
    can_write: 'exit 0',
    can_flush: 'exit 0',
    pread: `[ -e ${reads.trigger} ] && ${isBad} && ${fails('a sector cannot be read')}
exec dd if=${backing} skip=$4 count=$3 bs=64k iflag=skip_bytes,count_bytes status=none`,
    pwrite: `exec dd of=${backing} seek=$4 bs=64k oflag=seek_bytes conv=notrunc status=none`,
    flush: `[ ! -e ${syncs.trigger} ] || ${fails('the cache of the device is lost')}`,
  }
  const server = ['nbdkit', '-s', 'eval', ...Object.entries(script).map(([call, lines]) => `${call}=${lines}`)]
  const fuse = new Program('nbdfuse', findTool('nbdfuse')!, [path, '--command', ...server])
  afterwards(async () => {
    fuse.signal('SIGTERM') // It unmounts, once the daemon has closed the file.
    await fuse.ended(deadlineSeconds)
  })
  await mounted(context, fuse, path, content.length)
  return { path, syncs, reads }
}

export interface FailingSyncs extends Fault {
  /** For the daemon whose block files it is about. */
  readonly env: NodeJS.ProcessEnv
}

/** Syncs of block files (`.raw`) fail, in daemons that are started with `env`. */
export function failingSyncs(context: Mocha.Context): FailingSyncs {
  needTool(context, 'gcc')
  const place = folder()
  const library = join(place, 'failing-syncs.so')
  execFileSync('gcc', [
    '-O2',
    '-Wall',
    '-Werror',
    '-shared',
    '-fPIC',
    '-o',
    library,
    join(import.meta.dirname, 'failing-syncs.c'),
  ])
  const fault = faultOf(join(place, 'no-syncs'))
  return { ...fault, env: { LD_PRELOAD: library, FAILING_SYNCS_TRIGGER: fault.trigger } }
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
