// The contract, run over TCP on both families; then what is TCP's own.

import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { streamTransportContract, testOptions } from 'vmstore/transport/testkit'
import { TcpTransport } from '../src/tcp-transport.ts'
import transports from '../src/transports-hook.ts'

const hasIpv6 = await new Promise<boolean>((resolve) => {
  const server = createServer()
  server.once('error', () => resolve(false))
  server.listen(0, '::1', () => server.close(() => resolve(true)))
})

streamTransportContract(
  'tcp over IPv4',
  () => new TcpTransport(),
  () => new URL('tcp://127.0.0.1:0'),
)
if (hasIpv6) {
  streamTransportContract(
    'tcp over IPv6',
    () => new TcpTransport(),
    () => new URL('tcp://[::1]:0'),
  )
} else {
  after(() => console.error('\n  Skipped, because this host has no IPv6: stream transport contract: tcp over IPv6'))
}

describe('transport-tcp', () => {
  it('answers the hook with its driver', async () => {
    const drivers = await transports()
    assert.deepEqual(
      drivers.flatMap((driver) => driver.schemes),
      ['tcp'],
    )
  })

  it('an address in use is told as unavailable', async () => {
    const driver = new TcpTransport()
    const first = await driver.listen(new URL('tcp://127.0.0.1:0'), () => {}, testOptions())
    await assert.rejects(
      driver.listen(first.address, () => {}, testOptions()),
      { name: 'TransportError', code: 'unavailable' },
    )
    await first.close()
  })

  it('an address without a port is refused with a sentence', async () => {
    const driver = new TcpTransport()
    await assert.rejects(async () => driver.connect(new URL('tcp://host'), testOptions()), /tcp:\/\/host:port/)
  })
})
