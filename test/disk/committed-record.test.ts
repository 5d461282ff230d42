import assert from 'node:assert/strict'
import { CommittedRecord } from '../../src/disk/committed-record.ts'
import type { Change, DiskRecord } from '../../src/store/records.ts'
import { diskRecord } from '../store/samples.ts'
import { MemoryRecords, settled } from './hand.ts'

const mark = { at: '2026-03-01T10:00:00.000Z', message: 'EIO' }

/** Records whose commits are over when the test says so. */
class HeldRecords extends MemoryRecords {
  readonly under: PromiseWithResolvers<void>[] = []

  override async commit(changes: readonly Change[]): Promise<void> {
    await super.commit(changes)
    this.under.push(Promise.withResolvers())
    await this.under.at(-1)!.promise
  }
}

describe('a committed record', () => {
  const to = (state: string) => (record: DiskRecord) => ({ ...record, state })

  it('is what was last committed, and nothing before that', async () => {
    const records = new HeldRecords()
    const record = new CommittedRecord(diskRecord({ generation: 1 }), records, () => {})
    const commit = record.commit((before) => ({ ...before, generation: 2 }), [])
    await settled()
    assert.equal(record.now.generation, 1)
    records.under[0]!.resolve()
    await commit
    assert.equal(record.now.generation, 2)
  })

  it('is committed one change at a time, each on the one before', async () => {
    const records = new HeldRecords()
    const record = new CommittedRecord(diskRecord({ generation: 1 }), records, () => {})
    const raise = () => record.commit((before) => ({ ...before, generation: before.generation + 1 }), [])
    const commits = [raise(), record.mark({ failedSync: mark }), raise()]
    for (let index = 0; index < 3; index++) {
      await settled()
      assert.equal(records.commits.length, index + 1)
      records.under[index]!.resolve()
    }
    await Promise.all(commits)
    assert.deepEqual([record.now.generation, record.now.failedSync], [3, mark])
  })

  it('stays as it was when a commit fails, and the next one is made', async () => {
    const records = new HeldRecords()
    const record = new CommittedRecord(diskRecord(), records, () => assert.fail('it is told of a move that was not'))
    const failing = record.commit(to('superseded'), [])
    const next = record.commit((before) => ({ ...before, taken: true }), [])
    await settled()
    records.under[0]!.reject(new Error('the records are full'))
    await assert.rejects(failing, /full/)
    await settled()
    records.under[1]!.resolve()
    await next
    assert.deepEqual([record.now.state, record.now.taken], ['owned', true])
  })

  it('promise 2: whoever depends on the state is told in the step in which the record has it', async () => {
    const seen: string[] = []
    const record: CommittedRecord = new CommittedRecord(diskRecord(), new MemoryRecords(), () =>
      seen.push(record.now.state),
    )
    await record.commit((before) => ({ ...before, taken: true }), [])
    await record.commit(to('superseded'), [])
    assert.deepEqual(seen, ['superseded'])
  })

  it('takes no mark of a failed sync once the disk is not served here', async () => {
    const records = new MemoryRecords()
    const record = new CommittedRecord(diskRecord({ state: 'departed' }), records, () => {})
    await record.mark({ failedSync: mark })
    assert.deepEqual([record.now.failedSync, records.commits.length], [null, 0])
  })
})
