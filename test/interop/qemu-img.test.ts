// qemu-img: whole disks as QEMU reads, writes and compares them.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { serve, uriOf } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned, run } from './clients.ts'

describe('qemu-img', () => {
  before(function () {
    needTool(this, 'qemu-img')
  })

  it('maps, converts both ways and compares', async () => {
    const bytes = patterned(6 * mebibyte)
    bytes.fill(0, 2 * mebibyte, 4 * mebibyte)
    const source = filled(bytes)
    source.written.fill(0, 512, 1024)
    const target = new MemoryExport({ name: 'target', sizeBytes: bytes.length })
    await using site = await serve([source, target])
    const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', uriOf(site, 'disk')))
    assert.deepEqual(
      map.map((part: { start: number; data: boolean }) => [part.start, part.data]),
      [
        [0, true],
        [2 * mebibyte, false],
        [4 * mebibyte, true],
      ],
    )
    const image = join(site.folder, 'disk.qcow2')
    await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uriOf(site, 'disk'), image)
    await run('qemu-img', 'convert', '-n', '-f', 'qcow2', '-O', 'raw', image, uriOf(site, 'target'))
    assert(target.bytes.equals(bytes))
    await run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', image, uriOf(site, 'target'))
    target.bytes[5_000_000]! ^= 1
    await assert.rejects(run('qemu-img', 'compare', '-F', 'raw', image, uriOf(site, 'target')), { code: 1 })
    assertNoFailure(site)
  })

  it('benches reads and writes, with flushes in between', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    await using site = await serve([disk])
    // Once through the disk: in a second round QEMU 11 writes what the first left out.
    const many = ['bench', '-f', 'raw', '-c', '1024', '-d', '32', '-s', '4096', '-S', '8192']
    assert.match(await run('qemu-img', ...many, site.uri), /Run completed in/)
    const writing = [...many, '-w', '--pattern=165', '--flush-interval=200', '-t', 'none']
    assert.match(await run('qemu-img', ...writing, site.uri), /Run completed in/)
    assert.deepEqual([disk.bytes[0], disk.bytes[4096], disk.bytes[8192]], [165, 0, 165])
    assert(disk.calls.filter((call) => call === 'flush').length >= 4)
    assertNoFailure(site)
  })
})
