// nbdfuse: an export as a file that any program reads and writes.

import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { mounted } from '../fuse.ts'
import { serve } from '../nbd/harness.ts'
import { Program } from '../program.ts'
import { findTool, needTool, skipHere } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned } from './clients.ts'

const deadlineSeconds = 60

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
      await mounted(this, fuse, file, bytes.length)
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
