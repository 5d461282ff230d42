// The syncs of one disk, and the record of one that failed (failed-sync.ts says what that means).
//
// What always holds:
// - A failure is on record, or its record was tried, before the flush that met it is answered.
// - It is taken off the record only after all that can be read was written anew and synced, and writes are taken after that.

import type { Clock } from '../../block/clock.ts'
import type { BlockFile } from '../../store/files.ts'
import type { CommittedRecord } from '../committed-record.ts'
import { failureOf } from './failed-sync.ts'
import { rewrite } from './rewrite.ts'
import { SyncGroup } from './sync-group.ts'

export interface SyncServices {
  readonly clock: Clock
  readonly log: (level: 'info' | 'warn' | 'error', facts: Record<string, unknown>, message: string) => void
}

export class DiskSyncs {
  readonly #services: SyncServices
  readonly #record: CommittedRecord
  /** What the guest's I/O flushes through. */
  readonly group: SyncGroup

  /** `sync` makes bytes and bits durable. */
  constructor(services: SyncServices, record: CommittedRecord, sync: () => Promise<void>) {
    this.#services = services
    this.#record = record
    const failure = failureOf(record.now)
    this.group = new SyncGroup(sync, { ...(failure && { failure }), onFailed: (error) => this.#recordFailure(error) })
  }

  get failure(): Error | undefined {
    return this.group.failure
  }

  /** All of the file is written anew, as it can be read now, and synced; then the failure is over. Rejects, and it is not. */
  async mend(file: BlockFile, signal: AbortSignal): Promise<void> {
    await rewrite(file, 0, file.sizeBytes, signal)
    await file.sync()
    // Durable before a write is taken: a mark that came back would refuse flushed ones.
    await this.#record.mark({ failedSync: null })
    this.group.mended()
    this.#services.log('warn', this.#disk, 'a failed sync was accepted: the disk takes writes again')
  }

  /** The disk is being closed: what could not be recorded is tried once more. */
  async recordBeforeClose(): Promise<void> {
    if (this.failure && !this.#record.now.failedSync) await this.#recordFailure(this.failure)
  }

  /** What the kernel dropped is known to the next start only by this. */
  async #recordFailure(error: Error): Promise<void> {
    const { clock, log } = this.#services
    log('error', { ...this.#disk, error: error.message }, 'a sync failed: the disk takes no more writes')
    const failedSync = { at: clock.date().toISOString(), message: error.message }
    try {
      await this.#record.mark({ failedSync })
    } catch (cause) {
      const facts = { ...this.#disk, error: (cause as Error).message }
      log('error', facts, 'the failed sync cannot be recorded: a daemon that starts again will not know of it')
    }
  }

  get #disk(): { readonly disk: string } {
    return { disk: this.#record.now.name }
  }
}
