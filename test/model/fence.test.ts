// The fence, case by case, on two sites in one process: who may serve which generation, when grants are lost, repeated or
// late, when sites come back from the dead or from an old copy, and when clients are where they should not be.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { headOf } from '../../src/deed/deed.ts'
import type { DeedEntry } from '../../src/deed/entries.ts'
import { signComplete, signMark } from '../../src/migration/signed-words.ts'
import { goneOn, keyOf, peerIdOf } from './keys.ts'
import { diskId, sectors, sizeBytes } from './stage.ts'
import { TwoSites } from './two-sites.ts'

/** Of A's kernel, before it lost its power. */
const boot = '00000000-0000-4000-8000-000000000001'
/** The deed's last entry is the grant. */
const granted = (sites: TwoSites) => {
  const given = sites.record(sites.a)!.deed!.at(-1)!
  return { answer: 'granted', disks: [{ disk: diskId, generation: 2, given, powerLoss: null }], boot, cutOff: [] }
}
const disks = [{ disk: diskId, generation: 2 }]
const acquire = (migration: string, reason = 'operator') => ({ migration, disks, reason, force: false })
const seeds = Array.from({ length: 20 }, (_, index) => index + 1)

describe('fence: grants', () => {
  it('promise 2: a grant whose answer was lost is asked for again, and answered the same', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    let first: DeedEntry | undefined
    for (let time = 1; time <= 3; time++) {
      const answer = await sites.say('B', sites.a, 'acquire', acquire(id)) // B hears of none of them.
      assert.deepEqual(answer, granted(sites))
      const { given } = granted(sites).disks[0]!
      assert.deepEqual([given.kind, given.kind === 'given' && given.to], ['given', peerIdOf('B')])
      assert.deepEqual(given, first ?? given, 'to the last byte')
      first = given
      assert.deepEqual(sites.standing(sites.a), ['departed', 2, 'B'])
    }
    await sites.drive(sites.b.migrations!.commands.switchover(id, false, new AbortController().signal))
    await sites.until('B has everything', () => sites.record(sites.a)?.state === 'released')
    assert.deepEqual(sites.standing(sites.b), ['owned', 2, 'B'])
  })

  it('promise 2: a source that dies before it has answered gives the same grant when it is back', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    await sites.say('B', sites.a, 'acquire', acquire(id))
    sites.a.kill()
    await sites.drive(sites.a.start())
    assert.deepEqual(await sites.say('B', sites.a, 'acquire', acquire(id)), granted(sites))
  })

  it('promise 1: an acquire from a second destination is refused, and nothing is given up', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    const answer = await sites.say('C', sites.a, 'acquire', acquire(id))
    assert.equal((answer as { answer: string }).answer, 'refused')
    assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
    await sites.write(sites.open(sites.a), 0, 7)
    await sites.say('B', sites.a, 'acquire', { ...acquire(id), force: true })
    const late = await sites.say('C', sites.a, 'acquire', acquire(id))
    assert.equal((late as { answer: string }).answer, 'refused')
    assert.deepEqual(sites.standing(sites.a), ['departed', 2, 'B'])
  })

  it('promise 1: an acquire of a cancelled migration that arrives late is refused, after a restart of the source too', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    await sites.drive(sites.a.migrations!.commands.cancel(id, false, new AbortController().signal))
    const refused = async () => {
      const answer = await sites.say('B', sites.a, 'acquire', acquire(id))
      assert.deepEqual(
        [(answer as { answer: string }).answer, (answer as { code: string }).code],
        ['refused', 'cancelled'],
      )
      assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
      await sites.write(sites.open(sites.a), 0, 7)
    }
    await refused()
    sites.a.kill()
    await sites.drive(sites.a.start())
    await refused()
    await sites.migrate('manual') // Nor does it stand in the way of the next, or take its place.
    await refused()
  })

  it('promise 1: a cancel while an acquire is on its way: one of them wins, never both', async () => {
    const won = { grant: 0, cancel: 0 }
    for (const seed of seeds) {
      const sites = await TwoSites.start(seed)
      const id = await sites.migrate('manual')
      const cancelling = () => sites.a.migrations!.commands.cancel(id, false, new AbortController().signal)
      const acquiring = () => sites.a.handlers.call('B', 'acquire', acquire(id), new AbortController().signal)
      const both = seed % 2 === 0 ? [acquiring(), cancelling()] : [cancelling(), acquiring()]
      const outcomes = await sites.drive(Promise.allSettled(both))
      const [grant, cancel] = seed % 2 === 0 ? outcomes : [outcomes[1]!, outcomes[0]!]
      const isGranted = (grant as { value?: { answer: string } }).value?.answer === 'granted'
      assert.notEqual(isGranted, cancel!.status === 'fulfilled', `seed ${seed}`)
      assert.deepEqual(sites.standing(sites.a).slice(0, 2), isGranted ? ['departed', 2] : ['owned', 1])
      won[isGranted ? 'grant' : 'cancel']++
    }
    assert(won.grant > 0 && won.cancel > 0, JSON.stringify(won))
  })

  it('promise 1: once the holder has said that it serves, a repeated acquire is refused', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(sites.a)?.taken === true)
    const answer = await sites.say('B', sites.a, 'acquire', acquire(id))
    assert.equal((answer as { code: string }).code, 'already-taken')
  })
})

