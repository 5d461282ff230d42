import assert from 'node:assert/strict'
import { removeFoldersAfterEach } from '../store/folder.ts'
import {
  block,
  closeDisksAfterEach,
  HandSource,
  isSettled,
  openDisk,
  read,
  reopenDisk,
  settled,
  write,
} from './hand.ts'

const sector = 512
const secondBoot = '22222222-2222-4222-8222-222222222222'

describe('a flush of an arriving disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  it('promise 6: a flush syncs the bytes, then the map that speaks of them, then answers', async () => {
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

  it('promise 6: a flush waits for the sync of the bytes', async () => {
    const { disk, files } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, 0, block, 1)
    files.hold('sync')
    const flushing = Promise.resolve(session.flush())
    assert.equal(await isSettled(flushing), false)
    files.release('sync')
    await flushing
  })

  it('promise 6: a flush that adds no bit is one sync', async () => {
    const { disk, files } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, 0, block, 1)
    await session.flush()
    files.done.length = 0
    await write(session, 0, block, 2)
    await session.flush()
    assert.deepEqual(files.done, ['write', 'sync'])
  })

  it('promise 6: a flush covers what every session had answered, so that CAN_MULTI_CONN is true', async () => {
    const hand = await openDisk(new HandSource())
    await write(hand.disk.open('one'), 0, block, 9)
    await write(hand.disk.open('other'), 2 * block, block, 9)
    await hand.disk.open('third').flush()
    const { disk } = await reopenDisk(hand, secondBoot)
    assert.deepEqual(
      [...Array(4).keys()].map((at) => disk.arriving.missingBlocksIn({ first: at, end: at + 1 }) === 0),
      [true, false, true, false],
    )
  })

  it('promise 6: a write with FUA is answered after its bytes and its bit are durable', async () => {
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
    assert.deepEqual(disk.arriving.firstMissing(0, 100), { first: 1, end: 64 })
  })

  it('promise 6: an answered write that nobody flushed survives the death of the process', async () => {
    const hand = await openDisk(new HandSource())
    const session = hand.disk.open('guest')
    await write(session, 0, block, 9)
    await write(session, block + sector, sector, 8)
    const { disk } = await reopenDisk(hand)
    await disk.arriving.land({ offset: 0, length: 2 * block, bytes: Buffer.alloc(2 * block, 1) })
    const expected = Buffer.alloc(2 * block, 1)
      .fill(9, 0, block)
      .fill(8, block + sector, block + 2 * sector)
    assert((await read(disk.open('guest'), 0, 2 * block)).equals(expected))
  })

  it('promise 6: a flushed write survives the power, and what was not flushed is fetched again', async () => {
    const hand = await openDisk(new HandSource())
    const session = hand.disk.open('guest')
    await write(session, 0, block, 9)
    await session.flush()
    await write(session, 3 * block, block, 9)
    const { disk } = await reopenDisk(hand, secondBoot)
    assert.equal(disk.present.blocks, 1)
    assert.equal(disk.arriving.missingBlocksIn({ first: 0, end: 1 }) === 0, true)
  })

  it('promise 6: a failed sync is final: later flushes fail, and writes are refused', async () => {
    const { disk, files } = await openDisk(new HandSource())
    const session = disk.open('guest')
    await write(session, 0, block, 9)
    files.fail('sync', Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    await assert.rejects(async () => session.flush(), { code: 'io' })
    files.fail('sync', undefined)
    await assert.rejects(async () => session.flush(), { code: 'io' })
    await assert.rejects(async () => write(session, 0, block, 1), { code: 'io' })
    await assert.rejects(async () => session.trim(0, block, false), { code: 'io' })
    assert.match(disk.trouble!, /takes no more writes/)
  })
})
