// Records in one SQLite database. Its commits take half a millisecond, and thirty beside a busy writer, so they live in a
// worker; this side only sends changes and waits. Commits are done in the order in which they were asked for.

import { Worker } from 'node:worker_threads'
import type { Change, Records, SiteRecords } from './records.ts'
import { damagedRowSentence, restoreOrStartAnew } from './records-problem.ts'
import type { RecordsPlace, RecordsReply, RecordsRequest } from './records-worker.ts'
import { StoreError, type StoreErrorCode } from './store-error.ts'

export interface RecordsOptions {
  /** Disks lie beside the database: it is not made anew. */
  readonly hasDisks: boolean
  /** The id of this site: who owned a disk is on record since format 3 only. */
  readonly siteId: string
  /** What is wrong with the terms of a migration, a sentence's end; whoever understands them says it. */
  wrongTerms(terms: object): string | undefined
}

export class SqliteRecords implements Records {
  readonly #worker: Worker
  readonly #waiting = new Map<number, PromiseWithResolvers<SiteRecords | undefined>>()
  #nextId = 1
  #ended: Error | undefined

  private constructor(place: RecordsPlace) {
    this.#worker = new Worker(new URL('./records-worker.ts', import.meta.url), {
      workerData: place,
      name: 'records',
    })
    this.#worker.on('message', (reply: RecordsReply) => this.#settle(reply))
    this.#worker.on('error', (error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new StoreError('closed', 'the records are closed')))
  }

  /**
   * Opens the database, and creates it when there is none, unless disks lie beside it.
   * @throws StoreError `newer-format`, `damaged`
   */
  static async open(path: string, options: Partial<RecordsOptions> = {}): Promise<SqliteRecords> {
    const { hasDisks = false, siteId = 'unknown', wrongTerms = () => undefined } = options
    const records = new SqliteRecords({ path, hasDisks, siteId })
    try {
      for (const { id, terms } of (await records.load()).migrations) {
        const wrong = wrongTerms(terms)
        if (wrong === undefined) continue
        const message = damagedRowSentence(path, 'migration', id, `terms.${wrong}`)
        throw new StoreError('damaged', message, { next: restoreOrStartAnew })
      }
    } catch (error) {
      await records.#worker.terminate()
      throw error
    }
    return records
  }

  async load(): Promise<SiteRecords> {
    return (await this.#ask({ id: this.#nextId++, do: 'load' }))!
  }

  async commit(changes: readonly Change[]): Promise<void> {
    await this.#ask({ id: this.#nextId++, do: 'commit', changes })
  }

  async close(): Promise<void> {
    if (this.#ended) return
    await this.#ask({ id: this.#nextId++, do: 'close' })
    await this.#worker.terminate()
  }

  #ask(request: RecordsRequest): Promise<SiteRecords | undefined> {
    if (this.#ended) return Promise.reject(this.#ended)
    const waiting = Promise.withResolvers<SiteRecords | undefined>()
    this.#waiting.set(request.id, waiting)
    this.#worker.postMessage(request)
    return waiting.promise
  }

  #settle(reply: RecordsReply): void {
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if (reply.error) {
      const { code, message, next, nothingRecorded = false } = reply.error
      waiting?.reject(new StoreError(code as StoreErrorCode, message, { next, nothingRecorded }))
    } else {
      waiting?.resolve(reply.value)
    }
  }

  #end(error: Error): void {
    this.#ended ??= error
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }
}
