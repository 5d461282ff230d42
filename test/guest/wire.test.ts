// The sockets of guests as the kernel has them: a host that is gone is found out.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { ReadBuffer, takeOver } from '../../src/guest/wire.ts'
import { descriptorOf, peerProcess, tcpUserTimeout } from '../../src/system/sockets.ts'

describe('the socket of a guest', () => {
  async function taken(deadClientMs: number): Promise<{ timeoutMs: number }> {
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = connect((server.address() as { port: number }).port, '127.0.0.1')
    const [accepted] = (await once(server, 'connection')) as [Socket]
    const { socket, fd } = takeOver(accepted, { buffer: new ReadBuffer(), deadClientMs }, () => {})
    try {
      return { timeoutMs: tcpUserTimeout(fd) }
    } finally {
      socket.destroy()
      client.destroy()
      server.close()
    }
  }

  it('is given up when its host has acknowledged nothing for that long', async () => {
    assert.deepEqual(await taken(120_000), { timeoutMs: 120_000 })
  })

  it('is given up when the system does, if nothing is said', async () => {
    assert.deepEqual(await taken(0), { timeoutMs: 0 })
  })

  it('of a process of this host says which', async () => {
    const name = `\0vmstore-${process.pid}-wire`
    const server = createServer().listen(name)
    await once(server, 'listening')
    const client = connect(name)
    const [accepted] = (await once(server, 'connection')) as [Socket]
    assert.equal(peerProcess(descriptorOf(accepted)), process.pid)
    client.destroy()
    accepted.destroy()
    server.close()
  })
})
