// Simulates 300 clients that connect to the NBD server over TCP and say nothing, ever again as they are sent away, while
// the hypervisors of this host attach over the Unix socket and an operator exports a disk over the control socket.

import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { afterwards, attach, createDisk, endSitesAfterEach, folder, must, Site } from '../e2e/sites.ts'
import { herd } from './herd.ts'

const hypervisors = 48
const mebibyte = 1024 * 1024

describe('hostile: an idle herd at the NBD port', () => {
  endSitesAfterEach()

  it('48 hypervisors attach over the Unix socket, a disk is exported, and one more attaches over TCP', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    const port = { host: '127.0.0.1', port: site.nbdPort }
    await herd(300, port)
    const guests = await Promise.all(Array.from({ length: hypervisors }, () => attach(site, 'web01')))
    await Promise.all(guests.map((each) => each.read(0, 4096)))
    const target = join(folder(), 'web01.raw')
    await must(site, 'disk', 'export', 'web01', target, '--force')
    assert.equal(statSync(target).size, mebibyte)
    await herd(300, port)
    const late = await NbdClient.connect(`nbd://127.0.0.1:${site.nbdPort}/web01`)
    afterwards(() => late.destroy())
    await late.read(0, 4096)
    const { doors } = await site.control.status()
    const tcp = doors.find(({ address }) => address.startsWith('nbd://'))
    assert(tcp?.pushedOut && tcp.pushedOut.count > 0, JSON.stringify(doors))
    assert(tcp.newcomers.now <= tcp.newcomers.most)
    for (const each of [...guests, late]) await each.disconnect()
  })
})
