// Simulates clients that keep their places in NBD's negotiation: one sends an option byte by byte, others ask for TLS and
// never finish the handshake. Each is sent away when its time is over, however busy it keeps.

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { OptionType } from '../../src/nbd/wire/constants.ts'
import { encodeClientFlags, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { attach, createDisk, endSitesAfterEach, folder, Site, until } from '../e2e/sites.ts'
import { Authority, layOut } from '../nbd/certificates.ts'
import { Herd } from './herd.ts'

const within = ['--negotiation-within', '400ms']
const mebibyte = 1024 * 1024

/** One byte a turn of the loop, for as long as the server takes them. */
function drip(socket: Socket): void {
  const bytes = Buffer.concat([encodeClientFlags(3), encodeOption(OptionType.go, Buffer.alloc(60_000))])
  let at = 0
  const next = () => {
    if (!socket.destroyed && at < bytes.length) socket.write(bytes.subarray(at, ++at), () => setTimeout(next, 5))
  }
  next()
}

describe('hostile: a negotiation without an end', () => {
  endSitesAfterEach()

  it('byte by byte, it is broken off at the deadline, and a client beside it is served', async () => {
    const site = await Site.start('osaka', { flags: within })
    await createDisk(site, 'web01', mebibyte)
    const herd = await Herd.gather(20, { host: '127.0.0.1', port: site.nbdPort }, drip)
    const guest = await attach(site, 'web01')
    await until('all were sent away', () => herd.sentAway >= 20 || undefined)
    await guest.read(0, 4096)
    const { doors } = await site.control.status()
    const tcp = doors.find(({ address }) => address.startsWith('nbd://'))!
    assert(tcp.slow && tcp.slow.count >= 20, JSON.stringify(tcp))
    await guest.disconnect()
  })

  it('a TLS handshake that is never finished is broken off at the deadline', async () => {
    const authority = await Authority.make()
    const server = await authority.issue('server', { hosts: ['localhost'], purpose: 'server' })
    const certificates = layOut(folder(), { authority: authority.certificate, server })
    const site = await Site.start('osaka', { flags: ['--tls-certificates', certificates, ...within] })
    const startTls = Buffer.concat([encodeClientFlags(3), encodeOption(OptionType.startTls)])
    const herd = await Herd.gather(20, { host: '127.0.0.1', port: site.nbdPort }, (one) => one.write(startTls))
    await until('all were sent away', () => herd.sentAway >= 20 || undefined)
    const { doors } = await site.control.status()
    const tcp = doors.find(({ address }) => address.startsWith('nbds://'))!
    assert(tcp.slow && tcp.slow.count >= 20, JSON.stringify(tcp))
  })

  it('a herd that holds all places in handshakes makes room for one who comes', async () => {
    const site = await Site.start('osaka', { flags: ['--newcomers', '16', '--newcomers-per-address', '16'] })
    await createDisk(site, 'web01', mebibyte)
    const idle = Array.from({ length: 16 }, () => connect(site.nbdSocket).on('error', () => {}))
    await until('all are there', async () => {
      const { doors } = await site.control.status()
      return doors.some(({ newcomers }) => newcomers.now === 16) || undefined
    })
    const guest = await attach(site, 'web01')
    await guest.read(0, 4096)
    await guest.disconnect()
    for (const one of idle) one.destroy()
  })
})
