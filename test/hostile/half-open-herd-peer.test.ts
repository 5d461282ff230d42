// Simulates 80 hosts that connect to the peer port and never begin a handshake, again and again, while a paired peer comes.

import assert from 'node:assert/strict'
import { createDisk, endSitesAfterEach, must, pair, Site, until, untilMigration } from '../e2e/sites.ts'
import { herd } from './herd.ts'

const mebibyte = 1024 * 1024

describe('hostile: a half-open herd at the peer port', () => {
  endSitesAfterEach()

  it('a paired peer gets in, and a move is done', async () => {
    const a = await Site.start('osaka')
    const b = await Site.start('tokyo')
    await pair(a, b)
    await createDisk(a, 'web01', mebibyte)
    await b.kill()
    const port = { host: '127.0.0.1', port: a.peerPort }
    for (let round = 0; round < 4; round++) await herd(80, port)
    await b.restart()
    await until('tokyo is connected', async () => (await a.control.listPeers())[0]?.connected || undefined)
    const { id } = await must(a, 'migrate', 'web01', '--to', 'tokyo', '--switchover', 'now', '--detach')
    await untilMigration(b, id, ({ state }) => state === 'done')
    const { doors } = await a.control.status()
    assert(doors.find(({ kind }) => kind === 'peer')!.pushedOut!.count > 0, JSON.stringify(doors))
  })
})
