// A later generation of a disk is heard of while something else is going on: a move that ends, or begins; a database that
// fails; a deletion; a stop. In every case guests are held from then on, and afterwards nobody is served old bytes, nobody
// waits for ever, and no migration is left behind.

import assert from 'node:assert/strict'
import { headOf } from '../../src/deed/deed.ts'
import { signAdopted } from '../../src/deed/signing.ts'
import { AnswerWithBody, LinkError, PeerRefusal } from '../../src/link/channel.ts'
import type { Terms } from '../../src/migration/terms.ts'
import { goneOn, keyOf, peerIdOf } from './keys.ts'
import type { SimSite } from './sim-site.ts'
import { diskId, diskName } from './stage.ts'
import { TwoSites } from './two-sites.ts'

const never = () => new AbortController().signal
const notYet = 'that it is superseded is not on record yet'
const peerB = { id: peerIdOf('B'), site: 'B', name: 'B' }
const terms: Terms = {
  mode: 'post-copy',
  switchover: 'manual',
  switchoverWaitMs: 10_000,
  maxRate: null,
  stallTimeoutMs: null,
  sourcePolicy: 'keep',
  force: false,
}

function hears(site: SimSite, generation: number, owner: string, from = owner): void {
  const deed = goneOn(site.disks!.get(diskId)!.record.deed!, generation, owner)
  void site.migrations!.generations.heed(peerIdOf(from), deed).catch(() => {}) // The site stops.
}

function logged(site: SimSite): string[] {
  const lines: string[] = []
  site.onLog = (message) => lines.push(message)
  return lines
}

/** Nothing of the disk is left half done. */
function assertSettled(sites: TwoSites, site: SimSite): void {
  const disk = site.disks!.get(diskId)!
  assert.deepEqual(
    [disk.gate.frozen, disk.record.migrationId, site.migrations!.courses().length],
    [false, null, 0],
    'frozen, in a migration, courses',
  )
  const states = [...site.database.migration.values()].map(({ state }) => state)
  assert(
    states.every((state) => ['done', 'cancelled', 'failed'].includes(state)),
    states.join(),
  )
  assert.deepEqual(sites.record(site), disk.record)
}