describe('fence: reads of the destination', () => {
  it('promise 3: nothing leaves the source under the old generation once the disk is given up, though its fetch had begun', async () => {
    for (const seed of seeds) {
      const sites = await TwoSites.start(seed)
      const migration = await sites.migrate('manual')
      const runs = [{ offset: 0, length: sizeBytes }]
      const signal = new AbortController().signal
      const source = sites.a.migrations!.desk(peerIdOf('B')).source(migration)
      const asked = source.blocks({ disk: diskId, generation: 1 }, runs, { urgency: 'demand', signal })
      const pieces = asked[Symbol.asyncIterator]()
      assert.equal((await sites.drive(pieces.next())).done, false)
      // It is read while the disk is being given up.
      const second = pieces.next().then(
        ({ done }) => [done, sites.a.disks!.get(diskId)!.state],
        (error: { code: string }) => error.code,
      )
      await sites.say('B', sites.a, 'acquire', acquire(migration))
      const outcome = await sites.drive(second)
      if (outcome !== 'no-right') assert.deepEqual(outcome, [false, 'owned'], `seed ${seed}`)
      else assert.deepEqual(sites.standing(sites.a), ['departed', 2, 'B'], `seed ${seed}`)
      if (outcome !== 'no-right') await assert.rejects(sites.drive(pieces.next()), { code: 'no-right' }, `seed ${seed}`)
    }
  })
})

