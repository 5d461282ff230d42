// What a disk tells of its blocks, present and dirty: what they say in each state, and that saying it costs what is mixed, not what is asked.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { dirtyExtents, presentExtents } from '../../src/disk/block-status.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import { type ExportHandle, type StatusExtent, type StatusKind, statusWords } from '../../src/guest/export.ts'
import { ArrivalMaps } from '../../src/store/arrival-maps.ts'
import { seededRandom } from '../random.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { block, closeDisksAfterEach, HandSource, isSettled, openDisk, ReadySource } from './hand.ts'

const sector = 512
const all = 64 * block
const gibibyte = 2 ** 30

/** 1: present, dirty; 0: not. */
type Told = readonly [blocks: number, is: 0 | 1]

function told(extents: readonly StatusExtent[]): Told[] {
  return extents.map(({ lengthBytes, status }) => [
    lengthBytes / block,
    status === 'present' || status === 'dirty' ? 1 : 0,
  ])
}

describe('block status', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  async function status(session: ExportHandle, kind: StatusKind, offset = 0, lengthBytes = all, limit = 100) {
    return told(await session.blockStatus(kind, offset, lengthBytes, limit))
  }

  describe('are offered', () => {
    const moving = ['allocation', 'present', 'dirty']
    const cases: [string, Parameters<typeof openDisk>[1], readonly string[]][] = [
      ['allocation alone of a disk that never moved', { state: 'owned', generation: 1 }, ['allocation']],
      ['all at the source of a move', { state: 'owned', generation: 1, migrationId: 'some' }, moving],
      ['all of an incoming disk', { state: 'incoming', generation: 1 }, moving],
      ['all of an arriving disk', { state: 'arriving', generation: 2 }, moving],
      ['all after a move', { state: 'owned', generation: 2 }, moving],
      ['all of a disk that departed', { state: 'departed', generation: 2 }, moving],
    ]
    for (const [what, facts, statuses] of cases) {
      it(what, async () => {
        const { disk } = await openDisk(new HandSource(), facts)
        assert.deepEqual(disk.statuses, statuses)
      })
    }
  })

  it('an incoming disk has nothing here, and nothing changed', async () => {
    const { disk, source } = await openDisk(new HandSource(), { state: 'incoming', generation: 1 })
    const session = disk.open('guest')
    assert.deepEqual(await status(session, 'present'), [[64, 0]])
    assert.deepEqual(await status(session, 'dirty'), [[64, 0]])
    assert.equal(source.fetches.length, 0)
  })

  it('an arriving disk tells what has come, and what the guest wrote', async () => {
    const { disk } = await openDisk(new HandSource())
    const session = disk.open('guest')
    assert.deepEqual(await status(session, 'present'), [[64, 0]])
    assert.deepEqual(await status(session, 'dirty'), [[64, 0]])
    await disk.arriving.land({ offset: 8 * block, length: 8 * block, bytes: Buffer.alloc(8 * block, 1) })
    await session.write(12 * block, Buffer.alloc(8 * block, 2), false)
    assert.deepEqual(await status(session, 'present'), [
      [8, 0],
      [12, 1],
      [44, 0],
    ])
    assert.deepEqual(await status(session, 'dirty'), [
      [12, 0],
      [8, 1],
      [44, 0],
    ])
  })

  it('a block of which the guest wrote some sectors is dirty, and not present before the rest has come', async () => {
    const { disk } = await openDisk(new ReadySource())
    const session = disk.open('guest')
    await session.write(3 * block + sector, Buffer.alloc(sector, 2), false)
    assert.deepEqual(await status(session, 'present'), [[64, 0]])
    const dirty: Told[] = [
      [3, 0],
      [1, 1],
      [60, 0],
    ]
    assert.deepEqual(await status(session, 'dirty'), dirty)
    await session.read(3 * block, Buffer.alloc(block))
    assert.deepEqual(await status(session, 'present'), dirty)
    assert.deepEqual(await status(session, 'dirty'), dirty)
  })

  it('an owned disk is here whole, and all of it counts as changed, also for a session that saw it arrive', async () => {
    const { disk } = await openDisk(new ReadySource())
    const session = disk.open('guest')
    await disk.arriving.land(new ReadySource().piece(0, all))
    assert.deepEqual(await status(session, 'dirty'), [[64, 0]])
    await commitTogether([await disk.arriving.finish()])
    assert.deepEqual(await status(session, 'present'), [[64, 1]])
    assert.deepEqual(await status(session, 'dirty'), [[64, 1]])
  })

  it('a disk that departed says nothing of its blocks any more', async () => {
    const { disk } = await openDisk(new HandSource(), { state: 'departed', generation: 2 })
    const session = disk.open('guest')
    for (const kind of disk.statuses) {
      assert.throws(() => session.blockStatus(kind, 0, block, 1), { code: 'not-served' })
    }
  })

  it('an answer begins and ends where it was asked, and has at most as many extents', async () => {
    const { disk } = await openDisk(new HandSource(), { sizeBytes: 5 * block + 100 })
    const session = disk.open('guest')
    await session.write(2 * block, Buffer.alloc(block, 2), false)
    const asked = (offset: number, lengthBytes: number, limit: number) =>
      session.blockStatus('present', offset, lengthBytes, limit)
    assert.deepEqual(await asked(block + 1, 4 * block + 99, 10), [
      { lengthBytes: block - 1, status: 'absent' },
      { lengthBytes: block, status: 'present' },
      { lengthBytes: 2 * block + 100, status: 'absent' },
    ])
    assert.deepEqual(await asked(2 * block + 7, 10, 10), [{ lengthBytes: 10, status: 'present' }])
    assert.deepEqual(await asked(0, 5 * block + 100, 1), [{ lengthBytes: 2 * block, status: 'absent' }])
    assert.deepEqual(await asked(0, 5 * block + 100, 2), [
      { lengthBytes: 2 * block, status: 'absent' },
      { lengthBytes: block, status: 'present' },
    ])
  })

  it('agree with a look at each block, whatever the maps', () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    const blocks = 200
    for (let round = 0; round < 300; round++) {
      const maps = new ArrivalMaps(blocks * block)
      for (let run = random.integer(12); run > 0; run--) {
        const first = random.integer(blocks)
        maps.present.add(first, Math.min(blocks, first + 1 + random.integer(20)))
        const written = random.integer(blocks)
        maps.written.add(written, Math.min(blocks, written + 1 + random.integer(20)))
        maps.partial.set(random.integer(blocks), 1)
      }
      const offset = random.integer(blocks * block)
      const lengthBytes = 1 + random.integer(blocks * block - offset)
      const limit = 1 + random.integer(30)
      const looks = [
        [presentExtents, (at: number) => maps.present.has(at), statusWords.present],
        [dirtyExtents, (at: number) => maps.written.has(at) || maps.partial.has(at), statusWords.dirty],
      ] as const
      for (const [extentsOf, has, words] of looks) {
        const extents = extentsOf(maps, offset, lengthBytes, limit)
        const what = `SEED=${seed} round ${round} at ${offset}`
        assert(extents.length >= 1 && extents.length <= limit, what)
        let at = offset
        for (const [index, extent] of extents.entries()) {
          assert(extent.lengthBytes > 0, what)
          assert.notEqual(extents[index - 1]?.status, extent.status, what)
          for (let within = at; within < at + extent.lengthBytes; within = (Math.floor(within / block) + 1) * block) {
            assert.equal(extent.status, words[has(Math.floor(within / block)) ? 1 : 0], `${what}, byte ${within}`)
          }
          at += extent.lengthBytes
        }
        assert(at === offset + lengthBytes || (at < offset + lengthBytes && extents.length === limit), what)
      }
    }
  })

  describe('of a disk of 16 TiB', () => {
    const sizeBytes = 2 ** 44

    it('are told in extents of up to 4 TiB where nothing is mixed', () => {
      const maps = new ArrivalMaps(sizeBytes)
      assert.deepEqual(dirtyExtents(maps, 0, sizeBytes, 512), [{ lengthBytes: 2 ** 42, status: 'clean' }])
      maps.present.add(0, sizeBytes / block)
      assert.deepEqual(presentExtents(maps, 0, sizeBytes, 512), [{ lengthBytes: 2 ** 42, status: 'present' }])
    })

    it('are told window by window while very many blocks are partial, so that no answer walks all of them', () => {
      const maps = new ArrivalMaps(sizeBytes)
      const last = sizeBytes / block - 1
      for (let index = 0; index < 5000; index++) maps.partial.set(last - 2 * index, 1)
      const sorted: number[] = []
      const looked = new Proxy(maps.partial, {
        get(target, name) {
          if (name === 'keys') sorted.push(target.size)
          const value = Reflect.get(target, name)
          return typeof value === 'function' ? value.bind(target) : value
        },
      })
      const watched = { present: maps.present, written: maps.written, partial: looked }
      const [extent] = dirtyExtents(watched, 0, sizeBytes, 512)
      assert.deepEqual(extent, { lengthBytes: 8192 * block, status: 'clean' })
      assert.deepEqual(dirtyExtents(watched, last * block, block, 512), [{ lengthBytes: block, status: 'dirty' }])
      assert.deepEqual(sorted, [5000])
    })
  })

  describe('requests of any length', () => {
    const sizeBytes = 1024 * gibibyte

    it('a prefetch asks for a step at a time, and ends when its client is gone', async () => {
      const { disk, source } = await openDisk(new HandSource(), { sizeBytes })
      const session = disk.open('guest')
      const caching = Promise.resolve(session.cache(block, sizeBytes - block))
      const fetch = await source.asked(0)
      assert.deepEqual(fetch.runs, [{ offset: block, length: 16 * 2 ** 20 - block }])
      assert(!(await isSettled(caching)))
      session.hangUp!()
      await fetch.yield({ offset: block, length: 16 * 2 ** 20 - block, bytes: undefined })
      void fetch.finish()
      await assert.rejects(caching, /the client is gone/)
      assert.equal(source.fetches.length, 1)
    })

    it('a TRIM of all of a disk makes it present, and dirty, without a byte from the source', async () => {
      const { disk, source } = await openDisk(new HandSource(), { sizeBytes: 4 * gibibyte })
      const session = disk.open('guest')
      await session.trim(100, 4 * gibibyte - 100, true)
      const blocks = (4 * gibibyte) / block
      for (const kind of ['present', 'dirty'] as const) {
        assert.deepEqual(await status(session, kind, 0, 4 * gibibyte), [
          [1, 0],
          [blocks - 1, 1],
        ])
      }
      assert.equal(source.fetches.length, 0)
    })

    it('allocation of an arriving disk looks no further than the first that is missing', async () => {
      const { disk } = await openDisk(new HandSource(), { sizeBytes })
      const session = disk.open('guest')
      assert.deepEqual(await session.blockStatus('allocation', 0, sizeBytes, 512), [
        { lengthBytes: sizeBytes, status: 'data' },
      ])
    })
  })
})
