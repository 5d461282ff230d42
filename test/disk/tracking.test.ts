// A disk that is copied while its guest goes on writing: what of it has to be copied (again), over real files.

import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Span } from '../../src/block/span.ts'
import { EpochOver } from '../../src/disk/departing.ts'
import type { Disk, DiskServices } from '../../src/disk/disk.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import type { ExportHandle } from '../../src/guest/export.ts'
import type { DiskRecord } from '../../src/store/records.ts'
import { elsewhere } from '../migration/site-keys.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { diskRecord } from '../store/samples.ts'
import {
  block,
  closeDisksAfterEach,
  type HandDisk,
  isSettled,
  openDisk,
  ReadySource,
  reopenDisk,
  write,
} from './hand.ts'

const blocks = 64
const all = { first: 0, end: blocks }
const otherBoot = '22222222-2222-4222-8222-222222222222'
type Hand = HandDisk<ReadySource>

describe('a disk that is copied while its guest writes', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  const opened = (facts: Partial<DiskRecord> = {}, parts: Partial<DiskServices> = {}): Promise<Hand> =>
    openDisk(
      new ReadySource(),
      { state: 'owned', generation: 1, migrationId: diskRecord().id, ...facts },
      undefined,
      undefined,
      parts,
    )

  /** As it is on record now. */
  const again = (hand: Hand, boot?: string): Promise<Hand> => reopenDisk({ ...hand, record: hand.disk.record }, boot)

  const mapPath = ({ disk }: Hand) => join(disk.record.folder, 'dirty.map')

  /** As a destination asks. */
  class Copier {
    readonly disk: Disk
    epoch = ''
    round = 0
    confirmed = 0

    constructor(disk: Disk) {
      this.disk = disk
    }

    /** Everything is copied under a new epoch. */
    async begin(): Promise<this> {
      this.epoch = (await this.disk.departing.tracking.track(null)).epoch
      await this.copyAll()
      return this
    }

    get had() {
      return { epoch: this.epoch, confirmed: this.confirmed, round: this.round }
    }

    collect(span: Span = all, most = blocks, hot = true) {
      const rounds = { round: ++this.round, confirmed: this.confirmed }
      return this.disk.departing.tracking.collect(this.epoch, rounds, { span, most, hot })
    }

    /** What is given out is copied, and confirmed with a round of nothing, of which the source hears with the next one. */
    async copyAll(): Promise<readonly Span[]> {
      const { spans } = await this.collect()
      this.confirmed = this.round
      await this.collect({ first: 0, end: 1 }, 1)
      this.confirmed = this.round
      return spans
    }
  }

  const blocksIn = (spans: readonly Span[]) =>
    spans.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, index) => first + index))

  /** What a destination would be told that it lacks, if the disk were given up now. */
  async function finalOf(disk: Disk, { had }: Copier): Promise<number[] | undefined> {
    await disk.gate.freeze()
    const dirtyEpoch = await disk.departing.tracking.freeze()
    await commitTogether([disk.departing.depart({ generation: 2, owner: 'there', deed: null, dirtyEpoch })])
    disk.gate.thaw()
    const dirty = await disk.departing.tracking.final(had)
    return dirty && blocksIn([...dirty.runs(0, blocks, true)])
  }

  describe('gives out', () => {
    it('everything at first, and then what was written since it was given out', async () => {
      const { disk } = await opened()
      const copier = new Copier(disk)
      copier.epoch = (await disk.departing.tracking.track(null)).epoch
      assert.deepEqual(await copier.copyAll(), [all])
      const session = disk.open('guest')
      await write(session, 3 * block, block, 1)
      await write(session, 10 * block - 1, 2, 1)
      assert.deepEqual(await copier.collect(), {
        spans: [
          { first: 3, end: 4 },
          { first: 9, end: 11 },
        ],
        left: 0,
      })
      assert.deepEqual((await copier.collect()).spans, [], 'and nothing twice')
      await write(session, 3 * block, block, 2)
      assert.deepEqual((await copier.collect()).spans, [{ first: 3, end: 4 }], 'but when it is written again')
    })

    for (const [what, change] of [
      ['a trim', (session: ExportHandle) => session.trim(5 * block, 2 * block, false)],
      [
        'zeros',
        (session: ExportHandle) =>
          session.writeZeroes(5 * block, 2 * block, { mayPunch: true, fast: false, fua: false }),
      ],
      [
        'zeros that keep their room',
        (session: ExportHandle) =>
          session.writeZeroes(5 * block, 2 * block, { mayPunch: false, fast: false, fua: true }),
      ],
      ['a write with FUA', (session: ExportHandle) => session.write(5 * block, Buffer.alloc(2 * block, 1), true)],
    ] as const)
      it(`${what} as it does a write`, async () => {
        const { disk } = await opened()
        const copier = await new Copier(disk).begin()
        await change(disk.open('guest'))
        assert.deepEqual((await copier.collect()).spans, [{ first: 5, end: 7 }])
      })

    it('no block while it is being written, and then all of them: what was read before the write ended comes again', async () => {
      for (const operation of ['write', 'zero'] as const) {
        const { disk, files } = await opened()
        const copier = await new Copier(disk).begin()
        const session = disk.open('guest')
        await write(session, 2 * block, block, 1)
        files.hold(operation)
        const reached = files.waiting(operation)
        const writing =
          operation === 'write' ? write(session, 4 * block, 3 * block, 2) : session.trim(4 * block, 3 * block, false)
        await reached
        assert.deepEqual(await copier.collect(), { spans: [{ first: 2, end: 3 }], left: 3 })
        files.release(operation)
        await writing
        assert.deepEqual((await copier.collect()).spans, [{ first: 4, end: 7 }])
      }
    })

    it('a block whose write failed: nobody knows how much of it was written', async () => {
      const { disk, files } = await opened()
      const copier = await new Copier(disk).begin()
      files.fail('write', new Error('EIO'))
      await assert.rejects(async () => write(disk.open('guest'), 4 * block, block, 1))
      assert.deepEqual((await copier.collect()).spans, [{ first: 4, end: 5 }])
    })

    it('at most so many blocks, in order, and says how many are left', async () => {
      const { disk } = await opened()
      const copier = new Copier(disk)
      copier.epoch = (await disk.departing.tracking.track(null)).epoch
      assert.deepEqual(await copier.collect({ first: 8, end: 40 }, 10), {
        spans: [{ first: 8, end: 18 }],
        left: blocks - 10,
      })
      assert.deepEqual(await copier.collect({ first: 8, end: 40 }, 100), {
        spans: [{ first: 18, end: 40 }],
        left: blocks - 32,
      })
    })

    it('last what is written again and again, and it with the rest when it is asked for', async () => {
      const mebibytes = 4
      const { disk } = await opened({ sizeBytes: mebibytes * 2 ** 20 })
      const whole = { first: 0, end: mebibytes * 256 }
      const copier = new Copier(disk)
      copier.epoch = (await disk.departing.tracking.track(null)).epoch
      const session = disk.open('guest')
      for (let time = 0; time < 20; time++) await write(session, 300 * block, block, time)
      await write(session, 900 * block, block, 1)
      const cool = await copier.collect(whole, 1024, false)
      assert.deepEqual(cool, {
        spans: [
          { first: 0, end: 256 },
          { first: 512, end: 1024 },
        ],
        left: 256,
      })
      assert.deepEqual(await copier.collect(whole, 1024, false), { spans: [], left: 256 })
      assert.deepEqual(await copier.collect(whole, 1024, true), { spans: [{ first: 256, end: 512 }], left: 0 })
    })
  })

  describe('in rounds', () => {
    it('answers the same when it is asked twice, though its guest has written meanwhile', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      const session = disk.open('guest')
      await write(session, 3 * block, block, 1)
      const first = await copier.collect()
      await write(session, 4 * block, block, 1)
      copier.round--
      assert.deepEqual((await copier.collect()).spans, first.spans)
    })

    it('gives out again what was not confirmed when it is tracked on, under the same epoch', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      await write(disk.open('guest'), 3 * block, block, 1)
      await copier.collect()
      const tracked = await disk.departing.tracking.track(copier.had)
      assert.deepEqual(tracked, { epoch: copier.epoch, isSame: true, round: copier.round })
      assert.deepEqual((await copier.collect()).spans, [{ first: 3, end: 4 }])
    })

    it('a block that was written after it was given out stays lacking, however often the round is confirmed', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      const session = disk.open('guest')
      await write(session, 3 * block, block, 1)
      await copier.collect()
      await write(session, 3 * block, block, 2)
      copier.confirmed = copier.round
      await copier.collect({ first: 8, end: 9 })
      copier.confirmed = copier.round
      await copier.collect({ first: 8, end: 9 })
      assert.deepEqual(await finalOf(disk, copier), [3])
    })

    it('one that is given out in a later round is lacking until that one is confirmed', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      const session = disk.open('guest')
      await write(session, 3 * block, block, 1)
      await copier.collect()
      const first = copier.round
      await write(session, 3 * block, block, 2)
      await copier.collect()
      copier.confirmed = first
      await copier.collect({ first: 8, end: 9 })
      assert.deepEqual(await finalOf(disk, copier), [3])
    })

    it('refuses rounds out of turn, of other blocks, of another epoch, and that confirm what was not given out', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      const { tracking } = disk.departing
      const wanted = { span: all, most: 1, hot: true }
      const ask = (round: number, confirmed: number, epoch = copier.epoch, span = all) =>
        tracking.collect(epoch, { round, confirmed }, { ...wanted, span })
      await write(disk.open('guest'), 3 * block, block, 1)
      const next = copier.round + 1
      for (const [round, confirmed] of [
        [next + 1, copier.confirmed],
        [next, next],
        [copier.confirmed, copier.confirmed - 1],
        [next - 1, next - 1],
      ] as const)
        await assert.rejects(ask(round, confirmed), EpochOver, `${round} ${confirmed}`)
      await assert.rejects(ask(next, copier.confirmed, diskRecord().id), EpochOver)
      await ask(next, copier.confirmed)
      await assert.rejects(ask(next, copier.confirmed, copier.epoch, { first: 1, end: 2 }), EpochOver)
    })
  })

  describe('begins a new epoch, in which all is to be copied,', () => {
    const isAnew = async (disk: Disk, had: Copier['had']) => {
      const { isSame, epoch } = await disk.departing.tracking.track(had)
      assert(!isSame && epoch !== had.epoch)
      return new Copier(disk)
    }

    it('for a destination that forgets what it confirmed once: it was put back to an old copy', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      await write(disk.open('guest'), 3 * block, block, 1)
      await copier.copyAll()
      await isAnew(disk, { ...copier.had, confirmed: copier.confirmed - 2 })
    })

    it('for one that was given rounds which this site does not know: this one was put back', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      await isAnew(disk, { ...copier.had, round: copier.round + 1 })
    })

    it('and tells of it only when the writes that began before are over', async () => {
      const { disk, files } = await opened()
      files.hold('write')
      const reached = files.waiting('write')
      const before = write(disk.open('guest'), 3 * block, block, 1)
      await reached
      const tracked = disk.departing.tracking.track(null)
      assert.equal(await isSettled(tracked), false)
      const later = write(disk.open('guest'), 5 * block, block, 1)
      files.release('write')
      await before
      await tracked
      await later
    })

    it('but not while the disk freezes: a freeze holds writes that began, and waits for none of them', async () => {
      const { disk } = await opened()
      await disk.gate.freeze()
      const held = write(disk.open('guest'), 3 * block, block, 1)
      const tracked = disk.departing.tracking.track(null)
      assert.equal(await isSettled(tracked), false)
      const frozen = disk.departing.tracking.freeze()
      await assert.rejects(tracked, /is not to be copied now/)
      await frozen
      disk.departing.tracking.thaw()
      disk.gate.thaw()
      await held
      await disk.departing.tracking.track(null)
    })

    it('which is the same when it is asked for again before anything was given out', async () => {
      const { disk } = await opened()
      const { epoch } = await disk.departing.tracking.track(null)
      assert.deepEqual(await disk.departing.tracking.track(null), { epoch, isSame: false, round: 0 })
    })

    it('after a loss of power', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const { disk } = await again(hand, otherBoot)
      await isAnew(disk, copier.had)
    })

    it('after a failed sync that was accepted, also when the daemon was started again', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const session = hand.disk.open('guest')
      await write(session, 3 * block, block, 1)
      hand.files.fail('sync', new Error('EIO'))
      await assert.rejects(async () => session.flush())
      hand.files.fail('sync', undefined)
      await assert.rejects(copier.collect(), EpochOver)
      session.close('disconnected')
      await hand.disk.acceptFailedSync(new AbortController().signal)
      assert(!existsSync(mapPath(hand)), 'nor does the next start believe it')
      await isAnew(hand.disk, copier.had)
    })

    it('when a bit cannot be taken off its file: the write goes on, and nothing of the old epoch counts', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const { disk, files } = hand
      files.failOnce('page', new Error('ENOSPC'))
      await write(disk.open('guest'), 3 * block, block, 1)
      assert.deepEqual(files.done.slice(-2), ['page', 'write'], 'that the map is void is said before the write begins')
      await assert.rejects(copier.collect(), EpochOver)
      const { disk: next } = await again(hand)
      await isAnew(next, copier.had)
    })

    it('and where not even that can be said, the write fails, and each after it, until it can', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const { disk, files } = hand
      const session = disk.open('guest')
      files.fail('page', Object.assign(new Error('no room'), { code: 'ENOSPC' }))
      for (let time = 0; time < 2; time++)
        await assert.rejects(async () => write(session, 3 * block, block, 1), { code: 'no-space' })
      assert(!files.done.includes('write'), 'nothing of it was written')
      await assert.rejects(copier.collect(), EpochOver)
      files.fail('page', undefined)
      await write(session, 3 * block, block, 1)
      await isAnew((await again(hand)).disk, copier.had)
    })
  })

  describe('whose daemon is killed', () => {
    it('goes on as before: what was written since is lacking, and what was given out and not confirmed', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const session = hand.disk.open('guest')
      await write(session, 3 * block, block, 1)
      await copier.collect()
      await write(session, 5 * block, block, 1)
      const next = await again(hand)
      await write(next.disk.open('guest'), 9 * block, block, 1)
      Object.assign(copier, { disk: next.disk })
      assert((await next.disk.departing.tracking.track(copier.had)).isSame)
      assert.deepEqual(blocksIn((await copier.collect()).spans), [3, 5, 9])
    })

    it('gives out no round twice', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      await write(hand.disk.open('guest'), 3 * block, block, 1)
      await copier.collect()
      Object.assign(copier, { disk: (await again(hand)).disk })
      copier.round--
      await assert.rejects(copier.collect(), EpochOver)
    })
  })

  describe('that is given up', () => {
    it('names what was written since, and says the same after any restart', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const session = hand.disk.open('guest')
      await write(session, 3 * block, block, 1)
      await copier.collect()
      await write(session, 9 * block, block, 1)
      const final = await finalOf(hand.disk, copier)
      assert.deepEqual(final, [3, 9])
      assert.equal(hand.disk.record.dirtyEpoch, copier.epoch)
      for (const boot of [undefined, otherBoot]) {
        const { disk } = await again(hand, boot)
        const dirty = await disk.departing.tracking.final(copier.had)
        assert.deepEqual(dirty && blocksIn([...dirty.runs(0, blocks, true)]), final)
      }
    })

    it('does not lack what its destination says that it has when it asks for it, after any restart', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const session = hand.disk.open('guest')
      await write(session, 3 * block, block, 1)
      await copier.collect()
      copier.confirmed = copier.round
      await write(session, 9 * block, block, 1)
      await hand.disk.departing.tracking.confirm(copier.had)
      assert.deepEqual(await finalOf(hand.disk, copier), [9])
      const { disk } = await again(hand, otherBoot)
      const dirty = await disk.departing.tracking.final(copier.had)
      assert.deepEqual(dirty && blocksIn([...dirty.runs(0, blocks, true)]), [9])
    })

    it('lacks all the same what was not given out, whatever its destination says', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      const session = disk.open('guest')
      await write(session, 3 * block, block, 1)
      const { tracking } = disk.departing
      await tracking.confirm({ ...copier.had, confirmed: copier.round + 1, round: copier.round + 1 })
      await tracking.confirm({ ...copier.had, epoch: diskRecord().id })
      assert.deepEqual(await finalOf(disk, copier), [3])
    })

    it('says nothing of another epoch, or to a destination or by a source that was put back', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      assert.deepEqual(await finalOf(disk, copier), [])
      const { had } = copier
      const { tracking } = disk.departing
      assert.equal(await tracking.final({ ...had, epoch: diskRecord().id }), undefined)
      assert.equal(await tracking.final({ ...had, confirmed: had.confirmed - 2 }), undefined)
      assert.equal(await tracking.final({ ...had, round: had.round + 1 }), undefined)
    })

    it('lacks everything where its map could not be made durable', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      hand.files.fail('syncPages', new Error('EIO'))
      assert.equal(await finalOf(hand.disk, copier), undefined)
      assert.equal(hand.disk.record.dirtyEpoch, null)
    })

    it('lacks everything once its map is gone', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      await finalOf(hand.disk, copier)
      await hand.disk.close()
      rmSync(mapPath(hand))
      const { disk } = await again(hand)
      assert.equal(await disk.departing.tracking.final(copier.had), undefined)
    })

    it('gives out nothing while that is being decided, and goes on when it stays', async () => {
      const { disk } = await opened()
      const copier = await new Copier(disk).begin()
      await disk.gate.freeze()
      await disk.departing.tracking.freeze()
      await assert.rejects(copier.collect(), EpochOver)
      disk.departing.tracking.thaw()
      disk.gate.thaw()
      copier.round--
      await write(disk.open('guest'), 3 * block, block, 1)
      assert.deepEqual((await copier.collect()).spans, [{ first: 3, end: 4 }])
    })
  })

  describe('is not tracked any more', () => {
    for (const [what, end] of [
      ['when the move is cancelled', (disk: Disk) => commitTogether([disk.leaveMigration()])],
      ['when a later generation is heard of', (disk: Disk) => commitTogether([disk.supersede(elsewhere(5, 'there'))])],
      [
        'once its destination has taken it',
        async (disk: Disk, copier: Copier) => {
          await finalOf(disk, copier)
          await commitTogether([disk.departing.noteTaken()])
        },
      ],
      [
        'once it is taken back',
        async (disk: Disk, copier: Copier) => {
          await finalOf(disk, copier)
          await commitTogether([await disk.departing.reclaim(3, null)])
        },
      ],
    ] as const)
      it(`${what}, and its map is gone`, async () => {
        const hand = await opened()
        const copier = await new Copier(hand.disk).begin()
        assert(existsSync(mapPath(hand)))
        await end(hand.disk, copier)
        assert(!existsSync(mapPath(hand)))
        assert.equal(hand.disk.record.dirtyEpoch, null)
        await assert.rejects(copier.collect(), EpochOver)
        if (hand.disk.state !== 'owned') return
        await write(hand.disk.open('guest'), 3 * block, block, 1)
        assert(!existsSync(mapPath(hand)))
      })

    it('for a move that it is not in: what an older one left of it is not believed', async () => {
      const hand = await opened()
      const copier = await new Copier(hand.disk).begin()
      const other = '77777777-7777-4777-8777-777777777777'
      const { disk } = await reopenDisk({ ...hand, record: { ...hand.disk.record, migrationId: other } })
      await write(disk.open('guest'), 3 * block, block, 1)
      assert.equal((await disk.departing.tracking.track(copier.had)).isSame, false)
    })

    it('for nobody who asks about a disk that is in no move', async () => {
      const { disk } = await opened({ migrationId: null })
      await assert.rejects(disk.departing.tracking.track(null), EpochOver)
    })
  })
})
