// What both sites tell their operators when it matters: a link that is dead, a write that waits or is refused, a disk that
// has left its bytes behind, and a peer's refusal.

import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import type { MigrationEvent, MigrationView } from '../../src/control/types.ts'
import { Cable } from './proxy.ts'
import { sitesWithData, sitesWithDisk } from './scenes.ts'
import {
  afterwards,
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  letTake,
  must,
  pair,
  refusalOf,
  refusedWith,
  Site,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

describe('telling', () => {
  endSitesAfterEach()

  it('a link that is down: an event, a log line and a state at both ends, without a stale rate or time', async function () {
    this.timeout(60_000)
    const { a, b, cable } = await overCable()
    // A cannot dial B.
    const terms = {
      mode: 'post-copy',
      switchover: 'now',
      switchoverWaitMs: 10_000,
      source: 'keep',
    } as const
    const { id } = await b.control.migrate({ ...terms, disk: 'web01', from: a.name, maxRate: mebibyte })
    const seen = { a: watched(a, id), b: watched(b, id) }
    await untilMigration(b, id, ({ bytes, rate }) => bytes.missing < 31 * mebibyte && rate > 0)
    await untilMigration(a, id, ({ secondsLeft }) => secondsLeft !== null)
    cable.cut()
    for (const site of [a, b]) {
      const view = await untilMigration(site, id, ({ link }) => link.state === 'down')
      assert.deepEqual([view.rate, view.secondsLeft, view.connected], [0, null, false])
      assert(Date.parse(view.link.since!) > 0)
      assert(view.link.why!.length > 0)
      assert(view.bytes.exposed > 0)
      const [peer] = await must(site, 'peer', 'list')
      assert.equal(peer.link.state, 'down')
      const status = await must(site, 'status')
      assert.equal(status.migrations[0].link.state, 'down')
    }
    // A first dial again has failed: the log tells so once, however many follow.
    await untilLogged(b, 'osaka could not be reached')
    cable.mend()
    for (const site of [a, b]) await untilMigration(site, id, ({ link }) => link.state === 'up')
    for (const [site, peer] of [
      [a, 'tokyo'],
      [b, 'osaka'],
    ] as const) {
      assert.equal(site.logged(`the link to ${peer} is down`).length, 1, site.report())
      assert.match(site.logged(`the link to ${peer} is up`).at(-1)!, /downSeconds/)
    }
    assert.equal(b.logged('osaka is dialled again').length, 1)
    assert.equal(b.logged('osaka could not be reached').length, 1)
    for (const views of [seen.a, seen.b]) {
      const states = views.map(({ link }) => link.state)
      assert(states.includes('down') && states.at(-1) === 'up', 'whoever watches has heard of it')
      const down = views.filter(({ link }) => link.state === 'down')
      assert(down.every(({ rate, secondsLeft }) => rate === 0 && secondsLeft === null))
    }
    await must(b, 'migration', 'pause', id)
    const paused = await b.control.showMigration(id)
    assert.deepEqual([paused.rate, paused.secondsLeft], [0, null])
  })

  it('a write that waits for switchover, and those that are refused, are seen at both ends, and in the logs', async function () {
    this.timeout(90_000)
    const { a, b } = await sitesWithDisk(mebibyte)
    const guest = await attach(a, 'web01')
    await guest.write(0, Buffer.alloc(block, 1))
    const { id } = await begin(a, b, 'web01', 'auto', { switchoverWaitMs: 8000 })
    const stray = await attach(b, 'web01')
    const seen = [a, b].map((site) => ({ site, views: watched(site, id) }))
    const refused = refusedWith('EPERM', stray.write(0, Buffer.alloc(block, 9)))
    for (const { site, views } of seen) {
      const why = /at the source, the session of .* has not flushed/
      const { held } = await until(`a held write is seen at ${site.name}`, () =>
        views.find((view) => why.test(view.held?.why ?? '')),
      )
      assert.equal(held!.clients.length, 1)
      assert(Date.parse(held!.since) > 0)
    }
    await refused
    await refusedWith('EPERM', stray.trim(0, block))
    for (const site of [a, b]) {
      const { refusedWrites, held } = await untilMigration(site, id, (view) => view.refusedWrites?.count === 2)
      assert.match(refusedWrites!.why, /not switched over/)
      assert(Date.parse(refusedWrites!.last) > 0)
      assert.equal(held, null)
      assert(site.logged('a write at the destination waits for switchover').length > 0)
      assert(site.logged('writes at the destination were refused').length > 0)
    }
    assert.equal((await b.control.showDisk('web01')).guestErrors['EPERM']!.count, 2)
    // It is known still when the move is over.
    await must(a, 'migration', 'switchover', id, '--force')
    for (const site of [a, b]) {
      const { refusedWrites } = await untilMigration(site, id, ({ state }) => state === 'done')
      assert.equal(refusedWrites?.count, 2)
    }
  })

  it('a disk that was released says what its bytes take, and nothing once they are deleted', async () => {
    for (const source of ['keep', 'delete'] as const) {
      const { a, b } = await sitesWithData(2 * mebibyte)
      const { id } = await begin(a, b, 'web01', 'now', { source })
      await untilMigration(a, id, ({ state }) => state === 'done')
      const wanted = source === 'keep' ? 2 * mebibyte : 0
      const shown = await untilDisk(a, 'web01', ({ allocated }) => allocated >= wanted)
      assert.equal(shown.state, 'released')
      if (source === 'keep') assert.equal(shown.allocated, (await stat(shown.path)).blocks * 512)
      else await untilDisk(a, 'web01', ({ allocated, present }) => allocated === 0 && present.bytes === 0)
    }
  })

  it('the time left counts data alone, at both ends, and the report knows how long it copied', async function () {
    this.timeout(60_000)
    const { a, b } = await sitesWithDisk(512 * mebibyte)
    const guest = await attach(a, 'web01')
    // 4 MiB of data lie before 508 MiB of hole, which take no time.
    for (let at = 0; at < 4; at++) await guest.write(at * mebibyte, Buffer.alloc(mebibyte, 7))
    await guest.disconnect()
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: mebibyte })
    for (const site of [a, b]) {
      const { secondsLeft, rate, bytes } = await untilMigration(site, id, (view) => view.secondsLeft !== null)
      assert(bytes.missing > 100 * mebibyte, 'the hole is missing still')
      assert(secondsLeft! * rate < 4.1 * mebibyte, `${secondsLeft} s at ${rate} bytes/s, for at most 4 MiB`)
    }
    await must(b, 'migration', 'pause', id)
    await must(b, 'migration', 'resume', id)
    const [atSource, atDestination] = await Promise.all([a, b].map((site) => untilMigration(site, id, isDone)))
    for (const { seconds } of [atSource!, atDestination!])
      assert(seconds.copying > 0 && seconds.copying <= seconds.postcopy + 0.5, JSON.stringify(seconds))
  })

  it('connections over the limit are counted in status, and logged', async () => {
    const a = await Site.start('osaka')
    const clients: Socket[] = []
    afterwards(() => {
      for (const client of clients) client.destroy()
    })
    const { refusedConnections } = await until('one is refused', async () => {
      for (let count = 0; count < 100; count++) clients.push(connect(a.nbdSocket).on('error', () => {}))
      const status = await a.control.status()
      return status.refusedConnections ? status : undefined
    })
    assert(refusedConnections!.count > 0 && Date.parse(refusedConnections!.last) > 0)
    assert(a.logged('connection refused: there are too many').length > 0)
  })

  it('a peer that refuses says there of its own place', async () => {
    const a = await Site.start('osaka')
    const b = await Site.start('tokyo')
    await pair(a, b)
    for (const site of [a, b]) await createDisk(site, 'x1', mebibyte)
    const refused = refusalOf(await vmstore(a, 'migrate', 'x1', '--to', 'tokyo'), 3, 'disk-exists')
    assert.match(refused.message, /^tokyo refused: there is a disk x1 there already$/)
    const asked = refusalOf(await vmstore(a, 'migrate', 'x2', '--from', 'tokyo'), 3, 'disk-unknown')
    assert.match(asked.message, /^tokyo refused: there is no disk x2 there/)
  })
})

