// nbdcopy: whole disks in and out, over several connections.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { serve, uriOf } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned, run } from './clients.ts'

describe('nbdcopy', () => {
  before(function () {
    needTool(this, 'nbdcopy')
  })

  it('copies in and out over several connections, holes too', async () => {
    const bytes = patterned(12 * mebibyte + 512)
    bytes.fill(0, 4 * mebibyte, 7 * mebibyte)
    const disk = new MemoryExport({ sizeBytes: bytes.length })
    await using site = await serve([disk])
    const [input, output] = [join(site.folder, 'in.raw'), join(site.folder, 'out.raw')]
    writeFileSync(input, bytes)
    await run('nbdcopy', '--connections=4', '--threads=4', '--flush', input, site.uri)
    assert(disk.bytes.equals(bytes))
    assert(disk.opens > 1)
    await run('nbdcopy', '--connections=4', '--threads=4', site.uri, output)
    assert(readFileSync(output).equals(bytes))
    assertNoFailure(site)
  })

  it('copies between two exports, with large requests, and leaves holes alone', async () => {
    const bytes = patterned(8 * mebibyte)
    bytes.fill(0, 2 * mebibyte, 6 * mebibyte)
    const source = filled(bytes)
    source.written.fill(0, 512, 1536)
    const target = new MemoryExport({ name: 'target', sizeBytes: bytes.length })
    await using site = await serve([source, target])
    const words = ['--request-size=4194304', '--destination-is-zero', '--flush']
    await run('nbdcopy', ...words, uriOf(site, 'disk'), uriOf(site, 'target'))
    assert(target.bytes.equals(bytes))
    assert.equal(target.written[1024], 0, 'a hole stays one')
    assert(target.calls.includes('flush'))
    assertNoFailure(site)
  })

  it('finds zeros in what is called data, and writes them as such over data that was there', async () => {
    const source = filled(patterned(mebibyte))
    source.bytes.fill(0, 0, mebibyte / 2)
    const target = filled(patterned(mebibyte), { name: 'target' })
    await using site = await serve([source, target])
    await run('nbdcopy', '--no-extents', uriOf(site, 'disk'), uriOf(site, 'target'))
    assert(target.bytes.equals(source.bytes))
    assert(target.calls.some((call) => call.startsWith('zero ')))
    assertNoFailure(site)
  })

  it('copies one request at a time', async () => {
    const source = filled(patterned(mebibyte))
    const target = new MemoryExport({ name: 'target' })
    await using site = await serve([source, target])
    await run('nbdcopy', '--synchronous', uriOf(site, 'disk'), uriOf(site, 'target'))
    assert(target.bytes.equals(source.bytes))
    assertNoFailure(site)
  })
})
