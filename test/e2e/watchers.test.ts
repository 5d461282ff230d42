// Many watch what one site does, and what is watched does not notice.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { sitesWithData } from './scenes.ts'
import { afterwards, endSitesAfterEach, type Site, until, untilMigration, vmstore } from './sites.ts'

const mebibyte = 2 ** 20

describe('watchers', () => {
  endSitesAfterEach()

  /** The types of the events, up to the result. */
  async function watched(site: Site, id: string, begun: () => void): Promise<string[]> {
    const types: string[] = []
    for await (const event of site.control.migrationEvents(id)) {
      types.push(event.type)
      begun()
    }
    return types
  }

  it('three watch a migration, one of them never reads, and the move and the others come to their end', async () => {
    const { a, b } = await sitesWithData(8 * mebibyte)
    const command = vmstore(a, 'migrate', 'web01', '--to', b.name, '--switchover', 'manual')
    const { id } = await until('the migration', async () => (await a.control.listMigrations())[0])
    await untilMigration(a, id, ({ state }) => state === 'ready')
    const stuck = connect(a.controlSocket)
    afterwards(() => stuck.destroy())
    await once(stuck, 'connect')
    stuck.pause()
    stuck.write(`GET /v1/migrations/${id}/events HTTP/1.1\r\nhost: x\r\n\r\n`)
    const begun = Promise.withResolvers<void>()
    const other = watched(a, id, begun.resolve)
    await begun.promise
    await a.control.switchover(id)
    const { exit, events } = await command
    assert.equal(exit, 0)
    const types = await other
    for (const seen of [events.map(({ type }) => type), types]) {
      assert.deepEqual(
        seen.filter((type) => ['ready', 'switchover', 'result'].includes(type)),
        ['ready', 'switchover', 'result'],
      )
      assert.equal(seen.at(-1), 'result')
    }
    assert.equal((await b.control.showDisk('web01')).state, 'owned')
  })

  it('one that comes late is told how things stand, and the end', async () => {
    const { a, b } = await sitesWithData(mebibyte)
    const { exit, json } = await vmstore(a, 'migrate', 'web01', '--to', b.name, '--switchover', 'now')
    assert.equal(exit, 0)
    for (const site of [a, b]) {
      await untilMigration(site, json.id, ({ state }) => state === 'done')
      assert.deepEqual(await watched(site, json.id, () => {}), ['result'])
    }
  })
})