const isDone = ({ state }: MigrationView) => state === 'done'

/** 32 MiB of data at A; B reaches A over a cable, and A cannot dial B. */
async function overCable(): Promise<{ a: Site; b: Site; cable: Cable }> {
  const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo', { peer: 'tcp://0.0.0.0:0' })])
  const cable = await Cable.to(a.peerPort)
  afterwards(() => cable.end())
  const { token } = await a.control.invite({ name: b.name, address: `tcp://127.0.0.1:${cable.port}` })
  await b.control.join({ token, name: a.name })
  await letTake(a, b)
  await createDisk(a, 'web01', 32 * mebibyte)
  const guest = await attach(a, 'web01')
  for (let at = 0; at < 32; at++) await guest.write(at * mebibyte, Buffer.alloc(mebibyte, 7))
  await guest.disconnect()
  return { a, b, cable }
}

/** What a command that watches the migration is told. */
function watched(site: Site, id: string): MigrationView[] {
  const views: MigrationView[] = []
  const stop = new AbortController()
  afterwards(() => stop.abort())
  const watch = async () => {
    for await (const event of site.control.migrationEvents(id, stop.signal) as AsyncIterable<MigrationEvent>) {
      if (event.type !== 'error') views.push(event.type === 'result' ? event : event.migration)
    }
  }
  watch().catch(() => {})
  return views
}

async function untilLogged(site: Site, text: string): Promise<void> {
  await until(`${site.name} logs: ${text}`, () => (site.logged(text).length > 0 ? true : undefined))
}