describe('fence: clients that are where they should not be', () => {
  it('promise 1: a stray write at the destination while the source is busy is held, then refused, and fences nobody', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    const guest = sites.open(sites.a)
    await sites.write(guest, 0, 7) // Not flushed: its machine runs.
    const stray = sites.open(sites.b, 'stray')
    const askedMs = sites.world.nowMs
    await assert.rejects(sites.write(stray, 0, 9), {
      code: 'not-permitted',
      message: /has written and has not flushed since/,
    })
    assert(sites.world.nowMs - askedMs >= 10_000, 'held for --switchover-wait')
    assert.match(sites.b.migrations!.courses()[0]?.note ?? '', /switchover waits/, 'reported')
    assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
    await sites.write(guest, 1, 8)
    assert.deepEqual([await sites.read(guest, 0), await sites.read(stray, 0), await sites.read(stray, 1)], [7, 7, 8])
  })

  it('promise 6: of a hypervisor that never flushes every answered write is there after a switchover by hand', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('auto')
    const guest = sites.open(sites.a)
    await sites.write(guest, 0, 7)
    const there = sites.open(sites.b)
    await assert.rejects(sites.write(there, 1, 8), { code: 'not-permitted' })
    await sites.drive(sites.b.migrations!.commands.switchover(id, true, new AbortController().signal))
    await sites.until('B serves', () => sites.record(sites.b)?.state === 'arriving')
    sites.a.losePower() // What was not flushed by the guest was synced before the disk was given up.
    await sites.drive(sites.a.start())
    await sites.write(there, 1, 8)
    assert.deepEqual([await sites.read(there, 0), await sites.read(there, 1)], [7, 8])
  })

  for (const side of ['a', 'b'] as const) {
    it(`promise 1: a switchover that is ordered at ${side.toUpperCase()} while a client works at the source is refused, and names it`, async () => {
      const sites = await TwoSites.start()
      const id = await sites.migrate('manual')
      const guest = sites.open(sites.a, '10.0.0.7:4000')
      await sites.write(guest, 0, 7)
      const order = (force: boolean) =>
        sites.drive(sites[side].migrations!.commands.switchover(id, force, new AbortController().signal))
      const refusal = { code: 'client-at-work', exit: 3, message: /10\.0\.0\.7:4000 has written and has not flushed/ }
      await assert.rejects(order(false), refusal)
      assert.deepEqual(
        [sites.standing(sites.a), sites.standing(sites.b)],
        [
          ['owned', 1, 'A'],
          ['incoming', 1, 'A'],
        ],
      )
      assert.deepEqual(
        [sites.a, sites.b].map((site) => [
          site.migrations!.courses()[0]!.liveState,
          site.migrations!.courses()[0]!.note,
        ]),
        [
          ['ready', null],
          ['ready', null],
        ],
      )
      await sites.write(guest, 1, 8)
      await order(true)
      await sites.until('B serves', () => sites.record(sites.b)?.state !== 'incoming')
      for (const site of [sites.a, sites.b])
        assert.deepEqual(site.database.migration.get(id)!.cutOff, ['10.0.0.7:4000'])
      await assert.rejects(sites.write(guest, 2, 9), { code: 'not-served' })
      assert.deepEqual([await sites.read(sites.open(sites.b), 0), await sites.read(sites.open(sites.b), 1)], [7, 8])
    })
  }

  it('promise 1: a move now is refused while a client works at the source, and nothing begins', async () => {
    const sites = await TwoSites.start()
    const guest = sites.open(sites.a, '10.0.0.7:4000')
    await sites.write(guest, 0, 7)
    await assert.rejects(sites.migrate('now'), { code: 'client-at-work', exit: 3, message: /10\.0\.0\.7:4000/ })
    assert.deepEqual([sites.record(sites.a)?.migrationId, sites.record(sites.b)], [null, undefined])
    assert.equal(sites.a.migrations!.past().length, 0)
    const id = await sites.migrate('now', sites.a, sites.b, true)
    await sites.until('B serves', () => sites.record(sites.b)?.state !== 'incoming')
    assert.deepEqual(sites.b.database.migration.get(id)!.cutOff, ['10.0.0.7:4000'])
  })

  it('promise 1: a write that comes while a move now is prepared ends it; one that comes later keeps it from being switched over', async () => {
    const sites = await TwoSites.start()
    const guest = sites.open(sites.a)
    await sites.flush(guest)
    const beginning = sites.migrate('now')
    const ended = assert.rejects(beginning, { code: 'client-at-work' })
    await sites.until('it is on record', () => sites.record(sites.a)?.migrationId !== null)
    await sites.write(guest, 0, 7)
    await ended
    await sites.until('B has none', () => sites.record(sites.b) === undefined)
    await sites.flush(guest)
    sites.link.up = true
    const id = await sites.migrate('manual')
    sites.link.up = false
    await sites.drive(sites.b.migrations!.commands.switchover(id, false, new AbortController().signal)) // It is asked later.
    await sites.write(guest, 0, 8)
    sites.link.up = true
    const note = () => sites.b.migrations!.courses()[0]!.note ?? ''
    await sites.until('B has heard', () => /not switched over: at the source, the session of guest/.test(note()))
    assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
  })

  it('promise 1: a write that comes while the disk freezes for the operator goes on, and the disk stays', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    const guest = sites.open(sites.a)
    await sites.flush(guest)
    const { gate } = sites.a.disks!.get(diskId)!
    gate.enter() // A slow read: the disk freezes when it is over.
    const order = sites.b.migrations!.commands.switchover(id, false, new AbortController().signal)
    const refused = assert.rejects(order, { code: 'client-at-work', message: /session of guest/ })
    await sites.until('it freezes', () => gate.frozen)
    const written = sites.write(guest, 0, 7)
    gate.leave()
    await written
    await sites.drive(refused)
    assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
    await sites.write(guest, 1, 8)
  })

  it('promise 1: a write that comes while the disk freezes for a quiet source goes on, and the disk stays', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    const guest = sites.open(sites.a)
    await sites.write(guest, 0, 7)
    await sites.flush(guest)
    const { gate } = sites.a.disks!.get(diskId)!
    gate.enter() // A slow read: the disk freezes when it is over.
    const stray = sites.write(sites.open(sites.b, 'stray'), 0, 9)
    const refused = assert.rejects(stray, {
      code: 'not-permitted',
      message: /session of guest has written and has not flushed/,
    })
    await sites.until('it freezes', () => gate.frozen)
    const written = sites.write(guest, 0, 8)
    gate.leave()
    await written
    await refused
    assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
    assert.equal(await sites.read(guest, 0), 8)
  })

  it('promise 1: a client that comes while the disk freezes for one that only reads is served, and the disk stays', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    await sites.migrate('now')
    await sites.until('B has heard that its move is over', () => sites.record(b)?.migrationId === null)
    await sites.migrate('auto', b, a) // Back: B has not been started again, and knows of all its clients what they wrote.
    const writer = sites.open(b)
    await sites.write(writer, 0, 7)
    const reader = sites.open(a, 'reader')
    await sites.read(reader, 0)
    await sites.pass(30_000)
    const { gate } = b.disks!.get(diskId)!
    gate.enter() // A slow read: the disk freezes when it is over.
    b.close(writer, 'disconnected')
    await sites.until('it freezes', () => gate.frozen)
    const back = sites.open(b, 'back')
    const reading = sites.read(back, 0)
    gate.leave()
    assert.equal(await reading, 7)
    await sites.pass(30_000)
    assert.deepEqual(sites.standing(b), ['owned', 2, 'B'])
    b.close(back, 'disconnected')
    await sites.until('it has moved', () => sites.record(a)?.state !== 'incoming')
  })

  it('promise 1: a client that only reads when its source is back may have written before: the disk stays until it has flushed', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    await sites.write(sites.open(sites.a), 0, 7)
    sites.a.kill()
    await sites.drive(sites.a.start())
    const back = sites.open(sites.a, '10.0.0.7:4001')
    await sites.read(back, 0)
    await sites.pass(6000) // Longer than the source waits for clients that come back.
    const stray = sites.open(sites.b, 'stray')
    await assert.rejects(sites.write(stray, 0, 9), {
      code: 'not-permitted',
      message: /10\.0\.0\.7:4001 has not flushed yet/,
    })
    assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'])
    await sites.flush(back)
    await sites.write(stray, 0, 9)
    assert.equal(sites.record(sites.a)?.state, 'departed')
  })

  it('promise 1: after the writers have gone a probe at the destination moves nothing; a client that stays, and reads, does', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    const writer = sites.open(sites.a)
    await sites.write(writer, 0, 7)
    const idle = sites.open(sites.b, 'idle')
    sites.a.close(writer, 'disconnected')
    const probes = async () => {
      for (let time = 1; time <= 3; time++) {
        const probe = sites.open(sites.b, 'nbdinfo')
        await sites.read(probe, 0)
        await sites.pass(5000)
        sites.b.close(probe, 'disconnected')
      }
    }
    await probes()
    assert.deepEqual(
      sites.standing(sites.b),
      ['incoming', 1, 'A'],
      'one that stays and does not read moves nothing either',
    )
    const reader = sites.open(sites.b, 'reader')
    assert.equal(await sites.read(reader, 0), 7)
    await sites.pass(9000)
    assert.deepEqual(sites.standing(sites.b), ['incoming', 1, 'A'])
    await sites.until('it has moved', () => sites.record(sites.b)?.state !== 'incoming')
    assert.equal(sites.a.disks!.get(diskId)!.record.generation, 2)
    sites.b.close(idle, 'disconnected')
  })

  it('promise 1: a reader that has stayed moves the disk as soon as the last writer at the source says goodbye', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    const writer = sites.open(sites.a)
    await sites.write(writer, 0, 7)
    const reader = sites.open(sites.b, 'reader')
    assert.equal(await sites.read(reader, 0), 7)
    await sites.pass(30_000)
    assert.deepEqual(sites.standing(sites.b), ['incoming', 1, 'A'])
    sites.a.close(writer, 'disconnected')
    await sites.pass(1000)
    assert.notEqual(sites.record(sites.b)?.state, 'incoming')
  })

  it('promise 1: a client still connected at the source after the fence may flush and quit, and nothing else', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    const left = sites.open(sites.a)
    await sites.write(left, 0, 7)
    await sites.flush(left)
    const guest = sites.open(sites.b)
    await sites.write(guest, 0, 8)
    for (const request of [() => sites.write(left, 0, 9), () => sites.read(left, 0)])
      await assert.rejects(request(), { code: 'not-served' })
    await sites.flush(left)
    sites.a.close(left, 'disconnected')
    assert.equal(await sites.read(guest, 0), 8)
  })
})

