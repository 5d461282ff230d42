import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Disk } from '../../src/disk/disk.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import type { ExportHandle, MaybePromise } from '../../src/guest/export.ts'
import { seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolderOnTmpfs } from '../store/folder.ts'
import { block, closeDisksAfterEach, HandSource, openDisk, ReadySource, read, reopenDisk, write } from './hand.ts'

const sector = 512

describe('guest I/O on an arriving disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

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

  it('reads are right across present, missing, partial and written blocks', async () => {
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    const session = disk.open('guest')
    await session.cache(0, block)
    await write(session, 2 * block, block, 200)
    await write(session, 3 * block + sector, sector, 201)
    await disk.arriving.land({ offset: 4 * block, length: block, bytes: undefined })
    const expected = Buffer.from(source.piece(0, 6 * block).bytes!)
    expected.fill(200, 2 * block, 3 * block)
    expected.fill(201, 3 * block + sector, 3 * block + 2 * sector)
    expected.fill(0, 4 * block, 5 * block)
    assert((await read(session, 100, 6 * block - 200)).equals(expected.subarray(100, 6 * block - 100)))
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
      return session.blockStatus('allocation', offset, lengthBytes, 100)
    }

    it('trap 13: never calls a missing range a hole', async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      assert.deepEqual(await status(session, 0, 64 * block), [{ lengthBytes: 64 * block, status: 'data' }])
    })

    it('trap 13: never calls the missing sectors of a partial block a hole', async () => {
      const { disk } = await openDisk(new HandSource())
      const session = disk.open('guest')
      await session.writeZeroes(block + sector, sector, { mayPunch: true, fast: false, fua: false })
      const extents = await status(session, block, block)
      assert(extents.every(({ status }) => status === 'data'))
    })

    it('trap 13: calls a hole that landed a hole, up to where something is missing', async () => {
      const { disk } = await openDisk(new HandSource())
      await disk.arriving.land({ offset: 0, length: 4 * block, bytes: undefined })
      const extents = await status(disk.open('guest'), 0, 64 * block)
      assert.deepEqual(extents, [{ lengthBytes: 4 * block, status: 'hole' }])
    })

    it('asks the source for nothing', async () => {
      const { disk, source } = await openDisk(new HandSource())
      await status(disk.open('guest'), 0, 64 * block)
      assert.equal(source.fetches.length, 0)
    })
  })

  it('after a failed sync what is missing is served from the source, and nothing of it is kept on storage that fails', async () => {
    const source = new ReadySource(() => 5)
    const { disk, files } = await openDisk(source)
    const session = disk.open('guest')
    await write(session, 0, block, 9)
    files.fail('sync', Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    await assert.rejects(async () => session.flush(), { code: 'io' })
    const writes = files.done.filter((operation) => operation === 'write').length
    for (let time = 0; time < 2; time++) {
      const target = Buffer.alloc(2 * block)
      await session.read(0, target)
      assert.deepEqual(target, Buffer.concat([Buffer.alloc(block, 9), Buffer.alloc(block, 5)]))
    }
    assert.equal(files.done.filter((operation) => operation === 'write').length, writes)
    assert.deepEqual([disk.present.blocks, source.fetches.length], [1, 2])
  })

  describe('errors of the file system', () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })

    it('a write without room is NBD_ENOSPC', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', full)
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { name: 'GuestError', code: 'no-space' })
    })

    it('a quota that is used up is NBD_ENOSPC', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', Object.assign(new Error('EDQUOT'), { code: 'EDQUOT' }))
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { code: 'no-space' })
    })

    it('any other failure is NBD_EIO', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('write', Object.assign(new Error('EROFS'), { code: 'EROFS' }))
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { name: 'GuestError', code: 'io' })
    })

    for (const state of ['arriving', 'owned']) {
      it(`zeroes that must be fast, and cannot be, are NBD_ENOTSUP: ${state}`, async function () {
        const folder = temporaryFolderOnTmpfs(this)
        const { disk } = await openDisk(new HandSource(), { state, folder, path: join(folder, 'web01.raw') })
        const session = disk.open('guest')
        await write(session, 0, block, 9)
        const options = { mayPunch: false, fast: true, fua: false }
        await assert.rejects(async () => session.writeZeroes(0, block, options), { code: 'unsupported' })
        assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
        await session.writeZeroes(0, block, { ...options, fast: false })
        assert((await read(session, 0, block)).equals(Buffer.alloc(block)))
      })
    }

    it('a write whose bit finds no room is refused, and is not here', async () => {
      const { disk, files } = await openDisk(new HandSource())
      files.fail('append', full)
      await assert.rejects(async () => write(disk.open('guest'), 0, block, 1), { code: 'no-space' })
      assert.equal(disk.present.blocks, 0)
    })

    it('a write that failed holds up nobody', async () => {
      const { disk, files, landed } = await openDisk(new HandSource())
      const session = disk.open('guest')
      files.fail('write', full)
      await assert.rejects(async () => write(session, 0, block, 1))
      files.fail('write', undefined)
      await disk.arriving.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
      assert.equal(landed[0]?.bytes, block)
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
  })

  it('a disk whose size is no multiple of a block is read and written up to its last byte', async () => {
    const sizeBytes = 2 * block + 3 * sector
    const { disk, source } = await openDisk(new ReadySource(() => 5), { sizeBytes })
    const session = disk.open('guest')
    await write(session, sizeBytes - sector, sector, 9)
    const expected = Buffer.alloc(sizeBytes, 5).fill(9, sizeBytes - sector)
    assert((await read(session, 0, sizeBytes)).equals(expected))
    assert.deepEqual(source.fetches.flat(), [{ offset: 0, length: sizeBytes }])
    assert.equal(disk.arriving.missingBlocks, 0)
  })

  it('becomes owned with the bytes that the guest wrote over those that came', async () => {
    const { disk, record } = await openDisk(new ReadySource(() => 5))
    const session = disk.open('guest')
    await write(session, block + sector, sector, 9)
    await session.cache(0, 64 * block)
    await commitTogether([await disk.arriving.finish()])
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
          await hand.disk.arriving.land(source.piece(first * block, end - first * block))
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
