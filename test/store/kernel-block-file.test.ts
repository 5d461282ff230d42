import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import fs, { readFileSync, statSync, truncateSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock } from 'node:test'
import { DirtyRoom } from '../../src/store/dirty-room.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { seededRandom } from '../random.ts'
import { blockFile, bootId, bytesOf, closedLater, closeFilesAfterEach, mebibyte } from './block-files.ts'
import { removeFoldersAfterEach, temporaryFolder, temporaryFolderOnTmpfs } from './folder.ts'

describe('a block file', () => {
  removeFoldersAfterEach()
  closeFilesAfterEach()

  describe('a hole', () => {
    it('is surely one where nothing was written, or what was written was punched', async () => {
      const file = await blockFile(4 * mebibyte)
      assert.equal(file.isHole?.(0, 4 * mebibyte), true)
      await file.write(mebibyte, Buffer.alloc(8192)) // Zeros, and data for the file.
      assert.equal(file.isHole?.(0, mebibyte), true)
      assert.equal(file.isHole?.(mebibyte + 8192, 2 * mebibyte), true)
      for (const [offset, length] of [
        [mebibyte, 4096],
        [mebibyte - 4096, 8192],
        [mebibyte + 4096, 8192],
        [0, 4 * mebibyte],
      ] as const)
        assert.equal(file.isHole?.(offset, length), false, `${offset}+${length}`)
      await file.zero(mebibyte, 4096, false)
      assert.equal(file.isHole?.(0, mebibyte + 4096), true)
      assert.equal(file.isHole?.(mebibyte + 4096, 4096), false)
    })

    it('nobody knows of one while a slow change has the file', async () => {
      const file = await blockFile(4 * mebibyte)
      const change = file.zero(mebibyte, mebibyte, false)
      assert.equal(file.isHole?.(0, 4096), false)
      await change
      assert.equal(file.isHole?.(0, 4096), true)
    })
  })

  describe('write', () => {
    it('is done at once when it is aligned to pages and short', async () => {
      const file = await blockFile(4 * mebibyte)
      assert.equal(file.write(4096, Buffer.alloc(mebibyte, 1)), undefined)
      assert(
        readFileSync(file.path)
          .subarray(4096, 4096 + mebibyte)
          .equals(Buffer.alloc(mebibyte, 1)),
      )
    })

    it('leaves the turn when its offset or its length is no multiple of a page', async () => {
      const file = await blockFile(mebibyte)
      for (const [offset, length] of [
        [512, 4096],
        [4096, 512],
        [3, 5],
      ] as const) {
        const written = file.write(offset, Buffer.alloc(length, 9))
        assert(written instanceof Promise, `${offset}+${length}`)
        await written
        assert((await bytesOf(file, offset, length)).equals(Buffer.alloc(length, 9)), `${offset}+${length}`)
      }
    })

    it('leaves the turn when it is longer than 1 MiB', async () => {
      const file = await blockFile(4 * mebibyte)
      const written = file.write(0, Buffer.alloc(mebibyte + 4096, 3))
      assert(written instanceof Promise)
      await written
      assert((await bytesOf(file, 0, mebibyte + 4096)).equals(Buffer.alloc(mebibyte + 4096, 3)))
    })

    it('leaves the turn while there is no room for dirty pages', async () => {
      let isFull = true
      let now = 0
      const full = { dirtyPages: 200, backgroundThresholdPages: 100, thresholdPages: 200 }
      const room = new DirtyRoom(
        () => (isFull ? full : { ...full, thresholdPages: 2 ** 20 }),
        () => now,
      )
      const path = join(temporaryFolder(), 'disk', 'web01.raw')
      const file = closedLater(await new KernelFiles(bootId, room).createBlockFile(path, mebibyte))
      const source = Buffer.alloc(mebibyte, 1)
      assert(!file.takesAtOnce?.(0, source.length))
      const written = file.write(0, source)
      assert(written instanceof Promise)
      await written
      isFull = false
      now = 1000
      assert(file.takesAtOnce?.(0, source.length))
      assert.equal(file.write(0, source), undefined)
    })

    it('leaves the turn while a zeroing or a slow write has the file, and no page of it is given either', async () => {
      const file = await blockFile(4 * mebibyte)
      const source = Buffer.alloc(4096, 1)
      const pipe = { takeFrom: (_fd: number, _offset: number, lengthBytes: number) => lengthBytes, discard: () => {} }
      const slow = [
        () => file.zero(mebibyte, mebibyte, false),
        () => file.write(2 * mebibyte + 1, source),
        () => file.write(2 * mebibyte, Buffer.alloc(mebibyte + 4096)),
      ]
      for (const change of slow) {
        assert.equal(file.write(0, source), undefined)
        assert(file.readPages?.(0, 4096, pipe))
        const changed = change()
        assert(!file.takesAtOnce?.(0, 4096))
        assert(!file.readPages?.(0, 4096, pipe))
        const written = file.write(0, source)
        assert(written instanceof Promise)
        await changed
        // One that only had to wait holds up none.
        assert(file.takesAtOnce?.(0, 4096))
        await written
      }
      await assert.rejects(async () => file.zero(-1, 4096, false))
      assert(file.takesAtOnce?.(0, 4096))
    })

    it('leaves the turn in the background, and so does a guest’s beside it', async () => {
      const file = await blockFile(4 * mebibyte)
      const first = file.write(0, Buffer.alloc(mebibyte, 1), 'background')
      const second = file.write(mebibyte, Buffer.alloc(4096, 2), 'background')
      assert(first instanceof Promise && second instanceof Promise)
      assert(!file.takesAtOnce?.(2 * mebibyte, 4096))
      const guests = file.write(2 * mebibyte, Buffer.alloc(4096, 3))
      assert(guests instanceof Promise)
      await Promise.all([first, second, guests])
      assert(file.takesAtOnce?.(2 * mebibyte, 4096))
      assert.equal(file.write(2 * mebibyte, Buffer.alloc(4096, 3)), undefined)
      assert.equal((await bytesOf(file, mebibyte - 1, 2)).toString('hex'), '0102')
    })

    it('in the background that fails is told to its caller, and counts no longer', async () => {
      const file = await blockFile(mebibyte)
      await assert.rejects(async () => file.write(2 ** 52, Buffer.alloc(4096, 1), 'background'))
      assert(file.takesAtOnce?.(0, 4096))
    })

    it('agrees with a plain buffer under random writes, zeroes and reads', async () => {
      const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
      const random = seededRandom(seed)
      const sizeBytes = 3 * mebibyte + 512
      const file = await blockFile(sizeBytes)
      const plain = Buffer.alloc(sizeBytes)
      for (let step = 0; step < 200; step++) {
        const unit = random.pick([1, 512, 4096])
        const offset = random.integer(sizeBytes / unit) * unit
        const length = Math.min(sizeBytes - offset, (1 + random.integer(random.pick([3, 40]))) * unit)
        if (random.chance(0.5)) {
          const source = Buffer.alloc(length, 1 + random.integer(255))
          await file.write(offset, source)
          source.copy(plain, offset)
        } else if (random.chance(0.4)) {
          await file.zero(offset, length, random.chance(0.5))
          plain.fill(0, offset, offset + length)
        } else {
          const found = await bytesOf(file, offset, length)
          assert(found.equals(plain.subarray(offset, offset + length)), `seed ${seed} step ${step}`)
        }
      }
      assert(readFileSync(file.path).equals(plain), `seed ${seed}`)
    })
  })

  describe('read', () => {
    it('is done at once when the bytes are in the page cache', async () => {
      const file = await blockFile(mebibyte)
      await file.write(0, Buffer.alloc(8192, 5))
      const target = Buffer.alloc(100)
      assert.equal(file.read(3000, target), undefined)
      assert(target.equals(Buffer.alloc(100, 5)))
    })

    it('of a hole is zeros', async () => {
      const file = await blockFile(mebibyte)
      assert((await bytesOf(file, 5000, 10_000)).equals(Buffer.alloc(10_000)))
    })

    it('of a file that was made shorter says so, and does not answer zeros', async () => {
      const file = await blockFile(mebibyte)
      await file.write(0, Buffer.alloc(mebibyte, 1))
      truncateSync(file.path, 10_000)
      await assert.rejects(async () => file.read(8192, Buffer.alloc(4096)), { name: 'StoreError', code: 'short-file' })
    })

    it('far away, of a file that was made shorter, is seen by a sync that waits for the other machine off the loop', async () => {
      const nfs = { ...fs.statfsSync('/'), type: 0x6969 }
      const asked = mock.method(fs, 'statfsSync', () => nfs)
      syncBuiltinESMExports()
      const file = await blockFile(mebibyte).finally(() => {
        asked.mock.restore()
        syncBuiltinESMExports()
      })
      await file.write(0, Buffer.alloc(4096, 1))
      const waits = mock.method(fs, 'fstatSync')
      syncBuiltinESMExports()
      try {
        await file.sync()
        truncateSync(file.path, 10_000)
        await assert.rejects(file.sync(), { name: 'StoreError', code: 'short-file' })
        assert.equal(waits.mock.callCount(), 0)
      } finally {
        waits.mock.restore()
        syncBuiltinESMExports()
      }
    })

    it('promise 4: of a file that was made shorter is refused from then on: no write makes zeros of what is lost', async () => {
      const file = await blockFile(mebibyte)
      await file.write(0, Buffer.alloc(mebibyte, 1))
      truncateSync(file.path, 10_000)
      const short = { name: 'StoreError', code: 'short-file' }
      await assert.rejects(file.sync(), short, 'a sync sees it first')
      assert.match(file.trouble!, /was made shorter while it was in use: it ends at 10000, not at 1048576/)
      await assert.rejects(async () => file.write(mebibyte - 4096, Buffer.alloc(4096, 2)), short)
      await assert.rejects(file.zero(mebibyte - 4096, 4096, true), short)
      await assert.rejects(async () => file.read(0, Buffer.alloc(4096)), short)
      assert.throws(() => file.extents(0, mebibyte, 1), short)
      assert.equal(statSync(file.path).size, 10_000)
    })
  })

  describe('on a file system without zero range and reads that do not wait', () => {
    async function onTmpfs(context: Mocha.Context): Promise<BlockFile> {
      return blockFile(4 * mebibyte, temporaryFolderOnTmpfs(context))
    }

    it('bytes are read', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(8192, 5))
      assert((await bytesOf(file, 1000, 5000)).equals(Buffer.alloc(5000, 5)))
    })

    it('zeroes are written out, and no byte beside them', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(4 * mebibyte, 5))
      await file.zero(4096, 2 * mebibyte + 512, true)
      const expected = Buffer.alloc(4 * mebibyte, 5).fill(0, 4096, 4096 + 2 * mebibyte + 512)
      assert(readFileSync(file.path).equals(expected))
    })

    it('zeroes that must be fast are refused, and change nothing', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(mebibyte, 5))
      await assert.rejects(file.zero(0, mebibyte, true, true), { code: 'ENOTSUP' })
      assert((await bytesOf(file, 0, mebibyte)).equals(Buffer.alloc(mebibyte, 5)))
      await file.zero(0, mebibyte, false, true)
      assert((await bytesOf(file, 0, mebibyte)).equals(Buffer.alloc(mebibyte)))
    })

    it('holes are punched', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(mebibyte, 5))
      await file.zero(0, mebibyte, false)
      assert.equal(statSync(file.path).blocks, 0)
    })
  })

  describe('zero', () => {
    it('punches a hole', async () => {
      const file = await blockFile(mebibyte)
      await file.write(0, Buffer.alloc(mebibyte, 1))
      await file.zero(65536, 131072, false)
      assert.equal(statSync(file.path).blocks * 512, mebibyte - 131072)
      assert.equal(file.allocatedBytes(), mebibyte - 131072)
    })

    it('keeps the range allocated when it is to be', async () => {
      const file = await blockFile(mebibyte)
      await file.write(0, Buffer.alloc(mebibyte, 1))
      await file.zero(65536, 131072, true)
      assert.equal(statSync(file.path).blocks * 512, mebibyte)
      assert((await bytesOf(file, 65536, 131072)).equals(Buffer.alloc(131072)))
    })

    it('allocates a range that was a hole when it is to be allocated', async () => {
      const file = await blockFile(mebibyte)
      await file.zero(0, 131072, true)
      assert.equal(statSync(file.path).blocks * 512, 131072)
    })

    it('zeroes ends that are no multiples of a page, and no byte beside them', async () => {
      const file = await blockFile(65536)
      for (const allocated of [true, false]) {
        await file.write(0, Buffer.alloc(65536, 1))
        await file.zero(1001, 20_002, allocated)
        assert((await bytesOf(file, 0, 65536)).equals(Buffer.alloc(65536, 1).fill(0, 1001, 21_003)), `${allocated}`)
      }
    })
  })

  describe('extents', () => {
    it('tell data and holes in order, and cover the range', async () => {
      const file = await blockFile(mebibyte)
      await file.write(65536, Buffer.alloc(65536, 1))
      assert.deepEqual(file.extents(0, mebibyte, 10), [
        { offset: 0, length: 65536, data: false },
        { offset: 65536, length: 65536, data: true },
        { offset: 131072, length: mebibyte - 131072, data: false },
      ])
    })

    it('are cut to the range that was asked for', async () => {
      const file = await blockFile(mebibyte)
      await file.write(65536, Buffer.alloc(65536, 1))
      assert.deepEqual(file.extents(70_000, 1000, 10), [{ offset: 70_000, length: 1000, data: true }])
      assert.deepEqual(file.extents(100, 5, 10), [{ offset: 100, length: 5, data: false }])
    })

    it('are at most as many as asked for', async () => {
      const file = await blockFile(mebibyte)
      for (let at = 0; at < mebibyte; at += 131072) await file.write(at, Buffer.alloc(65536, 1))
      assert.equal(file.extents(0, mebibyte, 3).length, 3)
      assert.equal(file.extents(0, mebibyte, 100).length, 16)
    })

    it('call what was punched a hole', async () => {
      const file = await blockFile(mebibyte)
      await file.write(0, Buffer.alloc(mebibyte, 1))
      await file.zero(0, mebibyte, false)
      assert.deepEqual(file.extents(0, mebibyte, 10), [{ offset: 0, length: mebibyte, data: false }])
    })
  })
})
