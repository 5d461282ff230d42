// fio with its nbd engine (libnbd): loads that verify what they wrote.

import assert from 'node:assert/strict'
import { serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, mebibyte, run } from './clients.ts'

describe('fio', () => {
  before(function () {
    needTool(this, 'fio')
  })

  async function load(uri: string, ...words: string[]) {
    const engine = ['--ioengine=nbd', `--uri=${uri}`, '--randseed=7']
    const verifying = [...engine, '--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0']
    const told = await run('fio', '--name=verify', ...verifying, ...words, '--output-format=json')
    return JSON.parse(told.slice(told.indexOf('{'))).jobs as { error: number; read: { total_ios: number } }[]
  }

  it('verifies what it wrote, at depth 16 with sizes of 512 bytes to 64 KiB', async () => {
    const disk = new MemoryExport({ sizeBytes: 16 * mebibyte })
    await using site = await serve([disk])
    const words = ['--rw=randwrite', '--bsrange=512-64k', '--blockalign=512', '--iodepth=16', '--size=16m']
    const [job] = await load(site.uri, ...words)
    assert.equal(job!.error, 0)
    assert(job!.read.total_ios > 0)
    assertNoFailure(site)
  })

  it('verifies in four jobs at once, each with a connection and a part of the disk of its own', async () => {
    const disk = new MemoryExport({ sizeBytes: 16 * mebibyte })
    await using site = await serve([disk])
    const parts = ['--numjobs=4', '--size=4m', '--offset_increment=4m', '--iodepth=8', '--bs=4k', '--fsync=64']
    const jobs = await load(site.uri, '--rw=randrw', ...parts)
    assert.deepEqual(
      jobs.map(({ error }) => error),
      [0, 0, 0, 0],
    )
    assert(disk.opens >= 4)
    assert(disk.calls.includes('flush'))
    assertNoFailure(site)
  })
})
