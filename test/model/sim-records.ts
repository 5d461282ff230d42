// Records of one simulated machine: transactions that happen as a whole, in order. Committed is durable. Now and then one
// fails, and the next process may find it all the same, if no other was committed meanwhile (store/records.ts). Without room a
// transaction fails and did not happen. A start loads what has the shape that it must have, as the real one does.

import { wrongTerms } from '../../src/migration/terms.ts'
import { shaped, type TableName } from '../../src/store/record-shapes.ts'
import type { Change, DiskRecord, MigrationRecord, PeerRecord, Records, SiteRecords } from '../../src/store/records.ts'
import type { SimMachine } from './sim-files.ts'
import type { SimProcess } from './world.ts'

/** The database; outlives processes and power. */
export class SimDatabase {
  readonly disk = new Map<string, DiskRecord>()
  readonly migration = new Map<string, MigrationRecord>()
  readonly peer = new Map<string, PeerRecord>()
  /** Of a hundred commits so many fail, as a fraction. */
  faultRate = 0
  /** The last transaction, reported as failed: the next process may find it. */
  #perhaps: readonly Change[] = []

  /** As it is now, for a site that is restored from it later. */
  copy(): SimDatabase {
    const copy = new SimDatabase()
    for (const [id, record] of this.disk) copy.disk.set(id, record)
    for (const [id, record] of this.migration) copy.migration.set(id, record)
    for (const [id, record] of this.peer) copy.peer.set(id, record)
    return copy
  }

  /** Reported as failed. */
  leave(changes: readonly Change[]): void {
    this.#perhaps = changes
  }

  /** The process is dead: the next will find what failed last, or it never happens. */
  recover(isThere: boolean): void {
    this.apply(isThere ? this.#perhaps : [])
  }

  apply(changes: readonly Change[]): void {
    this.#perhaps = []
    for (const change of changes) {
      if ('remove' in change) this[change.remove].delete(change.id)
      else if ('mark' in change) {
        const record = this.disk.get(change.id)
        if (record) this.disk.set(change.id, { ...record, ...change.facts })
      } else if (change.put === 'peer') this.peer.set(change.record.fingerprint, change.record)
      else if (change.put === 'disk') this.disk.set(change.record.id, change.record)
      else this.migration.set(change.record.id, change.record)
    }
  }
}

export class SimRecords implements Records {
  readonly #machine: SimMachine
  readonly #process: SimProcess
  readonly #database: SimDatabase
  #last: Promise<void> = Promise.resolve()

  constructor(machine: SimMachine, process: SimProcess, database: SimDatabase) {
    this.#machine = machine
    this.#process = process
    this.#database = database
  }

  async load(): Promise<SiteRecords> {
    const { disk, migration, peer } = this.#database
    for (const [id, record] of disk) checkLoadable('disk', id, record)
    for (const [id, record] of migration) checkLoadable('migration', id, record)
    return { disks: [...disk.values()], migrations: [...migration.values()], peers: [...peer.values()] }
  }

  commit(changes: readonly Change[]): Promise<void> {
    const copy = structuredClone(changes) as Change[]
    const work = this.#last.then(async () => {
      const database = this.#database
      const { world } = this.#machine
      const { random } = world
      const abandon = () => random.chance(0.5) && database.apply(copy)
      await world.event(this.#process, `commit ${copy.map(wordsOf).join(' ')}`, { abandon })
      if (this.#machine.lacksRoom()) throw new Error('the database is full')
      if (random.chance(database.faultRate)) {
        database.leave(copy)
        throw new Error('the database failed')
      }
      database.apply(copy)
    })
    this.#last = work.catch(() => {})
    return work
  }

  async close(): Promise<void> {}
}

/** @throws Error when no start would load the record that we have written. */
function checkLoadable(table: TableName, id: string, record: DiskRecord | MigrationRecord): void {
  const found = shaped(table, id, JSON.parse(JSON.stringify(record)))
  const wrong = 'wrong' in found ? found.wrong : 'terms' in record ? wrongTerms(record.terms) : undefined
  if (wrong !== undefined) throw new Error(`no start loads the record of ${table} ${id}: ${wrong}`)
}

function wordsOf(change: Change): string {
  if ('remove' in change) return `-${change.remove}`
  if ('mark' in change) return `mark ${JSON.stringify(change.facts)}`
  return `${change.put}=${'state' in change.record ? change.record.state : ''}`
}
