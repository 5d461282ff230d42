import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PageCacheView } from '../../src/system/page-cache.ts'
import { PagePipe } from '../../src/system/page-pipe.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'

const mebibyte = 2 ** 20
const pageBytes = 4096

/** Numbered words, so that no two places of it are alike. */
function numbered(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  for (let at = 0; at + 4 <= lengthBytes; at += 4) bytes.writeUInt32BE(at, at)
  return bytes
}

/** Has the kernel drop the file's pages, once they are written out. */
function dropPages(path: string): void {
  execFileSync('dd', [`of=${path}`, 'conv=notrunc,fdatasync', 'oflag=nocache', 'count=0', 'status=none'])
}

describe('pages of files', () => {
  removeFoldersAfterEach()
  let path: string
  let fd: number
  const bytes = numbered(3 * mebibyte)

  beforeEach(() => {
    path = join(temporaryFolder(), 'file')
    writeFileSync(path, bytes)
    fd = openSync(path, constants.O_RDWR)
  })
  afterEach(() => closeSync(fd))

  describe('PageCacheView', () => {
    it('has what was just written, at any offset and length', () => {
      const view = new PageCacheView(fd, bytes.length)
      assert(view.has(0, bytes.length))
      assert(view.has(5, 1))
      assert(view.has(pageBytes - 1, mebibyte))
      view.close()
    })

    it('has not what the page cache dropped, and has one page that was read again', () => {
      const view = new PageCacheView(fd, bytes.length)
      dropPages(path)
      assert(!view.has(0, bytes.length))
      assert(!view.has(mebibyte, 1))
      execFileSync('dd', [`if=${path}`, 'of=/dev/null', 'bs=4k', 'count=1', 'status=none'])
      assert(view.has(0, pageBytes))
      assert(!view.has(0, bytes.length))
      view.close()
    })

    it('has nothing past the end, nor of a range that is too long to ask about, nor once it is closed', () => {
      const view = new PageCacheView(fd, bytes.length)
      assert(!view.has(bytes.length - 1, 2))
      assert(!view.has(0, 2 ** 40))
      view.close()
      assert(!view.has(0, 1))
      view.close()
    })

    it('throws with code and call for a descriptor that is not open', () => {
      assert.throws(() => new PageCacheView(-1, 1), { code: 'EBADF', syscall: 'mmap' })
    })
  })

  describe('PagePipe', () => {
    let pipe: PagePipe
    beforeEach(() => {
      pipe = new PagePipe()
    })
    afterEach(() => pipe.close())

    it('takes as many bytes as it says, from any offset, and gives the same bytes', () => {
      for (const offset of [0, 1, pageBytes - 1, pageBytes, mebibyte + 17]) {
        const roomBytes = pipe.roomBytes(offset)
        assert(roomBytes >= 15 * pageBytes)
        assert.equal(pipe.takeFrom(fd, offset, roomBytes), roomBytes)
        const copy = Buffer.alloc(2 * mebibyte)
        assert.equal(pipe.drainTo(copy), roomBytes)
        assert(copy.subarray(0, roomBytes).equals(bytes.subarray(offset, offset + roomBytes)), `at ${offset}`)
        assert.equal(pipe.heldBytes, 0)
      }
    })

    it('that is small says so, and takes no more', () => {
      const small = new PagePipe(2 * pageBytes)
      assert.equal(small.roomBytes(0), 2 * pageBytes)
      assert.equal(small.roomBytes(1), 2 * pageBytes - 1)
      assert.equal(small.takeFrom(fd, 1, mebibyte), 2 * pageBytes - 1)
      small.discard()
      small.close()
    })

    it('gives part after part', () => {
      pipe.takeFrom(fd, 100, 10_000)
      const parts = [1, 4095, 5000, 10_000].map((lengthBytes) => {
        const part = Buffer.alloc(lengthBytes)
        return part.subarray(0, pipe.drainTo(part))
      })
      assert(Buffer.concat(parts).equals(bytes.subarray(100, 10_100)))
      assert.equal(pipe.drainTo(Buffer.alloc(1)), 0)
    })

    it('takes what there is where the file ends, and nothing of what is no file', () => {
      assert.equal(pipe.takeFrom(fd, bytes.length - 10, pageBytes), 10)
      pipe.discard()
      assert.equal(pipe.heldBytes, 0)
      assert.equal(pipe.takeFrom(-1, 0, pageBytes), 0)
    })

    it('says that a connection has failed, and can be used again after', () => {
      pipe.takeFrom(fd, 0, pageBytes)
      assert.equal(pipe.sendTo(fd), true) // A file takes all, as a socket may.
      assert.equal(pipe.heldBytes, 0)
      pipe.takeFrom(fd, 0, pageBytes)
      assert.equal(pipe.sendTo(-1), false)
      assert.equal(pipe.heldBytes, pageBytes)
      pipe.discard()
      assert.equal(pipe.takeFrom(fd, 0, pageBytes), pageBytes)
    })
  })
})
