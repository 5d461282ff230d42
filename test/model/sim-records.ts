// Records of one simulated machine: transactions that happen as a whole, in order, and now and then fail, with or without
// having happened. Committed is durable.

import type { Change, DiskRecord, MigrationRecord, PeerRecord, Records, SiteRecords } from '../../src/store/records.ts'
import type { SimProcess, World } from './world.ts'

/** The database; outlives processes and power. */
export class SimDatabase {
  readonly disk = new Map<string, DiskRecord>()
  readonly migration = new Map<string, MigrationRecord>()
  readonly peer = new Map<string, PeerRecord>()

  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      if ('remove' in change) this[change.remove].delete(change.id)
      else if (change.put === 'peer') this.peer.set(change.record.fingerprint, change.record)
      else if (change.put === 'disk') this.disk.set(change.record.id, change.record)
      else this.migration.set(change.record.id, change.record)
    }
  }
}

export class SimRecords implements Records {
  readonly #world: World
  readonly #process: SimProcess
  readonly #database: SimDatabase
  readonly #mayFail: (what: string) => boolean
  #last: Promise<void> = Promise.resolve()

  constructor(world: World, process: SimProcess, database: SimDatabase, mayFail: (what: string) => boolean) {
    this.#world = world
    this.#process = process
    this.#database = database
    this.#mayFail = mayFail
  }

  async load(): Promise<SiteRecords> {
    const { disk, migration, peer } = this.#database
    return { disks: [...disk.values()], migrations: [...migration.values()], peers: [...peer.values()] }
  }

  commit(changes: readonly Change[]): Promise<void> {
    const copy = structuredClone(changes) as Change[]
    const work = this.#last.then(async () => {
      const { random } = this.#world
      const what = copy.map((change) =>
        'remove' in change
          ? `-${change.remove}`
          : `${change.put}=${'state' in change.record ? change.record.state : ''}`,
      )
      const abandon = () => random.chance(0.5) && this.#database.apply(copy)
      await this.#world.event(this.#process, `commit ${what.join(' ')}`, { abandon })
      const fails = this.#mayFail(what.join(' '))
      if (!fails || random.chance(0.5)) this.#database.apply(copy)
      if (fails) throw new Error('the database is full')
    })
    this.#last = work.catch(() => {})
    return work
  }

  async close(): Promise<void> {}
}
