import assert from 'node:assert/strict'
import { closeSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import {
  isRangeLocked,
  lockRange,
  punchHole,
  readNoWait,
  seekData,
  seekHole,
  zeroRange,
} from '../../src/system/linux.ts'
import { removeFoldersAfterEach, temporaryFolder, temporaryFolderOnTmpfs } from '../store/folder.ts'

const mebibyte = 2 ** 20

describe('Linux calls', () => {
  removeFoldersAfterEach()
  const fds: number[] = []
  afterEach(() => {
    for (const fd of fds.splice(0)) closeSync(fd)
  })

  function open(path: string, flags = 'r+'): number {
    const fd = openSync(path, flags)
    fds.push(fd)
    return fd
  }

  /** A file of 1 MiB of the byte 7. */
  function fullFile(folder = temporaryFolder()): { path: string; fd: number } {
    const path = join(folder, 'full')
    const fd = open(path, 'w+')
    writeSync(fd, Buffer.alloc(mebibyte, 7))
    return { path, fd }
  }

  describe('punchHole', () => {
    it('makes the range read as zeros and touches nothing beside it', async () => {
      const { path, fd } = fullFile()
      await punchHole(fd, 65536, 65536)
      const expected = Buffer.alloc(mebibyte, 7).fill(0, 65536, 131072)
      assert(readFileSync(path).equals(expected))
    })

    it('gives the blocks back and keeps the size', async () => {
      const { fd } = fullFile()
      const before = fstatSync(fd)
      await punchHole(fd, 0, mebibyte / 2)
      const after = fstatSync(fd)
      assert.equal(after.size, before.size)
      assert.equal((before.blocks - after.blocks) * 512, mebibyte / 2)
    })

    it('past the end leaves the size as it was', async () => {
      const { fd } = fullFile()
      await punchHole(fd, mebibyte, mebibyte)
      assert.equal(fstatSync(fd).size, mebibyte)
    })

    it('rejects with code, errno and call on a descriptor for reading', async () => {
      const { path } = fullFile()
      await assert.rejects(punchHole(open(path, 'r'), 0, 4096), { code: 'EBADF', syscall: 'fallocate' })
    })
  })

  describe('zeroRange', () => {
    it('makes the range read as zeros and keeps it allocated', async () => {
      const { path, fd } = fullFile()
      const before = fstatSync(fd).blocks
      await zeroRange(fd, 4096, 8192)
      assert(readFileSync(path).equals(Buffer.alloc(mebibyte, 7).fill(0, 4096, 12288)))
      assert.equal(fstatSync(fd).blocks, before)
    })

    it('rejects with a code that says that the file system cannot', async function () {
      const { fd } = fullFile(temporaryFolderOnTmpfs(this))
      await assert.rejects(zeroRange(fd, 0, 4096), { code: /^(ENOTSUP|EOPNOTSUPP)$/, syscall: 'fallocate' })
    })
  })

  describe('seekData and seekHole', () => {
    it('find the ends of a hole in the middle', async () => {
      const { fd } = fullFile()
      await punchHole(fd, 65536, 65536)
      assert.equal(seekHole(fd, 0), 65536)
      assert.equal(seekData(fd, 65536), 131072)
    })

    it('answer with the offset itself where it lies in what is sought', async () => {
      const { fd } = fullFile()
      await punchHole(fd, 65536, 65536)
      assert.equal(seekData(fd, 1000), 1000)
      assert.equal(seekHole(fd, 70000), 70000)
    })

    it('count the end of the file as a hole', () => {
      assert.equal(seekHole(fullFile().fd, 0), mebibyte)
    })

    it('know of no data when only hole follows', async () => {
      const { fd } = fullFile()
      await punchHole(fd, 65536, mebibyte - 65536)
      assert.equal(seekData(fd, 65536), undefined)
    })

    it('know of nothing past the end', () => {
      const { fd } = fullFile()
      assert.equal(seekData(fd, mebibyte), undefined)
      assert.equal(seekHole(fd, mebibyte), undefined)
    })

    it('throw with code and call for a descriptor that is not open', () => {
      assert.throws(() => seekData(999_999, 0), { code: 'EBADF', syscall: 'lseek' })
      assert.throws(() => seekHole(999_999, 0), { code: 'EBADF', syscall: 'lseek' })
    })

    it('reach beyond 4 GiB', async () => {
      const fd = open(join(temporaryFolder(), 'sparse'), 'w+')
      const far = 5 * 2 ** 30
      writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, far)
      assert.equal(seekData(fd, 0), far)
      assert.equal(seekHole(fd, far), far + 4096)
    })
  })

  describe('readNoWait', () => {
    it('fills the target with what the page cache has', () => {
      const target = Buffer.alloc(4096)
      assert.equal(readNoWait(fullFile().fd, target, 8192), 4096)
      assert(target.equals(Buffer.alloc(4096, 7)))
    })

    it('fills only the view that it was given', () => {
      const whole = Buffer.alloc(3000)
      assert.equal(readNoWait(fullFile().fd, whole.subarray(1000, 2000), 0), 1000)
      assert(whole.equals(Buffer.alloc(3000).fill(7, 1000, 2000)))
    })

    it('answers with fewer bytes at the end of the file, and with none past it', () => {
      const { fd } = fullFile()
      assert.equal(readNoWait(fd, Buffer.alloc(4096), mebibyte - 100), 100)
      assert.equal(readNoWait(fd, Buffer.alloc(4096), mebibyte), 0)
    })

    it('answers -2 on a tmpfs, which cannot tell', function () {
      const { fd } = fullFile(temporaryFolderOnTmpfs(this))
      assert.equal(readNoWait(fd, Buffer.alloc(4096), 0), -2)
    })

    it('throws with code and call for a descriptor that is not open', () => {
      assert.throws(() => readNoWait(999_999, Buffer.alloc(1), 0), { code: 'EBADF', syscall: 'preadv2' })
    })
  })

  describe('lockRange', () => {
    it('keeps a second descriptor of the same process out', () => {
      const { path, fd } = fullFile()
      assert.equal(lockRange(fd, 100, 1, 'exclusive'), true)
      assert.equal(lockRange(open(path), 100, 1, 'exclusive'), false)
    })

    it('lets shared locks stand beside each other, and no exclusive one', () => {
      const { path, fd } = fullFile()
      const second = open(path)
      assert.equal(lockRange(fd, 100, 1, 'shared'), true)
      assert.equal(lockRange(second, 100, 1, 'shared'), true)
      assert.equal(lockRange(second, 100, 1, 'exclusive'), false)
    })

    it('is of its own bytes only', () => {
      const { path, fd } = fullFile()
      lockRange(fd, 100, 1, 'exclusive')
      const second = open(path)
      assert.equal(lockRange(second, 99, 1, 'exclusive'), true)
      assert.equal(lockRange(second, 101, 1, 'exclusive'), true)
      assert.equal(lockRange(second, 99, 3, 'exclusive'), false)
    })

    it('is given back when its descriptor closes', () => {
      const { path } = fullFile()
      const holder = openSync(path, 'r+')
      lockRange(holder, 100, 1, 'exclusive')
      closeSync(holder)
      assert.equal(lockRange(open(path), 100, 1, 'exclusive'), true)
    })

    it('outlives the closing of another descriptor of the same file', () => {
      const { path, fd } = fullFile()
      lockRange(fd, 100, 1, 'exclusive')
      closeSync(openSync(path, 'r+')) // A POSIX lock would go here.
      assert.equal(isRangeLocked(open(path), 100, 1), true)
    })

    it('throws with code and call when it is no conflict that is in the way', () => {
      const { path } = fullFile()
      assert.throws(() => lockRange(open(path, 'r'), 0, 1, 'exclusive'), { code: 'EBADF', syscall: 'fcntl' })
    })
  })

  describe('isRangeLocked', () => {
    it('sees the shared and the exclusive locks of others', () => {
      const { path, fd } = fullFile()
      const other = open(path)
      lockRange(fd, 100, 1, 'shared')
      lockRange(fd, 200, 1, 'exclusive')
      assert.deepEqual(
        [99, 100, 101, 200].map((at) => isRangeLocked(other, at, 1)),
        [false, true, false, true],
      )
    })

    it("does not count the descriptor's own locks", () => {
      const { fd } = fullFile()
      lockRange(fd, 100, 1, 'exclusive')
      assert.equal(isRangeLocked(fd, 100, 1), false)
    })

    it('takes nothing', () => {
      const { path, fd } = fullFile()
      isRangeLocked(fd, 100, 1)
      assert.equal(lockRange(open(path), 100, 1, 'exclusive'), true)
    })
  })
})