describe('fence: clients of a disk that comes back', () => {
  it('one that is attached from before it went may flush and quit, but not while the disk is on its way back', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const left = sites.open(a)
    await sites.flush(left)
    await sites.migrate('now')
    await sites.until('B has heard that its move is over', () => sites.record(b)?.migrationId === null)
    await sites.flush(left)
    const id = await sites.migrate('manual', b, a)
    await assert.rejects(sites.flush(left), { code: 'not-served' }, 'it would speak for what B has answered')
    await sites.drive(b.migrations!.commands.cancel(id, false, new AbortController().signal))
    await sites.until('A is released again', () => sites.record(a)?.state === 'released')
    await sites.flush(left)
  })

  it('promise 6: one of a disk that was on its way, and will not come, is refused its flush: the source has unflushed writes', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    const guest = sites.open(sites.b)
    await sites.drive(sites.a.migrations!.commands.cancel(id, false, new AbortController().signal))
    await sites.write(sites.open(sites.a), 0, 7)
    await sites.until('B has none', () => sites.record(sites.b) === undefined)
    await assert.rejects(sites.flush(guest), { code: 'not-served' })
  })

  it('promise 6: one that is attached from before it went is refused its flush too: it would speak for writes of others', async () => {
    const sites = await TwoSites.start()
    const left = sites.open(sites.a)
    await sites.flush(left)
    await sites.migrate('now')
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
    await sites.flush(left)
    await sites.until('B has heard that its move is over', () => sites.record(sites.b)?.migrationId === null)
    await sites.migrate('now', sites.b, sites.a)
    await sites.until('it is back', () => sites.record(sites.a)?.state === 'owned')
    await sites.write(sites.open(sites.a), 0, 7)
    await assert.rejects(sites.flush(left), { code: 'not-served' })
    await assert.rejects(sites.read(left, 0), { code: 'not-served' })
  })
})

