// `disk create --from URI`: a copy from any NBD server, whole or not there at all.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Authority, layOut } from '../nbd/certificates.ts'
import { seededRandom } from '../random.ts'
import { needTool } from '../tools.ts'
import { nbdkit, nbdServer, type OtherServer, qemuNbd } from './nbd-servers.ts'
import { attach, endSitesAfterEach, folder, must, readAll, refusalOf, Site, until, vmstore } from './sites.ts'

const mebibyte = 2 ** 20

/** A sparse raw image: data at the beginning, in the middle and at the end, and zeros that were written. */
async function rawImage(sizeBytes: number): Promise<{ path: string; bytes: Buffer }> {
  const path = join(folder(), 'image.raw')
  const bytes = Buffer.alloc(sizeBytes)
  const random = seededRandom(sizeBytes)
  await writeFile(path, '')
  await truncate(path, sizeBytes)
  const file = await open(path, 'r+')
  for (const at of [0, Math.floor(sizeBytes / 8192) * 4096 + 512, sizeBytes - 100_000]) {
    const data = Buffer.from(Uint8Array.from({ length: 100_000 }, () => random.integer(256)))
    data.copy(bytes, at)
    await file.write(data, 0, data.length, at)
  }
  await file.write(Buffer.alloc(mebibyte), 0, mebibyte, mebibyte)
  await file.close()
  return { path, bytes }
}

async function assertSame(site: Site, disk: string, bytes: Buffer): Promise<void> {
  const client = await attach(site, disk)
  const found = await readAll(client)
  assert(found.subarray(0, bytes.length).equals(bytes), 'the bytes are those of the source')
  assert(found.subarray(bytes.length).equals(Buffer.alloc(found.length - bytes.length)))
}

/** Nobody can tell that a disk was tried. */
async function assertNothingLeft(site: Site): Promise<void> {
  assert.deepEqual(await site.control.listDisks(), [])
  await until('the folder of disks is empty', () =>
    readdirSync(join(site.root, 'disks')).length === 0 ? true : undefined,
  )
}

