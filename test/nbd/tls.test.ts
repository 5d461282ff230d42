// NBD over TLS at the server: what is said in the clear, the upgrade, who is let in, and what becomes of those who are not.

import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { ConnectionOptions, SecureVersion } from 'node:tls'
import { NbdServer } from '../../src/nbd/server/server.ts'
import { TlsServer } from '../../src/nbd/server/tls-server.ts'
import { Command, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { encodeInfoRequest, encodeMetaContextRequest, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { presharedKeyCiphers } from '../../src/nbd/wire/tls-credentials.ts'
import { handTimers } from '../hand-timers.ts'
import { Authority, type FolderContent, type Issued, layOut } from './certificates.ts'
import { Gate, RawClient, recordingLog, requestBytesOf, type TestServer, temporaryFolder, until } from './harness.ts'
import { catalogOf, MemoryExport } from './memory-export.ts'
import { type SecureSiteOptions, serveWithTls } from './secure-site.ts'

const mebibyte = 1024 * 1024
const key = '0123456789abcdef0123456789abcdef'

describe('nbd over TLS', () => {
  let authority: Authority
  let foreign: Authority
  let server: Issued
  let client: Issued
  before(async () => {
    authority = await Authority.make()
    foreign = await Authority.make('another authority')
    server = await authority.issue('server', { hosts: ['localhost', '127.0.0.1'], purpose: 'server' })
    client = await authority.issue('client', { purpose: 'client' })
  })

  const serveSecurely = ({ files = {}, ...options }: SecureSiteOptions & { readonly files?: FolderContent } = {}) =>
    serveWithTls({ authority: authority.certificate, server, ...files }, options)

  /** All that a client needs who is not verified. */
  const trust = (): ConnectionOptions => ({ ca: authority.certificate, servername: 'localhost' })
  const show = ({ certificate, key }: Issued): ConnectionOptions => ({ ...trust(), cert: certificate, key })

  /** Greeted, and through the handshake. */
  async function openSecurely({ path }: TestServer, options = trust()) {
    const plain = await RawClient.connect(path)
    await plain.greet()
    assert.deepEqual(await plain.option(OptionType.startTls), [{ type: ReplyType.ack, payload: Buffer.alloc(0) }])
    return plain.secure(options)
  }

  /** The first answer through TLS: it comes only to those who are let in. */
  async function isLetIn(site: TestServer, options: ConnectionOptions): Promise<boolean> {
    try {
      const guest = await openSecurely(site, options)
      const [reply] = await guest.option(OptionType.list)
      guest.destroy()
      return reply?.type === ReplyType.server
    } catch (error) {
      assert.match(String(error), /closed|hang up|ECONNRESET|alert|disconnected|EPIPE|self-signed/i)
      return false
    }
  }

  const typesOf = (replies: readonly { type: number }[]) => replies.map(({ type }) => type)

  describe('in the clear', () => {
    it('where TLS is demanded, every option but STARTTLS and ABORT is answered with that, and no name is told', async () => {
      await using site = await serveSecurely({ exports: [new MemoryExport({ name: 'secret' })] })
      const guest = await RawClient.connect(site.path)
      await guest.greet()
      const info = encodeInfoRequest({ exportName: 'secret', infos: [] })
      const contexts = encodeMetaContextRequest({ exportName: 'secret', queries: [] })
      const answers = [
        await guest.option(OptionType.list),
        await guest.option(OptionType.list, Buffer.from('with a payload')),
        await guest.option(OptionType.info, info),
        await guest.option(OptionType.go, info),
        await guest.option(OptionType.go, Buffer.from('broken')),
        await guest.option(OptionType.structuredReply),
        await guest.option(OptionType.listMetaContext, contexts),
        await guest.option(OptionType.setMetaContext, contexts),
        await guest.option(4711),
        await guest.option(OptionType.info, Buffer.alloc(70_000)),
      ]
      for (const replies of answers) assert.deepEqual(typesOf(replies), [ReplyType.errTlsReqd])
      assert(!Buffer.concat(guest.chunks).includes('secret'))
      assert.deepEqual(typesOf(await guest.option(OptionType.abort)), [ReplyType.ack])
      await guest.closed
    })

    it('where TLS is demanded, EXPORT_NAME is a close, whether the export exists or not', async () => {
      await using site = await serveSecurely()
      for (const name of ['disk', 'nothing']) {
        const guest = await RawClient.connect(site.path)
        await guest.greet()
        guest.send(encodeOption(OptionType.exportName, Buffer.from(name)))
        await guest.closed
        assert.equal(guest.leftBytes, 0)
      }
    })

    it('where TLS is demanded, the bound on options does not tell how many exports there are', async () => {
      const exports = Array.from({ length: 50 }, (_, index) => new MemoryExport({ name: `disk${index}` }))
      await using site = await serveSecurely({ exports, limits: { options: 4 } })
      const guest = await RawClient.connect(site.path)
      await guest.greet()
      for (let count = 0; count < 5; count++) guest.send(encodeOption(OptionType.list))
      await guest.closed
      assert.equal(guest.leftBytes % 4, 0)
      for (let count = 0; count < 4; count++)
        assert.deepEqual(typesOf(await guest.optionReplies()), [ReplyType.errTlsReqd])
      assert.equal(guest.leftBytes, 0)
    })

    it('where TLS is offered, both ways lead in', async () => {
      await using site = await serveSecurely({ scheme: 'nbd+unix' })
      const plain = await RawClient.open(site.path, { exportName: 'disk' })
      plain.request({ type: Command.flush, cookie: 1 })
      assert.equal((await plain.reply()).errorNumber, 0)
      plain.destroy()
      assert(await isLetIn(site, trust()))
    })

    it('STARTTLS behind answers that wait to be read is answered in its turn, and the handshake comes behind all of them', async () => {
      const exports = Array.from({ length: 50 }, (_, index) => new MemoryExport({ name: `${index}`.padEnd(4000, 'x') }))
      await using site = await serveSecurely({ scheme: 'nbd+unix', exports })
      const plain = await RawClient.connect(site.path)
      await plain.greet()
      plain.socket.pause()
      for (let count = 0; count < 20; count++) plain.send(encodeOption(OptionType.list))
      plain.send(encodeOption(OptionType.startTls))
      await until(() => plain.socket.writableLength === 0)
      plain.socket.resume()
      for (let count = 0; count < 20; count++) assert.equal((await plain.optionReplies()).length, 51)
      assert.deepEqual(typesOf(await plain.optionReplies()), [ReplyType.ack])
      const guest = await plain.secure(trust())
      assert.equal((await guest.option(OptionType.list)).length, 51)
      guest.destroy()
    })

    it('STARTTLS with a payload, or a second one, is invalid; the negotiation goes on', async () => {
      await using site = await serveSecurely()
      const plain = await RawClient.connect(site.path)
      await plain.greet()
      assert.deepEqual(typesOf(await plain.option(OptionType.startTls, Buffer.alloc(1))), [ReplyType.errInvalid])
      assert.deepEqual(typesOf(await plain.option(OptionType.startTls)), [ReplyType.ack])
      const guest = await plain.secure(trust())
      assert.deepEqual(typesOf(await guest.option(OptionType.startTls)), [ReplyType.errInvalid])
      assert.deepEqual(typesOf(await guest.option(OptionType.list)), [ReplyType.server, ReplyType.ack])
      guest.destroy()
    })
  })

  describe('a session', () => {
    it('carries requests and payloads of all sizes, and ends as one without TLS does', async () => {
      const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
      await using site = await serveSecurely({ exports: [disk] })
      for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]) {
        const guest = await openSecurely(site, { ...trust(), minVersion: version, maxVersion: version })
        assert.equal(guest.socket.getProtocol(), version)
        await guest.option(OptionType.structuredReply)
        await guest.go('disk')
        for (const [index, lengthBytes] of [1, 512, 65_537, 3 * mebibyte].entries()) {
          const payload = Buffer.alloc(lengthBytes, index + 1)
          guest.request({ type: Command.write, cookie: 2 * index, offset: mebibyte, payload })
          assert.equal((await guest.reply()).errorNumber, 0)
          guest.request({ type: Command.read, cookie: 2 * index + 1, offset: mebibyte, lengthBytes })
          assert((await guest.dataChunks()).equals(payload))
        }
        guest.disconnect()
        await guest.closed
        assert.equal(disk.closes.at(-1), 'disconnected')
      }
      await until(() => site.server.sessions === 0)
    })

    it('whose client sends nothing more still has all answered that was held back', async () => {
      const disk = new MemoryExport()
      const gate = new Gate(/^flush/)
      disk.gate = gate.enter
      await using site = await serveSecurely({ exports: [disk], limits: { inFlightRequests: 1 } })
      const guest = await openSecurely(site)
      await guest.go('')
      const requests = [1, 2, 3, 4, 5].map((cookie) => requestBytesOf({ type: Command.flush, cookie }))
      guest.socket.end(Buffer.concat(requests))
      await until(() => disk.hangUps.length > 0)
      for (let cookie = 1; cookie <= 5; cookie++) {
        await gate.reached(1)
        gate.release()
        assert.equal((await guest.reply()).cookieLow, cookie)
      }
      await guest.closed
    })

    it('that is drained has its requests answered, and is then dropped', async () => {
      const gate = new Gate(/^read/)
      const disk = new MemoryExport()
      disk.gate = gate.enter
      await using site = await serveSecurely({ exports: [disk] })
      const guest = await openSecurely(site)
      await guest.go('disk')
      guest.request({ type: Command.read, cookie: 7, lengthBytes: 512 })
      await gate.reached(1)
      const stopped = site.server.stop({ drain: true })
      gate.releaseAll()
      assert.equal((await guest.reply()).cookieLow, 7)
      await guest.take(512)
      await stopped
      await guest.closed
    })
  })

  describe('a handshake that fails', () => {
    const failures: [string, (guest: RawClient) => void][] = [
      ['bytes that are no TLS', (guest) => guest.send(Buffer.alloc(100, 0x47))],
      ['a further option in the clear', (guest) => guest.send(encodeOption(OptionType.list))],
      ['a client that leaves', (guest) => guest.destroy()],
      ['a client that sends half a hello', (guest) => guest.socket.end(Buffer.from('160301020001000', 'hex'))],
    ]
    for (const [what, act] of failures) {
      it(`${what}: the connection ends, its place is given back, and others are served`, async () => {
        await using site = await serveSecurely({ limits: { connections: 1 } })
        const guest = await RawClient.connect(site.path)
        await guest.greet()
        await guest.option(OptionType.startTls)
        act(guest)
        await guest.closed
        await until(() => site.server.sessions === 0)
        assert(await isLetIn(site, trust()))
        assert.deepEqual(
          site.log.filter(({ level }) => level === 'error' || level === 'warn'),
          [],
        )
      })
    }

    it('the deadline of negotiation covers it', async () => {
      using timers = handTimers()
      await using site = await serveSecurely({ limits: { negotiationMs: 10_000 } })
      const guest = await RawClient.connect(site.path)
      await guest.greet()
      await guest.option(OptionType.startTls)
      timers.pass(10_000)
      await guest.closed
      await until(() => site.server.sessions === 0)
      assert(site.log.some(({ message }) => /negotiation took too long/.test(message)))
    })

    it('the deadline of negotiation covers what comes behind it', async () => {
      using timers = handTimers()
      await using site = await serveSecurely({ limits: { negotiationMs: 10_000 } })
      const guest = await openSecurely(site)
      timers.pass(10_000)
      await guest.closed
      await until(() => site.server.sessions === 0)
    })

    it('a server that stops does not wait for it', async () => {
      await using site = await serveSecurely()
      const guest = await RawClient.connect(site.path)
      await guest.greet()
      await guest.option(OptionType.startTls)
      await site.server.stop({ drain: true })
      await guest.closed
    })
  })

  describe('with verified clients', () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]) {
      it(`${version}: a certificate of ours is let in; none, a foreign, an expired, an early and a revoked one are not`, async () => {
        const revoked = await authority.issue('revoked', { purpose: 'client' })
        const revocations = await authority.revocationList(revoked)
        await using site = await serveSecurely({ verifyPeer: true, files: { revocations } })
        const limited = (options: ConnectionOptions) => ({ ...options, minVersion: version, maxVersion: version })
        const whose: [string, boolean, ConnectionOptions][] = [
          ['ours', true, show(client)],
          ['none', false, trust()],
          ['foreign', false, show(await foreign.issue('client', { purpose: 'client' }))],
          ['of the same name', false, show(await (await Authority.make()).issue('client', { purpose: 'client' }))],
          ['expired', false, show(await authority.issue('late', { purpose: 'client', fromDays: -3, untilDays: -2 }))],
          ['early', false, show(await authority.issue('early', { purpose: 'client', fromDays: 2, untilDays: 3 }))],
          ['revoked', false, show(revoked)],
          ["a server's", false, show(server)],
        ]
        for (const [what, expected, options] of whose) {
          assert.equal(await isLetIn(site, limited(options)), expected, what)
          await until(() => site.server.sessions === 0)
        }
        const said = site.log.map(({ message }) => message).join('\n')
        assert.match(said, /the TLS handshake failed: CERT_HAS_EXPIRED/)
        assert.match(said, /the TLS handshake failed: CERT_REVOKED/)
      })
    }

    it('a session is not resumed: who was revoked meanwhile is not let in by an old ticket', async () => {
      await using site = await serveSecurely({ verifyPeer: true })
      const first = await openSecurely(site, { ...show(client), maxVersion: 'TLSv1.2' })
      const session = first.socket.getSession()
      await first.option(OptionType.list)
      first.destroy()
      writeFileSync(join(site.files, 'ca-crl.pem'), await authority.revocationList(client))
      await site.tls.reload()
      assert(session)
      assert.equal(await isLetIn(site, { ...show(client), maxVersion: 'TLSv1.2', session }), false)
    })
  })

  describe('with preshared keys', () => {
    const preshared = (user: string, hex: string, version: SecureVersion): ConnectionOptions => ({
      minVersion: version,
      maxVersion: version,
      ciphers: version === 'TLSv1.2' ? presharedKeyCiphers : 'TLS_AES_128_GCM_SHA256',
      pskCallback: () => ({ identity: user, psk: Buffer.from(hex, 'hex') }),
      checkServerIdentity: () => undefined,
    })

    for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]) {
      it(`${version}: who has the user's key is let in, nobody else`, async () => {
        const none = { server: undefined, authority: undefined } as unknown as FolderContent
        await using site = await serveSecurely({
          files: { ...none, keys: `alice:${key}\nbob:ffff\n` },
          verifyPeer: true,
        })
        assert.equal(await isLetIn(site, preshared('alice', key, version)), true)
        assert.equal(await isLetIn(site, preshared('alice', 'ffff', version)), false)
        assert.equal(await isLetIn(site, preshared('carol', key, version)), false)
        assert.equal(await isLetIn(site, trust()), false)
      })
    }

    it('a file is read as GnuTLS reads it: comments, empty lines, spaces at the end, and names in hexadecimal', async () => {
      const none = { server: undefined, authority: undefined } as unknown as FolderContent
      const nameInHex = Buffer.from('dörte: 2').toString('hex')
      const keys = [
        ...['# who may come in, and since when: 2026', '#mallory:ffff', '#', '', '   ', `alice:${key}  `],
        `#${nameInHex}:${key}\r`,
        'bob:ffff',
      ].join('\n')
      await using site = await serveSecurely({ files: { ...none, keys } })
      for (const user of ['alice', 'dörte: 2']) assert.equal(await isLetIn(site, preshared(user, key, 'TLSv1.3')), true)
      assert.equal(await isLetIn(site, preshared('bob', 'ffff', 'TLSv1.3')), true)
      for (const user of ['mallory', '#mallory']) {
        assert.equal(await isLetIn(site, preshared(user, 'ffff', 'TLSv1.3')), false, user)
      }
    })

    it('beside certificates both lead in, in either version', async () => {
      await using site = await serveSecurely({ files: { keys: `alice:${key}\n` } })
      for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]) {
        const ciphers = presharedKeyCiphers
        assert.equal(await isLetIn(site, { ...preshared('alice', key, version), ciphers }), true)
        assert.equal(await isLetIn(site, { ...preshared('alice', 'ffff', version), ciphers }), false)
        assert.equal(await isLetIn(site, { ...trust(), minVersion: version, maxVersion: version }), true)
      }
      assert.match(site.tls.warnings.join(), /clients without a preshared key are let in too/)
    })

    it('beside verified certificates they are left aside', async () => {
      await using site = await serveSecurely({ files: { keys: `alice:${key}\n` }, verifyPeer: true })
      for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]) {
        assert.equal(await isLetIn(site, preshared('alice', key, version)), false)
      }
      assert.equal(await isLetIn(site, show(client)), true)
      assert.match(site.tls.warnings.join(), /left aside/)
    })
  })

  describe('new files', () => {
    it('are shown to new connections; old sessions go on', async () => {
      await using site = await serveSecurely()
      const old = await openSecurely(site)
      await old.go('disk')
      const renewed = await authority.issue('renewed', { hosts: ['localhost'], purpose: 'server' })
      layOut(site.files, { server: renewed })
      await site.tls.reload()
      const fresh = await openSecurely(site)
      assert.equal(fresh.socket.getPeerX509Certificate()?.subject, 'CN=renewed')
      assert.equal(old.socket.getPeerX509Certificate()?.subject, 'CN=server')
      old.request({ type: Command.flush, cookie: 3 })
      assert.equal((await old.reply()).cookieLow, 3)
      old.destroy()
      fresh.destroy()
    })

    it('that are broken are refused with a sentence, and the old ones stay in use', async () => {
      await using site = await serveSecurely()
      writeFileSync(join(site.files, 'server-cert.pem'), 'not a certificate')
      await assert.rejects(site.tls.reload(), /server-cert\.pem has no certificate in PEM/)
      const guest = await openSecurely(site)
      assert.equal(guest.socket.getPeerX509Certificate()?.subject, 'CN=server')
      guest.destroy()
    })
  })

  describe('files that cannot be used are named', () => {
    const attempts: [string, RegExp, (folder: string) => void | Promise<void>, boolean?][] = [
      [
        'nothing is there',
        /has neither server-cert\.pem and server-key\.pem nor keys\.psk/,
        (f) => rmSync(f, { recursive: true }),
      ],
      ['a key is missing', /has server-cert\.pem, but not server-key\.pem/, (f) => rmSync(join(f, 'server-key.pem'))],
      ['a certificate is missing', /has server-key\.pem, but not/, (f) => rmSync(join(f, 'server-cert.pem'))],
      [
        "the key is another certificate's",
        /is not the key of the certificate/,
        (f) => writeFileSync(join(f, 'server-key.pem'), client.key),
      ],
      [
        'the key is no key',
        /no private key in PEM/,
        (f) => writeFileSync(join(f, 'server-key.pem'), client.certificate),
      ],
      [
        'the authority is no certificate',
        /ca-cert\.pem has no certificate/,
        (f) => writeFileSync(join(f, 'ca-cert.pem'), 'x'),
      ],
      [
        'the revocations are none',
        /ca-crl\.pem has no certificate revocation list/,
        (f) => writeFileSync(join(f, 'ca-crl.pem'), 'x'),
      ],
      ['the authority is missing', /has no ca-cert\.pem/, (f) => rmSync(join(f, 'ca-cert.pem')), true],
      [
        'a file is too large',
        /over 1048576 bytes/,
        (f) => writeFileSync(join(f, 'ca-crl.pem'), Buffer.alloc(mebibyte + 1)),
      ],
      [
        'a preshared key is not hex',
        /line 2 of .*keys\.psk is not user:hex/,
        (f) => writeFileSync(join(f, 'keys.psk'), `a:${key}\nb:xyz\n`),
      ],
      [
        'a user comes twice',
        /line 2 of .*keys\.psk names the user a again/,
        (f) => writeFileSync(join(f, 'keys.psk'), `a:${key}\na:ff\n`),
      ],
      [
        'a name in hexadecimal is no text',
        /line 1 of .*keys\.psk names in hexadecimal a user whose name is no text/,
        (f) => writeFileSync(join(f, 'keys.psk'), `#facade:${key}\n`),
      ],
      [
        'the key of a name in hexadecimal is not hex',
        /line 1 of .*keys\.psk is not user:hex/,
        (f) => writeFileSync(join(f, 'keys.psk'), `#616c696365:xyz\n`),
      ],
      [
        'the preshared keys are none',
        /keys\.psk has no key/,
        (f) => writeFileSync(join(f, 'keys.psk'), '\n# none yet\n'),
      ],
    ]
    for (const [what, sentence, damage, verifyPeer = false] of attempts) {
      it(what, async () => {
        using place = temporaryFolder()
        const folder = layOut(join(place.path, 'pki'), { authority: authority.certificate, server })
        await TlsServer.open({ folder, verifyPeer })
        await damage(folder)
        await assert.rejects(TlsServer.open({ folder, verifyPeer }), { name: 'NbdTlsError', message: sentence })
      })
    }

    it('no message has a key in it', async () => {
      using place = temporaryFolder()
      const folder = layOut(place.path, { keys: `alice:${key}zz\n` })
      await assert.rejects(
        TlsServer.open({ folder, verifyPeer: false }),
        (error: Error) => !error.message.includes(key),
      )
    })

    it('what works but will disappoint is a warning', async () => {
      using place = temporaryFolder()
      const late = await authority.issue('late', { purpose: 'server', fromDays: -3, untilDays: -2 })
      const folder = layOut(place.path, { server: late })
      writeFileSync(join(folder, 'keys.psk'), `alice:${key}\n`, { mode: 0o644 })
      const { warnings } = await TlsServer.open({ folder, verifyPeer: false })
      assert.equal(warnings.length, 3)
      assert.match(warnings[0]!, /keys\.psk can be read by every user/)
      assert.match(warnings[1]!, /has expired on/)
    })
  })

  describe('listeners', () => {
    it('with credentials TCP demands TLS and says so in its URI; a plain Unix socket offers it; plain TCP needs a word', async () => {
      using place = temporaryFolder()
      const tls = await TlsServer.open({ folder: layOut(join(place.path, 'pki'), { server }), verifyPeer: false })
      const cases: [string, boolean, RegExp, number][] = [
        ['nbd://127.0.0.1:0', false, /^nbds:\/\/127/, ReplyType.errTlsReqd],
        ['nbds://127.0.0.1:0', true, /^nbds:\/\/127/, ReplyType.errTlsReqd],
        ['nbd://127.0.0.1:0', true, /^nbd:\/\/127/, ReplyType.server],
        [`nbd+unix:///?socket=${join(place.path, 'a')}`, false, /^nbd\+unix/, ReplyType.server],
        [`nbds+unix:///?socket=${join(place.path, 'b')}`, true, /^nbds\+unix/, ReplyType.errTlsReqd],
      ]
      for (const [uri, plainIsAllowed, shown, answer] of cases) {
        const catalog = catalogOf(new MemoryExport())
        const site = new NbdServer({ catalog, log: recordingLog([]), tls, plainIsAllowed })
        const listener = await site.listen(uri)
        assert.match(listener.uri, shown)
        const port = Number(/:(\d+)$/.exec(listener.uri)?.[1])
        const guest = RawClient.of(
          connect(port ? { port, host: '127.0.0.1' } : { path: listener.uri.split('socket=')[1]! }),
        )
        await guest.greet()
        assert.equal((await guest.option(OptionType.list))[0]?.type, answer, uri)
        guest.destroy()
        await site.stop({ drain: false })
      }
    })

    it('without credentials there is no nbds://', async () => {
      const site = new NbdServer({ catalog: catalogOf(), log: recordingLog([]) })
      await assert.rejects(site.listen('nbds://127.0.0.1:0'), /there are no TLS credentials/)
    })
  })
})
