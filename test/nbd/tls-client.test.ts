// Our NBD client over TLS: whom it believes, what it shows, and what becomes of it when the other side is not what it should be.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { NbdClient, NbdConnectionError, NbdRefusedError } from '../../src/nbd/client/client.ts'
import type { NbdConnectOptions } from '../../src/nbd/client/connection.ts'
import { SteadyNbdClient } from '../../src/nbd/client/steady-client.ts'
import { NbdServer } from '../../src/nbd/server/server.ts'
import { OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { encodeGreeting, encodeOptionReply } from '../../src/nbd/wire/negotiation-codecs.ts'
import { Authority, type FolderContent, type Issued, layOut } from './certificates.ts'
import { recordingLog, serve, type TestServer, temporaryFolder, until } from './harness.ts'
import { catalogOf, MemoryExport } from './memory-export.ts'
import { type SecureSiteOptions, serveWithTls } from './secure-site.ts'

const mebibyte = 1024 * 1024
const alice = 'alice:00112233445566778899aabbccddeeff\n'

describe('nbd client over TLS', () => {
  let authority: Authority
  let server: Issued
  let place: ReturnType<typeof temporaryFolder>
  before(async () => {
    place = temporaryFolder()
    authority = await Authority.make()
    server = await authority.issue('osaka', { hosts: ['osaka.example', '127.0.0.1'], purpose: 'server' })
  })
  after(() => place[Symbol.dispose]())

  let folders = 0
  /** A client's folder of its own. */
  const folder = (content: FolderContent): string => layOut(join(place.path, `client${folders++}`), content)
  const believing = (): string => folder({ authority: authority.certificate })
  const serveSecurely = (options: SecureSiteOptions = {}, files: FolderContent = {}) =>
    serveWithTls({ authority: authority.certificate, server, ...files }, options)
  const uri = (site: TestServer, parameters = ''): string => `nbds+unix:///disk?socket=${site.path}${parameters}`

  async function tryOut(address: string, options: NbdConnectOptions = {}): Promise<void> {
    const client = await NbdClient.connect(address, options)
    await client.flush()
    await client.disconnect()
  }

  it('carries requests of all sizes, many at once', async () => {
    const disk = new MemoryExport({ sizeBytes: 16 * mebibyte })
    await using site = await serveSecurely({ exports: [disk] })
    const client = await NbdClient.connect(uri(site, `&tls-certificates=${believing()}`))
    const pieces = Array.from({ length: 8 }, (_, index) => Buffer.alloc(mebibyte + index, index + 1))
    await Promise.all(pieces.map((piece, index) => client.write(index * 2 * mebibyte, piece)))
    const read = await Promise.all(pieces.map((piece, index) => client.read(index * 2 * mebibyte, piece.length)))
    for (const [index, piece] of pieces.entries()) assert(read[index]!.equals(piece))
    await client.disconnect()
    assert.deepEqual(disk.closes, ['disconnected'])
  })

  it('lists, and asks what an export is', async () => {
    await using site = await serveSecurely()
    const address = uri(site, `&tls-certificates=${believing()}`)
    assert.deepEqual(await NbdClient.list(address), ['disk'])
    assert.equal((await NbdClient.info(address)).sizeBytes, mebibyte)
  })

  describe('believes', () => {
    it('a certificate of the authority that is for the name it called', async () => {
      await using site = await serveSecurely()
      const listener = await site.server.listen('nbds://127.0.0.1:0')
      const tls = { certificates: believing() }
      await tryOut(`${listener.uri}/disk`, { tls })
      await tryOut(`${listener.uri}/disk`, { tls: { ...tls, hostname: 'osaka.example' } })
      await assert.rejects(tryOut(`${listener.uri}/disk`, { tls: { ...tls, hostname: 'tokyo.example' } }), {
        name: 'NbdConnectionError',
        message: /the TLS handshake failed: .*tokyo\.example/,
      })
      // The same address by a name that the certificate does not have.
      await assert.rejects(tryOut(`${listener.uri.replace('127.0.0.1', 'localhost')}/disk`, { tls }), {
        name: 'NbdConnectionError',
        message: /the TLS handshake failed: .*localhost/,
      })
    })

    it('over a Unix socket any certificate of the authority, unless a name is given', async () => {
      await using site = await serveSecurely()
      const tls = { certificates: believing() }
      await tryOut(uri(site), { tls })
      await tryOut(uri(site, '&tls-hostname=osaka.example'), { tls })
      await assert.rejects(tryOut(uri(site, '&tls-hostname=tokyo.example'), { tls }), NbdConnectionError)
    })

    it('no foreign, expired or revoked certificate, unless it was told not to look', async () => {
      const foreign = await Authority.make()
      const late = await authority.issue('late', { purpose: 'server', fromDays: -3, untilDays: -2 })
      const revoked = await authority.issue('revoked', { purpose: 'server' })
      const revocations = await authority.revocationList(revoked)
      const cases: [Issued, FolderContent, RegExp][] = [
        [server, { authority: foreign.certificate }, /the TLS handshake failed/],
        [late, { authority: authority.certificate }, /the TLS handshake failed: certificate has expired/],
        [revoked, { authority: authority.certificate, revocations }, /the TLS handshake failed: certificate revoked/],
      ]
      for (const [shown, believed, message] of cases) {
        await using site = await serveSecurely({}, { server: shown })
        const certificates = folder(believed)
        await assert.rejects(tryOut(uri(site, `&tls-certificates=${certificates}`)), {
          name: 'NbdConnectionError',
          message,
        })
        await tryOut(uri(site, `&tls-certificates=${certificates}&tls-verify-peer=0`))
        await until(() => site.server.sessions === 0)
      }
    })

    it('without a folder, not the authority of a test', async () => {
      await using site = await serveSecurely()
      await assert.rejects(tryOut(uri(site)), { name: 'NbdConnectionError', message: /the TLS handshake failed/ })
    })
  })

  it('shows its certificate to a server that verifies clients', async () => {
    await using site = await serveSecurely({ verifyPeer: true })
    const client = await authority.issue('host7', { purpose: 'client' })
    await tryOut(uri(site, `&tls-certificates=${folder({ authority: authority.certificate, client })}`))
    await assert.rejects(tryOut(uri(site, `&tls-certificates=${believing()}`)), NbdConnectionError)
  })

  describe('with a preshared key', () => {
    const serveKeys = (files: FolderContent = {}) => serveWithTls({ keys: alice, ...files })

    it('it gets in, by file or by folder; with a wrong one, or as nobody, it does not', async () => {
      await using site = await serveKeys()
      const right = folder({ keys: alice })
      const wrong = folder({ keys: 'alice:ffff\nmallory:ffff\n' })
      await tryOut(uri(site, `&tls-psk-file=${join(right, 'keys.psk')}&tls-username=alice`))
      await tryOut(uri(site), { tls: { certificates: right, username: 'alice' } })
      for (const username of ['alice', 'mallory']) {
        await assert.rejects(tryOut(uri(site), { tls: { certificates: wrong, username } }), NbdConnectionError)
      }
      await assert.rejects(tryOut(uri(site), { tls: { certificates: right, username: 'bob' } }), {
        name: 'NbdConnectionError',
        message: /there is no preshared key of the user bob/,
      })
    })

    it('it takes no certificate for the key, whosever it is', async () => {
      await using site = await serveSecurely()
      const both = folder({ keys: alice, authority: authority.certificate })
      const tls = { pskFile: join(both, 'keys.psk'), username: 'alice' }
      await assert.rejects(tryOut(uri(site), { tls }), { name: 'NbdConnectionError', message: /TLS handshake failed/ })
    })

    it('it gets in where there are certificates too', async () => {
      await using site = await serveKeys({ server })
      await tryOut(uri(site), { tls: { certificates: folder({ keys: alice }), username: 'alice' } })
    })
  })

  it('files that cannot be used are named', async () => {
    await using site = await serveSecurely()
    const noAuthority = folder({ client: await authority.issue('host7') })
    const half = folder({ authority: authority.certificate, client: await authority.issue('host7') })
    rmSync(join(half, 'client-key.pem'))
    const cases: [object, RegExp][] = [
      [{ certificates: noAuthority }, /has no ca-cert\.pem, which is to verify the server/],
      [{ certificates: half }, /has client-cert\.pem, but not client-key\.pem/],
      [{ pskFile: '/nonexistent/keys.psk' }, /cannot read \/nonexistent\/keys\.psk: there is no such file/],
    ]
    for (const [tls, message] of cases) {
      await assert.rejects(tryOut(uri(site), { tls }), { name: 'NbdConnectionError', message })
    }
  })

  it('a server without TLS is refused: nbds:// never means plain', async () => {
    await using site = await serve([new MemoryExport()])
    await assert.rejects(tryOut(uri(site)), (error) => error instanceof NbdRefusedError && error.reply === 'ERR_UNSUP')
  })

  it('a server that demands TLS says so to nbd://', async () => {
    await using site = await serveSecurely()
    await assert.rejects(
      tryOut(`nbd+unix:///disk?socket=${site.path}`),
      (error) => error instanceof NbdRefusedError && error.reply === 'ERR_TLS_REQD',
    )
  })

  it('comes back over TLS after a break', async () => {
    const disk = new MemoryExport()
    await using site = await serveSecurely({ exports: [disk] })
    const client = await SteadyNbdClient.connect(uri(site, `&tls-certificates=${believing()}`))
    await client.write(0, Buffer.alloc(512, 7))
    await client.flush()
    await site.server.stop({ drain: false })
    const again = new NbdServer({ catalog: catalogOf(disk), log: recordingLog([]), tls: site.tls })
    await again.listen(`nbds+unix:///?socket=${site.path}`)
    assert((await client.read(0, 512)).equals(Buffer.alloc(512, 7)))
    await client.disconnect()
    await again.stop({ drain: false })
  })

  describe('a server that', () => {
    /** A server on TCP that hands over each connection after the client's flags. */
    async function misbehaving(act: (socket: Socket) => void) {
      const listener = createServer((socket) => {
        socket.on('error', () => {})
        socket.write(encodeGreeting())
        socket.once('data', () => act(socket))
      })
      listener.listen(0, '127.0.0.1')
      await once(listener, 'listening')
      const { port } = listener.address() as AddressInfo
      return { uri: `nbds://127.0.0.1:${port}/disk`, [Symbol.dispose]: () => void listener.close() }
    }
    const granted = encodeOptionReply(OptionType.startTls, ReplyType.ack)

    it('sends bytes in the clear behind its answer to STARTTLS is not believed', async () => {
      const injected = encodeOptionReply(OptionType.structuredReply, ReplyType.ack)
      using fake = await misbehaving((socket) => socket.write(Buffer.concat([granted, injected])))
      await assert.rejects(tryOut(fake.uri), {
        name: 'NbdConnectionError',
        message: /bytes in the clear came behind the answer to STARTTLS/,
      })
    })

    it('speaks no TLS is left', async () => {
      using fake = await misbehaving((socket) => {
        socket.write(granted)
        socket.once('data', () => socket.write('this is no TLS, and never was'))
      })
      await assert.rejects(tryOut(fake.uri), { name: 'NbdConnectionError', message: /the TLS handshake failed/ })
    })

    it('hangs up is left', async () => {
      using fake = await misbehaving((socket) => {
        socket.write(granted)
        socket.once('data', () => socket.destroy())
      })
      await assert.rejects(tryOut(fake.uri), NbdConnectionError)
    })

    it('falls silent is left at the deadline, or when the caller says so', async () => {
      const { promise: reached, resolve } = Promise.withResolvers<void>()
      using fake = await misbehaving((socket) => {
        socket.write(granted)
        socket.once('data', () => resolve())
      })
      await assert.rejects(tryOut(fake.uri, { connectTimeoutMs: 200 }), /did not finish negotiation within 200 ms/)
      const stop = new AbortController()
      const attempt = tryOut(fake.uri, { signal: stop.signal })
      await reached
      stop.abort(new Error('enough'))
      await assert.rejects(attempt, /enough/)
    })
  })
})
