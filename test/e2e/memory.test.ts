// What a daemon needs of the machine while guests are busy: the most memory that it ever had, as the kernel counted it.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { needTool } from '../tools.ts'
import { createDisk, endSitesAfterEach, Site, tool } from './sites.ts'

const mebibyte = 2 ** 20
const diskBytes = 256 * mebibyte
const limitBytes = 200 * mebibyte

describe('the memory of a daemon', () => {
  before(function () {
    needTool(this, 'fio')
  })
  endSitesAfterEach()

  it('stays under 200 MiB with 16 busy connections, over TCP as over a Unix socket', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', diskBytes)
    // A first start compiles what later ones find.
    await site.stop()
    await site.restart()
    for (const uri of [site.uri('web01'), `nbd://127.0.0.1:${site.nbdPort}/web01`]) {
      await busy(uri, '--rw=write', '--bs=1M', '--iodepth=8')
      await busy(uri, '--rw=randrw', '--bs=4k', '--iodepth=32', '--numjobs=4')
      await busy(uri, '--rw=rw', '--bs=1M', '--iodepth=8', '--numjobs=16')
    }
    const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${site.pid}/status`, 'utf8'))!
    const mostBytes = Number(kibibytes) * 1024
    assert(mostBytes < limitBytes, `it had ${Math.round(mostBytes / mebibyte)} MiB`)
  })
})

async function busy(uri: string, ...shape: string[]): Promise<void> {
  const fixed = ['--name=busy', '--ioengine=nbd', '--thread', '--group_reporting', `--size=${diskBytes}`]
  await tool('fio', ...fixed, ...shape, '--time_based', '--runtime=2', '--output-format=terse', `--uri=${uri}`)
}
