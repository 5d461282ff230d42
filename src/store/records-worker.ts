// The worker that owns the SQLite database of a site. One request at a time, in order; every commit is one transaction
// with synchronous=FULL, so that it is durable when it is answered.
//
// What always holds: of a database that is not whole, has lost transactions, or has a row that is not as it was written,
// nothing is loaded.

import { dirname } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { CommitWitness } from './commit-witness.ts'
import { withPaths, withStoredPaths } from './record-paths.ts'
import { rowChecksum, type ShapedRecord, shaped, type TableName } from './record-shapes.ts'
import {
  type Change,
  type DiskRecord,
  type MigrationRecord,
  type PeerRecord,
  type SiteRecords,
  untouchedDisk,
  untouchedMigration,
  untouchedPeer,
} from './records.ts'
import { openDatabase, resultOf, sqliteResult } from './records-database.ts'
import { damagedRow } from './records-problem.ts'

export type RecordsRequest =
  | { readonly id: number; readonly do: 'load' }
  | { readonly id: number; readonly do: 'commit'; readonly changes: readonly Change[] }
  | { readonly id: number; readonly do: 'close' }

export interface RecordsReply {
  readonly id: number
  readonly value?: SiteRecords
  readonly error?: {
    readonly code: string
    readonly message: string
    readonly next?: string | undefined
    readonly nothingRecorded?: boolean | undefined
  }
}

export interface RecordsPlace {
  readonly path: string
  /** Disks lie beside it: then a database that is missing is not made anew. */
  readonly hasDisks: boolean
  readonly siteId: string
}

/** What it means that a record lacks a field: it was written before there was such a field. */
const untouched = { disk: untouchedDisk, migration: untouchedMigration, peer: untouchedPeer } as const

class RecordsDatabase {
  readonly #database: DatabaseSync
  readonly #path: string
  readonly #root: string
  readonly #witness: CommitWitness

  constructor({ path, hasDisks, siteId }: RecordsPlace) {
    this.#path = path
    this.#root = dirname(path)
    this.#witness = new CommitWitness(`${path}-commits`)
    const committed = this.#witness.read()
    const isKnown = hasDisks || committed !== undefined
    try {
      this.#database = openDatabase({ path, isKnown, committed, siteId })
    } catch (error) {
      this.#witness.close()
      throw error
    }
  }

  load(): SiteRecords {
    return {
      disks: (this.#all('disk') as DiskRecord[]).map((record) => this.#withPaths(record)),
      migrations: this.#all('migration') as MigrationRecord[],
      peers: this.#all('peer') as PeerRecord[],
    }
  }

  commit(changes: readonly Change[]): void {
    let isUndone = true
    try {
      this.#database.exec('BEGIN IMMEDIATE')
      for (const change of changes) this.#apply(change)
      const row = this.#database.prepare('UPDATE site SET commits = commits + 1 RETURNING commits').get()
      isUndone = false // From here on only the next start knows.
      this.#database.exec('COMMIT')
      this.#witness.write(Number(row?.['commits']))
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw Object.assign(error as Error, { nothingRecorded: isUndone })
    }
  }

  close(): void {
    this.#database.close()
    this.#witness.close()
  }

  #all(table: TableName): ShapedRecord[] {
    const rows = this.#database.prepare(`SELECT id, body, checksum FROM ${table} ORDER BY added`).all()
    return rows.map((row) => {
      const [id, body] = [String(row['id']), String(row['body'])]
      if (Number(row['checksum']) !== rowChecksum(table, id, body))
        throw damagedRow(this.#path, table, id, 'its checksum is wrong')
      const found = shaped(table, id, { ...untouched[table], ...(JSON.parse(body) as object) })
      if ('wrong' in found) throw damagedRow(this.#path, table, id, found.wrong)
      return found.record
    })
  }

  #withPaths(record: DiskRecord): DiskRecord {
    const found = withPaths(record, this.#root)
    if (found) return found
    throw damagedRow(this.#path, 'disk', record.id, `${record.path} lies outside of the data folder ${this.#root}`)
  }

  #apply(change: Change): void {
    if ('remove' in change) {
      this.#database.prepare(`DELETE FROM ${change.remove} WHERE id = ?`).run(change.id)
      return
    }
    if ('mark' in change) {
      const row = this.#database.prepare('SELECT body FROM disk WHERE id = ?').get(change.id)
      if (!row) return
      const record = JSON.parse(String(row['body'])) as DiskRecord
      this.#put('disk', change.id, { ...record, ...change.facts })
      return
    }
    if (change.put === 'disk') this.#put('disk', change.record.id, withStoredPaths(change.record, this.#root))
    else if (change.put === 'peer') this.#put('peer', change.record.fingerprint, change.record)
    else this.#put('migration', change.record.id, change.record)
  }

  #put(table: TableName, id: string, record: ShapedRecord): void {
    const body = JSON.stringify(record)
    this.#database
      .prepare(
        `INSERT INTO ${table} (id, body, checksum) VALUES (?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET body = excluded.body, checksum = excluded.checksum`,
      )
      .run(id, body, rowChecksum(table, id, body))
  }
}

/** A StoreErrorCode for what SQLite, or this worker, threw. */
function storeCode(error: Error & { code?: string }): string {
  if (error.code === 'newer-format' || error.code === 'damaged') return error.code
  const result = resultOf(error)
  if (result === sqliteResult.busy) return 'records-locked'
  return result === sqliteResult.full ? 'records-full' : 'records-failed'
}

/** What the code means to an operator, where SQLite's own words say less. */
const sentences: Readonly<Record<string, { readonly message: string; readonly next: string }>> = {
  'records-full': {
    message: 'the file system of the data folder is full: nothing can be recorded',
    next: 'Make room there.',
  },
  'records-locked': {
    message: "another program has the data folder's database locked: nothing was recorded",
    next: 'End it: only vmstore may have vmstore.sqlite open.',
  },
}

let database: RecordsDatabase | undefined

parentPort?.on('message', (request: RecordsRequest) => {
  let reply: RecordsReply = { id: request.id }
  try {
    database ??= new RecordsDatabase(workerData as RecordsPlace)
    if (request.do === 'load') reply = { id: request.id, value: database.load() }
    else if (request.do === 'commit') database.commit(request.changes)
    else database.close()
  } catch (error) {
    const { message, next, nothingRecorded } = error as Error & { next?: string; nothingRecorded?: boolean }
    const code = storeCode(error as Error)
    reply = { id: request.id, error: { code, message, next, nothingRecorded, ...sentences[code] } }
  }
  parentPort?.postMessage(reply)
})
