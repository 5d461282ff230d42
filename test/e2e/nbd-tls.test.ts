// Guests' TLS as an operator has it: the flags of `serve`, what it refuses to begin with, and new certificates by SIGHUP.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Command, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { Authority, type Issued, layOut } from '../nbd/certificates.ts'
import { RawClient } from '../nbd/harness.ts'
import { createDisk, endSitesAfterEach, folder, refusalOf, Site, serveRefused, until } from './sites.ts'

describe('vmstore serve --tls-certificates', () => {
  endSitesAfterEach()
  let authority: Authority
  let server: Issued
  before(async () => {
    authority = await Authority.make()
    server = await authority.issue('first', { hosts: ['localhost'], purpose: 'server' })
  })

  const files = () => layOut(join(folder(), 'pki'), { authority: authority.certificate, server })

  async function greeted(site: Site): Promise<RawClient> {
    const socket = connect({ host: '127.0.0.1', port: site.nbdPort })
    const guest = RawClient.of(socket)
    await once(socket, 'connect')
    await guest.greet()
    return guest
  }

  async function secured(site: Site) {
    const guest = await greeted(site)
    assert.equal((await guest.option(OptionType.startTls)).at(-1)!.type, ReplyType.ack)
    return guest.secure({ ca: authority.certificate, servername: 'localhost' })
  }

  async function hangUp(site: Site, count: number): Promise<void> {
    process.kill(site.pid, 'SIGHUP')
    await until('SIGHUP is in the log', () => site.logged('SIGHUP').length >= count || undefined)
  }

  it('TCP demands TLS, the Unix socket does not', async () => {
    const site = await Site.start('osaka', { flags: ['--tls-certificates', files()] })
    const overTcp = await greeted(site)
    assert.deepEqual(await overTcp.option(OptionType.list).then(([reply]) => reply!.type), ReplyType.errTlsReqd)
    overTcp.destroy()
    const beside = await RawClient.connect(site.nbdSocket)
    await beside.greet()
    assert.equal((await beside.option(OptionType.list)).at(-1)!.type, ReplyType.ack)
    beside.destroy()
  })

  it('SIGHUP brings new certificates to new connections, and old sessions go on', async () => {
    const pki = files()
    const site = await Site.start('osaka', { flags: ['--tls-certificates', pki] })
    await createDisk(site, 'web01', 2 ** 20)
    const old = await secured(site)
    await old.go('web01')
    layOut(pki, { server: await authority.issue('second', { hosts: ['localhost'], purpose: 'server' }) })
    await hangUp(site, 1)
    const fresh = await secured(site)
    assert.equal(fresh.socket.getPeerX509Certificate()?.subject, 'CN=second')
    writeFileSync(join(pki, 'server-key.pem'), 'broken')
    await hangUp(site, 2)
    assert.match(
      site.logged('SIGHUP').at(-1)!,
      /certificates of before stay in use: .*server-key\.pem has no private key/,
    )
    const later = await secured(site)
    assert.equal(later.socket.getPeerX509Certificate()?.subject, 'CN=second')
    old.request({ type: Command.flush, cookie: 5 })
    assert.deepEqual([(await old.reply()).cookieLow, old.leftBytes], [5, 0])
    for (const guest of [old, fresh, later]) guest.destroy()
  })

  it('SIGHUP without certificates changes nothing', async () => {
    const site = await Site.start('osaka')
    await hangUp(site, 1)
    assert(site.isRunning)
    assert.deepEqual(await site.control.listDisks(), [])
  })

  it('what cannot be used is refused, and nothing is begun', async () => {
    const broken = files()
    rmSync(join(broken, 'server-key.pem'))
    const root = join(folder(), 'root')
    const nbd = ['--root', root, '--nbd', 'nbds://127.0.0.1:0']
    refusalOf(await serveRefused(...nbd), 3, 'no-tls')
    refusalOf(await serveRefused(...nbd, '--tls-certificates', broken), 3, 'bad-certificates')
    refusalOf(await serveRefused(...nbd, '--tls-certificates', join(root, 'nowhere')), 3, 'bad-certificates')
    refusalOf(await serveRefused('--root', root, '--nbd', 'nbd://0.0.0.0:0'), 3, 'insecure')
    const alone = await serveRefused(...nbd, '--tls-verify-peer')
    assert.equal(alone.exit, 2, alone.stderr)
  })

  it('beyond loopback TLS is enough, --insecure is not needed', async () => {
    const site = await Site.start('osaka', {
      flags: ['--nbd', 'nbd://0.0.0.0:0', '--tls-certificates', files(), '--tls-verify-peer'],
    })
    const guest = await greeted(site)
    assert.equal((await guest.option(OptionType.list))[0]!.type, ReplyType.errTlsReqd)
    guest.destroy()
  })
})
