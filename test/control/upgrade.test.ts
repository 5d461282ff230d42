// A connection to the control socket that becomes one of NBD: between a real control server and a real NBD server.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { text } from 'node:stream/consumers'
import { ControlClient } from '../../src/control/client.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { until } from '../e2e/sites.ts'
import { Authority, type FolderContent } from '../nbd/certificates.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { type SecureSite, serveWithTls } from '../nbd/secure-site.ts'
import { type Served, serveFakeSite } from './fake-site.ts'

const upgrade = 'GET /v1/nbd HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: nbd\r\n\r\n'

describe('a connection to the control socket that becomes one of NBD', () => {
  let content: FolderContent
  let nbd: SecureSite
  let served: Served
  let client: ControlClient
  before(async () => {
    const authority = await Authority.make()
    const server = await authority.issue('server', { hosts: ['localhost'], purpose: 'server' })
    content = { authority: authority.certificate, server }
  })
  beforeEach(async () => {
    nbd = await serveWithTls(content, {
      exports: [new MemoryExport({ name: 'web01' })],
      limits: { connections: 2 },
      verifyPeer: true,
    })
    served = await serveFakeSite((socket) => nbd.server.attach(socket))
    client = new ControlClient(served.path)
  })
  afterEach(async () => {
    await client.close()
    await served[Symbol.asyncDispose]()
    await nbd[Symbol.asyncDispose]()
  })

  const opened = async () => NbdClient.over(await client.openNbd(), 'web01')
  const said = async (bytes: string) => {
    const socket = net.connect(served.path)
    socket.end(bytes)
    return text(socket)
  }

  it('serves in the clear where guests need TLS and a certificate', async () => {
    const guest = await opened()
    await guest.write(4096, Buffer.alloc(512, 7))
    assert.deepEqual(await guest.read(4096, 512), Buffer.alloc(512, 7))
    assert.equal(nbd.server.sessions, 1)
    await guest.disconnect()
    await until('the session is over', () => nbd.server.sessions === 0 || undefined)
    assert.equal((await client.describe()).id, 'site-a', 'other questions are answered beside it')
  })

  it('counts as one of the connections that the server may have', async () => {
    const guests = [await opened(), await opened()]
    await assert.rejects(opened(), { name: 'NbdConnectionError' })
    for (const guest of guests) await guest.disconnect()
  })

  it('does not keep the control server from closing, and ends with the NBD server', async () => {
    const guest = await opened()
    await served.server.close()
    await guest.read(0, 512)
    await nbd.server.stop({ drain: true })
    await guest.closed
  })

  it('is refused to a client that says more than its request, or wants something else', async () => {
    assert.match(await said(`${upgrade}NBD?`), /^HTTP\/1.1 400 .*"code":"bad-request"/s)
    assert.match(await said(upgrade.replace('upgrade: nbd', 'upgrade: h2c')), /^HTTP\/1.1 404 .*h2c/s)
    assert.match(await said(upgrade.replace('/v1/nbd', '/v1/disks')), /^HTTP\/1.1 404 /)
    assert.match(await said(upgrade.replace('GET', 'POST')), /^HTTP\/1.1 404 /)
    assert.equal(nbd.server.sessions, 0)
  })

  it('without the wish to become one is an unknown request', async () => {
    assert.match(
      await said('GET /v1/nbd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
      /^HTTP\/1.1 404 .*"unknown-request"/s,
    )
  })

  it('promise 11: garbage instead of NBD closes it', async () => {
    const socket = await client.openNbd()
    socket.on('error', () => {})
    socket.resume()
    socket.write('\0\xff\x13\x37'.repeat(999))
    await once(socket, 'close')
    await until('the session is over', () => nbd.server.sessions === 0 || undefined)
  })
})
