// Simulates a host that floods the NBD port and the peer port with idle connections, many more than there are places, while
// a guest and a peer at other addresses come. Hosts are network namespaces.

import assert from 'node:assert/strict'
import { Network } from '../e2e/network.ts'
import { createDisk, endSitesAfterEach, pair, Site, tool, until } from '../e2e/sites.ts'
import { needTool } from '../tools.ts'
import { herdFrom } from './herd.ts'

const mebibyte = 1024 * 1024

describe('hostile: a herd of one address', () => {
  endSitesAfterEach()

  it('a client and a peer of other addresses come in at their first try', async function () {
    needTool(this, 'nbdinfo', 'nsenter')
    const network = Network.make(this)
    const host = network.address('a')
    const a = await Site.start('osaka', {
      namespace: network.namespace('a'),
      nbd: [`nbd://${host}:10809`],
      peer: `tcp://${host}:10810`,
      flags: ['--insecure', '--newcomers', '64', '--newcomers-per-address', '48'],
    })
    const b = await Site.start('tokyo', {
      namespace: network.namespace('b'),
      peer: `tcp://${network.address('b')}:10810`,
    })
    await createDisk(a, 'web01', mebibyte)
    await pair(a, b)
    await b.kill()
    const flooder = network.namespace('router')
    await herdFrom(flooder, 100, { host, port: 10809 })
    await herdFrom(flooder, 100, { host, port: 10810 })
    const enter = [`--net=${network.namespace('b')}`]
    for (let round = 0; round < 5; round++) {
      const size = await tool('nsenter', ...enter, 'nbdinfo', '--size', `nbd://${host}/web01`)
      assert.equal(Number(size), mebibyte)
    }
    await b.restart()
    await until('tokyo is connected', async () => (await a.control.listPeers())[0]?.connected || undefined)
    assert.deepEqual(b.logged('the link to osaka is down'), [])
    const { doors } = await a.control.status()
    for (const kind of ['nbd', 'peer']) {
      const door = doors.find((each) => each.kind === kind)!
      assert(door.pushedOut && door.pushedOut.count > 0, JSON.stringify(door))
      assert(door.newcomers.now <= 64, JSON.stringify(door))
    }
  })
})
