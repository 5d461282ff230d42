import assert from 'node:assert/strict'
import { accept } from '../../src/disk/acceptance.ts'
import type { DiskServices } from '../../src/disk/disk.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import type { Change, DiskRecord } from '../../src/store/records.ts'
import { FakeClock } from '../migration/fake-time.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import {
  block,
  bootId,
  closeDisksAfterEach,
  type HandDisk,
  isSettled,
  MemoryRecords,
  openDisk,
  ReadySource,
  read,
  reopenDisk,
  write,
} from './hand.ts'

const secondBoot = '22222222-2222-4222-8222-222222222222'
const idleMs = 10_000
const never = new AbortController().signal

/** Records whose commits wait for the test, or fail. */
class SlowRecords extends MemoryRecords {
  held: PromiseWithResolvers<void> | undefined
  isBroken = false
  #began = Promise.withResolvers<void>()

  /** Resolves when the first commit has been asked for. */
  get began(): Promise<void> {
    return this.#began.promise
  }

  override async commit(changes: readonly Change[]): Promise<void> {
    this.#began.resolve()
    await this.held?.promise
    if (this.isBroken) throw new Error('the file system of the data folder is full')
    await super.commit(changes)
  }
}

interface Hand extends HandDisk<ReadySource> {
  readonly clock: FakeClock
  readonly slow: SlowRecords
}

async function opened(facts: Partial<DiskRecord> = {}, parts: Partial<DiskServices> = {}): Promise<Hand> {
  const clock = new FakeClock()
  const slow = new SlowRecords()
  const remote = () => new Promise<void>(() => {})
  const services = { clock, records: slow, ...parts }
  const hand = await openDisk(new ReadySource(), { state: 'owned', ...facts }, remote, remote, services)
  return { ...hand, clock, slow }
}

/** Opened again, under `boot`, with the record as it was committed last. */
async function again(hand: Hand, boot: string, parts: Partial<DiskServices> = {}): Promise<Hand> {
  const record = { ...hand.record, ...recordedIn(hand) }
  await hand.disk.close()
  const slow = new SlowRecords()
  const clock = new FakeClock()
  const reopened = await reopenDisk({ ...hand, record }, boot, { records: slow, clock, ...parts })
  return { ...reopened, clock, slow }
}

/** What commits have made of the marks. */
function recordedIn({ slow }: Hand): Partial<DiskRecord> {
  return Object.assign({}, ...slow.commits.flat().map((change) => ('mark' in change ? change.facts : {})))
}

