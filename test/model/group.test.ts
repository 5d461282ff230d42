// Disks that move together, case by case, on two sites in one process: all of them are given up, taken, taken back and
// cancelled, or none is; and one that is superseded leaves the others.

import assert from 'node:assert/strict'
import type { Terms } from '../../src/migration/terms.ts'
import { putDisk } from './image.ts'
import { goneOn, peerIdOf } from './keys.ts'
import type { SimSite } from './sim-site.ts'
import { diskIds, diskNames } from './stage.ts'
import { TwoSites } from './two-sites.ts'

const never = () => new AbortController().signal
const [first, second, third] = diskIds as [string, string, string]
const both = [first, second]
const [web01, web02] = diskNames

const states = (sites: TwoSites, site: SimSite, ids: readonly string[] = both) =>
  ids.map((id) => sites.record(site, id)?.state)
const standings = (sites: TwoSites, site: SimSite) => both.map((id) => sites.standing(site, id))
const inMove = (sites: TwoSites, site: SimSite) => both.map((id) => sites.record(site, id)?.migrationId)

async function begun(switchover: Terms['switchover'], seed = 1): Promise<{ sites: TwoSites; id: string }> {
  const sites = await TwoSites.start(seed, 2)
  return { sites, id: await sites.migrate(switchover, sites.a, sites.b, false, 2) }
}

/** As `until`; at every step the two disks stand alike at A, and at B. */
async function untilTogether(sites: TwoSites, what: string, isSo: () => boolean): Promise<void> {
  const words = (site: SimSite) => states(sites, site).map((word) => (word === 'arriving' ? 'owned' : (word ?? 'gone')))
  await sites.until(what, () => {
    for (const site of [sites.a, sites.b]) assert.equal(new Set(words(site)).size, 1, `${site.name}: ${words(site)}`)
    return isSo()
  })
}

const areReleased = (sites: TwoSites) => () => states(sites, sites.a).every((state) => state === 'released')

