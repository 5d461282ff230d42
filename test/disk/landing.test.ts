import assert from 'node:assert/strict'
import { removeFoldersAfterEach } from '../store/folder.ts'
import {
  block,
  closeDisksAfterEach,
  HandSource,
  isSettled,
  openDisk,
  ReadySource,
  read,
  settled,
  write,
} from './hand.ts'

const sector = 512

const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })

describe('landing', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  it("promise 5: a late piece does not land over a guest's write that came before it", async () => {
    const { disk } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, block, block, 9)
    await write(session, 2 * block + sector, sector, 8)
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
    const expected = Buffer.alloc(4 * block, 1)
      .fill(9, block, 2 * block)
      .fill(8, 2 * block + sector, 2 * block + 2 * sector)
    assert((await read(session, 0, 4 * block)).equals(expected))
  })

  it('promise 5: a late piece of zeros does not punch a hole into a guest write', async () => {
    const { disk } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, block + sector, sector, 8)
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: undefined })
    const expected = Buffer.alloc(4 * block).fill(8, block + sector, block + 2 * sector)
    assert((await read(session, 0, 4 * block)).equals(expected))
  })

  it('promise 5: a guest write to a block that is landing waits for the landing, and wins', async () => {
    const { disk, files } = await openDisk(new HandSource())
    const session = disk.open('guest')
    files.hold('write')
    const landing = disk.arriving.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
    const writing = Promise.resolve(write(session, 0, block, 9))
    await settled()
    files.release('write')
    await Promise.all([landing, writing])
    assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
  })

  it('promise 9: of the background one piece lands at a time, and a demand fetch or a write beside it waits for none that waits', async () => {
    const { disk, files } = await openDisk(new HandSource())
    const pieceAt = (index: number) => ({ offset: index * block, length: block, bytes: Buffer.alloc(block, index + 1) })
    files.hold('write')
    const landings = [0, 1, 2].map((index) => disk.arriving.land(pieceAt(index), 'background'))
    const fetched = disk.arriving.land(pieceAt(3))
    await settled()
    // The first has its blocks; those that wait for their turn have nothing yet, and count.
    assert.equal(disk.arriving.unsettled({ first: 1, end: 3 }), undefined)
    assert(disk.arriving.unsettled({ first: 0, end: 1 }) && disk.arriving.unsettled({ first: 3, end: 4 }))
    assert.equal(disk.arriving.unsavedBytes, 4 * block)
    files.release('write')
    await Promise.all([...landings, fetched])
    assert.equal(disk.present.blocks, 4)
    assert.equal(disk.arriving.unsavedBytes, 4 * block)
  })

  it('of the background a piece that fails holds up none behind it', async () => {
    const { disk, files } = await openDisk(new HandSource())
    files.fail('write', full)
    const first = disk.arriving.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) }, 'background')
    await assert.rejects(first, full)
    files.fail('write', undefined)
    await disk.arriving.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) }, 'background')
    assert.equal(disk.present.blocks, 1)
  })

  it('promise 5: a piece that comes while a guest write is in flight is left out', async () => {
    const { disk, files, landed } = await openDisk(new HandSource())
    const session = disk.open('guest')
    files.hold('write')
    const writing = Promise.resolve(write(session, 0, block, 9))
    const landing = disk.arriving.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
    assert.equal(await isSettled(landing), true)
    assert.deepEqual(landed, [])
    files.release('write')
    await writing
    assert((await read(session, 0, block)).equals(Buffer.alloc(block, 9)))
  })

  it('promise 5: a trim of missing blocks reads as zeros after, whatever comes late', async () => {
    const { disk, source } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await session.trim(block, 2 * block, false)
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
    assert((await read(session, block, 2 * block)).equals(Buffer.alloc(2 * block)))
    assert.equal(source.fetches.length, 0)
  })

  it('promise 5: zeroes over parts of missing blocks stay zeros, whatever comes late', async () => {
    const { disk } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await session.writeZeroes(sector, 2 * block, { mayPunch: true, fast: false, fua: false })
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
    const expected = Buffer.alloc(4 * block, 1).fill(0, sector, sector + 2 * block)
    assert((await read(session, 0, 4 * block)).equals(expected))
  })

  it('promise 8: bytes that guests had fetched are made durable every so often, without a flush of theirs', async () => {
    const { disk, files } = await openDisk(new ReadySource(() => 1), { sizeBytes: 72 * 2 ** 20 })
    const session = disk.open('guest')
    files.hold('sync')
    const syncs = files.waiting('sync') // Else over 64 MiB would be sent again after a power loss.
    for (let at = 0; at < 72; at++) await session.cache(at * 2 ** 20, 2 ** 20)
    await syncs
    files.release('sync')
  })

  it('promise 8: bytes count as not durable from the moment on at which they begin to land', async () => {
    const { disk, files } = await openDisk(new HandSource())
    files.hold('write')
    const landing = disk.arriving.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
    assert.equal(disk.arriving.unsavedBytes, 4 * block)
    files.release('write')
    await landing
    assert.equal(disk.arriving.unsavedBytes, 4 * block)
    await disk.flush()
    assert.equal(disk.arriving.unsavedBytes, 0)
  })

  it('zeros that land on a hole leave the file alone', async () => {
    const { disk, files, landed } = await openDisk(new HandSource())
    const piece = { offset: 0, length: 4 * block, bytes: undefined }
    await disk.arriving.land(piece)
    assert.deepEqual(landed, [{ piece, bytes: 4 * block, kind: 'zeros' }])
    assert.equal(disk.arriving.missingBlocks, 60)
    assert.deepEqual(
      files.done.filter((operation) => operation === 'zero' || operation === 'write'),
      [],
    )
    assert.equal(disk.allocatedBytes(), 0)
  })

  it('zeros that land on what was there before are punched, and it takes no room any more', async () => {
    const { disk } = await openDisk(new HandSource())
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: Buffer.alloc(4 * block, 1) })
    assert(disk.arriving.forget({ first: 0, end: 4 })) // It differed from the source.
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: undefined })
    assert((await read(disk.open('guest'), 0, 4 * block)).equals(Buffer.alloc(4 * block)))
    await disk.flush()
    assert.equal(disk.allocatedBytes(), 0)
  })

  it("promise 5: zeros land on holes around a guest's sectors, and not on these", async () => {
    const { disk } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, 2 * block + sector, sector, 8)
    await disk.arriving.land({ offset: 0, length: 4 * block, bytes: undefined })
    assert.equal(disk.arriving.missingBlocks, 60)
    const expected = Buffer.alloc(4 * block).fill(8, 2 * block + sector, 2 * block + 2 * sector)
    assert((await read(session, 0, 4 * block)).equals(expected))
  })

  it('is told of by what was missing of the piece, and what kind of bytes it brought', async () => {
    const { disk, landed } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, 0, block, 9)
    await write(session, block + sector, sector, 8)
    const data = { offset: 0, length: 3 * block, bytes: Buffer.alloc(3 * block, 1) }
    const zeros = { offset: 2 * block, length: 3 * block, bytes: undefined }
    const hole = { offset: 8 * block, length: block, bytes: undefined, hole: true }
    for (const piece of [data, zeros, hole, data]) await disk.arriving.land(piece)
    assert.deepEqual(landed, [
      { piece: data, bytes: 2 * block - sector, kind: 'data' },
      { piece: zeros, bytes: 2 * block, kind: 'zeros' },
      { piece: hole, bytes: block, kind: 'hole' },
    ])
  })

  it('is told of with its own bytes, whatever lands at the same time', async () => {
    const { disk, files, source, landed } = await openDisk(new HandSource())
    const reading = read(disk.open('guest'), 0, block)
    const fetch = await source.asked(0)
    files.hold('write')
    const taken = fetch.yield({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
    const background = disk.arriving.land({ offset: 4 * block, length: 8 * block, bytes: Buffer.alloc(8 * block, 1) })
    await settled()
    assert.equal(landed.length, 0)
    files.release('write')
    await Promise.all([taken, background, fetch.finish(), reading])
    const told = new Map(landed.map(({ piece, bytes }) => [piece.offset / block, bytes / block]))
    assert.deepEqual([landed.length, told.get(0), told.get(4)], [2, 1, 8])
  })

  it('a landing that failed leaves its blocks missing, holds up nobody, and is not told of', async () => {
    const { disk, files, landed } = await openDisk(new HandSource())
    files.fail('write', full)
    await assert.rejects(disk.arriving.land({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) }), {
      code: 'ENOSPC',
    })
    files.fail('write', undefined)
    assert.equal(disk.arriving.missingBlocks, 64)
    assert.deepEqual(landed, [])
    await write(disk.open('guest'), 0, block, 9)
  })
})
