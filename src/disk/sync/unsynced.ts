// Whether clients that outlive this host's power may have had writes answered that are not durable. A hypervisor at another
// host that connects again forgets such writes, and its next flush succeeds: only we can tell that they may be lost. So a
// mark on record, with the boot id, says that there may be some; a start under another boot finds it.
//
// What always holds:
// - The mark is durable before such a write is answered. Where it cannot be recorded the write is synced before its answer.
// - It is taken off only when all that was answered is durable and no write has begun since. So where it is off, a loss of
//   power loses nothing that was answered to these clients.
// A write asks for `isSet`, and nothing else; the mark comes and goes at most once in `idleMs`.

import type { Clock } from '../../block/clock.ts'
import type { DiskRecord } from '../../store/records.ts'
import type { CommittedRecord } from '../committed-record.ts'
import type { Sessions } from '../sessions.ts'

/** So long no write begins before the mark is taken off: a guest that writes now and then does not toggle it. */
const idleMs = 10_000
/** After a mark that could not be recorded, it is not tried again for so long. */
const retryMs = 1000
/** How long a stop waits for the sync of a disk with unflushed writes. */
const closeFlushMs = 10_000

export interface UnsyncedParts {
  readonly record: CommittedRecord
  readonly sessions: Pick<Sessions, 'writes' | 'writesInFlight' | 'anyElsewhere'>
  /** Of this host's kernel. */
  readonly bootId: string
  readonly clock: Clock
  readonly log: (level: 'error' | 'warn', facts: Record<string, unknown>, message: string) => void
  /** Aborts when the disk closes. */
  readonly closed: AbortSignal
  /** Resolves when everything that was answered before the call is durable. */
  flush(): Promise<void>
}

export class UnsyncedWrites {
  readonly #parts: UnsyncedParts
  /** The mark is on record, for this boot: writes may be answered. */
  isSet = false
  /** How many writes had begun, and were over, when the last sync that succeeded began. */
  #syncedWrites = -1
  #setting: Promise<boolean> | undefined
  #retryAtMs = 0
  #isWatched = false

  constructor(parts: UnsyncedParts) {
    this.#parts = parts
  }

  /** Also clients of this host may outlive its power: while the disk is about to move, its guest may go before it. */
  get isForAll(): boolean {
    const { state, migrationId } = this.#record
    return migrationId !== null && state === 'owned'
  }

