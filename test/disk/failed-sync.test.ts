import assert from 'node:assert/strict'
import { accept } from '../../src/disk/acceptance.ts'
import { Refusal } from '../../src/disk/refusal.ts'
import type { DiskRecord } from '../../src/store/records.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { block, closeDisksAfterEach, type HandDisk, HandSource, openDisk, reopenDisk, settled } from './hand.ts'

const at = '2026-03-01T10:00:00.000Z'
const mark = { at, message: 'a sync of web01.raw failed: EIO: i/o error, fdatasync' }
const broken = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
const never = new AbortController().signal

describe('a failed sync', () => {
  closeDisksAfterEach()
  removeFoldersAfterEach()

  it('promise 6: is on record before its flush is answered', async () => {
    const hand = await failed()
    assert.deepEqual(lastRecord(hand).failedSync, mark)
  })

  it('promise 6: is as final for the daemon that starts again: it serves reads, and refuses writes and flushes', async () => {
    const { disk } = await failedAndReopened()
    const session = disk.open('guest')
    const target = Buffer.alloc(block)
    await session.read(0, target)
    assert.deepEqual(target, Buffer.alloc(block, 9))
    await assert.rejects(async () => session.flush(), /EIO/)
    await assert.rejects(async () => session.write(0, Buffer.alloc(block, 1), false), { code: 'io' })
    await assert.rejects(async () => session.trim(0, block, false), { code: 'io' })
    await assert.rejects(disk.flush(), /EIO/, 'so a grant is refused')
  })

  it('is told with what failed, when, what is safe, what may be lost and what to do', async () => {
    const { disk } = await failedAndReopened()
    for (const words of [
      at,
      /EIO/,
      /no more writes/,
      /flushed before is safe/,
      /may be lost/,
      /vmstore disk accept web01/,
    ])
      assert.match(disk.trouble!, new RegExp(words))
  })

  it('is remembered in memory when it cannot be recorded, and recorded when the disk is closed', async () => {
    const hand = await openDisk(new HandSource(), { state: 'owned' })
    const commit = hand.records.commit.bind(hand.records)
    hand.records.commit = async () => {
      throw new Error('the records are full')
    }
    await fail(hand)
    assert.match(hand.disk.trouble!, /not on record: do not restart/)
    hand.records.commit = commit
    await hand.disk.close()
    assert.deepEqual(lastRecord(hand).failedSync, mark)
  })

  it('of a disk that arrives is on record too, and its next start writes anew all that is here, flushed before or not', async () => {
    const hand = await openDisk(new HandSource())
    const session = hand.disk.open('guest')
    await session.write(0, Buffer.alloc(block, 1), true)
    // It writes the same block again, of which nothing more is logged: the log alone would count it as durable.
    await fail(hand)
    assert.deepEqual(lastRecord(hand).failedSync, mark)
    assert.match(hand.disk.trouble!, /start vmstore again/)
    await refused(accept(hand.disk, true, never), 'nothing-to-accept')
    const again = await reopenDisk({ ...hand, record: lastRecord(hand) })
    assert.deepEqual(again.files.done.slice(0, 3), ['write', 'zero', 'sync'])
    assert.equal(lastRecord(again).failedSync, null)
    assert.equal(again.disk.trouble, undefined)
    const target = Buffer.alloc(block)
    await again.disk.open('guest').read(0, target)
    assert.deepEqual(target, Buffer.alloc(block, 9))
  })

  it('accepted: every byte is written anew and synced, then the mark goes, then writes are taken', async () => {
    const hand = await failedAndReopened()
    const steps: unknown[] = []
    hand.records.commit = async (changes) => {
      steps.push(...hand.files.done, 'recorded')
      assert(hand.disk.trouble, 'no write is taken yet')
      hand.records.commits.push(changes)
    }
    await accept(hand.disk, true, never)
    assert.deepEqual(steps, ['write', 'zero', 'sync', 'recorded'])
    assert.equal(lastRecord(hand).failedSync, null)
    assert.equal(hand.disk.trouble, undefined)
    const session = hand.disk.open('guest')
    await session.write(0, Buffer.alloc(block, 1), true)
    const { disk } = await reopenDisk({ ...hand, record: lastRecord(hand) })
    assert.equal(disk.trouble, undefined)
  })

  it('is accepted in the daemon that saw it too, once its clients have gone', async () => {
    const hand = await failed()
    const session = hand.disk.open('guest')
    await refused(accept(hand.disk, true, never), 'disk-in-use')
    session.close('disconnected')
    await accept(hand.disk, true, never)
    await hand.disk.open('guest').write(0, Buffer.alloc(block, 1), true)
  })

  it('is not accepted without the word of the operator, who is told what may be lost', async () => {
    const { disk, files } = await failedAndReopened()
    const { message } = await refused(accept(disk, false, never), 'not-confirmed')
    assert.match(message, /may be lost/)
    assert.deepEqual([files.done, disk.hasFailedSync], [[], true])
  })

  it('is not accepted while the storage fails, nor when the record cannot be written', async () => {
    const hand = await failedAndReopened()
    hand.files.fail('sync', broken)
    await refused(accept(hand.disk, true, never), 'not-accepted')
    hand.files.fail('sync', undefined)
    const commit = hand.records.commit.bind(hand.records)
    hand.records.commit = async () => {
      throw new Error('the records are full')
    }
    await refused(accept(hand.disk, true, never), 'not-accepted')
    await assert.rejects(hand.disk.flush(), /EIO/)
    hand.records.commit = commit
    await accept(hand.disk, true, never)
    await hand.disk.flush()
  })

  it('is accepted once at a time: no write lands between the bytes read and the bytes written anew', async () => {
    const { disk, files } = await failedAndReopened()
    files.hold('write')
    const accepting = accept(disk, true, never)
    await settled()
    await refused(accept(disk, true, never), 'disk-busy')
    const session = disk.open('guest')
    await assert.rejects(async () => session.write(0, Buffer.alloc(block, 1), false), { code: 'io' })
    files.release('write')
    await accepting
    await session.write(0, Buffer.alloc(block, 1), true)
  })

  it('an operator who goes away while it is being accepted leaves it as it was', async () => {
    const { disk, files } = await failedAndReopened()
    files.hold('write')
    const gone = new AbortController()
    const accepting = accept(disk, true, gone.signal)
    await settled()
    gone.abort(new Error('the client has gone away'))
    files.release('write')
    await refused(accepting, 'not-accepted')
    assert.equal(disk.hasFailedSync, true)
  })
})

/** One block of 9 is written, and the sync of it fails once. */
async function fail({ disk, files }: HandDisk<HandSource>): Promise<void> {
  const session = disk.open('guest')
  await session.write(0, Buffer.alloc(block, 9), false)
  files.fail('sync', broken)
  await assert.rejects(async () => session.flush(), { code: 'io' })
  files.fail('sync', undefined)
  session.close('disconnected')
}

async function failed(): Promise<HandDisk<HandSource>> {
  const hand = await openDisk(new HandSource(), { state: 'owned' })
  await fail(hand)
  return hand
}

async function failedAndReopened(): Promise<HandDisk<HandSource>> {
  const hand = await failed()
  return reopenDisk({ ...hand, record: lastRecord(hand) })
}

/** As the records have it. */
function lastRecord({ records, record }: HandDisk<HandSource>): DiskRecord {
  const change = records.commits.at(-1)?.[0]
  assert(change && 'mark' in change)
  return { ...record, ...change.facts }
}

async function refused(asked: Promise<unknown>, code: string): Promise<Refusal> {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  assert(error instanceof Refusal, String(error))
  assert.deepEqual([error.code, error.exit], [code, 3], error.message)
  return error
}
