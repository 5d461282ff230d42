// Simulates 300 clients that connect to the NBD server over TCP, say nothing, and come again as they are sent away, while
// the hypervisors of this host attach over the Unix socket and an operator exports a disk over the control socket.

import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { attach, createDisk, endSitesAfterEach, folder, must, Site } from '../e2e/sites.ts'
import { Herd } from './herd.ts'

const hypervisors = 48
const mebibyte = 1024 * 1024

describe('hostile: an idle herd at the NBD port', () => {
  endSitesAfterEach()

  it('48 hypervisors attach over the Unix socket, a disk is exported, and the herd has its own places alone', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    await Herd.gather(300, { host: '127.0.0.1', port: site.nbdPort })
    const guests = await Promise.all(Array.from({ length: hypervisors }, () => attach(site, 'web01')))
    await Promise.all(guests.map((each) => each.read(0, 4096)))
    const target = join(folder(), 'web01.raw')
    await must(site, 'disk', 'export', 'web01', target, '--force')
    assert.equal(statSync(target).size, mebibyte)
    const { doors, refusedConnections } = await site.control.status()
    const tcp = doors.find(({ address }) => address.startsWith('nbd://'))
    assert(tcp?.pushedOut && tcp.pushedOut.count > 0, JSON.stringify(doors))
    assert(tcp.newcomers.now <= tcp.newcomers.mostOfOneAddress, JSON.stringify(tcp))
    assert.equal(doors.find(({ address }) => address.startsWith('nbd+unix'))?.sessions?.now, hypervisors)
    assert.equal(refusedConnections, null)
    for (const each of guests) await each.disconnect()
  })
})
