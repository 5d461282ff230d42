// qemu-nbd over an export of ours: QEMU is the client, and serves what it gets on, to our client and to nbdcopy.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { writableQemuNbd } from '../e2e/nbd-servers.ts'
import { endSitesAfterEach } from '../e2e/sites.ts'
import { serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, mebibyte, patterned, run } from './clients.ts'

describe('qemu-nbd over an export', () => {
  endSitesAfterEach()
  before(function () {
    needTool(this, 'qemu-nbd')
  })

  it('hands on what our client writes, zeroes, trims and flushes through it, and reads it back', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    await using site = await serve([disk])
    const { uri } = await writableQemuNbd(site.uri)
    const client = await NbdClient.connect(uri)
    const bytes = patterned(3 * mebibyte + 512)
    await client.write(mebibyte, bytes)
    await client.write(0, bytes.subarray(0, 4096), { fua: true })
    await client.writeZeroes(mebibyte, 64 * 1024)
    await client.trim(2 * mebibyte, 64 * 1024)
    await client.flush()
    bytes.fill(0, 0, 64 * 1024)
    bytes.fill(0, mebibyte, mebibyte + 64 * 1024)
    assert((await client.read(mebibyte, bytes.length)).equals(bytes))
    assert(disk.bytes.subarray(mebibyte, mebibyte + bytes.length).equals(bytes))
    assert.deepEqual(disk.bytes.subarray(0, 4096), patterned(4096))
    for (const kind of [/^write .* fua$/, /^zero /, /^trim /, /^flush$/]) {
      assert(
        disk.calls.some((call) => kind.test(call)),
        `no ${kind}`,
      )
    }
    await client.disconnect()
    assertNoFailure(site)
  })

  it('serves nbdcopy, over several connections to it', async function () {
    needTool(this, 'nbdcopy')
    const bytes = patterned(8 * mebibyte)
    bytes.fill(0, 2 * mebibyte, 4 * mebibyte)
    const disk = new MemoryExport({ sizeBytes: bytes.length })
    bytes.copy(disk.bytes)
    disk.written.fill(1)
    disk.written.fill(0, 512, 1024)
    await using site = await serve([disk])
    const { uri } = await writableQemuNbd(site.uri)
    const output = join(site.folder, 'out.raw')
    await run('nbdcopy', '--connections=4', uri, output)
    assert(readFileSync(output).equals(bytes))
    assertNoFailure(site)
  })
})
