// Simulates 80 hosts that connect to the peer port, never begin a handshake, and come again as they are sent away, while a
// paired peer comes and a disk moves to it.

import assert from 'node:assert/strict'
import { createDisk, endSitesAfterEach, must, Site, twoSites, until, untilMigration } from '../e2e/sites.ts'
import { Herd } from './herd.ts'

const mebibyte = 1024 * 1024

describe('hostile: a half-open herd at the peer port', () => {
  endSitesAfterEach()

  it('a paired peer gets in at its first try, and a disk moves', async () => {
    const { a, b } = await twoSites()
    await createDisk(a, 'web01', mebibyte)
    await b.kill()
    await Herd.gather(80, { host: '127.0.0.1', port: a.peerPort })
    await b.restart()
    await until('tokyo is connected', async () => (await a.control.listPeers())[0]?.connected || undefined)
    assert.deepEqual(b.logged('the link to osaka is down'), [])
    const { id } = await must(a, 'migrate', 'web01', '--to', 'tokyo', '--switchover', 'now', '--detach')
    await untilMigration(b, id, ({ state }) => state === 'done')
  })

  it('who sends nothing is sent away when its time is over, and counted', async () => {
    const a = await Site.start('osaka', { flags: ['--first-byte-within', '50ms'] })
    const herd = await Herd.gather(10, { host: '127.0.0.1', port: a.peerPort })
    await until('all were sent away', () => herd.sentAway >= 10 || undefined)
    const { doors } = await a.control.status()
    const peers = doors.find(({ kind }) => kind === 'peer')!
    assert(peers.silent && peers.silent.count >= 10, JSON.stringify(peers))
  })
})