describe('disks that move together', () => {
  it('promise 2: are given up by one commit, taken by one, and released by one', async () => {
    const { sites } = await begun('now')
    await untilTogether(sites, 'B serves', () => states(sites, sites.b)[0] === 'arriving')
    assert.deepEqual(states(sites, sites.a), ['departed', 'departed'])
    await untilTogether(sites, 'A is released', areReleased(sites))
    await untilTogether(sites, 'it is over', () => inMove(sites, sites.b).every((id) => id === null))
    assert.deepEqual(standings(sites, sites.b), [
      ['owned', 2, 'B'],
      ['owned', 2, 'B'],
    ])
    for (const id of both) assert.deepEqual(sites.b.blockFile(id)!.bytes, sites.a.blockFile(id)!.bytes)
  })

  for (const name of [web01, web02]) {
    it(`pass with the first write to ${name} at the destination`, async () => {
      const { sites } = await begun('auto')
      const guest = sites.open(sites.b, 'guest', name)
      await sites.write(guest, 1, 9)
      assert.deepEqual(states(sites, sites.a), ['departed', 'departed'])
      assert.equal(await sites.read(guest, 1), 9)
      await untilTogether(sites, 'A is released', areReleased(sites))
    })
  }

  it('promise 1: stay while a client is at work on any of them, and that one is named', async () => {
    const { sites } = await begun('auto')
    const busy = sites.open(sites.a, 'guest', web02)
    await sites.write(busy, 0, 7) // Not flushed: its machine runs.
    const there = sites.open(sites.b, 'guest', web01)
    await assert.rejects(sites.write(there, 1, 8), {
      code: 'not-permitted',
      message: /web02.* has written and has not flushed since/,
    })
    assert.deepEqual(states(sites, sites.a), ['owned', 'owned'])
    await sites.flush(busy)
    await sites.write(there, 1, 8)
    assert.deepEqual(states(sites, sites.a), ['departed', 'departed'])
  })

  it('promise 2: one cut: while one of them drains, no write to the other is let through before the switch', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { sites, id } = await begun('manual', seed)
      const [onFirst, onSecond] = [web01, web02].map((name) => sites.open(sites.a, 'guest', name))
      let inFlight: unknown // A request in flight makes the freeze of the first one last.
      for (let at = 0; at < 20 && !(inFlight instanceof Promise); at++)
        inFlight = onFirst!.session.write(at * 512, new Uint8Array(512).fill(7), false)
      assert(inFlight instanceof Promise)
      const gate = sites.a.disks!.get(first)!.gate
      const switching = sites.b.migrations!.commands.switchover(id, true, never())
      await sites.until(
        'the first one freezes, or has departed',
        () => gate.frozen || states(sites, sites.a)[0] !== 'owned',
      )
      const outcomes = [onFirst!, onSecond!].map(({ session }) =>
        (async () => session.write(40 * 512, new Uint8Array(512).fill(9), false))().then(
          () => 'written',
          (error: { code: string }) => error.code,
        ),
      )
      await sites.drive(Promise.all([inFlight as Promise<unknown>, switching]))
      assert.deepEqual(await sites.drive(Promise.all(outcomes)), ['not-served', 'not-served'], `seed ${seed}`)
      await sites.until('B serves', () => states(sites, sites.b)[0] === 'arriving')
    }
  })

  it('stay frozen, all of them, until it is on record that they are given up', async () => {
    const { sites, id } = await begun('manual')
    const { a, b } = sites
    a.database.faultRate = 1
    const switching = b.migrations!.commands.switchover(id, true, never()).catch(() => {})
    await sites.until(
      'it cannot be recorded',
      () => a.migrations!.courses()[0]?.note?.includes('cannot be recorded') === true,
    )
    assert.deepEqual(
      both.map((each) => a.disks!.get(each)!.gate.frozen),
      [true, true],
    )
    assert.deepEqual(states(sites, a), ['owned', 'owned'])
    a.database.faultRate = 0
    await sites.drive(switching)
    await untilTogether(sites, 'A is released', areReleased(sites))
  })

  it('go on after the destination was killed, whatever of them was there', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { sites } = await begun('now', seed)
      const { b } = sites
      const isOneOwned = () => states(sites, b).includes('owned')
      await sites.until('B serves', () => (seed % 2 === 0 ? isOneOwned() : states(sites, b)[0] === 'arriving'))
      b.kill()
      await sites.drive(b.start())
      await untilTogether(sites, 'A is released', areReleased(sites))
      await untilTogether(sites, 'it is over', () => inMove(sites, b).every((each) => each === null))
      assert.deepEqual(states(sites, b), ['owned', 'owned'])
    }
  })

  for (const name of [web01, web02]) {
    it(`promise 1: come back together when ${name} is taken back, and the destination hears it of both`, async () => {
      const { sites, id } = await begun('now')
      const { a, b } = sites
      await sites.until('B serves', () => states(sites, b)[0] === 'arriving')
      b.kill()
      await sites.drive(a.migrations!.commands.reclaim(name, true, never()))
      assert.deepEqual(standings(sites, a), [
        ['owned', 3, 'A'],
        ['owned', 3, 'A'],
      ])
      await sites.drive(b.start())
      await sites.until('B has heard', () => states(sites, b).every((state) => state === 'superseded'))
      for (const site of [a, b]) {
        const record = site.database.migration.get(id)!
        assert.deepEqual([record.state, ...record.disks.map(({ owner }) => owner)], ['failed', 'A', 'A'], site.name)
      }
    })
  }

  it('a taking back that is not confirmed names all of them, and changes nothing', async () => {
    const { sites } = await begun('now')
    await sites.until('B serves', () => states(sites, sites.b)[0] === 'arriving')
    sites.b.kill()
    await assert.rejects(sites.drive(sites.a.migrations!.commands.reclaim(web02, false, never())), {
      code: 'not-confirmed',
      message: /web01.*web02/,
    })
    assert.deepEqual(states(sites, sites.a), ['departed', 'departed'])
  })

  it('are cancelled together, at either site', async () => {
    for (const at of ['a', 'b'] as const) {
      const { sites, id } = await begun('manual')
      await sites.drive(sites[at].migrations!.commands.cancel(id, false, never()))
      await untilTogether(sites, 'B has heard', () => inMove(sites, sites.b).every((each) => !each))
      assert.deepEqual(states(sites, sites.a), ['owned', 'owned'])
      assert.deepEqual(inMove(sites, sites.a), [null, null])
      for (const state of states(sites, sites.b)) assert(state === undefined || state === 'gone', state)
    }
  })

  it('do not begin to move when the destination cannot take one of them', async () => {
    const sites = await TwoSites.start(1, 2)
    putDisk(sites.b, sites.world.random, 1) // A disk of its own, of the same name.
    await sites.restore(sites.b, () => {})
    await assert.rejects(sites.migrate('manual', sites.a, sites.b, false, 2), { message: /web02/ })
    await sites.until('A is free', () => inMove(sites, sites.a).every((each) => each === null))
    assert.deepEqual(states(sites, sites.a), ['owned', 'owned'])
    assert.deepEqual(states(sites, sites.b), [undefined, 'owned'])
  })

  it('do not begin to move when one of them is not owned, and nothing of the others has changed', async () => {
    const sites = await TwoSites.start(1, 3)
    const id = await sites.migrate('manual', sites.a, sites.b, false, 1)
    await assert.rejects(sites.migrate('manual', sites.a, sites.b, false, 3), { code: 'migrating', message: /web01/ })
    assert.deepEqual(
      [first, second, third].map((each) => sites.record(sites.a, each)?.migrationId),
      [id, null, null],
    )
  })
})

