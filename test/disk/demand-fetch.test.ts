import assert from 'node:assert/strict'
import { withOwnMemory } from '../../src/block/own-memory.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { block, closeDisksAfterEach, HandSource, openDisk, ReadySource, read, settled, write } from './hand.ts'

const sector = 512

describe('a demand fetch', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

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
    await assert.rejects(first, { name: 'GuestError', code: 'io' })
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

  it('gives back the memory of what landed', async () => {
    const { disk, source } = await openDisk(new HandSource())
    const reading = read(disk.open('guest'), 0, block)
    const fetch = await source.asked(0)
    const bytes = withOwnMemory(Buffer.alloc(block, 3))
    await fetch.yield({ offset: 0, length: block, bytes })
    void fetch.finish()
    assert((await reading).equals(Buffer.alloc(block, 3)))
    assert.equal(bytes.length, 0)
  })

  it('a prefetch makes the range present', async () => {
    const { disk, source } = await openDisk(new ReadySource())
    const session = disk.open('guest')
    await session.cache(block, 2 * block)
    await session.read(block, Buffer.alloc(2 * block))
    assert.equal(source.fetches.length, 1)
  })
})
