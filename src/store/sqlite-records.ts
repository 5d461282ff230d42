// Records in one SQLite database. Its commits take half a millisecond, and thirty beside a busy writer, so they live in a
// worker; this side only sends changes and waits. Commits are done in the order in which they were asked for.

import { Worker } from 'node:worker_threads'
import type { Change, Records, SiteRecords } from './records.ts'
import type { RecordsPlace, RecordsReply, RecordsRequest } from './records-worker.ts'
import { StoreError, type StoreErrorCode } from './store-error.ts'

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
   * Opens the database, and creates it when there is none, unless disks lie beside it (`hasDisks`).
   * @throws StoreError `newer-format`, `damaged`
   */
  static async open(path: string, { hasDisks }: { hasDisks: boolean } = { hasDisks: false }): Promise<SqliteRecords> {
    const records = new SqliteRecords({ path, hasDisks })
    try {
      await records.load()
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