describe('fence: sites restored from an old copy of their data folder', () => {
  it('promise 1: a source from before the grant hears of the higher generation when it starts, and serves nobody', async () => {
    const sites = await TwoSites.start()
    const old = sites.a.copyFolder()
    await sites.migrate('now')
    await sites.until('B serves', () => sites.record(sites.b)?.state === 'arriving')
    await sites.restore(sites.a, old)
    assert.deepEqual(sites.standing(sites.a), ['superseded', 2, 'B'])
    assert.equal(sites.a.open('web01', 'guest'), undefined)
    assert.equal(sites.record(sites.b)?.state, 'arriving', 'what B lacks it waits for')
  })

  it('promise 1: one from the middle of the preparation too, and its migration ends as failed', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    const old = sites.a.copyFolder()
    await sites.drive(sites.b.migrations!.commands.switchover(id, false, new AbortController().signal))
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
    await sites.restore(sites.a, old)
    assert.deepEqual(sites.standing(sites.a), ['superseded', 2, 'B'])
    const { state, note } = sites.a.database.migration.get(id)!
    assert.equal(state, 'failed')
    assert.match(note!, /generation 2 of the disk exists at B/)
    sites.a.kill()
    await sites.drive(sites.a.start())
    assert.deepEqual(sites.standing(sites.a), ['superseded', 2, 'B'])
    await sites.until('B has heard that its move is over', () => sites.record(sites.b)?.migrationId === null)
    await sites.migrate('now', sites.b, sites.a) // The disk may come back.
    await sites.until('it is back', () => sites.record(sites.a)?.state === 'owned')
    assert.deepEqual(sites.standing(sites.a), ['owned', 3, 'A'])
  })

  it('promise 1: one that cannot reach its peer serves, as it must, and is superseded once it can', async () => {
    const sites = await TwoSites.start()
    const old = sites.a.copyFolder()
    await sites.migrate('now')
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
    sites.link.up = false
    const startedMs = sites.world.nowMs
    await sites.restore(sites.a, old)
    assert(sites.world.nowMs - startedMs <= 2000, 'guests wait a bounded time')
    const guest = sites.open(sites.a)
    await sites.write(guest, 0, 7)
    sites.link.up = true
    await sites.until('A has heard', () => sites.record(sites.a)?.state === 'superseded')
    await assert.rejects(sites.write(guest, 0, 8), { code: 'not-served' })
    assert.deepEqual(sites.standing(sites.b), ['owned', 2, 'B'])
  })

  it('promise 1: one that hears it twice at once is superseded once, after its requests in flight, and at once', async () => {
    const sites = await TwoSites.start()
    const guest = sites.open(sites.a)
    const problems: string[] = []
    sites.a.onLog = (message, facts) => problems.push(...('error' in facts ? [message] : []))
    const startedMs = sites.world.nowMs
    const writing = guest.session.write(0, new Uint8Array(4096).fill(7), false)
    const deed = goneOn(sites.record(sites.a)!.deed!, 2, 'B')
    for (let time = 1; time <= 2; time++) void sites.a.migrations!.generations.heed(peerIdOf('B'), deed)
    await sites.until('A has heard', () => sites.record(sites.a)?.state === 'superseded')
    const tookMs = sites.world.nowMs - startedMs
    await writing // It was in flight, and is answered.
    await assert.rejects(sites.write(guest, 0, 8), { code: 'not-served' })
    assert.deepEqual(sites.standing(sites.a), ['superseded', 2, 'B'])
    assert.deepEqual([problems, tookMs], [[], 0])
  })

  it('promise 1: one from before the end of a move that is over since is superseded, though that move ends first', async () => {
    const sites = await TwoSites.start(2) // With this seed the old move ends before A says anything.
    const { a, b } = sites
    await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    const old = b.copyFolder() // It has not told A yet that it has everything.
    await sites.until('that move is over', () => sites.record(b)?.migrationId === null)
    await sites.migrate('now', b, a)
    await sites.until('the way back too', () => sites.record(a)?.state === 'owned' && !sites.record(a)?.migrationId)
    b.losePower()
    old()
    const started = b.start()
    await sites.until('the old move ends', () => sites.world.pending.includes('commit disk=owned migration=done'))
    sites.link.up = false // It is said once, and not asked for.
    void b.migrations!.generations.heed(peerIdOf('A'), sites.record(a)!.deed!)
    await sites.drive(started)
    await sites.until('B has heeded it', () => sites.record(b)?.state === 'superseded')
    assert.deepEqual(sites.standing(b), ['superseded', 3, 'A'])
  })

  it('promise 1: a destination from an earlier moment of its copy is known by its mark: it serves nobody, and the source may take the disk back', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(sites.a)?.taken === true)
    sites.link.up = false // The copy stays incomplete.
    const old = sites.b.copyFolder()
    const guest = sites.open(sites.b)
    await sites.write(guest, 0, 7)
    sites.b.kill()
    sites.link.up = true
    await sites.drive(sites.b.start()) // It says that it serves, with the next mark.
    const marked = sites.a.database.migration.get(id)!.mark
    sites.link.up = false
    await sites.write(sites.open(sites.b), 1, 8)
    sites.link.up = true
    sites.b.losePower()
    old()
    assert(sites.b.database.migration.get(id)!.mark < marked)
    await sites.drive(sites.b.start())
    await sites.until('B has heard', () => sites.record(sites.b)?.state === 'superseded')
    assert.deepEqual(sites.standing(sites.b), ['superseded', 2, 'unknown'])
    assert.match(sites.b.database.migration.get(id)!.note!, /restored from an old copy of generation 2/)
    assert.equal(sites.b.open('web01', 'guest'), undefined)
    await sites.drive(sites.a.migrations!.commands.reclaim('web01', true, new AbortController().signal))
    assert.deepEqual(sites.standing(sites.a), ['owned', 3, 'A'])
  })

  it('promise 1: one that has everything does not have the source released before it is known for old', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(sites.a)?.taken === true)
    const setPaused = async (paused: boolean) => {
      sites.link.up = false
      await sites.drive(sites.b.migrations!.commands.setPaused(id, paused, new AbortController().signal))
    }
    await setPaused(true)
    sites.link.up = true
    const guest = sites.open(sites.b)
    for (let sector = 0; sector < sectors; sector++) await sites.read(guest, sector)
    await sites.flush(guest)
    await setPaused(false)
    const old = sites.b.copyFolder()
    await setPaused(true)
    sites.b.kill()
    const { mark } = sites.a.database.migration.get(id)!
    sites.link.up = true
    await sites.drive(sites.b.start())
    await sites.until('B has said so again', () => sites.a.database.migration.get(id)!.mark > mark)
    await sites.write(sites.open(sites.b), 0, 7)
    // What B says first is heard last: all else could be over by then.
    const { handlers } = sites.a
    sites.a.handlers = {
      ...handlers,
      call: async (peer, method, params, signal) => {
        if (method === 'taken') await sites.world.event(undefined, 'taken is late', { atMs: sites.world.nowMs + 500 })
        return handlers.call(peer, method, params, signal)
      },
    }
    await sites.restore(sites.b, old)
    await sites.until('B has heard', () => sites.record(sites.b)?.state !== 'arriving')
    assert.deepEqual([sites.standing(sites.b)[0], sites.standing(sites.a)[0]], ['superseded', 'departed'])
  })

  it('promise 1: one that says it serves while its last word, that all is there, is dealt with is known for old', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(a)?.taken === true)
    const old = b.copyFolder()
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    b.losePower()
    old()
    const said = (method: string, facts: object) =>
      a.handlers.call('B', method, { migration: id, ...facts }, new AbortController().signal)
    const sent = { data: 0, sent: 0, skippedZero: 0, resent: 0, verified: true, differed: [] }
    const move = b.database.migration.get(id)!
    const key = keyOf('B')
    const words = { copyingMs: 0, ...signComplete(key, move) }
    const complete = said('complete', { disks: [{ ...disks[0], ...sent }], ...words }) // By the run that died.
    const mark = { mark: 9, run: randomUUID() }
    const taken = said('taken', { disks, ...mark, ...signMark(key, move, mark) })
    await Promise.all([sites.drive(complete), assert.rejects(taken, { code: 'restored' })])
    assert.equal(sites.record(a)?.state, 'released')
  })

  it('promise 11: a peer that speaks of a generation beyond all reason is refused, and the next start is none the worse', async () => {
    const sites = await TwoSites.start()
    const { b } = sites
    const facts = { id: randomUUID(), name: 'web02', sizeBytes: 4096, allocatedBytes: 0 }
    const times = { switchoverWaitMs: 0, maxRate: null, stallTimeoutMs: null }
    const message = {
      migration: randomUUID(),
      disks: [{ ...facts, generation: Number.MAX_SAFE_INTEGER }],
      boot,
      terms: { mode: 'post-copy', switchover: 'manual', sourcePolicy: 'keep', ...times },
    }
    const asked = b.handlers.call('A', 'prepare', message, new AbortController().signal)
    const isRefused = await sites.drive(
      asked.then(
        () => false,
        () => true,
      ),
    )
    b.kill()
    await sites.drive(b.start())
    assert(isRefused)
  })

  it('promise 1: a destination from before its end, whose source is released, serves nobody', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('now')
    await sites.until('B serves', () => sites.record(sites.b)?.state === 'arriving')
    const old = sites.b.copyFolder()
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
    await sites.restore(sites.b, old)
    await sites.until('B has heard', () => sites.record(sites.b)?.state === 'superseded')
    assert.equal(sites.b.open('web01', 'guest'), undefined)
  })

  it('promise 1: a destination from before the grant is refused it once it was taken, and takes no write', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    const old = sites.b.copyFolder()
    await sites.drive(sites.b.migrations!.commands.switchover(id, false, new AbortController().signal))
    await sites.until('B has said so', () => sites.record(sites.a)?.taken === true)
    await sites.restore(sites.b, old)
    assert.equal(sites.record(sites.b)?.state, 'incoming')
    const guest = sites.open(sites.b)
    await assert.rejects(sites.read(guest, 0), /restored from an old copy/)
    const order = sites.b.migrations!.commands.switchover(id, false, new AbortController().signal)
    await assert.rejects(sites.drive(order), { code: 'already-taken' })
    await assert.rejects(sites.write(guest, 0, 9))
    assert.equal(sites.record(sites.b)?.state, 'incoming')
  })

  it('promise 1: an old generation that returns after disk reclaim is superseded, whoever is asked first', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('now')
    await sites.until('B has said so', () => sites.record(sites.a)?.taken === true)
    sites.b.kill()
    await sites.drive(sites.a.migrations!.commands.reclaim('web01', true, new AbortController().signal))
    assert.deepEqual(sites.standing(sites.a), ['owned', 3, 'A'])
    await sites.drive(sites.b.start())
    await sites.until('B has heard', () => sites.record(sites.b)?.state === 'superseded')
    assert.deepEqual(sites.standing(sites.b), ['superseded', 3, 'A'])
  })

  it('promise 10: a peer is told only of disks that moved between it and this site', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('now')
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
    assert.deepEqual(await sites.say('C', sites.a, 'generations', { claims: [] }), { claims: [] })
    const { claims } = (await sites.say('B', sites.a, 'generations', { claims: [] })) as { claims: object[] }
    const { id: disk, deed } = sites.record(sites.a)!
    assert.deepEqual(claims, [{ disk, head: headOf(deed!), length: deed!.length }])
    const ask = (peer: string) => sites.say(peer, sites.a, 'deed', { disk, head: null })
    await ask('B')
    await assert.rejects(ask('C'), { code: 'deed-unknown' })
  })
})
