// The streams of a site as a transport brings them: a host that is gone is found out at both ends.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TcpTransport } from '../../plugins/transport-tcp/src/tcp-transport.ts'
import { Drivers } from '../../src/daemon/drivers.ts'
import { Streams } from '../../src/daemon/streams.ts'
import { descriptorOf, tcpUserTimeout } from '../../src/system/sockets.ts'
import { cleanUp, never, newIdentity } from '../peer/sites.ts'

describe('streams', () => {
  afterEach(cleanUp)

  for (const deadHostMs of [120_000, 0]) {
    it(`a host that acknowledges nothing is given up at both ends after ${deadHostMs} ms`, async () => {
      const log = { debug() {}, info() {}, warn() {}, error() {} }
      const drivers = new Drivers([[new TcpTransport()]])
      const identity = await newIdentity()
      const peers = { name: String, nextKey: () => undefined, follow: async () => {} }
      const streams = new Streams({ identity: () => identity, drivers, log, settings: {}, deadHostMs, ...peers })
      const accepted = Promise.withResolvers<Duplex>()
      const listener = await streams.listen(new URL('tcp://127.0.0.1:0'), accepted.resolve)
      const dialled = await streams.connect(listener.address, 'control', never)
      for (const stream of [dialled, await accepted.promise]) {
        assert.equal(tcpUserTimeout(descriptorOf(stream as Socket)), deadHostMs)
        stream.destroy()
      }
      await listener.close()
      streams.close()
    })
  }
})
