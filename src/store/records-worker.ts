// The worker that owns the SQLite database of a site. One request at a time, in order; every commit is one transaction
// with synchronous=FULL, so that it is durable when it is answered.

import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import {
  type Change,
  type DiskRecord,
  type MigrationRecord,
  type PeerRecord,
  type SiteRecords,
  untouchedDisk,
  untouchedMigration,
} from './records.ts'

export type RecordsRequest =
  | { readonly id: number; readonly do: 'load' }
  | { readonly id: number; readonly do: 'commit'; readonly changes: readonly Change[] }
  | { readonly id: number; readonly do: 'close' }

export interface RecordsReply {
  readonly id: number
  readonly value?: SiteRecords
  readonly error?: { readonly code: string; readonly message: string; readonly next?: string | undefined }
}

/** Raised with every change of the schema; a database with a higher one is refused. */
const schemaVersion = 1
const applicationId = 0x766d7374 // 'vmst'

const tables = { disk: 'disk', migration: 'migration', peer: 'peer' } as const

class RecordsDatabase {
  readonly #database: DatabaseSync

  constructor(path: string) {
    this.#database = openDatabase(path)
  }

  load(): SiteRecords {
    const all = (table: string) =>
      this.#database
        .prepare(`SELECT body FROM ${table} ORDER BY added`)
        .all()
        .map((row) => JSON.parse(String(row['body'])) as unknown)
    return {
      disks: (all(tables.disk) as DiskRecord[]).map((record) => ({ ...untouchedDisk, ...record })),
      migrations: (all(tables.migration) as MigrationRecord[]).map((record) => ({
        ...untouchedMigration,
        ...record,
      })),
      peers: all(tables.peer) as PeerRecord[],
    }
  }

  commit(changes: readonly Change[]): void {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      for (const change of changes) this.#apply(change)
      this.#database.exec('COMMIT')
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  close(): void {
    this.#database.close()
  }

  #apply(change: Change): void {
    if ('remove' in change) {
      this.#database.prepare(`DELETE FROM ${tables[change.remove]} WHERE id = ?`).run(change.id)
      return
    }
    if ('mark' in change) {
      for (const [field, fact] of Object.entries(change.facts))
        this.#database
          .prepare(`UPDATE ${tables.disk} SET body = json_set(body, '$.${field}', json(?)) WHERE id = ?`)
          .run(JSON.stringify(fact), change.id)
      return
    }
    const id = change.put === 'peer' ? change.record.fingerprint : change.record.id
    this.#database
      .prepare(
        `INSERT INTO ${tables[change.put]} (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
      )
      .run(id, JSON.stringify(change.record))
  }
}

function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path)
  try {
    const version = checkOurs(database, path)
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;')
    if (version === 0) createTables(database)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** The schema's version, 0 for a file that is new. Changes nothing. */
function checkOurs(database: DatabaseSync, path: string): number {
  const next = 'Restore the data folder from its last good copy, or move it away and start anew.'
  let version: number
  let application: number
  let tableCount: number
  try {
    version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
    application = Number(database.prepare('PRAGMA application_id').get()?.['application_id'])
    tableCount = Number(database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'])
  } catch (error) {
    throw problem('damaged', `${path} cannot be read as vmstore's database: ${(error as Error).message}`, { next })
  }
  const isNew = version === 0 && application === 0 && tableCount === 0
  if (!isNew && application !== applicationId)
    throw problem('damaged', `${path} is a database of another program`, { next })
  if (version > schemaVersion) {
    throw problem('newer-format', `${path} has format ${version}; this vmstore knows up to ${schemaVersion}`, {
      next: 'Use the newer vmstore that wrote it.',
    })
  }
  return version
}

function createTables(database: DatabaseSync): void {
  database.exec('BEGIN IMMEDIATE')
  for (const table of Object.values(tables)) {
    database.exec(
      `CREATE TABLE ${table} (added INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT`,
    )
  }
  database.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${schemaVersion};`)
  database.exec('COMMIT')
}

function problem(code: string, message: string, facts: { next: string }): Error {
  return Object.assign(new Error(message), { code, ...facts })
}

/** A StoreErrorCode for what SQLite, or this worker, threw. */
function storeCode(error: Error & { code?: string; errcode?: number }): string {
  if (error.code === 'newer-format' || error.code === 'damaged') return error.code
  const sqliteFull = 13
  return error.errcode === sqliteFull ? 'records-full' : 'records-failed'
}

let database: RecordsDatabase | undefined

parentPort?.on('message', (request: RecordsRequest) => {
  let reply: RecordsReply = { id: request.id }
  try {
    database ??= new RecordsDatabase((workerData as { path: string }).path)
    if (request.do === 'load') reply = { id: request.id, value: database.load() }
    else if (request.do === 'commit') database.commit(request.changes)
    else database.close()
  } catch (error) {
    const { message, next } = error as Error & { next?: string }
    const code = storeCode(error as Error)
    const isFull = code === 'records-full' // The transaction was rolled back.
    reply = {
      id: request.id,
      error: isFull
        ? {
            code,
            message: 'the file system of the data folder is full: nothing can be recorded',
            next: 'Make room there.',
          }
        : { code, message, next },
    }
  }
  parentPort?.postMessage(reply)
})
