// What is copied ahead of switchover: blocks of one epoch land in an incoming disk, and an arriving disk begins with those that
// are durable and that the source has not written since.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { BlockMap } from '../../src/block/block-map.ts'
import type { Span } from '../../src/block/span.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import {
  block,
  bootId,
  closeDisksAfterEach,
  type HandDisk,
  HandSource,
  isSettled,
  openDisk,
  ReadySource,
  read,
  reopenDisk,
} from './hand.ts'

const epoch = '55555555-5555-4555-8555-555555555555'
const otherEpoch = '66666666-6666-4666-8666-666666666666'
const otherBoot = '22222222-2222-4222-8222-222222222222'
const piece = (first: number, count: number, byte: number) => ({
  offset: first * block,
  length: count * block,
  bytes: Buffer.alloc(count * block, byte),
})

type Incoming = HandDisk<HandSource>

/** An incoming disk of which blocks of the epoch may be here. */
async function incoming(): Promise<Incoming> {
  const made = await openDisk(new HandSource(), { state: 'incoming', generation: 1, owner: 'there' })
  await beginEpoch(made, epoch)
  return made
}

async function beginEpoch({ disk }: Incoming, name: string): Promise<void> {
  await commitTogether([await disk.arriving.ahead.begin(name)])
}

/** The same after its process died, with the record that was committed last. */
function reopened(made: Incoming, boot = bootId): Promise<Incoming> {
  return reopenDisk({ ...made, record: made.disk.record }, boot)
}

async function taken({ disk }: Incoming, dirty: readonly Span[] = [], name = epoch): Promise<void> {
  await commitTogether([await disk.arriving.begin(2, null, null, { epoch: name, dirty: mapOf(disk.sizeBytes, dirty) })])
}

function mapOf(sizeBytes: number, spans: readonly Span[]): BlockMap {
  const map = new BlockMap(Math.ceil(sizeBytes / block))
  for (const { first, end } of spans) map.add(first, end)
  return map
}