  /** Power was lost while the mark was on, and the operator has not accepted it. */
  get loss(): DiskRecord['powerLoss'] {
    const { powerLoss, unsynced } = this.#record
    if (!this.#isOurs) return null // Another site has the newest bytes.
    if (powerLoss || !unsynced || unsynced.bootId === this.#parts.bootId) return powerLoss
    return { since: unsynced.since, foundAt: null } // It could not be recorded yet.
  }

  /** What the record says once the operator has accepted the loss. A mark of this boot stays, for writes have come since. */
  get acceptance(): Pick<DiskRecord, 'powerLoss'> & Partial<Pick<DiskRecord, 'unsynced'>> {
    return { powerLoss: null, ...(!this.#isMarked && { unsynced: null }) }
  }

  /** The disk was opened: what a mark on its record says under this boot. */
  async opened(): Promise<void> {
    const { log, clock } = this.#parts
    const { unsynced, powerLoss, name: disk } = this.#record
    if (!this.#isOurs || !unsynced) return
    if (this.#isMarked) {
      this.adopt()
      return
    }
    const loss = { since: powerLoss?.since ?? unsynced.since, foundAt: clock.date().toISOString() }
    log('warn', { disk, since: loss.since }, 'power was lost with unflushed writes of clients that live on')
    try {
      await this.#parts.record.mark({ unsynced: null, powerLoss: loss })
    } catch (error) {
      log(
        'error',
        { disk, error: String(error) },
        'the loss of power cannot be recorded; the next start finds it again',
      )
    }
  }

  /** The mark that is on record now was put there last. */
  adopt(): void {
    this.moved()
    if (!this.#isMarked) return
    this.isSet = true
    this.#watch()
  }

  /** The record was committed: a mark that it has not is not set. One that it has may be about to be taken off. */
  moved(): void {
    if (!this.#isMarked) this.isSet = false
  }

  /** For a commit of the disk's arrival, if a client that outlives this host waits for it with a write. */
  get atArrival(): DiskRecord['unsynced'] {
    return this.#parts.sessions.anyElsewhere ? this.#mark : null
  }

  /** Before a write is answered to a client that outlives this host. False: it must be durable before it is. */
  set(): Promise<boolean> {
    this.#setting ??= this.#set().finally(() => {
      this.#setting = undefined
    })
    return this.#setting
  }

  /** Before the guest may leave: what was answered to it and is not durable is known as such. Rejects when it is not. */
  async coverAnswered(): Promise<void> {
    if (this.isSet || this.#isDurable) return
    if (!(await this.set())) await this.#parts.flush()
  }

  /** Runs a sync. */
  async saving(sync: () => Promise<void>): Promise<void> {
    const { writes, writesInFlight } = this.#parts.sessions
    await sync()
    if (writesInFlight === 0) this.#syncedWrites = writes
  }

  /** The disk closes, and no write is under way any more: all is synced, so that a host in good order loses nothing, and says so. */
  async close(): Promise<void> {
    if (this.isSet && !this.#isDurable) await this.#flushForClose()
    if (this.isSet && this.#isDurable) await this.#takeOff()
  }

  /** Storage that hangs does not keep the daemon from its end: then the mark stays. */
  async #flushForClose(): Promise<void> {
    const over = new AbortController()
    const late = this.#parts.clock.sleep(closeFlushMs, over.signal).catch(() => {})
    await Promise.race([this.#parts.flush().catch(() => {}), late])
    over.abort(new Error('the disk is closed'))
  }

  async #set(): Promise<boolean> {
    const { record, clock, log } = this.#parts
    if (!this.#isOurs) return true // Nothing is answered out of this state.
    if (clock.now() < this.#retryAtMs) return false
    try {
      // A mark of another boot that could not be told yet must not be lost under this one.
      await record.mark(() => ({ unsynced: this.#mark, powerLoss: this.loss }))
    } catch (error) {
      this.#retryAtMs = clock.now() + retryMs
      const facts = { disk: this.#record.name, error: String(error) }
      log('error', facts, 'unflushed writes cannot be recorded as such: each is made durable before it is answered')
      return false
    }
    this.adopt()
    return this.isSet || !this.#isOurs
  }

  /** One at a time, for as long as the mark is on. */
  #watch(): void {
    if (this.#isWatched) return
    this.#isWatched = true
    const over = () => {
      this.#isWatched = false
      if (this.isSet && !this.#parts.closed.aborted && this.#isOurs) this.#watch()
    }
    this.#takeOffWhenIdle().then(over, over) // It rejects when the disk closes.
  }

  async #takeOffWhenIdle(): Promise<void> {
    const { sessions, clock, closed, flush } = this.#parts
    while (this.isSet && this.#isOurs) {
      const before = sessions.writes
      await clock.sleep(idleMs, closed)
      if (sessions.writes !== before) continue
      if (!this.#isDurable) await flush().catch(() => {}) // It is told where a guest's flush meets it.
      if (this.isSet && this.#isDurable && this.#isOurs) return this.#takeOff()
    }
  }

  /** In the same step in which all is durable: a write that begins later sets it anew. */
  async #takeOff(): Promise<void> {
    this.isSet = false
    await this.#parts.record.mark({ unsynced: null }).catch(() => {}) // It says too much then, and never too little.
  }

  get #isDurable(): boolean {
    const { writes, writesInFlight } = this.#parts.sessions
    return writesInFlight === 0 && this.#syncedWrites === writes
  }

  get #isMarked(): boolean {
    return this.#record.unsynced?.bootId === this.#parts.bootId
  }

  /** Guests' writes are answered here. */
  get #isOurs(): boolean {
    const { state } = this.#record
    return state === 'owned' || state === 'arriving'
  }

  get #mark(): NonNullable<DiskRecord['unsynced']> {
    return { bootId: this.#parts.bootId, since: this.#parts.clock.date().toISOString() }
  }

  get #record(): DiskRecord {
    return this.#parts.record.now
  }
}
