// The source of a move of two disks, web01 and web02, over real files: what its destination is answered, and what is put on
// record with it.

import assert from 'node:assert/strict'
import type { Disk } from '../../src/disk/disk.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import type { AcquireReason, CompleteDisk, DestinationDesk, DiskAt } from '../../src/migration/counterpart.ts'
import { signComplete, signMark } from '../../src/migration/signed-words.ts'
import { PastMigrations } from '../../src/migration/site/past.ts'
import { PastSource } from '../../src/migration/site/past-source.ts'
import { SourceCourse } from '../../src/migration/source/source-course.ts'
import { voidWord } from '../../src/migration/supersession.ts'
import { block, closeDisksAfterEach, type HandDisk, isSettled, openDisk, ReadySource, settled } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { migrationRecord, movedDisk, usualTerms } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSite } from './scripted-site.ts'
import { elsewhere, keys, theirKey } from './site-keys.ts'
import { ids, Ledger } from './two-disks.ts'

const never = new AbortController().signal
const asked: readonly DiskAt[] = [ids.web01, ids.web02].map((disk) => ({ disk, generation: 2 }))
const counters = { data: 8, sent: 9, skippedZero: 7, resent: 1, spared: 3 }
const complete = (disk: string): CompleteDisk => ({ disk, generation: 2, ...counters, verified: true, differed: [] })