describe('what is copied ahead of switchover', () => {
  closeDisksAfterEach()
  removeFoldersAfterEach()

  it('is here at switchover, but for what the source wrote since', async () => {
    const made = await incoming()
    const { disk } = made
    await disk.arriving.ahead.land(piece(0, 8, 1))
    await disk.arriving.ahead.flush()
    await taken(made, [{ first: 2, end: 4 }])
    assert.equal(disk.state, 'arriving')
    assert.deepEqual(disk.present, { blocks: 6, bytes: 6 * block })
    assert.equal(disk.arriving.missingBlocksIn({ first: 2, end: 4 }), 2)
    assert((await read(disk.open('guest'), 0, 2 * block)).equals(Buffer.alloc(2 * block, 1)))
    assert.equal(disk.record.tentativeEpoch, null)
  })

  it('promise 3: is shown to no guest before that, and does not count as present', async () => {
    const made = await openDisk(new ReadySource(() => 9), { state: 'incoming', generation: 1, owner: 'there' })
    await commitTogether([await made.disk.arriving.ahead.begin(epoch)])
    await made.disk.arriving.ahead.land(piece(0, 8, 1))
    assert((await read(made.disk.open('guest'), 0, block)).equals(Buffer.alloc(block, 9)), 'the source is asked')
    assert.deepEqual(made.disk.present, { blocks: 0, bytes: 0 })
  })

  it('promise 4: does not count where no sync covers it', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 4, 1))
    await made.disk.arriving.ahead.flush()
    await made.disk.arriving.ahead.land(piece(4, 4, 1))
    await taken(made)
    assert.deepEqual(made.disk.present.blocks, 4)
  })

  it('promise 4: is durable as bytes first, and then as bits', async () => {
    const { disk, files } = await incoming()
    files.done.length = 0
    await disk.arriving.ahead.land(piece(0, 4, 1))
    await disk.arriving.ahead.flush()
    assert.deepEqual(files.done, ['write', 'append', 'sync', 'append', 'syncLog'])
  })

  it('of another epoch than the grant speaks of is nothing', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 8, 1))
    await made.disk.arriving.ahead.flush()
    await taken(made, [], otherEpoch)
    assert.equal(made.disk.present.blocks, 0)
  })

  it('of an epoch that is over is nothing', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 8, 1))
    await made.disk.arriving.ahead.flush()
    await beginEpoch(made, otherEpoch)
    assert.equal(made.disk.arriving.ahead.blocks, 0)
    await taken(made, [], otherEpoch)
    assert.equal(made.disk.present.blocks, 0)
  })

  it('outlives a kill, with the round that was confirmed', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 4, 1))
    made.disk.arriving.ahead.roundLanded(7)
    await made.disk.arriving.ahead.flush()
    await made.disk.arriving.ahead.land(piece(4, 4, 2))
    const again = await reopened(made)
    const { ahead } = again.disk.arriving
    assert.deepEqual([ahead.epoch, ahead.round, ahead.blocks], [epoch, 7, 8])
    await taken(again)
    assert.equal(again.disk.present.blocks, 8)
  })

  it('after a power loss is what a sync had covered', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 4, 1))
    made.disk.arriving.ahead.roundLanded(7)
    await made.disk.arriving.ahead.flush()
    await made.disk.arriving.ahead.land(piece(4, 4, 2))
    const { ahead } = (await reopened(made, otherBoot)).disk.arriving
    assert.deepEqual([ahead.epoch, ahead.round, ahead.blocks], [epoch, 7, 4])
  })

  it('a round is on record also where its blocks were durable before all of it had landed', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 4, 1))
    await made.disk.arriving.ahead.flush()
    made.disk.arriving.ahead.roundLanded(3)
    assert.equal(made.disk.arriving.ahead.round, 0)
    await made.disk.arriving.ahead.flush()
    assert.equal((await reopened(made, otherBoot)).disk.arriving.ahead.round, 3)
  })

  it('is nothing when its log is damaged: all of it is copied again', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 4, 1))
    await made.disk.arriving.ahead.flush()
    await (await made.files.replaceLog(join(made.record.folder, 'tentative.log'), Buffer.alloc(200))).close()
    assert.equal((await reopened(made)).disk.arriving.ahead.epoch, undefined)
  })

  it('a sync that failed makes all of it void, until another epoch begins', async () => {
    const made = await incoming()
    const { disk, files } = made
    await disk.arriving.ahead.land(piece(0, 4, 1))
    await disk.arriving.ahead.flush()
    files.failOnce('sync', new Error('EIO'))
    await disk.arriving.ahead.land(piece(4, 4, 1))
    await assert.rejects(disk.arriving.ahead.flush(), /EIO/)
    assert(disk.arriving.ahead.isVoid)
    assert.equal(disk.arriving.ahead.epoch, undefined)
    await beginEpoch(made, otherEpoch)
    await disk.arriving.ahead.land(piece(0, 2, 3))
    await disk.arriving.ahead.flush()
    await taken(made, [], otherEpoch)
    assert.equal(disk.present.blocks, 2)
  })

  it('promise 5: switchover waits for what is landing, and nothing lands after it', async () => {
    const made = await incoming()
    const { disk, files } = made
    files.hold('write')
    const reached = files.waiting('write')
    const landing = disk.arriving.ahead.land(piece(0, 4, 1))
    await reached
    const begun = disk.arriving.begin(2, null, null, { epoch, dirty: mapOf(disk.sizeBytes, []) })
    assert(!(await isSettled(begun)))
    files.release('write')
    await landing
    await commitTogether([await begun])
    await disk.arriving.ahead.land(piece(0, 4, 8)) // A reply of the old generation.
    const bytes = Buffer.alloc(block)
    await disk.arriving.read(0, bytes)
    assert.equal(bytes[0], 1)
  })

  it('what the source cannot read any more is not here', async () => {
    const made = await incoming()
    await made.disk.arriving.ahead.land(piece(0, 4, 1))
    await made.disk.arriving.ahead.flush()
    made.disk.arriving.ahead.forget({ first: 1, end: 2 })
    await taken(made)
    assert.equal(made.disk.present.blocks, 3)
    assert.equal(made.disk.arriving.missingBlocksIn({ first: 1, end: 2 }), 1)
  })

  it('is told of with what had landed before', async () => {
    const { disk, landed } = await incoming()
    await disk.arriving.ahead.land(piece(0, 4, 1))
    await disk.arriving.ahead.land(piece(2, 4, 2))
    assert.deepEqual(
      landed.map(({ bytes, again }) => [bytes, again]),
      [
        [4 * block, 0],
        [4 * block, 2 * block],
      ],
    )
  })

  it('what is copied again adds nothing to its log: a disk that is kept in step for days does not fill its folder', async () => {
    const { disk, files } = await incoming()
    await disk.arriving.ahead.land(piece(0, 4, 1))
    files.done.length = 0
    for (let byte = 2; byte < 10; byte++) await disk.arriving.ahead.land(piece(0, 4, byte))
    assert(!files.done.includes('append'))
  })

  it('zeros that land over what was copied are punched', async () => {
    const made = await incoming()
    const { disk } = made
    await disk.arriving.ahead.land(piece(0, 4, 1))
    await disk.arriving.ahead.land({ offset: 0, length: 4 * block, bytes: undefined })
    await disk.arriving.ahead.flush()
    await taken(made)
    assert((await read(disk.open('guest'), 0, 4 * block)).equals(Buffer.alloc(4 * block)))
    assert.equal(disk.allocatedBytes(), 0)
  })
})
