// Who is attached, as an operator sees it, and dropping one.

import assert from 'node:assert/strict'
import {
  attach,
  createDisk,
  endSitesAfterEach,
  folder,
  must,
  refusalOf,
  Site,
  serveRefused,
  until,
  vmstore,
} from './sites.ts'

const mebibyte = 1024 * 1024

describe('sessions', () => {
  endSitesAfterEach()

  it('limits that would let nobody in, or that no timer holds, are refused before anything is touched', async () => {
    for (const [flag, value] of [
      ['--negotiation-within', '0s'],
      ['--first-byte-within', '30d'],
      ['--dead-host-after', '10ms'],
      ['--newcomers', '0'],
    ] as const) {
      const { exit, json } = await serveRefused('--root', folder(), flag, value)
      assert.equal(exit, 2, JSON.stringify(json))
      assert.match(json.error.message, new RegExp(flag.slice(2)))
    }
  })

  it('session list says who is attached, what it has asked for, and whether it has written what no flush covers', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    assert.deepEqual(await must(site, 'session', 'list'), [])
    const client = await attach(site, 'web01')
    await client.write(0, Buffer.alloc(8192, 1))
    await client.read(0, 4096)
    const [written] = await must(site, 'session', 'list')
    const { disk, client: name, pid, listener, tls, state, reads, writes, flushes, unflushed } = written
    assert.deepEqual(
      { disk, name, pid, tls, state, reads, writes, flushes, unflushed },
      {
        ...{ disk: 'web01', name: 'unix', pid: process.pid, tls: null, state: 'open', flushes: 0, unflushed: true },
        ...{ reads: { count: 1, bytes: 4096 }, writes: { count: 1, bytes: 8192 } },
      },
    )
    assert(listener.startsWith('nbd+unix:') && Date.parse(written.since) <= Date.now())
    await client.flush()
    await client.read(0, 4096)
    const [flushed] = await must(site, 'session', 'list')
    assert.deepEqual([flushed.id, flushed.flushes, flushed.unflushed], [written.id, 1, false])
    await client.disconnect()
    await until('it is gone', async () => (await site.control.listSessions()).length === 0 || undefined)
  })

  it('session drop cuts one client off, says what that means, and leaves the others', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    const [first, other] = [await attach(site, 'web01'), await attach(site, 'web01')]
    await first.write(0, Buffer.alloc(4096, 7))
    const sessions = await site.control.listSessions()
    const { id } = sessions.find(({ writes }) => writes.count === 1)!
    const dropped = await must(site, 'session', 'drop', id)
    await first.closed
    assert.equal(dropped.id, id)
    assert.match(dropped.safe, /what no flush covers yet/)
    assert.match(dropped.next, /reconnects comes back by itself/)
    assert.equal((await other.read(0, 1))[0], 7)
    const left = await site.control.listSessions()
    assert.deepEqual(
      left.map((each) => each.id),
      sessions.map((each) => each.id).filter((each) => each !== id),
    )
    refusalOf(await vmstore(site, 'session', 'drop', id), 3, 'session-unknown')
    await other.disconnect()
  })
})