describe('writes of clients that outlive the power of this host', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  for (const state of ['owned', 'arriving']) {
    it(`promise 6: are on record as such before the first of them is answered, ${state}; and no other waits`, async () => {
      const { disk, slow, files } = await opened({ state })
      const session = disk.open('192.0.2.1:40000', true)
      slow.held = Promise.withResolvers()
      assert.equal(session.takesAtOnce?.(0, block), false)
      const first = Promise.resolve(write(session, 0, block, 1))
      assert.equal(await isSettled(first), false)
      assert.deepEqual(files.done, [])
      slow.held.resolve()
      await first
      const [change] = slow.commits.at(-1)!
      assert(change && 'mark' in change)
      assert.equal(change.facts.unsynced?.bootId, bootId)
      assert.equal(write(session, 0, block, 2), undefined)
      assert.equal(slow.commits.length, 1)
    })
  }

  it('cost a client of this host nothing', async () => {
    const { disk, slow } = await opened()
    assert.equal(write(disk.open('unix', false), 0, block, 1), undefined)
    assert.equal(slow.commits.length, 0)
  })

  it('of this host too, while its disk is about to move: its guest may leave before the power goes', async () => {
    const { disk, slow } = await opened()
    const session = disk.open('unix', false)
    await write(session, 0, block, 1)
    await commitTogether([disk.joinMigration('m-1')])
    await disk.departing.coverAnswered()
    assert.equal(slow.commits.length, 2, 'what was answered before is not flushed')
    await write(session, 0, block, 2)
    assert.equal(slow.commits.length, 2)
  })

  it('promise 6: are durable before they are answered where they cannot be recorded', async () => {
    const { disk, slow, files } = await opened()
    const session = disk.open('192.0.2.1:40000', true)
    slow.isBroken = true
    for (const request of [
      () => write(session, 0, block, 1),
      () => session.trim(0, block, false),
      () => session.writeZeroes(0, block, { mayPunch: true, fast: false, fua: false }),
    ]) {
      files.done.length = 0
      await request()
      assert.equal(files.done.at(-1), 'sync')
    }
  })

  it('are off the record once all is flushed and the disk was idle for a while', async () => {
    const hand = await opened()
    const { disk, clock, files } = hand
    const session = disk.open('192.0.2.1:40000', true)
    await write(session, 0, block, 1)
    await session.flush()
    await clock.advance(idleMs - 1)
    assert.equal(recordedIn(hand).unsynced?.bootId, bootId)
    await write(session, 0, block, 2)
    await clock.advance(idleMs)
    assert.equal(recordedIn(hand).unsynced?.bootId, bootId, 'it was written meanwhile')
    files.done.length = 0
    await clock.advance(idleMs)
    await untilOff(hand)
    assert.deepEqual(files.done, ['sync'], 'nobody has flushed')
    await write(session, 0, block, 3)
    assert.equal(recordedIn(hand).unsynced?.bootId, bootId)
  })

  it('promise 6: stay on the record while one is under way, whatever is synced', async () => {
    const hand = await opened()
    const { disk, clock, files } = hand
    const session = disk.open('192.0.2.1:40000', true)
    await write(session, 0, block, 1)
    files.hold('write')
    const writing = Promise.resolve(write(session, 0, block, 2))
    await clock.advance(3 * idleMs)
    assert.equal(recordedIn(hand).unsynced?.bootId, bootId)
    files.release('write')
    await writing
    await clock.advance(2 * idleMs)
    await untilOff(hand)
  })

  it('are off the record when a daemon stops in good order: it syncs what was not flushed', async () => {
    for (const isFlushed of [true, false]) {
      const hand = await opened()
      const session = hand.disk.open('192.0.2.1:40000', true)
      await write(session, 0, block, 1)
      if (isFlushed) await session.flush()
      await hand.disk.close()
      assert.equal(recordedIn(hand).unsynced, null)
      assert.equal(hand.files.done.filter((operation) => operation === 'sync').length, 1)
    }
  })

  it('stay on the record when a daemon stops and what was not flushed cannot be synced in time', async () => {
    const hand = await opened()
    await write(hand.disk.open('192.0.2.1:40000', true), 0, block, 1)
    const held = hand.files.waiting('sync')
    hand.files.hold('sync')
    const closed = hand.disk.close()
    await held
    await hand.clock.advance(10_000)
    assert.equal(recordedIn(hand).unsynced?.bootId, bootId)
    hand.files.release('sync')
    await closed
  })

  it('that a daemon left before it died, and the power stayed, are no trouble', async () => {
    const hand = await again(await written(), bootId)
    assert.equal(hand.disk.trouble, undefined)
    assert.equal(write(hand.disk.open('192.0.2.1:40000', true), 0, block, 1), undefined, 'the mark is there')
    assert.equal(hand.slow.commits.length, 0)
  })

  it('may be lost with the power: that is on record, told, and stays until it is accepted', async () => {
    const hand = await again(await written(), secondBoot)
    assert.match(hand.disk.trouble!, /lost its power.*may be lost.*vmstore disk accept web01/)
    const once = await again(hand, secondBoot)
    assert.match(once.disk.trouble!, /lost its power/)
    assert.equal(once.slow.commits.length, 0)
    const session = once.disk.open('192.0.2.1:40000', true)
    await write(session, 0, block, 1)
    await assert.rejects(accept(once.disk, false, never), { code: 'not-confirmed' })
    await accept(once.disk, true, never) // Whoever is attached may stay: it was told of nothing.
    assert.equal(once.disk.trouble, undefined)
    await assert.rejects(accept(once.disk, true, never), { code: 'nothing-to-accept' })
    assert.equal((await again(once, secondBoot)).disk.trouble, undefined)
  })

  it('promise 6: that are being marked while a loss is accepted stay marked', async () => {
    const hand = await again(await written(), secondBoot)
    const session = hand.disk.open('192.0.2.1:40000', true)
    hand.slow.held = Promise.withResolvers()
    const first = Promise.resolve(write(session, 0, block, 1))
    const accepted = accept(hand.disk, true, never)
    hand.slow.held.resolve()
    await Promise.all([first, accepted])
    assert.equal(hand.disk.trouble, undefined)
    const { unsynced, powerLoss } = recordedIn(hand)
    assert.deepEqual([unsynced?.bootId, powerLoss], [secondBoot, null])
  })

  it('are told of also when that cannot be recorded, now and at the next start', async () => {
    const before = await written()
    const broken = new SlowRecords()
    broken.isBroken = true
    const hand = await again(before, secondBoot, { records: broken })
    assert.match(hand.disk.trouble!, /lost its power/)
    broken.isBroken = false
    await hand.clock.advance(idleMs)
    await write(hand.disk.open('192.0.2.1:40000', true), 0, block, 1)
    const next = await again({ ...hand, slow: broken }, secondBoot)
    assert.match(next.disk.trouble!, /lost its power/)
  })

  it('--after-power-loss hold: clients at other hosts are refused until it is accepted, those of this host are served', async () => {
    const hand = await again(await written(), secondBoot, { holdsAfterPowerLoss: true })
    const { disk } = hand
    assert.throws(() => disk.open('192.0.2.1:40000', true), {
      code: 'not-permitted',
      message: /waits for vmstore disk accept/,
    })
    assert.match(disk.trouble!, /refused until then/)
    const local = disk.open('unix', false)
    assert((await read(local, 0, block)).equals(Buffer.alloc(block, 9)))
    await write(local, 0, block, 1)
    await accept(disk, true, never)
    await write(disk.open('192.0.2.1:40000', true), 0, block, 1)
  })

  it('are no matter of a disk that has departed: it was synced', async () => {
    const hand = await written()
    await commitTogether([hand.disk.departing.depart({ owner: 'there', generation: 3, deed: null })])
    const [change] = hand.slow.commits.at(-1)!
    assert(change && 'put' in change && change.put === 'disk')
    assert.equal(change.record.unsynced, null)
  })

  it('that were lost are told of with a disk that departs, also when that could not be recorded before', async () => {
    const before = await written()
    const broken = new SlowRecords()
    broken.isBroken = true
    const { disk } = await again(before, secondBoot, { records: broken })
    broken.isBroken = false
    await commitTogether([disk.departing.depart({ owner: 'there', generation: 3, deed: null })])
    const { unsynced, powerLoss } = disk.record
    assert.equal(unsynced, null)
    assert.match(powerLoss?.since ?? '', /^\d{4}-/)
  })

  for (const isElsewhere of [true, false]) {
    it(`of ${isElsewhere ? 'a client at another host' : 'clients of this host'} that wait for switchover are ${isElsewhere ? '' : 'not '}on record with it`, async () => {
      let arrive: () => Promise<void> = () => Promise.resolve()
      const slow = new SlowRecords()
      const { disk } = await openDisk(
        new ReadySource(),
        { state: 'incoming', migrationId: 'm-1' },
        () => arrive(),
        undefined,
        { records: slow },
      )
      arrive = async () => commitTogether([await disk.arriving.begin(3, null, null)])
      await write(disk.open('a guest', isElsewhere), 0, block, 1)
      const [change] = slow.commits[0]!
      assert(change && 'put' in change && change.put === 'disk')
      assert.deepEqual(
        [change.record.state, change.record.unsynced?.bootId],
        ['arriving', isElsewhere ? bootId : undefined],
      )
      assert.equal(slow.commits.length, 1)
    })
  }

  it('promise 6: of a client that comes while the switchover is being recorded are on record before they are answered', async () => {
    let arrive: () => Promise<void> = () => Promise.resolve()
    const slow = new SlowRecords()
    const parts = { records: slow }
    const { disk } = await openDisk(
      new ReadySource(),
      { state: 'incoming', migrationId: 'm-1' },
      () => arrive(),
      undefined,
      parts,
    )
    slow.held = Promise.withResolvers()
    const arrival = disk.arriving.begin(3, null, null).then((plan) => commitTogether([plan]))
    arrive = () => arrival
    await slow.began
    const first = Promise.resolve(write(disk.open('192.0.2.1:40000', true), 0, block, 1))
    slow.held.resolve()
    await first
    const marks = slow.commits.flat().map((change) => ('mark' in change ? change.facts.unsynced?.bootId : undefined))
    assert.deepEqual(marks, [undefined, bootId])
  })
})

/** The syncs are real ones, and take as long as the storage of a busy machine takes. */
async function untilOff(hand: Hand): Promise<void> {
  const giveUpAtMs = performance.now() + 60_000
  while (recordedIn(hand).unsynced !== null) {
    assert(performance.now() < giveUpAtMs, 'the mark stays on the record')
    await hand.clock.advance(100)
    await isSettled(new Promise(() => {}))
  }
}

/** A disk with a write of another host that was answered, and not flushed. */
async function written(): Promise<Hand> {
  const hand = await opened()
  await write(hand.disk.open('192.0.2.1:40000', true), 0, block, 9)
  return hand
}
