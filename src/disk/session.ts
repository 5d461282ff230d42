// One client's use of a disk. Counts each request at the disk's gate and for the quiet rule, and gives it to the I/O of the
// state that the disk has at that moment. What is held while the disk freezes goes on in the state that follows.

import type {
  ExportHandle,
  MaybePromise,
  PageTaker,
  SessionEnd,
  StatusExtent,
  StatusKind,
  ZeroOptions,
} from '../guest/export.ts'
import type { Gate } from './gate.ts'
import type { GuestErrors } from './guest-errors.ts'
import { type GuestIo, guestError } from './io/guest-io.ts'
import type { RequestKind, SessionActivity, Sessions } from './sessions.ts'
import type { UnsyncedWrites } from './sync/unsynced.ts'

/** What a session needs of its disk. */
export interface SessionHost {
  readonly name: string
  readonly gate: Gate
  readonly sessions: Sessions
  readonly guestErrors: GuestErrors
  /** The I/O of the disk's present state. */
  readonly io: GuestIo
  readonly unsynced: UnsyncedWrites
  /** A session has ended: the migration may be waiting for the last one. */
  sessionEnded(): void
}

export class DiskSession implements ExportHandle {
  readonly #host: SessionHost
  readonly #activity: SessionActivity
  readonly #gone = new AbortController()

  constructor(host: SessionHost, client: string, isElsewhere: boolean) {
    this.#host = host
    this.#activity = host.sessions.open(client, isElsewhere)
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    return this.#run('read', (io) => io.read(offset, target, this.#gone.signal))
  }

  readPages(offset: number, lengthBytes: number, pipe: PageTaker): boolean {
    const { gate, io } = this.#host
    if (gate.frozen || io.readPages === undefined) return false
    return this.#run('read', () => io.readPages!(offset, lengthBytes, pipe)) as boolean
  }

  takesAtOnce(offset: number, lengthBytes: number): boolean {
    return !this.#host.gate.frozen && !this.#mustMark && this.#host.io.takesAtOnce(offset, lengthBytes)
  }

  write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void> {
    return this.#run('write', (io) =>
      this.#mustMark
        ? this.#marked((now, durably) => now.write(offset, source, durably, this.#gone.signal), fua)
        : io.write(offset, source, fua, this.#gone.signal),
    )
  }

  trim(offset: number, lengthBytes: number, fua: boolean): MaybePromise<void> {
    return this.#run('write', (io) =>
      this.#mustMark
        ? this.#marked((now, durably) => now.trim(offset, lengthBytes, durably, this.#gone.signal), fua)
        : io.trim(offset, lengthBytes, fua, this.#gone.signal),
    )
  }

  writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): MaybePromise<void> {
    const zero = (io: GuestIo, fua: boolean) =>
      io.writeZeroes(offset, lengthBytes, { ...options, fua }, this.#gone.signal)
    return this.#run('write', (io) =>
      this.#mustMark
        ? this.#marked(zero, options.fua)
        : io.writeZeroes(offset, lengthBytes, options, this.#gone.signal),
    )
  }

  flush(): MaybePromise<void> {
    return this.#run('flush', (io) => io.flush(this.#gone.signal))
  }

  cache(offset: number, lengthBytes: number): MaybePromise<void> {
    return this.#run('cache', (io) => io.cache(offset, lengthBytes, this.#gone.signal))
  }

  blockStatus(
    kind: StatusKind,
    offset: number,
    lengthBytes: number,
    limit: number,
  ): MaybePromise<readonly StatusExtent[]> {
    return this.#run('status', (io) => io.status(kind, offset, lengthBytes, limit))
  }

  get hasUnflushed(): boolean {
    return this.#host.sessions.hasUnflushed(this.#activity)
  }

  /** The client is known to be gone: a write that it left waiting for switchover must not bring one about. */
  hangUp(): void {
    this.#host.sessions.hangUp(this.#activity)
    this.#gone.abort(new Error('the client is gone'))
  }

  close(end: SessionEnd): void {
    this.hangUp()
    this.#host.sessions.close(this.#activity, end)
    this.#host.sessionEnded()
  }

  /** A write of a client that outlives this host is known as such before it is answered. */
  get #mustMark(): boolean {
    const { unsynced } = this.#host
    return !unsynced.isSet && (this.#activity.isElsewhere || unsynced.isForAll)
  }

  /** The write was counted before, so that no mark that it finds set is taken off meanwhile. */
  async #marked(write: (io: GuestIo, durably: boolean) => MaybePromise<void>, durably: boolean): Promise<void> {
    const isMarked = await this.#host.unsynced.set()
    await write(this.#host.io, durably || !isMarked)
    // It may have waited for switchover, whose commit began before its client came and knows nothing of it.
    await this.#host.unsynced.coverAnswered()
  }

  #run<T>(kind: RequestKind, request: (io: GuestIo) => MaybePromise<T>): MaybePromise<T> {
    const began = this.#host.sessions.begin(this.#activity, kind)
    const held = this.#host.gate.enter()
    if (held) return held.then(() => this.#enter(kind, began, request))
    return this.#entered(kind, began, request)
  }

  async #enter<T>(kind: RequestKind, began: number, request: (io: GuestIo) => MaybePromise<T>): Promise<T> {
    for (let held = this.#host.gate.enter(); held; held = this.#host.gate.enter()) await held
    return this.#entered(kind, began, request)
  }

  #entered<T>(kind: RequestKind, began: number, request: (io: GuestIo) => MaybePromise<T>): MaybePromise<T> {
    try {
      const result = request(this.#host.io)
      if (result instanceof Promise) {
        return result.then(
          (value) => {
            this.#leave(kind, began, true)
            return value
          },
          (error: unknown) => {
            this.#leave(kind, began, false)
            throw this.#failed(error, kind)
          },
        )
      }
      this.#leave(kind, began, true)
      return result
    } catch (error) {
      this.#leave(kind, began, false)
      throw this.#failed(error, kind)
    }
  }

  /** What a client that is gone would have been answered is of no interest. */
  #failed(error: unknown, kind: RequestKind): Error {
    const { name, guestErrors } = this.#host
    const told = guestError(error, `${kind} on ${name}`)
    if (!this.#gone.signal.aborted) guestErrors.add(told.code, this.#activity.client, told.message)
    return told
  }

  #leave(kind: RequestKind, began: number, good: boolean): void {
    this.#host.gate.leave()
    this.#host.sessions.end(this.#activity, kind, began, good)
  }
}
