// Who gets through TLS, and who does not. Promise 10: nobody else.

import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import type { Identity } from '../../src/peer/identity.ts'
import { linkProtocol, pairProtocol, type SecuredStream, SecureServer, secureClient } from '../../src/peer/secure.ts'
import { cleanUp, dial, forgedKeyPem, gate, never, newIdentity, readToClose } from './sites.ts'

const tls13 = { minVersion: 'TLSv1.3', rejectUnauthorized: false, ALPNProtocols: [linkProtocol] } as const

describe('peer secure', () => {
  let osaka: Identity
  let tokyo: Identity
  let thief: Identity
  before(async () => {
    osaka = await newIdentity()
    tokyo = await newIdentity()
    thief = await newIdentity()
  })
  afterEach(cleanUp)

  const isOsaka = (fingerprint: string) => fingerprint === osaka.fingerprint
  const client = (identity: Identity, expectFingerprint = tokyo.fingerprint, alpn = linkProtocol) => ({
    identity,
    expectFingerprint,
    alpn,
    signal: never,
  })

  it('two sites that know each other get a stream, with the same exported key at both ends', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka })
    const here = await secureClient(await dial(at.port), client(osaka))
    const there = (await at.next()) as SecuredStream
    assert.deepEqual([here.fingerprint, there.fingerprint], [tokyo.fingerprint, osaka.fingerprint])
    assert.deepEqual(here.exportKeyingMaterial('EXPORTER-x'), there.exportKeyingMaterial('EXPORTER-x'))
    assert.notDeepEqual(here.exportKeyingMaterial('EXPORTER-x'), here.exportKeyingMaterial('EXPORTER-y'))
    there.stream.write('hello')
    const [hello] = await new Promise<Buffer[]>((resolve) => here.stream.once('data', (chunk) => resolve([chunk])))
    assert.equal(hello!.toString(), 'hello')
  })

  it('works over any stream, not only sockets', async () => {
    const [near, far] = duplexPair()
    const taken = Promise.withResolvers<SecuredStream>()
    new SecureServer({ identity: tokyo, isPaired: isOsaka, onLink: taken.resolve }).accept(far)
    const here = await secureClient(near, client(osaka))
    const there = await taken.promise
    here.stream.end('over memory')
    assert.equal((await readToClose(there.stream.on('end', () => there.stream.destroy()))).toString(), 'over memory')
  })

  it('promise 10: an unpaired key is closed out without a byte', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka })
    const secured = await secureClient(await dial(at.port), client(thief))
    assert.equal((await readToClose(secured.stream)).length, 0)
    assert.match(String(await at.next()), /an unpaired key asked for a link/)
    assert.equal(at.taken.length, 0)
  })

  it('promise 10: a client without a certificate is closed out without a byte', async () => {
    const at = await gate({ identity: tokyo, isPaired: () => true })
    for (const alpn of [linkProtocol, pairProtocol]) {
      const socket = tlsConnect({ ...tls13, ALPNProtocols: [alpn], socket: await dial(at.port) })
      assert.equal((await readToClose(socket)).length, 0)
      assert.equal(await at.next(), 'a client showed no certificate')
    }
  })

  it('promise 10: a stolen certificate without its key is worth nothing', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka })
    const key = forgedKeyPem(osaka, thief)
    const socket = tlsConnect({ ...tls13, key, cert: osaka.certificatePem, socket: await dial(at.port) })
    assert.equal((await readToClose(socket)).length, 0)
    assert.match(String(await at.next()), /a handshake failed: .*signature/)
    assert.equal(at.taken.length, 0)
  })

  it('promise 10: a server with another key gets no application byte', async () => {
    const at = await gate({ identity: thief, isPaired: () => true })
    await assert.rejects(secureClient(await dial(at.port), client(osaka)), { code: 'peer-wrong-key' })
    const taken = await at.next()
    if (typeof taken !== 'string') assert.equal((await readToClose(taken.stream)).length, 0)
  })

  it('promise 10: a server that shows the right certificate without its key is refused', async () => {
    const server = createTlsServer({
      ...tls13,
      key: forgedKeyPem(tokyo, thief),
      cert: tokyo.certificatePem,
      requestCert: true,
    })
    server.on('tlsClientError', () => {})
    const [near, far] = duplexPair()
    far.on('error', () => {})
    server.emit('connection', far)
    await assert.rejects(secureClient(near, client(osaka)), { code: 'handshake-failed', message: /signature/ })
  })

  it('TLS 1.2 is refused, from clients and from servers', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka })
    const { privateKeyPem: key, certificatePem: cert } = osaka
    const old = { key, cert, rejectUnauthorized: false, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const
    const socket = tlsConnect({ ...old, ALPNProtocols: [linkProtocol], socket: await dial(at.port) })
    assert.equal((await readToClose(socket)).length, 0)
    assert.match(String(await at.next()), /a handshake failed/)

    const server = createTlsServer({ ...old, ALPNProtocols: [linkProtocol] })
    server.on('tlsClientError', () => {})
    const [near, far] = duplexPair()
    far.on('error', () => {})
    server.emit('connection', far)
    await assert.rejects(secureClient(near, client(tokyo, osaka.fingerprint)), { code: 'handshake-failed' })
  })

  it('no session is resumed', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka })
    const { privateKeyPem: key, certificatePem: cert } = osaka
    const first = tlsConnect({ ...tls13, key, cert, socket: await dial(at.port) })
    const session = await new Promise<Buffer>((resolve) => first.once('session', resolve))
    await at.next()
    const second = tlsConnect({ ...tls13, key, cert, session, socket: await dial(at.port) })
    await new Promise((resolve) => second.once('secureConnect', resolve))
    assert.equal(second.isSessionReused(), false)
    assert.equal(typeof (await at.next()), 'object')
  })

  it('an unknown protocol is closed out', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka })
    await assert.rejects(secureClient(await dial(at.port), client(osaka, tokyo.fingerprint, 'h2')), {
      code: 'handshake-failed',
    })
    assert.equal(at.taken.length, 0)
  })

  it('promise 11: a peer that never finishes its handshake is closed at the deadline, at either side', async () => {
    const at = await gate({ identity: tokyo, isPaired: isOsaka, limits: { negotiationMs: 30 } })
    const silent = await dial(at.port)
    assert.equal((await readToClose(silent)).length, 0)
    assert.match(String(await at.next()), /first byte/)

    const [near, far] = duplexPair()
    far.resume()
    await assert.rejects(secureClient(near, { ...client(osaka), deadlineMs: 30 }), { code: 'handshake-failed' })
    assert.ok(near.destroyed)
  })

  it('a handshake is given up when its signal aborts', async () => {
    const [near, far] = duplexPair()
    far.resume()
    const control = new AbortController()
    const securing = secureClient(near, { ...client(osaka), signal: control.signal })
    const reason = new Error('given up')
    control.abort(reason)
    await assert.rejects(securing, reason)
    assert.ok(near.destroyed)
  })
})