describe('a disk made from an NBD server', () => {
  endSitesAfterEach()
  let site: Site
  beforeEach(async () => {
    site = await Site.start('osaka')
  })

  const servers: [program: string, start: (path: string) => Promise<Pick<OtherServer, 'uri'>>][] = [
    ['nbdkit', (path) => nbdkit('file', path)],
    ['qemu-nbd', (path) => qemuNbd('-f', 'raw', '-x', 'disk', path)],
    ['nbd-server', nbdServer],
  ]
  for (const [program, start] of servers) {
    it(`${program}: every byte comes, and what is zero takes no room`, async function () {
      needTool(this, program)
      const { path, bytes } = await rawImage(32 * mebibyte)
      const server = await start(path)
      const view = await must(site, 'disk', 'create', 'web01', '--from', server.uri)
      assert.equal(view.type, 'result')
      assert.deepEqual([view.size, view.state, view.generation], [32 * mebibyte, 'owned', 1])
      assert(view.allocated < mebibyte, `${view.allocated} bytes are allocated`)
      await assertSame(site, 'web01', bytes)
      const events = (await vmstore(site, 'disk', 'create', 'web02', '--from', server.uri, '--size', '40M')).events
      assert.deepEqual(events.find(({ type }) => type === 'progress').bytes.total, 32 * mebibyte)
      await assertSame(site, 'web02', bytes)
    })
  }

  it("vmstore: a site's disk becomes another disk of the same site", async () => {
    const { path, bytes } = await rawImage(16 * mebibyte)
    await must(site, 'disk', 'create', 'web01', '--from', path)
    await must(site, 'disk', 'create', 'web02', '--from', site.uri('web01'))
    await assertSame(site, 'web02', bytes)
    assert.equal((await site.control.showDisk('web01')).sessions, 0, 'the copy has taken leave')
  })

  it('over TLS, with the certificates that the URI names', async () => {
    const authority = await Authority.make()
    const server = await authority.issue('osaka', { hosts: ['localhost'], purpose: 'server' })
    const pki = layOut(join(folder(), 'pki'), { authority: authority.certificate, server })
    const { path, bytes } = await rawImage(16 * mebibyte)
    const other = await Site.start('tokyo', { flags: ['--tls-certificates', pki] })
    await must(other, 'disk', 'create', 'web01', '--from', path)
    const uri = `nbds://localhost:${other.nbdPort}/web01`
    await must(site, 'disk', 'create', 'web01', '--from', `${uri}?tls-certificates=${pki}`)
    await assertSame(site, 'web01', bytes)
    refusalOf(await vmstore(site, 'disk', 'create', 'web02', '--from', uri), 3, 'source-unreachable')
    const plain = `nbd://localhost:${other.nbdPort}/web01`
    const view = refusalOf(await vmstore(site, 'disk', 'create', 'web02', '--from', plain), 3, 'source-unreachable')
    assert.match(view.message, /TLS/i)
  })

  it('1 TiB with little in it takes seconds', async function () {
    needTool(this, 'nbdkit')
    const path = join(folder(), 'large.raw')
    await writeFile(path, '')
    await truncate(path, 2 ** 40)
    const file = await open(path, 'r+')
    const places = [0, 2 ** 39 + 4096, 2 ** 40 - 4096]
    for (const at of places) await file.write(Buffer.alloc(4096, 0x5a), 0, 4096, at)
    await file.close()
    const server = await nbdkit('file', path)
    const startedMs = performance.now()
    await must(site, 'disk', 'create', 'web01', '--from', server.uri)
    // To look at every byte would take longer, however fast the machine.
    assert(performance.now() - startedMs < 100_000, `${performance.now() - startedMs} ms`)
    const client = await attach(site, 'web01')
    for (const at of places) assert.deepEqual(await client.read(at, 4096), Buffer.alloc(4096, 0x5a))
    assert.deepEqual(await client.read(2 ** 38, 4096), Buffer.alloc(4096))
  })

  it('goes on when the server dies and comes back', async function () {
    needTool(this, 'nbdkit')
    const { path, bytes } = await rawImage(32 * mebibyte)
    const slow = ['--filter=noextents', '--filter=delay', 'file', path, 'rdelay=100ms']
    const server = await nbdkit(...slow)
    const making = vmstore(site, 'disk', 'create', 'web01', '--from', server.uri)
    await pastBeginning(site)
    await server.kill()
    await server.start()
    const { exit, json } = await making
    assert.equal(exit, 0, JSON.stringify(json))
    await assertSame(site, 'web01', bytes)
  })

  it('a server that comes back with another export is not believed: nothing is left', async function () {
    needTool(this, 'nbdkit')
    const { path } = await rawImage(32 * mebibyte)
    const server = await nbdkit('--filter=noextents', '--filter=delay', 'file', path, 'rdelay=100ms')
    const making = vmstore(site, 'disk', 'create', 'web01', '--from', server.uri)
    await pastBeginning(site)
    await server.kill()
    await server.start('memory', '16M')
    const view = refusalOf(await making, 1, 'source-changed')
    assert.match(view.message, /33554432 and are 16777216/)
    assert.match(view.safe!, /No disk was made/)
    await assertNothingLeft(site)
  })

  it('bytes that cannot be read: nothing is left', async function () {
    needTool(this, 'nbdkit')
    const { path } = await rawImage(32 * mebibyte)
    const server = await nbdkit(
      '--filter=noextents',
      '--filter=error',
      'file',
      path,
      'error-pread=EIO',
      'error-rate=50%', // Of some thirty reads: one fails, at any rate.
    )
    const view = refusalOf(await vmstore(site, 'disk', 'create', 'web01', '--from', server.uri), 1, 'source-failed')
    assert.match(view.message, /EIO/)
    await assertNothingLeft(site)
  })

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    it(`${signal} of the command: nothing is left, and the name is free`, async function () {
      needTool(this, 'nbdkit')
      const server = await nbdkit('--filter=noextents', '--filter=delay', 'memory', '64M', 'rdelay=300ms')
      const command = ['disk', 'create', 'web01', '--from', server.uri, '--control', site.controlSocket]
      const child = spawn(process.execPath, [join(import.meta.dirname, '../../bin/run.js'), ...command], {
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      const said = text(child.stderr)
      await pastBeginning(site)
      const ended = once(child, 'exit')
      child.kill(signal)
      const [code] = await ended
      assert.equal(code, signal === 'SIGINT' ? 1 : null)
      if (signal === 'SIGINT') assert.match(await said, /interrupted.*nothing of it is left/s)
      await assertNothingLeft(site)
      await must(site, 'disk', 'create', 'web01', '--size', '1M')
    })
  }

  it('SIGKILL of the daemon: nothing is left when it is back', async function () {
    needTool(this, 'nbdkit')
    const server = await nbdkit('--filter=noextents', '--filter=delay', 'memory', '64M', 'rdelay=300ms')
    const making = vmstore(site, 'disk', 'create', 'web01', '--from', server.uri)
    await pastBeginning(site)
    await site.kill()
    refusalOf(await making, 1, 'daemon-lost')
    await site.restart()
    await assertNothingLeft(site)
  })

  it('what cannot be opened is refused, and nothing has changed', async function () {
    needTool(this, 'nbdkit')
    const create = (...args: string[]) => vmstore(site, 'disk', 'create', 'web01', '--from', ...args)
    refusalOf(await create(`nbd+unix:///?socket=${join(folder(), 'nobody.sock')}`), 3, 'source-unreachable')
    refusalOf(await create('nbd://127.0.0.1:1'), 3, 'source-unreachable')
    assert.match(refusalOf(await create(site.uri('missing')), 3, 'source-unreachable').message, /ERR_UNKNOWN/)
    refusalOf(await create('nbd://host:99999'), 2, 'bad-uri')
    refusalOf(await create('nbd+unix:///?socket=relative.sock'), 2, 'bad-uri')
    refusalOf(await create('https://example.com/image.raw'), 2, 'usage')
    const odd = await nbdkit('memory', '1000')
    assert.match(refusalOf(await create(odd.uri), 3, 'not-raw').message, /1000 bytes/)
    const large = await nbdkit('memory', '2M')
    refusalOf(await create(large.uri, '--size', '1M'), 3, 'wrong-size')
    const endless = await nbdkit('null', `${2n ** 63n - 1n}`)
    const tooLarge = refusalOf(await create(endless.uri), 3, 'too-large')
    assert.match(tooLarge.message, /has 9223372036854775807 bytes, which is more than a disk can have here/)
    assert.doesNotMatch(tooLarge.message, /protocol/)
    await assertNothingLeft(site)
  })
})

/** Until the daemon has begun to write the disk that is being made. */
async function pastBeginning(site: Site): Promise<void> {
  await until('a disk is being made', () =>
    readdirSync(join(site.root, 'disks')).some((name) => name.startsWith('.passing-')) ? true : undefined,
  )
}
