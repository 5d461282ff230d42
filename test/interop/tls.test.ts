// NBD over TLS with other people's programs, both ways: their clients (GnuTLS) with our server, our client with their servers.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient, NbdConnectionError } from '../../src/nbd/client/client.ts'
import { nbdkit, qemuNbd } from '../e2e/nbd-servers.ts'
import { endSitesAfterEach } from '../e2e/sites.ts'
import { Authority, type FolderContent, type Issued, layOut } from '../nbd/certificates.ts'
import { temporaryFolder } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { type SecureSite, type SecureSiteOptions, serveWithTls } from '../nbd/secure-site.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned, run } from './clients.ts'

const keys = `# Read alike by GnuTLS and by us.

#mallory:ffff
#${Buffer.from('host: 7').toString('hex')}:ffeeddccbbaa99887766554433221100
alice:00112233445566778899aabbccddeeff
`
const version12 = 'NORMAL:-VERS-TLS1.3'

describe('TLS with other programs', () => {
  endSitesAfterEach()
  let place: ReturnType<typeof temporaryFolder>
  let certified: FolderContent
  let server: Issued
  let foreign: Issued
  const at = (name: string): string => join(place.path, name)
  before(async () => {
    place = temporaryFolder()
    const authority = await Authority.make()
    server = await authority.issue('osaka', { hosts: ['localhost', '127.0.0.1'], purpose: 'server' })
    const client = await authority.issue('host7', { purpose: 'client' })
    foreign = await (await Authority.make()).issue('host7', { purpose: 'client' })
    certified = { authority: authority.certificate, server, client }
    layOut(at('ours'), certified)
    layOut(at('nameless'), { authority: authority.certificate })
    layOut(at('foreign'), { authority: authority.certificate, client: foreign })
    layOut(at('keys'), { keys })
    layOut(at('wrong'), { keys: 'alice:ffeeddccbbaa99887766554433221100\n' })
  })
  after(() => place[Symbol.dispose]())

  /** Served on TCP too: GnuTLS compares the host's name. */
  async function served(content: FolderContent, options: SecureSiteOptions = {}) {
    const site: SecureSite = await serveWithTls(content, options)
    const { uri } = await site.server.listen('nbds://127.0.0.1:0')
    const port = uri.split(':').at(-1)!
    const address = (parameters: string, user = '') => `nbds://${user}localhost:${port}/disk?${parameters}`
    return { site, port, address, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() }
  }

  /** Of the session that was opened first. */
  function versionOf({ log }: SecureSite): string | undefined {
    return log.find(({ message }) => message === 'session open')!.facts['tls' as keyof object]
  }

  describe('our server and libnbd', () => {
    before(function () {
      needTool(this, 'nbdinfo', 'nbdcopy', 'nbdsh')
    })

    it('nbdcopy copies in and out over several connections, with a verified certificate', async () => {
      const bytes = patterned(6 * mebibyte)
      const disk = new MemoryExport({ sizeBytes: bytes.length })
      await using tcp = await served(certified, { exports: [disk], verifyPeer: true })
      const uri = tcp.address(`tls-certificates=${at('ours')}`)
      writeFileSync(at('in.raw'), bytes)
      await run('nbdcopy', '--connections=4', '--flush', at('in.raw'), uri)
      assert(disk.bytes.equals(bytes))
      await run('nbdcopy', '--connections=4', uri, at('out.raw'))
      assert(readFileSync(at('out.raw')).equals(bytes))
      assertNoFailure(tcp.site)
    })

    it('without a certificate, or with a foreign one, nbdinfo is not let in', async () => {
      await using tcp = await served(certified, { verifyPeer: true })
      for (const folder of ['nameless', 'foreign']) {
        await assert.rejects(run('nbdinfo', tcp.address(`tls-certificates=${at(folder)}`)), /gnutls_/)
      }
      await run('nbdinfo', tcp.address(`tls-certificates=${at('ours')}`))
    })

    it('nbdinfo without TLS is told that it is demanded', async () => {
      await using tcp = await served(certified)
      await assert.rejects(
        run('nbdinfo', `nbd://localhost:${tcp.port}/disk`),
        /requires TLS|opt_go request: Operation not supported/,
      )
    })

    it('with a preshared key nbdsh reads and writes; with a wrong one it is not let in', async () => {
      const disk = new MemoryExport()
      await using tcp = await served({ keys }, { exports: [disk] })
      const uri = tcp.address(`tls-psk-file=${at('keys/keys.psk')}`, 'alice@')
      const script =
        'h.pwrite(b"x" * 512, 4096); h.flush(); assert h.pread(512, 4096) == b"x" * 512; print(h.get_tls_negotiated())'
      assert.match(await run('nbdsh', '-c', 'h.set_uri_allow_local_file(True)', '-u', uri, '-c', script), /True/)
      assert.equal(disk.bytes[4096], 'x'.charCodeAt(0))
      await assert.rejects(run('nbdinfo', tcp.address(`tls-psk-file=${at('wrong/keys.psk')}`, 'alice@')), /handshake/)
    })

    it('where there are keys and certificates, either way leads in', async () => {
      await using tcp = await served({ ...certified, keys })
      await run('nbdinfo', tcp.address(`tls-psk-file=${at('keys/keys.psk')}`, 'alice@'))
      await run('nbdinfo', tcp.address(`tls-certificates=${at('nameless')}`))
    })
  })

  describe('our server and QEMU', () => {
    before(function () {
      needTool(this, 'qemu-io', 'qemu-img')
    })

    const image = (port: string): string => `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=tls0`
    const io = (port: string, credentials: string): Promise<string> => {
      const commands = ['write -P 7 1M 300k', 'flush', 'read -P 7 1M 300k'].flatMap((command) => ['-c', command])
      return run(
        'qemu-io',
        '--object',
        `${credentials},id=tls0,endpoint=client`,
        ...commands,
        '--image-opts',
        image(port),
      )
    }

    for (const [version, priority] of [
      ['TLS 1.3', ''],
      ['TLS 1.2', `,priority=${version12}`],
    ] as const) {
      it(`${version}: qemu-io writes and reads with a verified certificate`, async () => {
        const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
        await using tcp = await served(certified, { exports: [disk], verifyPeer: true })
        assert.match(await io(tcp.port, `tls-creds-x509,dir=${at('ours')}${priority}`), /read 307200\/307200/)
        assert.equal(disk.bytes[mebibyte], 7)
        assert.equal(versionOf(tcp.site), version.replace('TLS ', 'TLSv'))
        assertNoFailure(tcp.site)
      })

      it(`${version}: qemu-io writes and reads with a preshared key`, async () => {
        await using tcp = await served({ keys }, { exports: [new MemoryExport({ sizeBytes: 4 * mebibyte })] })
        const credentials = (folder: string) => `tls-creds-psk,dir=${at(folder)},username=alice${priority}`
        assert.match(await io(tcp.port, credentials('keys')), /read 307200\/307200/)
        assert.equal(versionOf(tcp.site), version.replace('TLS ', 'TLSv'))
        await assert.rejects(io(tcp.port, credentials('wrong')), /handshake failed/)
      })
    }

    it('without a certificate, or with a foreign one, it is not let in', async () => {
      await using tcp = await served(certified, { verifyPeer: true })
      for (const folder of ['nameless', 'foreign']) {
        // In TLS 1.3 the server judges when QEMU has gone on: reading or writing, it meets an alert or a reset.
        await assert.rejects(io(tcp.port, `tls-creds-x509,dir=${at(folder)},sanity-check=no`), /can't open: /)
      }
      assert(!tcp.site.log.some(({ message }) => message === 'session open'))
    })
  })

  it('nbdkit’s nbd plugin serves on what it gets over TLS', async function () {
    needTool(this, 'nbdkit', 'nbdinfo')
    await using tcp = await served(certified, { exports: [filled(patterned(mebibyte))], verifyPeer: true })
    const server = ['hostname=localhost', `port=${tcp.port}`, 'export=disk', 'tls=require']
    const secured = [...server, `tls-certificates=${at('ours')}`]
    assert.match(await run('nbdkit', '-U', '-', 'nbd', ...secured, '--run', 'nbdinfo --size "$uri"'), /1048576/)
    assertNoFailure(tcp.site)
  })

  describe('our client', () => {
    const bytes = patterned(2 * mebibyte)

    async function reads(address: string, tls: object): Promise<void> {
      const client = await NbdClient.connect(address.replace('nbd+unix', 'nbds+unix'), { tls })
      assert((await client.read(0, bytes.length)).equals(bytes))
      await client.disconnect()
    }

    it('reads from nbdkit with certificates, and is refused without', async function () {
      needTool(this, 'nbdkit')
      writeFileSync(at('disk.raw'), bytes)
      const files = [`--tls-certificates=${at('ours')}`, '--tls-verify-peer']
      const { uri } = await nbdkit('--tls=require', ...files, 'file', at('disk.raw'))
      await reads(uri, { certificates: at('ours'), hostname: 'localhost' })
      await assert.rejects(reads(uri, { certificates: at('nameless') }), NbdConnectionError)
      await assert.rejects(NbdClient.connect(uri), { reply: 'ERR_TLS_REQD' })
    })

    it('reads from nbdkit with a preshared key', async function () {
      needTool(this, 'nbdkit')
      writeFileSync(at('disk.raw'), bytes)
      const { uri } = await nbdkit('--tls=require', `--tls-psk=${at('keys/keys.psk')}`, 'file', at('disk.raw'))
      for (const username of ['alice', 'host: 7']) await reads(uri, { pskFile: at('keys/keys.psk'), username })
      await assert.rejects(reads(uri, { pskFile: at('wrong/keys.psk'), username: 'alice' }), NbdConnectionError)
    })

    for (const [version, priority] of [
      ['TLS 1.3', ''],
      ['TLS 1.2', `,priority=${version12}`],
    ] as const) {
      it(`${version}: reads from qemu-nbd with certificates and with a preshared key`, async function () {
        needTool(this, 'qemu-nbd')
        writeFileSync(at('disk.raw'), bytes)
        const image = ['--tls-creds', 'tls0', '-f', 'raw', '-x', 'disk', at('disk.raw')]
        const x509 = `tls-creds-x509,id=tls0,endpoint=server,dir=${at('ours')},verify-peer=yes${priority}`
        const first = await qemuNbd('--object', x509, ...image)
        await reads(first.uri, { certificates: at('ours'), hostname: 'localhost' })
        await assert.rejects(reads(first.uri, { certificates: at('nameless') }), NbdConnectionError)
        const psk = `tls-creds-psk,id=tls0,endpoint=server,dir=${at('keys')}${priority}`
        const second = await qemuNbd('--object', psk, ...image)
        await reads(second.uri, { certificates: at('keys'), username: 'alice' })
        await assert.rejects(reads(second.uri, { certificates: at('wrong'), username: 'alice' }), NbdConnectionError)
      })
    }
  })
})
