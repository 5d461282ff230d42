// The operator bounds the copy anew while it goes on: said at either site, it holds at once, and after a restart.

import assert from 'node:assert/strict'
import { sitesWithData } from './scenes.ts'
import { begin, endSitesAfterEach, must, refusalOf, untilDisk, untilMigration, vmstore } from './sites.ts'

const mebibyte = 2 ** 20

describe('migration set', () => {
  endSitesAfterEach()

  it('lets a copy go that would take hours, and lasts across restarts of both sites', async () => {
    const { a, b } = await sitesWithData(24 * mebibyte)
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 4096 })
    await untilMigration(b, id, ({ state }) => state === 'copying')
    const set = await must(b, 'migration', 'set', 'web01', '--max-rate', '5K')
    assert.equal(set.maxRate, 5 * 1024)

    await b.kill()
    await a.kill()
    await Promise.all([a.restart(), b.restart()])
    assert.equal((await b.control.showMigration(id)).maxRate, 5 * 1024)
    await untilMigration(a, id, ({ link }) => link.state === 'up')

    assert.equal((await must(a, 'migration', 'set', id, '--max-rate', 'none')).maxRate, null)
    assert.equal((await b.control.showMigration(id)).maxRate, null)
    await untilDisk(b, 'web01', ({ state }) => state === 'owned')
    const done = await untilMigration(a, id, ({ state }) => state === 'done')
    assert.equal(done.verified, true)
    refusalOf(await vmstore(a, 'migration', 'set', id, '--max-rate', '1M'), 3, 'migration-over')
  })

  it('is refused with a sentence when it says nothing, or nothing that is a rate', async () => {
    const { a } = await sitesWithData(mebibyte)
    refusalOf(await vmstore(a, 'migration', 'set', 'web01'), 2, 'usage')
    refusalOf(await vmstore(a, 'migration', 'set', 'web01', '--max-rate', 'fast'), 2, 'usage')
    refusalOf(await vmstore(a, 'migration', 'set', 'web01', '--max-rate', '10M'), 3, 'migration-unknown')
  })
})
