// nbdinfo: what exports there are, what they can, and where their data lies.

import assert from 'node:assert/strict'
import { GuestError } from '../../src/guest/export.ts'
import { serve, uriOf } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, mebibyte, run } from './clients.ts'

describe('nbdinfo', () => {
  before(function () {
    needTool(this, 'nbdinfo')
  })

  it('describes an export', async () => {
    const disk = new MemoryExport({ sizeBytes: 3 * mebibyte, description: 'the disk of web01' })
    await using site = await serve([disk])
    const { exports } = JSON.parse(await run('nbdinfo', '--json', uriOf(site, 'disk')))
    const [described] = exports
    assert.equal(described['export-size'], 3 * mebibyte)
    assert.equal(described.description, 'the disk of web01')
    assert.equal(described.can_multi_conn, true)
    assert.equal(described.can_df, true)
    assert.equal(described.can_fast_zero, true)
    assert.equal(described.block_size_minimum, 1)
    assert.equal(described.block_size_maximum, 32 * mebibyte)
    assert.deepEqual(described.contexts, ['base:allocation'])
    assertNoFailure(site)
  })

  it('lists all exports', async () => {
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'größe', readOnly: true })])
    const { exports } = JSON.parse(await run('nbdinfo', '--list', '--json', site.uri))
    assert.deepEqual(
      exports.map((entry: Record<string, unknown>) => [entry['export-name'], entry['is_read_only']]),
      [
        ['disk', false],
        ['größe', true],
      ],
    )
    assertNoFailure(site)
  })

  it('maps data and holes', async () => {
    const disk = new MemoryExport({ sizeBytes: mebibyte })
    disk.written.fill(1, 16, 32)
    await using site = await serve([disk])
    const map = JSON.parse(await run('nbdinfo', '--map', '--json', site.uri)) as Record<string, unknown>[]
    assert.deepEqual(
      map.map(({ offset, length, type }) => [offset, length, type]),
      [
        [0, 65536, 3],
        [65536, 65536, 0],
        [131072, mebibyte - 131072, 3],
      ],
    )
  })

  it('asks what an export can', async () => {
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'fixed', readOnly: true })])
    for (const ability of ['cache', 'df', 'fast-zero', 'flush', 'fua', 'multi-conn', 'trim', 'zero', 'write']) {
      await run('nbdinfo', '--can', ability, uriOf(site, 'disk'))
    }
    await run('nbdinfo', '--is', 'read-only', uriOf(site, 'fixed'))
    await assert.rejects(run('nbdinfo', '--can', 'trim', uriOf(site, 'fixed')), { code: 2 })
  })

  it('is told why an export is refused', async () => {
    const disk = new MemoryExport()
    disk.openFault = new GuestError('not-served', 'the disk departed to tokyo')
    await using site = await serve([disk])
    await assert.rejects(run('nbdinfo', uriOf(site, 'disk')), /departed to tokyo|shutdown/i)
    await assert.rejects(run('nbdinfo', uriOf(site, 'nothing')), /No such file or directory for export: nothing/)
  })

  it('adds the map up', async () => {
    const disk = new MemoryExport({ sizeBytes: mebibyte })
    disk.written.fill(1, 0, 64)
    await using site = await serve([disk])
    const totals = JSON.parse(await run('nbdinfo', '--map', '--totals', '--json', site.uri)) as Record<
      string,
      unknown
    >[]
    assert.deepEqual(
      totals.map(({ size, type }) => [size, type]).sort(),
      [
        [mebibyte / 4, 0],
        [(mebibyte / 4) * 3, 3],
      ].sort(),
    )
    assertNoFailure(site)
  })

  it('asks for the size, and what the connection is', async () => {
    await using site = await serve([new MemoryExport({ sizeBytes: 12345 })])
    assert.equal(await run('nbdinfo', '--size', site.uri), '12345\n')
    await run('nbdinfo', '--can', 'connect', site.uri)
    await run('nbdinfo', '--can', 'structured-reply', site.uri)
    for (const is of ['read-only', 'rotational', 'tls']) {
      await assert.rejects(run('nbdinfo', '--is', is, site.uri), { code: 2 }, is)
    }
  })
})
