// nbdfuse: an export as a file that any program reads and writes.

import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../e2e/sites.ts'
import { serve } from '../nbd/harness.ts'
import { Program } from '../program.ts'
import { findTool, needTool, skipHere } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned } from './clients.ts'

const deadlineSeconds = 15
/** What libfuse says where nobody may mount, as in many containers. */
const mayNotMount = /fuse: (device not found|failed to open|mount failed)|fusermount3?: /

describe('nbdfuse', () => {
  before(function () {
    needTool(this, 'nbdfuse')
    if (!existsSync('/dev/fuse')) skipHere(this, 'there is no /dev/fuse')
  })

  it('mounts an export as a file, over four connections: what is written and synced there is in the disk', async function () {
    const bytes = patterned(2 * mebibyte)
    const disk = filled(bytes)
    await using site = await serve([disk])
    const file = join(site.folder, 'disk')
    writeFileSync(file, '')
    const fuse = new Program('nbdfuse', findTool('nbdfuse')!, ['-C', '4', file, site.uri])
    try {
      if (!(await isMounted(fuse, file, bytes.length))) skipHere(this, 'FUSE mounts are not permitted')
      await useFile(file, bytes)
    } finally {
      fuse.signal('SIGTERM') // It unmounts.
      await fuse.ended(deadlineSeconds)
    }
    assert(disk.bytes.equals(bytes))
    assert(disk.calls.includes('flush'))
    assert(disk.opens >= 4)
    assertNoFailure(site)
  })
})

/** Resolves to false when nobody may mount here. */
function isMounted(fuse: Program, file: string, sizeBytes: number): Promise<boolean> {
  return until('nbdfuse has mounted', async () => {
    if ((await stat(file)).size === sizeBytes) return true
    return fuse.stderr.seen.some((line) => mayNotMount.test(line)) ? false : undefined
  })
}

/** Reads all, writes a part that begins in the middle of a block, and syncs; `bytes` is what the file then holds. */
async function useFile(path: string, bytes: Buffer): Promise<void> {
  // Not the calls that wait: the server is in this process.
  await using file = await open(path, 'r+')
  const { buffer: read } = await file.read(Buffer.alloc(bytes.length), 0, bytes.length, 0)
  assert(read.equals(bytes))
  bytes.fill(0x77, 100, 5100)
  await file.write(bytes, 100, 5000, 100)
  await file.sync()
}
