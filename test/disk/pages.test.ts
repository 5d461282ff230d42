// Reads by reference give what read() would give at once, and nothing in any other case.

import assert from 'node:assert/strict'
import type { ExportHandle } from '../../src/guest/export.ts'
import { PagePipe } from '../../src/system/page-pipe.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { block, closeDisksAfterEach, HandSource, isSettled, openDisk, read, write } from './hand.ts'

describe('pages of a disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()
  let pipe: PagePipe
  beforeEach(() => {
    pipe = new PagePipe()
  })
  afterEach(() => pipe.close())

  /** What the pipe was given; nothing: the handle gave no pages, and put none into the pipe. */
  function pagesOf(session: ExportHandle, offset: number, lengthBytes: number): Buffer | undefined {
    const isGiven = session.readPages!(offset, lengthBytes, pipe)
    assert.equal(pipe.heldBytes, isGiven ? lengthBytes : 0)
    if (!isGiven) return undefined
    const bytes = Buffer.alloc(lengthBytes)
    pipe.drainTo(bytes)
    return bytes
  }

  it('of an owned disk are its bytes', async () => {
    const { disk } = await openDisk(new HandSource(), { state: 'owned' })
    const session = disk.open('guest')
    await write(session, block, 20 * block, 7)
    assert(pagesOf(session, block, 20 * block)?.equals(Buffer.alloc(20 * block, 7)))
    assert(pagesOf(session, 2 * block + 5, 1000)?.equals(Buffer.alloc(1000, 7)))
  })

  it('promise 3: of an arriving disk are given only where all of them are here', async () => {
    const { disk } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, block, 20 * block, 7)
    assert(pagesOf(session, block, 20 * block)?.equals(Buffer.alloc(20 * block, 7)))
    // The file has a page for the missing block too, once somebody looked at it: zeros that are nobody's bytes.
    await disk.arriving.read(0, Buffer.alloc(30 * block))
    assert(pagesOf(session, 0, 20 * block) === undefined)
    assert(pagesOf(session, block, 21 * block) === undefined)
  })

  it('are not given while the disk is frozen', async () => {
    const { disk } = await openDisk(new HandSource(), { state: 'owned' })
    const session = disk.open('guest')
    await write(session, 0, 20 * block, 7)
    await disk.gate.freeze()
    assert(pagesOf(session, 0, 20 * block) === undefined)
    const reading = read(session, 0, block)
    assert(!(await isSettled(reading)))
    disk.gate.thaw()
    await reading
    assert(pagesOf(session, 0, 20 * block)?.equals(Buffer.alloc(20 * block, 7)))
  })
})
