// How a block file fills the page cache: on ext4, where the length of a folio decides how slow small writes to it are, and
// elsewhere, where nothing is gained by it.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { BlockFile } from '../../src/store/files.ts'
import { readNothingAhead, willNeed } from '../../src/system/linux.ts'
import { PageCacheView } from '../../src/system/page-cache.ts'
import { until } from '../e2e/sites.ts'
import { skipHere } from '../tools.ts'
import { blockFile, bytesOf, closeFilesAfterEach, mebibyte, reopened } from './block-files.ts'
import { removeFoldersAfterEach, temporaryFolderOnTmpfs } from './folder.ts'

const ext4Magic = 0xef53
const pieceBytes = 128 * 1024
/** More than the longest read-ahead, and what comes before it. */
const sizeBytes = 8 * mebibyte

describe('the page cache of a block file', () => {
  removeFoldersAfterEach()
  closeFilesAfterEach()

  describe('on ext4', () => {
    let views: PageCacheView[] = []

    before(function () {
      if (statfsSync(tmpdir()).type !== ext4Magic) skipHere(this, `${tmpdir()} is not on ext4`)
    })
    afterEach(() => {
      for (const view of views.splice(0)) view.close()
    })

    /** Numbered pages, durable, and none of them in the page cache. */
    async function coldFile(readOnly = false): Promise<{ file: BlockFile; cached: PageCacheView }> {
      const made = await blockFile(sizeBytes)
      for (let at = 0; at < sizeBytes; at += mebibyte) await made.write(at, numbered(at, mebibyte))
      await made.close()
      execFileSync('dd', [`of=${made.path}`, 'conv=notrunc,fdatasync', 'oflag=nocache', 'count=0', 'status=none'])
      const file = await reopened(made.path, readOnly)
      const fd = openSync(made.path, constants.O_RDWR)
      views = [...views, new PageCacheView(fd, sizeBytes)]
      closeSync(fd) // A mapping holds the file.
      const cached = views.at(-1)!
      assert(!cached.has(0, 4096))
      return { file, cached }
    }

    it('a long write of what is not cached is done in calls of 64 KiB, which make no longer folio', async () => {
      const file = await blockFile(4 * mebibyte)
      assert.equal(
        writeCalls(() => file.write(0, numbered(0, mebibyte))),
        16,
      )
      assert((await bytesOf(file, 0, mebibyte)).equals(numbered(0, mebibyte)))
    })

    it('one of what is cached is one call, for its folios stay as they are', async () => {
      const file = await blockFile(4 * mebibyte)
      await file.write(0, numbered(0, mebibyte))
      assert.equal(
        writeCalls(() => file.write(0, numbered(mebibyte, mebibyte))),
        1,
      )
      assert((await bytesOf(file, 0, mebibyte)).equals(numbered(mebibyte, mebibyte)))
    })

    it('a write in the thread pool is cut too, and every byte of it comes', async () => {
      const file = await blockFile(4 * mebibyte)
      const source = numbered(0, 2 * mebibyte)
      await file.write(4096 + 512, source)
      assert((await bytesOf(file, 4096 + 512, source.length)).equals(source))
    })

    it('a read of some place brings in what was asked for and nothing behind it', async () => {
      const { file, cached } = await coldFile()
      assert((await bytesOf(file, 0, pieceBytes)).equals(numbered(0, pieceBytes)))
      assert((await bytesOf(file, 4 * mebibyte, pieceBytes)).equals(numbered(4 * mebibyte, pieceBytes)))
      assert(cached.has(0, pieceBytes) && cached.has(4 * mebibyte, pieceBytes))
      for (const at of [pieceBytes, 4 * mebibyte + pieceBytes]) {
        for (let page = at; page < at + mebibyte; page += 4096) assert(!cached.has(page, 4096), `${page}`)
      }
    })

    it('reads in order have what follows brought in before it is asked for', async () => {
      const { file, cached } = await coldFile()
      await bytesOf(file, 0, pieceBytes)
      await bytesOf(file, pieceBytes, pieceBytes)
      await until('as much as was read is cached behind it', () => cached.has(2 * pieceBytes, pieceBytes) || undefined)
      assert(!cached.has(3 * pieceBytes, 4096))
      assert((await bytesOf(file, 0, sizeBytes)).equals(numbered(0, sizeBytes)))
    })

    it('it comes whole, however little of it the kernel takes at once', async () => {
      const { file, cached } = await coldFile()
      await bytesOf(file, 0, 2 * mebibyte)
      await bytesOf(file, 2 * mebibyte, 4096)
      await until('2 MiB are cached behind it', () => cached.has(2 * mebibyte, 2 * mebibyte) || undefined)
    })

    it('a file is closed when its read-ahead is over, and has none after that', async () => {
      const { file } = await coldFile()
      await bytesOf(file, 0, pieceBytes)
      const reading = bytesOf(file, pieceBytes, pieceBytes)
      await file.close()
      assert((await reading).equals(numbered(pieceBytes, pieceBytes)))
      await assert.rejects(async () => file.read(2 * pieceBytes, Buffer.alloc(pieceBytes)))
    })

    it('of a file that is only read, the kernel decides: nobody writes to it', async () => {
      const { file, cached } = await coldFile(true)
      await bytesOf(file, 0, pieceBytes)
      await until('the kernel reads ahead', () => cached.has(pieceBytes, 4096) || undefined)
    })
  })

  it('elsewhere a long write is one call', async function () {
    const file = await blockFile(4 * mebibyte, temporaryFolderOnTmpfs(this))
    assert.equal(
      writeCalls(() => file.write(0, numbered(0, mebibyte))),
      1,
    )
  })

  it('advice that a descriptor does not take is no error', async () => {
    readNothingAhead(-1)
    await willNeed(-1, 0, 4096)
  })
})

function numbered(offset: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes, 1)
  for (let at = 0; at < lengthBytes; at += 512) bytes.writeUInt32BE((offset + at) / 512, at)
  return bytes
}

/** How many calls that write this process made in a step. Other threads have nothing to write in it. */
function writeCalls(step: () => void | Promise<void>): number {
  const count = () => Number(/^syscw: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))![1])
  const before = count()
  const written = step()
  const calls = count() - before
  assert.equal(written, undefined, 'it was done at once')
  return calls
}
