import assert from 'node:assert/strict'
import { CommittedRecord } from '../../src/disk/committed-record.ts'
import { commitTogether, type DiskPlan } from '../../src/disk/plan.ts'
import type { Change, DiskRecord } from '../../src/store/records.ts'
import { diskRecord, migrationRecord } from '../store/samples.ts'
import { MemoryRecords, settled } from './hand.ts'

/** Records whose commits are over when the test says so. */
class HeldRecords extends MemoryRecords {
  readonly under: PromiseWithResolvers<void>[] = []

  override async commit(changes: readonly Change[]): Promise<void> {
    await super.commit(changes)
    this.under.push(Promise.withResolvers())
    await this.under.at(-1)!.promise
  }

  /** Each commit that was made: the disks in it, and the generation that each gets. */
  get put(): string[] {
    return this.commits.map((changes) =>
      changes
        .flatMap((change) => ('put' in change && change.put === 'disk' ? [change.record] : []))
        .map(({ name, generation }) => `${name}=${generation}`)
        .join(' '),
    )
  }
}

describe('plans of several disks', () => {
  let records: HeldRecords
  let [a, b, c]: CommittedRecord[] = []
  /** What happened in memory, in its order. */
  let happened: string[]

  beforeEach(() => {
    records = new HeldRecords()
    happened = []
    const made = (name: string) =>
      new CommittedRecord(diskRecord({ id: name, name, generation: 1 }), records, () => happened.push(`${name} moved`))
    ;[a, b, c] = [made('a'), made('b'), made('c')]
  })

  const raise = (record: CommittedRecord, to: Partial<DiskRecord> = {}): DiskPlan => ({
    record,
    next: (now) => ({ ...now, generation: now.generation + 1, ...to }),
    committed: () => void happened.push(`${record.now.name}: ${[a, b, c].map((each) => each!.now.generation)}`),
    afterwards: async () => void happened.push(`after ${record.now.name}`),
  })

  async function commit(index: number): Promise<void> {
    await settled()
    records.under[index]!.resolve()
  }

  it('are committed as one transaction, together with what else must be durable with them', async () => {
    const migration = { put: 'migration', record: migrationRecord() } as const
    const work = commitTogether([raise(a!), raise(b!)], [migration])
    await commit(0)
    await work
    assert.deepEqual(records.put, ['a=2 b=2'])
    assert(records.commits[0]!.includes(migration))
  })

  it('change every record in one step, before anything that goes with it, and clean up afterwards', async () => {
    const work = commitTogether([raise(a!, { state: 'superseded' }), raise(b!)], [], () => happened.push('all'))
    await settled()
    assert.deepEqual(happened, [])
    await commit(0)
    await work
    assert.deepEqual(happened, ['a moved', 'a: 2,2,1', 'b: 2,2,1', 'all', 'after a', 'after b'])
  })

  it('leave every record as it was when the commit fails, and the next one is made on that', async () => {
    const failing = commitTogether([raise(a!, { state: 'superseded' }), raise(b!)], [], () => assert.fail())
    const next = commitTogether([raise(b!), raise(a!)])
    await settled()
    records.under[0]!.reject(new Error('the file system is full'))
    await assert.rejects(failing, /full/)
    assert.deepEqual([happened, a!.now.state, b!.now.generation], [[], 'owned', 1])
    await commit(1)
    await next
    assert.deepEqual([a!.now.generation, b!.now.generation], [2, 2])
  })

  it('leave every record as it was when one of them may not be', async () => {
    const forbidden: DiskPlan = { record: b!, next: () => assert.fail('no disk goes there') }
    await assert.rejects(commitTogether([raise(a!), forbidden]), /no disk goes there/)
    assert.deepEqual([records.commits, a!.now.generation, happened], [[], 1, []])
  })

  it('wait for what is to be committed of any of their disks before, and are waited for', async () => {
    const first = a!.mark({ failedSync: { at: '', message: 'EIO' } })
    const both = commitTogether([raise(a!), raise(b!)])
    const last = commitTogether([raise(b!)])
    await settled()
    assert.equal(records.commits.length, 1)
    await commit(0)
    await commit(1)
    assert.deepEqual(records.put, ['', 'a=2 b=2'])
    await commit(2)
    await Promise.all([first, both, last])
    assert.deepEqual(records.put, ['', 'a=2 b=2', 'b=3'])
  })

  it('never wait for each other, whichever disks they share, and in whatever order they name them', async () => {
    const groups = [
      [a!, b!],
      [b!, a!],
      [c!, b!],
      [a!, c!],
      [b!, c!, a!],
    ]
    const all = Promise.all(groups.map((group) => commitTogether(group.map((record) => raise(record)))))
    for (let index = 0; index < groups.length; index++) await commit(index)
    await all
    assert.deepEqual(records.put, ['a=2 b=2', 'b=3 a=3', 'c=2 b=4', 'a=4 c=3', 'b=5 c=4 a=5'])
  })

  it('of other disks do not wait', async () => {
    const held = commitTogether([raise(a!), raise(b!)])
    const free = commitTogether([raise(c!)])
    await commit(1)
    await free
    assert.equal(c!.now.generation, 2)
    await commit(0)
    await held
  })
})
