import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Disk } from '../../src/disk/disk.ts'
import { AllocationFlag, type ExportHandle, type MaybePromise } from '../../src/nbd/export.ts'
import { seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolderOnTmpfs } from '../store/folder.ts'
import {
  block,
  closeDisksAfterEach,
  HandSource,
  isSettled,
  openDisk,
  ReadySource,
  reopenDisk,
  settled,
} from './hand.ts'

const sector = 512
const secondBoot = '22222222-2222-4222-8222-222222222222'

describe('guest I/O on an arriving disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  async function read(session: ExportHandle, offset: number, lengthBytes: number): Promise<Buffer> {
    const target = Buffer.alloc(lengthBytes, 0xee)
    await session.read(offset, target)
    return target
  }

  function write(session: ExportHandle, offset: number, lengthBytes: number, byte: number): MaybePromise<void> {
    return session.write(offset, Buffer.alloc(lengthBytes, byte), false)
  }

  async function answeredWithoutSource(request: (session: ExportHandle) => MaybePromise<void>): Promise<Disk> {
    const { disk, source } = await openDisk(new HandSource())
    await request(disk.open('guest'))
    assert.equal(source.fetches.length, 0)
    return disk
  }

  describe('promise 7: waits for no remote byte when it is', () => {
    it('a write of whole blocks', async () => {
      await answeredWithoutSource((session) => write(session, 2 * block, 3 * block, 1))
    })

    it('a write aligned to 512 bytes', async () => {
      await answeredWithoutSource((session) => write(session, 2 * block + sector, 3 * sector, 1))
    })

    it('a write aligned to 512 bytes over several blocks', async () => {
      await answeredWithoutSource((session) => write(session, 2 * block + sector, 3 * block, 1))
    })

    it('an aligned write with FUA', async () => {
      await answeredWithoutSource((session) => session.write(sector, Buffer.alloc(sector, 1), true))
    })

    it('an aligned write of zeroes', async () => {
      const options = { mayPunch: true, fast: false, fua: false }
      await answeredWithoutSource((session) => session.writeZeroes(sector, 5 * block, options))
    })

    it('a trim, of any alignment', async () => {
      await answeredWithoutSource((session) => session.trim(100, 5 * block, false))
    })

    it('a flush', async () => {
      await answeredWithoutSource((session) => session.flush())
    })

    it('a write while the block is being fetched', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const session = disk.open('guest')
      const reading = read(session, 0, block)
      const fetch = await source.asked(0)
      await write(session, 0, block, 7)
      await fetch.yield({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
      void fetch.finish()
      assert((await reading).equals(Buffer.alloc(block, 7)))
    })
  })

  it('promise 7: sectors that the guest wrote are read back without the source', async () => {
    const { disk, source } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, block + sector, 2 * sector, 9)
    assert((await read(session, block + sector, 2 * sector)).equals(Buffer.alloc(2 * sector, 9)))
    assert.equal(source.fetches.length, 0)
  })

  describe('a write that changes part of a sector', () => {
    it('fetches the blocks at its edges, and keeps their other bytes', async () => {
      const { disk, source } = await openDisk(new ReadySource(() => 5))
      const session = disk.open('guest')
      await write(session, block + 100, 3 * block, 9)
      assert.deepEqual(source.fetches.flat(), [
        { offset: block, length: block },
        { offset: 4 * block, length: block },
      ])
      const expected = Buffer.alloc(4 * block, 5).fill(9, 100, 100 + 3 * block)
      assert((await read(session, block, 4 * block)).equals(expected))
    })

    it('trap 14: keeps what others write to the same block meanwhile, byte by byte', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const sessions = [disk.open('guest'), disk.open('other')]
      const writes = [100, 101, 700, 511].map((at, index) => write(sessions[index % 2]!, block + at, 1, 9))
      const fetch = await source.asked(0)
      await fetch.yield({ offset: block, length: block, bytes: Buffer.alloc(block, 5) })
      void fetch.finish()
      await Promise.all(writes)
      const expected = Buffer.alloc(block, 5)
      for (const at of [100, 101, 511, 700]) expected[at] = 9
      assert((await read(sessions[0]!, block, block)).equals(expected))
      assert.equal(source.fetches.length, 1)
    })

    it('fetches only the edge that is not aligned', async () => {
      const { disk, source } = await openDisk(new ReadySource(() => 5))
      await write(disk.open('guest'), block, block + 100, 9)
      assert.deepEqual(source.fetches.flat(), [{ offset: 2 * block, length: block }])
    })

    it('keeps the sectors of a partial block at its edge', async () => {
      const { disk } = await openDisk(new ReadySource(() => 5))
      const session = disk.open('guest')
      await write(session, block, sector, 8)
      await write(session, block + 700, 10, 9)
      const expected = Buffer.alloc(block, 5).fill(8, 0, sector).fill(9, 700, 710)
      assert((await read(session, block, block)).equals(expected))
    })
  })

  describe('demand', () => {
    it('asks for all missing runs of a request at once, and no more', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, 2 * block, block, 9)
      await write(session, 5 * block, 2 * block, 9)
      void read(session, block + 100, 8 * block).catch(() => {})
      const { runs, urgency } = await source.asked(0)
      assert.equal(urgency, 'demand')
      assert.deepEqual(runs, [
        { offset: block, length: block },
        { offset: 3 * block, length: 2 * block },
        { offset: 7 * block, length: 3 * block },
      ])
    })

    it('asks once for a block that two guests read', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const readers = [read(disk.open('first'), 0, block), read(disk.open('second'), 100, sector)]
      const fetch = await source.asked(0)
      await settled()
      assert.equal(source.fetches.length, 1)
      await fetch.yield({ offset: 0, length: block, bytes: Buffer.alloc(block, 3) })
      void fetch.finish()
      assert((await Promise.all(readers)).every((bytes) => bytes.every((byte) => byte === 3)))
      assert.equal(source.fetches.length, 1)
    })

    it('asks only for what is not on its way already', async () => {
      const { disk, source } = await openDisk(new HandSource())
      void read(disk.open('first'), 2 * block, 2 * block).catch(() => {})
      await source.asked(0)
      void read(disk.open('second'), 0, 6 * block).catch(() => {})
      assert.deepEqual((await source.asked(1)).runs, [
        { offset: 0, length: 2 * block },
        { offset: 4 * block, length: 2 * block },
      ])
    })

    it('asks again after a fetch that failed', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const session = disk.open('guest')
      const first = read(session, 0, block)
      ;(await source.asked(0)).fail(new Error('the peer said no'))
      await assert.rejects(first, { name: 'NbdError', code: 'EIO' })
      const second = read(session, 0, block)
      const fetch = await source.asked(1)
      await fetch.yield({ offset: 0, length: block, bytes: Buffer.alloc(block, 3) })
      void fetch.finish()
      assert((await second).equals(Buffer.alloc(block, 3)))
    })

    it('goes on for the others when the guest that asked is gone', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const goes = disk.open('goes')
      const first = read(goes, 0, block).catch(() => {})
      const fetch = await source.asked(0)
      const second = read(disk.open('stays'), 0, block)
      goes.close('broken')
      await fetch.yield({ offset: 0, length: block, bytes: Buffer.alloc(block, 3) })
      void fetch.finish()
      assert((await second).equals(Buffer.alloc(block, 3)))
      await first
    })

    it('a prefetch makes the range present', async () => {
      const { disk, source } = await openDisk(new ReadySource())
      const session = disk.open('guest')
      await session.cache(block, 2 * block)
      await session.read(block, Buffer.alloc(2 * block))
      assert.equal(source.fetches.length, 1)
    })
  })

  it('reads are right across present, missing, partial and written blocks', async () => {
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    const session = disk.open('guest')
    await session.cache(0, block)
    await write(session, 2 * block, block, 200)
    await write(session, 3 * block + sector, sector, 201)
    await disk.land({ offset: 4 * block, length: block, bytes: undefined })
    const expected = Buffer.from(source.piece(0, 6 * block).bytes!)
    expected.fill(200, 2 * block, 3 * block)
    expected.fill(201, 3 * block + sector, 3 * block + 2 * sector)
    expected.fill(0, 4 * block, 5 * block)
    assert((await read(session, 100, 6 * block - 200)).equals(expected.subarray(100, 6 * block - 100)))
  })

  describe('promise 5:', () => {
    it("a late piece does not land over a guest's write that came before it", async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, block, block, 9)
      await write(session, 2 * block + sector, sector, 8)
      await disk.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
      const expected = Buffer.alloc(4 * block, 1)
        .fill(9, block, 2 * block)
        .fill(8, 2 * block + sector, 2 * block + 2 * sector)
      assert((await read(session, 0, 4 * block)).equals(expected))
    })

    it('a late piece of zeros does not punch a hole into a guest write', async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, block + sector, sector, 8)
      await disk.land({ offset: 0, length: 4 * block, bytes: undefined })
      const expected = Buffer.alloc(4 * block).fill(8, block + sector, block + 2 * sector)
      assert((await read(session, 0, 4 * block)).equals(expected))
    })

    it('a guest write to a block that is landing waits for the landing, and wins', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      files.hold('write')
      const landing = disk.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
      const writing = Promise.resolve(write(session, 0, block, 9))
      await settled()
      files.release('write')
      await Promise.all([landing, writing])
      assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
    })

    it('a piece that comes while a guest write is in flight is left out', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      files.hold('write')
      const writing = Promise.resolve(write(session, 0, block, 9))
      const landing = disk.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
      assert.equal(await isSettled(landing), true)
      assert.equal(await landing, 0)
      files.release('write')
      await writing
      assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
    })

    it('a trim of missing blocks reads as zeros after, whatever comes late', async () => {
      const { disk, source } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await session.trim(block, 2 * block, false)
      await disk.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
      assert((await read(session, block, 2 * block)).equals(Buffer.alloc(2 * block)))
      assert.equal(source.fetches.length, 0)
    })

    it('zeroes over parts of missing blocks stay zeros, whatever comes late', async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await session.writeZeroes(sector, 2 * block, { mayPunch: true, fast: false, fua: false })
      await disk.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
      const expected = Buffer.alloc(4 * block, 1).fill(0, sector, sector + 2 * block)
      assert((await read(session, 0, 4 * block)).equals(expected))
    })
  })

  it('a trim keeps the bytes of the blocks that it covers in part', async () => {
    const { disk } = await openDisk(new ReadySource(() => 5))
    const session = disk.open('guest')
    await session.trim(sector, 2 * block, false)
    const expected = Buffer.alloc(3 * block, 5).fill(0, block, 2 * block)
    assert((await read(session, 0, 3 * block)).equals(expected))
  })

  describe('block status', () => {
    async function status(session: ExportHandle, offset: number, lengthBytes: number) {
      return session.blockStatus('base:allocation', offset, lengthBytes, 100)
    }

    it('trap 13: never calls a missing range a hole', async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      assert.deepEqual(await status(session, 0, 64 * block), [{ lengthBytes: 64 * block, flags: 0 }])
    })

    it('trap 13: never calls the missing sectors of a partial block a hole', async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await session.writeZeroes(block + sector, sector, { mayPunch: true, fast: false, fua: false })
      const extents = await status(session, block, block)
      assert(extents.every(({ flags }) => flags === 0))
    })

    it('trap 13: calls a hole that landed a hole, up to where something is missing', async () => {
      const { disk } = await openDisk(new HandSource())
      await disk.land({ offset: 0, length: 4 * block, bytes: undefined })
      const extents = await status(disk.open('guest'), 0, 64 * block)
      assert.deepEqual(extents, [{ lengthBytes: 4 * block, flags: AllocationFlag.hole | AllocationFlag.zero }])
    })

    it('asks the source for nothing', async () => {
      const { disk, source } = await openDisk(new HandSource())
      await status(disk.open('guest'), 0, 64 * block)
      assert.equal(source.fetches.length, 0)
    })
  })

  describe('promise 6:', () => {
    it('a flush syncs the bytes, then the map that speaks of them, then answers', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, 0, block, 1)
      files.done.length = 0
      files.hold('syncLog')
      const waiting = files.waiting('syncLog')
      const flushing = Promise.resolve(session.flush())
      await waiting
      assert.deepEqual(files.done, ['sync', 'append'])
      assert.equal(await isSettled(flushing), false)
      files.release('syncLog')
      await flushing
      assert.deepEqual(files.done, ['sync', 'append', 'syncLog'])
    })

    it('a flush waits for the sync of the bytes', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, 0, block, 1)
      files.hold('sync')
      const flushing = Promise.resolve(session.flush())
      assert.equal(await isSettled(flushing), false)
      files.release('sync')
      await flushing
    })

    it('a flush that adds no bit is one sync', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, 0, block, 1)
      await session.flush()
      files.done.length = 0
      await write(session, 0, block, 2)
      await session.flush()
      assert.deepEqual(files.done, ['write', 'sync'])
    })

    it('a flush covers what every session had answered, so that CAN_MULTI_CONN is true', async () => {
      const hand = await openDisk(new HandSource())
      await write(hand.disk.open('one'), 0, block, 9)
      await write(hand.disk.open('other'), 2 * block, block, 9)
      await hand.disk.open('third').flush()
      const { disk } = await reopenDisk(hand, secondBoot)
      assert.deepEqual(
        [...Array(4).keys()].map((at) => disk.arrival!.isPresent({ first: at, end: at + 1 })),
        [true, false, true, false],
      )
    })

    it('a write with FUA is answered after its bytes and its bit are durable', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.done.length = 0
      await disk.open('guest').write(0, Buffer.alloc(block, 1), true)
      assert.deepEqual(files.done, ['write', 'append', 'sync', 'append', 'syncLog'])
    })

    it('promise 4: the bit of a write is appended after its bytes are with the kernel', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.hold('write')
      const writing = Promise.resolve(write(disk.open('guest'), 0, block, 1))
      await settled()
      assert.deepEqual(files.done, [])
      files.release('write')
      await writing
      assert.deepEqual(files.done, ['write', 'append'])
    })

    it('promise 4: a bit that is set while a sync runs is not committed by it', async () => {
      const hand = await openDisk(new HandSource())
      const session = hand.disk.open('guest')
      await write(session, 0, block, 1)
      hand.files.hold('sync')
      const flushing = Promise.resolve(session.flush())
      await settled()
      await write(session, block, block, 1) // The sync that began need not cover it.
      hand.files.release('sync')
      await flushing
      const { disk } = await reopenDisk(hand, secondBoot)
      assert.deepEqual(disk.arrival!.firstMissing(0, 100), { first: 1, end: 64 })
    })

    it('an answered write that nobody flushed survives the death of the process', async () => {
      const hand = await openDisk(new HandSource())
      const session = hand.disk.open('guest')
      await write(session, 0, block, 9)
      await write(session, block + sector, sector, 8)
      const { disk } = await reopenDisk(hand)
      await disk.land({ offset: 0, length: 2 * block, bytes: Buffer.alloc(2 * block, 1) })
      const expected = Buffer.alloc(2 * block, 1)
        .fill(9, 0, block)
        .fill(8, block + sector, block + 2 * sector)
      assert((await read(disk.open('guest'), 0, 2 * block)).equals(expected))
    })

    it('a flushed write survives the power, and what was not flushed is fetched again', async () => {
      const hand = await openDisk(new HandSource())
      const session = hand.disk.open('guest')
      await write(session, 0, block, 9)
      await session.flush()
      await write(session, 3 * block, block, 9)
      const { disk } = await reopenDisk(hand, secondBoot)
      assert.equal(disk.arrival!.presentBlocks, 1)
      assert.equal(disk.arrival!.isPresent({ first: 0, end: 1 }), true)
    })

    it('a failed sync is final: later flushes fail, and writes are refused', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await write(session, 0, block, 9)
      files.fail('sync', Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
      await assert.rejects(async () => session.flush(), { code: 'EIO' })
      files.fail('sync', undefined)
      await assert.rejects(async () => session.flush(), { code: 'EIO' })
      await assert.rejects(async () => write(session, 0, block, 1), { code: 'EIO' })
      await assert.rejects(async () => session.trim(0, block, false), { code: 'EIO' })
      assert.match(disk.trouble!, /takes no more writes/)
    })
  })

  it('after a failed sync what is missing is served from the source, and nothing of it is kept on storage that fails', async () => {
    const source = new ReadySource(() => 5)
    const { disk, files } = await openDisk(source)
    const session = disk.open('guest')
    await write(session, 0, block, 9)
    files.fail('sync', Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    await assert.rejects(async () => session.flush(), { code: 'EIO' })
    const writes = files.done.filter((operation) => operation === 'write').length
    for (let time = 0; time < 2; time++) {
      const target = Buffer.alloc(2 * block)
      await session.read(0, target)
      assert.deepEqual(target, Buffer.concat([Buffer.alloc(block, 9), Buffer.alloc(block, 5)]))
    }
    assert.equal(files.done.filter((operation) => operation === 'write').length, writes)
    assert.deepEqual([disk.arrival!.presentBlocks, source.fetches.length], [1, 2])
  })

  it('promise 8: bytes that guests had fetched are made durable every so often, without a flush of theirs', async () => {
    const { disk, files } = await openDisk(new ReadySource(() => 1), { sizeBytes: 72 * 2 ** 20 })
    const session = disk.open('guest')
    for (let at = 0; at < 72; at++) await session.cache(at * 2 ** 20, 2 ** 20)
    for (let turn = 0; turn < 5; turn++) await settled()
    assert(files.done.includes('sync'), 'over 64 MiB would be sent again after a power loss')
  })

  it('promise 8: bytes count as not durable from the moment on at which they begin to land', async () => {
    const { disk, files } = await openDisk(new HandSource())
    files.hold('write')
    const landing = disk.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
    assert.equal(disk.unsavedBytes, 4 * block)
    files.release('write')
    await landing
    assert.equal(disk.unsavedBytes, 4 * block)
    await disk.flush()
    assert.equal(disk.unsavedBytes, 0)
  })

  describe('errors of the file system', () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })

    it('a write without room is NBD_ENOSPC', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', full)
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { name: 'NbdError', code: 'ENOSPC' })
    })

    it('a quota that is used up is NBD_ENOSPC', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', Object.assign(new Error('EDQUOT'), { code: 'EDQUOT' }))
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { code: 'ENOSPC' })
    })

    it('any other failure is NBD_EIO', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', Object.assign(new Error('EROFS'), { code: 'EROFS' }))
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { name: 'NbdError', code: 'EIO' })
    })

    for (const state of ['arriving', 'owned']) {
      it(`zeroes that must be fast, and cannot be, are NBD_ENOTSUP: ${state}`, async function () {
        const folder = temporaryFolderOnTmpfs(this)
        const { disk } = await openDisk(new HandSource(), { state, folder, path: join(folder, 'web01.raw') })
        const session = disk.open('guest')
        await write(session, 0, block, 9)
        const options = { mayPunch: false, fast: true, fua: false }
        await assert.rejects(async () => session.writeZeroes(0, block, options), { code: 'ENOTSUP' })
        assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
        await session.writeZeroes(0, block, { ...options, fast: false })
        assert((await read(session, 0, block)).equals(Buffer.alloc(block)))
      })
    }

    it('a write whose bit finds no room is refused, and is not here', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('append', full)
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { code: 'ENOSPC' })
      assert.equal(disk.arrival!.presentBlocks, 0)
    })

    it('a write that failed holds up nobody', async () => {
      const { disk, files } = await openDisk(new HandSource())
      const session = disk.open('guest')
      files.fail('write', full)
      await assert.rejects(async () => write(session, 0, block, 1))
      files.fail('write', undefined)
      assert.equal(await disk.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) }), block)
      await write(session, 0, block, 9)
      assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
    })

    it('a read needs no room here, and gives back what the guest wrote beside what came', async () => {
      const { disk, files } = await openDisk(new ReadySource(() => 5))
      const session = disk.open('guest')
      await write(session, block + sector, sector, 9)
      files.fail('write', full)
      const expected = Buffer.alloc(3 * block, 5).fill(9, block + sector, block + 2 * sector)
      assert((await read(session, 100, 3 * block - 200)).equals(expected.subarray(100, 3 * block - 100)))
    })

    it('a landing that failed leaves its blocks missing and holds up nobody', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', full)
      await assert.rejects(disk.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) }), { code: 'ENOSPC' })
      files.fail('write', undefined)
      assert.equal(disk.arrival!.missingBlocks, 64)
      await write(disk.open('guest'), 0, block, 9)
    })
  })

  it('a disk whose size is no multiple of a block is read and written up to its last byte', async () => {
    const sizeBytes = 2 * block + 3 * sector
    const { disk, source } = await openDisk(new ReadySource(() => 5), { sizeBytes })
    const session = disk.open('guest')
    await write(session, sizeBytes - sector, sector, 9)
    const expected = Buffer.alloc(sizeBytes, 5).fill(9, sizeBytes - sector)
    assert((await read(session, 0, sizeBytes)).equals(expected))
    assert.deepEqual(source.fetches.flat(), [{ offset: 0, length: sizeBytes }])
    assert.equal(disk.arrival!.missingBlocks, 0)
  })

  it('becomes owned with the bytes that the guest wrote over those that came', async () => {
    const { disk, record } = await openDisk(new ReadySource(() => 5))
    const session = disk.open('guest')
    await write(session, block + sector, sector, 9)
    await session.cache(0, 64 * block)
    await disk.finishArriving([])
    assert.equal(disk.state, 'owned')
    const expected = Buffer.alloc(64 * block, 5).fill(9, block + sector, block + 2 * sector)
    assert(readFileSync(record.path).equals(expected))
  })

  it('agrees with a plain buffer under random requests, late pieces and restarts', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    for (let round = 0; round < 6; round++) {
      const sizeBytes = 12 * block + random.integer(8) * sector
      const source = new ReadySource((number) => 100 + number)
      let hand = await openDisk(source, { sizeBytes })
      let session = hand.disk.open('guest')
      const plain = Buffer.from(source.piece(0, sizeBytes).bytes!)
      for (let step = 0; step < 120; step++) {
        const facts = `seed ${seed} round ${round} step ${step}`
        const unit = random.pick([1, sector, block])
        const offset = random.integer(Math.floor(sizeBytes / unit)) * unit
        const length = Math.min(sizeBytes - offset, (1 + random.integer(9)) * unit)
        const choice = random.integer(8)
        if (choice < 3) {
          await write(session, offset, length, step)
          plain.fill(step, offset, offset + length)
        } else if (choice === 3) {
          await session.writeZeroes(offset, length, { mayPunch: random.chance(0.5), fast: false, fua: false })
          plain.fill(0, offset, offset + length)
        } else if (choice === 4) {
          const first = random.integer(12)
          const end = Math.min(sizeBytes, (first + 1 + random.integer(4)) * block)
          await hand.disk.land(source.piece(first * block, end - first * block))
        } else if (choice === 5 && random.chance(0.3)) {
          hand = await reopenDisk(hand)
          session = hand.disk.open('guest')
        } else {
          const found = await read(session, offset, length)
          assert(found.equals(plain.subarray(offset, offset + length)), facts)
        }
      }
      assert((await read(session, 0, sizeBytes)).equals(plain), `seed ${seed} round ${round}`)
    }
  })
})
