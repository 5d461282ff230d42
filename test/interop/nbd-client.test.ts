// nbd-client, as far as it goes without a kernel: its list. test/qemu/kernel-client has the kernel.

import assert from 'node:assert/strict'
import { serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, run } from './clients.ts'

describe('nbd-client', () => {
  it('lists the exports', async function () {
    needTool(this, 'nbd-client')
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'other' })])
    const told = await run('nbd-client', '-l', '-unix', site.path)
    assert.match(told, /disk\s+other/)
    assertNoFailure(site)
  })
})