describe('the source of two disks', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()
  let clock: FakeClock
  let records: Ledger
  let [one, two]: HandDisk<ReadySource>[] = []
  let [web01, web02]: Disk[] = []
  let course: SourceCourse
  let isLinkLost = false

  async function open(terms: object = {}): Promise<void> {
    ;[clock, records] = [new FakeClock(), new Ledger()]
    const owned = (name: 'web01' | 'web02') => {
      const facts = { id: ids[name], name, state: 'owned', generation: 1, owner: 'here', migrationId: 'm-1' }
      return openDisk(new ReadySource(), facts, undefined, undefined, { records, clock })
    }
    ;[one, two] = [await owned('web01'), await owned('web02')]
    ;[web01, web02] = [one.disk, two.disk]
    const disks = [web01, web02].map(({ id, name, sizeBytes }) => movedDisk({ id, name, sizeBytes, owner: 'here' }))
    const peerId = theirKey.fingerprint
    const ordered = { force: true }
    const move = { id: 'm-1', role: 'source' as const, peerId, disks, ordered }
    const record = migrationRecord({ ...move, terms: { ...usualTerms, ...terms } })
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const switchover = async () => {
      if (isLinkLost) throw new LinkError('unreachable', 'the link is lost')
    }
    const told: Partial<DestinationDesk> = { cancelled: async () => {}, writersGone: async () => {}, switchover }
    const there = { ...scriptedSite({}), destination: () => told as DestinationDesk }
    course = new SourceCourse({ ...facts, records, clock }, [web01, web02], record, there)
  }

  const acquire = (reason: AcquireReason = 'guest-write', disks = asked) =>
    course.desk.acquire({ disks, reason, force: false }, never)
  const marked = () => {
    const said = { mark: 1, run: 'run' }
    return { ...said, ...signMark(theirKey, course.record, said) }
  }
  const states = () => [web01!.state, web02!.state, course.record.state]
  const write = (disk: Disk, client = 'guest') =>
    Promise.resolve(disk.open(client).write(0, Buffer.alloc(block, 9), false))

  /** Lets time pass until it is so: real files are synced meanwhile. */
  async function until(isSo: () => boolean): Promise<void> {
    const deadlineMs = Date.now() + 60_000
    while (!isSo()) {
      assert(Date.now() < deadlineMs, `never: ${states()}`)
      await settled()
    }
  }

  it('promise 2: gives both up in one transaction, and names both', async () => {
    await open()
    const answer = await acquire()
    assert.deepEqual(records.put(), [['web01 departed', 'web02 departed', 'move copying']])
    assert(answer.answer === 'granted')
    assert.deepEqual(
      answer.disks.map(({ disk, generation }) => ({ disk, generation })),
      asked,
    )
    assert.deepEqual(await acquire(), answer, 'and says the same again')
    assert.deepEqual(
      course.record.disks.map(({ owner }) => owner),
      ['there', 'there'],
    )
  })

  it('gives neither to one that asks for one alone, for one of another generation, or for a third', async () => {
    await open()
    const third = { disk: ids.web01.replaceAll('3', '5'), generation: 2 }
    const wrong = [[asked[0]!], [asked[0]!, { ...asked[1]!, generation: 3 }], [asked[0]!, asked[0]!], [...asked, third]]
    for (const disks of wrong) assert.equal((await acquire('operator', disks)).answer, 'refused')
    assert.deepEqual(states(), ['owned', 'owned', 'ready'])
  })

  it('promise 3: lets no write of the one through that began after the other was frozen', async () => {
    await open()
    one!.files.hold('write')
    const reached = one!.files.waiting('write')
    const before = write(web01!)
    await reached
    const grant = acquire('operator') // By force, as the operator here has said: whoever writes.
    await until(() => web01!.gate.frozen)
    const during = write(web02!)
    during.catch(() => {})
    assert.equal(await isSettled(during), false, 'web02 has nothing in flight, and is held all the same')
    assert.deepEqual(states(), ['owned', 'owned', 'ready'])
    one!.files.release('write')
    await before
    assert.equal((await grant).answer, 'granted')
    await assert.rejects(during, 'its site has given the disk up')
    assert.deepEqual(
      two!.files.done.filter((each) => each === 'write'),
      [],
    )
  })

  it('gives neither while a client works with one of them, and says with which', async () => {
    await open()
    await write(web02!, '10.0.0.7:4100')
    const answer = await acquire()
    assert(answer.answer === 'busy')
    assert.match(answer.why, /^web02: the session of 10\.0\.0\.7:4100 has written/)
    assert.throws(() => course.checkIdle(false), /a client works with web02 at this site/)
    assert.deepEqual([states(), web01!.gate.frozen], [['owned', 'owned', 'ready'], false])
  })

  it('promise 6: gives neither when one of them cannot be synced, and both go on', async () => {
    await open()
    two!.files.fail('sync', new Error('EIO'))
    await write(web02!)
    const answer = await acquire('operator')
    assert(answer.answer === 'refused' && answer.code === 'sync-failed')
    assert.match(answer.message, /web02/)
    assert.deepEqual([states(), web01!.gate.frozen, web02!.gate.frozen], [['owned', 'owned', 'ready'], false, false])
  })

  it('goes on with both where one was written while they froze', async () => {
    await open()
    const { files } = two!
    files.hold('sync')
    let reached = files.waiting('sync')
    const grant = acquire()
    await reached
    reached = files.waiting('sync')
    files.release('sync')
    files.hold('sync')
    await reached // Of the sync after the freeze.
    assert(web01!.gate.frozen && web02!.gate.frozen)
    void write(web02!).catch(() => {})
    files.release('sync')
    assert.equal((await grant).answer, 'busy')
    assert.deepEqual([states(), web01!.gate.frozen, web02!.gate.frozen], [['owned', 'owned', 'ready'], false, false])
  })

  it('keeps both frozen while it cannot be recorded that they are given up', async () => {
    await open()
    records.failure = new Error('the file system is full')
    const grant = acquire()
    await until(() => course.note !== null)
    assert.deepEqual([states(), course.owner], [['owned', 'owned', 'ready'], 'unknown'])
    assert(web01!.gate.frozen && web02!.gate.frozen)
    records.failure = undefined
    while (!(await isSettled(grant))) await clock.advance(1000)
    assert.deepEqual(states(), ['departed', 'departed', 'copying'])
  })

  it('promise 1: keeps the other frozen where one turns out to be void meanwhile, until it is on record who owns', async () => {
    await open()
    records.failure = new Error('the file system is full')
    const grant = acquire()
    await until(() => course.note !== null)
    web02!.becomesVoid()
    while (!(await isSettled(grant))) await clock.advance(1000)
    assert.equal((await grant).answer, 'refused')
    assert(web01!.gate.frozen)
    records.failure = undefined
    await course.supersede(elsewhere(9, 'elsewhere'), web02!)
    assert.deepEqual([states(), web01!.gate.frozen], [['owned', 'superseded', 'failed'], false])
  })

  it('takes it for quiet when the writers of every disk that was written are gone', async () => {
    await open()
    const gone = async () => (await course.desk.inquire(never)).writersAreGone
    const goodbye = async (disk: Disk) => {
      const session = disk.open('guest')
      await session.write(0, Buffer.alloc(block), false)
      await session.flush()
      return session
    }
    assert.equal(await gone(), false)
    const [first, second] = [await goodbye(web01!), web02!.open('guest')]
    await first.close('disconnected')
    assert.equal(await gone(), false, 'somebody is attached to web02')
    await second.close('disconnected')
    assert.equal(await gone(), true, 'web02 was never written')
    await (await goodbye(web02!)).close('broken')
    assert.equal(await gone(), false, 'the guest of web02 may come back')
  })

  it('promise 8: releases both in one transaction, and neither while one is not there', async () => {
    await open()
    await acquire()
    await course.desk.taken({ disks: asked, ...marked() }, never)
    const from = records.commits.length
    const says = (...disks: string[]) =>
      course.desk.complete(
        { disks: disks.map(complete), copyingMs: 5, ...signComplete(theirKey, course.record) },
        never,
      )
    await assert.rejects(says(ids.web01), /other|what came speaks of/)
    assert.deepEqual([states(), records.put(from)], [['departed', 'departed', 'copying'], []])
    const release = await says(ids.web01, ids.web02)
    assert.deepEqual(records.put(from), [['web01 released', 'web02 released', 'move done']])
    assert(release.answer === 'released')
    assert.deepEqual(
      release.disks.map(({ disk }) => disk),
      [ids.web01, ids.web02],
    )
    assert.deepEqual(
      course.record.disks.map((each) => each.counters),
      [counters, counters],
    )
    assert.equal(course.counters.data, 2 * counters.data)
  })

  it('notes of both, in one transaction, that they are taken', async () => {
    await open()
    await acquire()
    const from = records.commits.length
    await course.desk.taken({ disks: asked, ...marked() }, never)
    assert.deepEqual(records.put(from), [['web01 departed', 'web02 departed', 'move copying']])
    assert.deepEqual([web01!.record.taken, web02!.record.taken], [true, true])
    assert.equal((await acquire('resume')).answer, 'refused', 'whoever asks again is an old copy')
  })

  it('counts what was sent of each by itself', async () => {
    await open()
    await write(web02!)
    await acquire('operator')
    const run = { offset: 0, length: block }
    for (const at of asked)
      for await (const piece of course.desk.blocks(at, [run], { urgency: 'demand', signal: never }))
        assert.equal(piece.bytes !== undefined, at.disk === ids.web02)
    assert.deepEqual([course.countersOf(web01!).sent, course.countersOf(web02!).sent], [0, block])
  })

  it('cancels both, or neither', async () => {
    await open()
    records.failure = new Error('the file system is full')
    await assert.rejects(course.cancel(), /full/)
    assert.deepEqual([web01!.record.migrationId, web02!.record.migrationId], ['m-1', 'm-1'])
    records.failure = undefined
    const from = records.commits.length
    await course.cancel()
    assert.deepEqual(records.put(from), [['web01 owned', 'web02 owned', 'move cancelled']])
    assert.deepEqual([web01!.record.migrationId, web02!.record.migrationId], [null, null])
  })

  it('promise 1: takes both back, whichever was named, each above its own generation, and whoever took them hears so of each', async () => {
    await open()
    await acquire()
    const from = records.commits.length
    await course.reclaim(web02!)
    assert.deepEqual(records.put(from), [['web01 owned', 'web02 owned', 'move failed']])
    assert.deepEqual([web01!.record.generation, web02!.record.generation], [3, 3])
    assert.match(course.note ?? '', /^taken back web01 as generation 3, web02 as generation 3 by disk reclaim/)
    const past = new PastMigrations()
    past.add(course.record)
    const desk = new PastSource(past, 'here', course.record.peerId, 'm-1', () => null)
    const refusal = await desk.complete().catch((error: unknown) => error)
    assert(refusal instanceof PeerRefusal)
    for (const disk of [ids.web01, ids.web02]) assert.equal(voidWord(refusal, disk), 'superseded')
  })

  it('promise 1: takes neither back while that cannot be recorded', async () => {
    await open()
    await acquire()
    records.failure = new Error('the file system is full')
    await assert.rejects(course.reclaim(web01!), /could not be recorded that web01 is taken back/)
    assert.deepEqual(states(), ['departed', 'departed', 'copying'])
    await assert.rejects(course.desk.taken({ disks: asked, ...marked() }, never), /being taken back/)
  })

  it('promise 1: a forced word of which nobody knows whether it was heard cuts nobody off later', async () => {
    await open()
    isLinkLost = true
    await assert.rejects(course.switchover(true, never), { name: 'LinkError' })
    isLinkLost = false
    await write(web02!)
    const answer = await course.desk.acquire({ disks: asked, reason: 'operator', force: true }, never)
    assert.equal(answer.answer, 'busy')
    assert.deepEqual(states(), ['owned', 'owned', 'ready'])
    await course.switchover(true, never)
    assert.equal((await acquire('operator')).answer, 'granted')
  })

  it('before switchover ends when one of them is superseded: the other stays owned, and is free', async () => {
    await open()
    await course.supersede(elsewhere(9, 'elsewhere'), web02!)
    assert.deepEqual(records.put(), [['web02 superseded', 'web01 owned', 'move failed']])
    assert.deepEqual([web01!.record.migrationId, web02!.record.migrationId], [null, null])
    assert.deepEqual(
      course.record.disks.map(({ owner }) => owner),
      ['here', 'elsewhere'],
    )
  })

  it('after switchover goes on without the one that is superseded, and ends failed when none is left', async () => {
    await open()
    await acquire()
    await course.supersede(elsewhere(9, 'elsewhere'), web01!)
    assert.deepEqual(states(), ['superseded', 'departed', 'copying'])
    const [left, stays] = course.record.disks
    assert.deepEqual([left!.hasLeft, left!.owner, stays!.hasLeft, stays!.owner], [true, 'elsewhere', false, 'there'])
    assert.match(course.note ?? '', /^web01 left the move/)
    await course.supersede(elsewhere(9, 'elsewhere'), web02!)
    assert.deepEqual(states(), ['superseded', 'superseded', 'failed'])
  })

  it('after switchover releases what is left of the move, also to one that has not heard yet that a disk is void', async () => {
    await open()
    await acquire()
    await course.supersede(elsewhere(9, 'elsewhere'), web01!)
    await course.desk.complete(
      { disks: [complete(ids.web01), complete(ids.web02)], copyingMs: 5, ...signComplete(theirKey, course.record) },
      never,
    )
    assert.deepEqual(states(), ['superseded', 'released', 'done'])
    assert.deepEqual(
      course.record.disks.map(({ owner }) => owner),
      ['elsewhere', 'there'],
    )
  })

  it('promise 1: whoever has taken a disk that has left the move hears so of it, and goes on with the other', async () => {
    await open()
    await acquire()
    await course.supersede(elsewhere(9, 'elsewhere'), web01!)
    const run = { offset: 0, length: block }
    for (const ask of [course.desk.extents(asked[0]!, run, never), course.desk.digests(asked[0]!, [run], never)]) {
      const error = await ask.then(
        () => assert.fail('it was answered'),
        (reason: unknown) => reason,
      )
      assert.equal(voidWord(error, ids.web01), 'superseded')
      assert.equal(voidWord(error, ids.web02), undefined)
    }
    assert.equal((await course.desk.digests(asked[1]!, [run], never)).length, 1)
    // One that has not taken it leaves the whole move on this word: it is not told.
    const before = { disk: ids.web01, generation: 1 }
    await assert.rejects(course.desk.extents(before, run, never), { code: 'no-right' })
  })
})