describe('a disk of which a later generation is heard of', () => {
  it('promise 1: while the end of its move cannot be recorded, has its guests held from then on', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    const guest = sites.open(b)
    await sites.until('A is released', () => sites.record(a)?.state === 'released')
    b.database.faultRate = 1
    const course = b.migrations!.courses().find((each) => each.id === id)!
    await sites.until('it could not be recorded', () => course.note?.includes('it is tried again') === true)
    hears(b, 3, 'A')
    let answered = false
    const writing = sites.write(guest, 0, 9).finally(() => {
      answered = true
    })
    const refused = assert.rejects(writing, { code: 'not-served' })
    await sites.pass(20_000)
    assert(!answered)
    b.database.faultRate = 0
    await sites.until('it is on record', () => sites.record(b)?.state === 'superseded')
    await refused
    assert.deepEqual(sites.standing(b), ['superseded', 3, 'A'])
    assertSettled(sites, b)
  })

  it('at a source that is released before it could be recorded, answers its clients', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const left = sites.open(a)
    await sites.flush(left)
    await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    const lines = logged(a)
    a.database.faultRate = 1
    hears(a, 3, 'C', 'B')
    await sites.until('it could not be recorded', () => lines.includes(notYet))
    a.database.faultRate = 0
    await sites.until('it is released', () => sites.record(a)?.state === 'released')
    await sites.flush(left)
    await assert.rejects(sites.read(left, 0), { code: 'not-served' })
    assertSettled(sites, a)
  })

  it('while a migration of it begins, is superseded with that migration', async () => {
    const sites = await TwoSites.start()
    const { a } = sites
    const guest = sites.open(a)
    await sites.write(guest, 0, 7)
    let writing: unknown // A request in flight makes the freeze last.
    for (let at = 0; at < 20 && !(writing instanceof Promise); at++)
      writing = guest.session.write(at * 4096, new Uint8Array(4096).fill(7), false)
    assert(writing instanceof Promise)
    const outcome = a.migrations!.beginnings.start([diskName], peerB, terms, never()).then(
      () => 'begun',
      (error: { code: string }) => error.code,
    )
    await sites.until('it is noted', () => sites.world.pending.includes('commit disk=owned migration=preparing'))
    hears(a, 2, 'C')
    await sites.drive(writing as Promise<unknown>)
    await sites.until('it is superseded', () => sites.record(a)?.state === 'superseded')
    assert.match(await sites.drive(outcome), /^(superseded|begun)$/)
    assert.deepEqual(sites.standing(a), ['superseded', 2, 'C'])
    assertSettled(sites, a)
  })

  for (const answer of ['refuses', 'prepares it'] as const) {
    it(`while the destination of a migration ${answer}, is superseded, and the operator told so`, async () => {
      const sites = await TwoSites.start()
      const { a, b, world } = sites
      const lines = logged(a)
      const { handlers } = b
      b.handlers = {
        ...handlers,
        call: async (peerId, method, params, signal) => {
          if (method === 'prepare') {
            hears(a, 2, 'C')
            await world.event(undefined, 'prepare is late', { atMs: world.nowMs + 500 })
            if (answer === 'refuses') throw new PeerRefusal('disk-here', 'it is here')
          }
          return handlers.call(peerId, method, params, signal)
        },
      }
      const started = a.migrations!.beginnings.start([diskName], peerB, terms, never())
      await assert.rejects(sites.drive(started), { name: 'Refusal', code: 'superseded' })
      assert.deepEqual(sites.standing(a), ['superseded', 2, 'C'])
      assert.deepEqual(
        lines.filter((line) => line.includes('cannot be taken back')),
        [],
      )
      assertSettled(sites, a)
    })
  }

  it('that could not be opened is superseded, and its stopped migration is over, also for the next start', async () => {
    const sites = await TwoSites.start()
    const { b } = sites
    await sites.migrate('now')
    await sites.until('B serves', () => sites.record(b)?.state === 'arriving')
    b.kill()
    const path = [...b.machine.files.keys()].find((each) => each.endsWith('maps.log'))!
    const log = b.machine.files.get(path)!
    b.machine.files.delete(path)
    await sites.drive(b.start())
    assert(b.disks!.get(diskId)!.isUnusable)
    hears(b, 3, 'A')
    await sites.until('it is superseded', () => sites.record(b)?.state === 'superseded')
    assertSettled(sites, b)
    b.machine.files.set(path, log)
    b.kill()
    await sites.drive(b.start())
    assertSettled(sites, b)
    b.disks!.get(diskId)!.reserve('it comes back')
  })

  it('and that is deleted before it could be recorded, stays deleted', async () => {
    const sites = await TwoSites.start()
    const { a } = sites
    const lines = logged(a)
    a.database.faultRate = 1
    hears(a, 2, 'C')
    await sites.until('it could not be recorded', () => lines.includes(notYet))
    a.database.faultRate = 0
    const disk = a.disks!.get(diskId)!
    {
      using _claim = disk.reserve('it is being deleted')
      await sites.drive(a.disks!.remove(disk))
    }
    await sites.pass(20_000)
    assert.equal(sites.record(a), undefined)
  })

  it('at a site that is stopped before it could be recorded, is not said to be told of', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const sites = await TwoSites.start(seed)
      const { a, b } = sites
      const id = await sites.migrate('now')
      await sites.until('B owns', () => sites.record(b)?.state === 'owned')
      a.kill()
      await sites.drive(b.migrations!.commands.cancel(id, true, never()))
      b.kill()
      await sites.drive(a.start())
      await sites.drive(a.migrations!.commands.reclaim(diskName, true, never()))
      b.database.faultRate = 1
      const lines = logged(b)
      await sites.drive(b.start())
      await sites.until('B could not record it', () => lines.includes(notYet))
      await sites.pass(1500)
      b.database.faultRate = 0
      await sites.drive(b.stop())
      const { sourceTold } = b.database.migration.get(id)!
      assert(!sourceTold || sites.record(b)?.state === 'superseded', `seed ${seed}`)
    }
  })

  for (const generation of [2, 3]) {
    it(`promise 1: as generation ${generation}, before it could be recorded, is granted to nobody`, async () => {
      const sites = await TwoSites.start()
      const { a, b } = sites
      const id = await sites.migrate('manual')
      const lines = logged(a)
      a.database.faultRate = 1
      hears(a, generation, 'C')
      await sites.until('it could not be recorded', () => lines.includes(notYet))
      await assert.rejects(sites.drive(b.migrations!.commands.switchover(id, false, never())), { code: 'superseded' })
      await sites.pass(30_000)
      a.database.faultRate = 0
      await sites.until('it is on record', () => sites.record(a)?.state === 'superseded')
      await sites.pass(20_000)
      assert.deepEqual(sites.standing(a), ['superseded', generation, 'C'])
      assert.equal(sites.record(b), undefined, 'B is told that nothing comes')
    })
  }

  for (const waitsFor of ['a request in flight', 'the commit of its grant'] as const) {
    it(`promise 1: while a switchover waits for ${waitsFor}, is granted to nobody`, async () => {
      const sites = await TwoSites.start()
      const { a, b, world } = sites
      const id = await sites.migrate('manual')
      const { gate } = a.disks!.get(diskId)!
      if (waitsFor === 'a request in flight') {
        gate.enter()
        void world.event(undefined, 'a slow request', { atMs: world.nowMs + 3000 }).then(() => gate.leave())
      }
      b.migrations!.commands.switchover(id, false, never()).catch(() => {}) // It is refused in the end.
      if (waitsFor === 'a request in flight') await sites.until('it freezes', () => gate.frozen)
      else await sites.until('it commits', () => world.pending.includes('commit disk=departed'))
      hears(a, 2, 'C')
      await sites.until('it is on record', () => sites.record(a)?.state === 'superseded')
      await sites.pass(20_000)
      assert.deepEqual(sites.standing(a), ['superseded', 2, 'C'])
      assert.equal(sites.record(b), undefined, 'B is told that nothing comes')
      assertSettled(sites, a)
    })
  }

  it('promise 1: before it could be recorded, is not taken back', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(a)?.taken === true)
    b.kill()
    const lines = logged(a)
    a.database.faultRate = 1
    hears(a, 3, 'C', 'B')
    await sites.until('it could not be recorded', () => lines.includes(notYet))
    await sites.pass(2000)
    const reclaimed = a.migrations!.commands.reclaim(diskName, true, never()) // B has 5 s to say that it is there.
    const refused = assert.rejects(reclaimed, { code: 'superseded' })
    await sites.pass(4000)
    a.database.faultRate = 0
    await sites.drive(refused)
    await sites.until('it is on record', () => sites.record(a)?.state === 'superseded')
    assert.deepEqual(sites.standing(a), ['superseded', 3, 'C'])
    assertSettled(sites, a)
  })

  it('promise 1: while it is being taken back as that very generation, is served by nobody here', async () => {
    const sites = await TwoSites.start()
    const { a, b, world } = sites
    await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(a)?.taken === true)
    b.kill()
    const reclaimed = a.migrations!.commands.reclaim(diskName, true, never()).catch(() => {})
    await sites.until('it commits', () => world.pending.includes('commit disk=owned migration=failed'))
    hears(a, 3, 'C', 'B')
    await sites.drive(reclaimed)
    await sites.until('it is on record', () => sites.record(a)?.state === 'superseded')
    assert.deepEqual(sites.standing(a), ['superseded', 3, 'C'])
    assertSettled(sites, a)
  })

  it('at a destination whose source has not said yet how the migration stands, and never will, is superseded', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('manual')
    b.kill()
    const { handlers } = a
    a.handlers = {
      ...handlers,
      call: async (peerId, method, params, signal) => {
        if (method === 'inquire') throw new LinkError('unreachable', 'lost')
        return handlers.call(peerId, method, params, signal)
      },
    }
    await sites.drive(b.start())
    await sites.drive(b.migrations!.commands.switchover(id, false, never()))
    await sites.until('B serves', () => sites.record(b)?.state === 'arriving')
    sites.link.up = false
    hears(b, 5, 'C')
    await sites.until('it is on record', () => sites.record(b)?.state === 'superseded')
    assertSettled(sites, b)
  })

  it('at a destination to which it never came, is gone, and not superseded', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('manual')
    await sites.say('B', a, 'acquire', {
      migration: id,
      disks: [{ disk: diskId, generation: 2 }],
      reason: 'operator',
      force: false,
    }) // B does not hear of it.
    sites.link.up = false
    const lines = logged(b)
    await sites.drive(b.migrations!.commands.setPaused(id, true, never())) // Of which A is told, and says what it knows.
    await sites.drive(a.migrations!.commands.reclaim(diskName, true, never()))
    sites.link.up = true
    await assert.rejects(sites.drive(b.migrations!.commands.switchover(id, false, never())), { code: 'cancelled' })
    await sites.until('B has none', () => sites.record(b) === undefined)
    await sites.pass(10_000)
    assert.equal(b.database.migration.get(id)!.state, 'cancelled')
    assert.deepEqual(
      lines.filter((line) => line.includes('no disk goes from')),
      [],
    )
    assert.deepEqual(sites.standing(a), ['owned', 3, 'A'])
  })

  it('promise 1: that was given to two sites by an old copy of its source, is served by neither of two that hear of each other', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const old = a.copyFolder()
    await sites.migrate('now')
    await sites.until('it is over', () => sites.record(b)?.migrationId === null)
    a.losePower()
    old()
    // It gave the disk to C before it could hear of B.
    const before = sites.record(a)!
    const deed = goneOn(before.deed!, 2, 'C')
    a.database.disk.set(diskId, { ...before, state: 'departed', generation: 2, owner: 'C', deed })
    const lines = logged(b)
    await sites.drive(a.start())
    await sites.until('B has heard', () => sites.record(b)?.state === 'superseded')
    await sites.until('A has heard', () => sites.record(a)?.state === 'superseded')
    for (const site of [a, b]) assert.deepEqual(sites.standing(site), ['superseded', 2, 'unknown'])
    assert.deepEqual(sites.record(b)!.rival, deed)
    assert.match(lines.join(), /two deeds of the disk which fork/)
    // Whoever asks A next, C among them, hears of both.
    const { claims } = (await sites.say('C', a, 'generations', { claims: [] })) as { claims: { head: string }[] }
    assert.deepEqual(claims.map(({ head }) => head).sort(), [deed, sites.record(b)!.deed!].map(headOf).sort())
    await sites.say('C', a, 'deed', { disk: diskId, head: headOf(sites.record(b)!.deed!) })
  })

  it('promise 10: is not superseded by a deed that has nothing in common with its own, however high its generation', async () => {
    const sites = await TwoSites.start()
    const { a } = sites
    const lines = logged(a)
    const high = signAdopted(keyOf('B'), diskId, 2 ** 40, '2026-01-01T00:00:00.000Z')
    for (let time = 1; time <= 2; time++) await sites.drive(a.migrations!.generations.heed(peerIdOf('B'), high))
    assert.deepEqual(sites.standing(a), ['owned', 1, 'A'])
    assert.deepEqual(lines, ['a peer speaks of a deed that does not count'])
    await sites.write(sites.open(a), 0, 7)
  })

  it('promise 10: is not superseded by a claim whose deed cannot be had, or is none', async () => {
    for (const answer of ['nothing', 'a deed that is none'] as const) {
      const sites = await TwoSites.start()
      const { a, b } = sites
      await sites.migrate('now')
      await sites.until('it is over', () => sites.record(b)?.migrationId === null)
      const gone = goneOn(sites.record(b)!.deed!, 3, 'A')
      const forged = gone.with(-1, { ...gone.at(-1)!, signature: gone[0]!.signature })
      const { handlers } = a
      a.handlers = {
        ...handlers,
        call: async (peer, method, params, signal) => {
          if (method === 'deed') {
            if (answer === 'nothing') throw new PeerRefusal('deed-unknown', 'there is none')
            const deed = Buffer.from(JSON.stringify(forged))
            return new AnswerWithBody({ bytes: deed.length }, [deed])
          }
          return handlers.call(peer, method, params, signal)
        },
      }
      const lines = logged(b)
      const claim = { disk: diskId, head: headOf(forged), length: forged.length }
      for (let time = 1; time <= 2; time++) {
        await sites.say('A', b, 'generations', { claims: [claim] })
        await sites.pass(1000)
      }
      assert.deepEqual(sites.standing(b), ['owned', 2, 'B'])
      assert.deepEqual(lines, ['a peer speaks of a deed that does not count'])
    }
  })

  it('promise 1: an old copy is known for one also by a site that has deleted its own since', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const old = a.copyFolder()
    await sites.migrate('now')
    await sites.until('it is over', () => sites.record(b)?.migrationId === null)
    await sites.drive(b.migrations!.remove(b.disks!.get(diskId)!))
    assert.equal(sites.record(b), undefined)
    b.kill()
    await sites.drive(b.start())
    await sites.restore(a, old)
    assert.deepEqual(sites.standing(a), ['superseded', 2, 'B'])
  })
})