describe('a disk that is superseded while it moves with others', () => {
  const hears = (site: SimSite, disk: string, generation: number, owner: string) =>
    void site.migrations!.generations.heed(
      peerIdOf(site.other.name),
      goneOn(site.disks!.get(disk)!.record.deed!, generation, owner),
    )

  it('before the switchover: the move fails, and the others stay owned and free', async () => {
    const { sites, id } = await begun('manual')
    const { a } = sites
    hears(a, second, 5, 'C')
    await sites.until('A has heeded it', () => sites.record(a, second)?.state === 'superseded')
    await sites.until('the move is over', () => a.database.migration.get(id)?.endedAt !== null)
    const record = a.database.migration.get(id)!
    assert.deepEqual([record.state, ...record.disks.map(({ owner }) => owner)], ['failed', 'A', 'C'])
    assert.deepEqual([...sites.standing(a, first), sites.record(a, first)?.migrationId], ['owned', 1, 'A', null])
    const guest = sites.open(a, 'guest', web01)
    await sites.write(guest, 0, 9)
    assert.equal(await sites.read(guest, 0), 9)
  })

  it('after it: that disk leaves, and the move goes on for the others', async () => {
    const { sites, id } = await begun('now')
    const { a, b } = sites
    await sites.until('B serves', () => states(sites, b)[0] === 'arriving')
    hears(b, second, 5, 'C')
    await sites.until('B has heeded it', () => sites.record(b, second)?.state === 'superseded')
    await sites.until('all of the first one is there', () => sites.record(b, first)?.state === 'owned')
    assert.deepEqual(states(sites, a), ['departed', 'departed'], 'the source does not know yet why one is missing')
    hears(a, second, 5, 'C')
    await sites.until('the move is over', () => b.database.migration.get(id)?.endedAt !== null)
    const record = b.database.migration.get(id)!
    assert.equal(record.state, 'done')
    assert.deepEqual(
      record.disks.map(({ owner, hasLeft }) => [owner, hasLeft]),
      [
        ['B', false],
        ['C', true],
      ],
    )
    assert.equal(sites.record(a, first)?.state, 'released')
  })

  for (const isRestarted of [false, true])
    it(`promise 2: after a grant of all of them was lost: the others are granted again, and the destination lets it go${isRestarted ? ', also after both were started again' : ''}`, async () => {
      const { sites, id } = await begun('manual')
      const { a, b } = sites
      const asked = both.map((disk) => ({ disk, generation: 2 }))
      await sites.say('B', a, 'acquire', { migration: id, disks: asked, reason: 'resume', force: false }) // B does not hear of it.
      assert.deepEqual(states(sites, a), ['departed', 'departed'])
      sites.link.up = false
      hears(a, second, 3, 'C')
      await sites.until('A has heeded it', () => sites.record(a, second)?.state === 'superseded')
      if (isRestarted) for (const site of [a, b]) site.kill()
      const started = isRestarted ? [a, b].map((site) => site.start()) : []
      sites.link.up = true
      await sites.drive(Promise.all(started))
      if (!isRestarted) await sites.drive(b.migrations!.commands.switchover(id, false, never()))
      await sites.until('A is released', () => sites.record(a, first)?.state === 'released')
      await sites.until('the move is over', () => b.database.migration.get(id)?.endedAt !== null)
      assert.deepEqual([...sites.standing(b, first), sites.record(b, first)?.migrationId], ['owned', 2, 'B', null])
      const record = b.database.migration.get(id)!
      assert.deepEqual(
        [record.state, ...record.disks.map(({ owner, hasLeft }) => [owner, hasLeft])],
        ['done', ['B', false], ['C', true]],
      )
      await sites.until('nothing of it stays at B', () => sites.record(b, second) === undefined)
      const guest = sites.open(b, 'guest', web01)
      await sites.write(guest, 0, 9)
    })

  it('promise 10: is not let go by a destination to which the source does not show why', async () => {
    const { sites, id } = await begun('manual')
    const { a, b } = sites
    const { handlers } = a
    a.handlers = {
      ...handlers,
      call: async (peer, method, params, signal) => {
        const answer = await handlers.call(peer, method, params, signal)
        const { disks } = answer as { disks?: object[] }
        return method === 'acquire' && disks ? { ...answer, disks: disks.slice(0, 1) } : answer
      },
    }
    await sites.drive(b.migrations!.commands.switchover(id, false, never()))
    await sites.until('B says why', () => /web02 was not granted/.test(b.migrations!.courses()[0]?.note ?? ''))
    assert.deepEqual(states(sites, b), ['incoming', 'incoming'])
    a.handlers = handlers
    await sites.until('A is released', areReleased(sites))
  })
})
