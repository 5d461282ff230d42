// What happens at a site, told to any number of watchers. Each says what it wants to hear of, and has a queue of its own.
//
// What always holds: whoever publishes waits for nobody. What is said is put into words once, and only if somebody listens.
// Of progress only the newest waits, in the order in which things happened; everything else is given out, or the watcher is
// told in a sentence that it was too far behind: then nothing waits for it any more. So a queue has a maximum, and no
// watcher believes that it has heard everything when it has not.

import { ControlError } from './errors.ts'
import { type CreateEvent, ExitCode, type LinkView, type MigrationEvent } from './types.ts'

/** Events that wait for one watcher. */
export const maxWaitingEvents = 256

interface Happening<Kind extends string, Content extends { readonly type: string }> {
  readonly kind: Kind
  /** The ids of what it is about: of a migration, of disks, of a peer. */
  readonly concerns: readonly string[]
  readonly content: Content
}

export interface DiskChange {
  readonly type: 'state'
  readonly disk: string
  /** A state of disks, or `removed`. */
  readonly state: string
}

export interface LinkChange {
  readonly type: 'up' | 'down'
  readonly peer: string
  readonly link: LinkView
}

export type SiteEvent =
  /** Ends with `result`. */
  | Happening<'migration', MigrationEvent>
  /** Of a disk that is being made. That it is there is told as `disk`. */
  | Happening<'creation', Extract<CreateEvent, { type: 'progress' }>>
  | Happening<'disk', DiskChange>
  | Happening<'link', LinkChange>

export type EventKind = SiteEvent['kind']
type EventOf<Kind extends EventKind> = Extract<SiteEvent, { kind: Kind }>

export interface EventFilter<Kind extends EventKind> {
  readonly kinds: readonly Kind[]
  /** An id; absent: whatever it is about. */
  readonly concerning?: string
}

export class EventBus {
  readonly #watchers = new Set<Pick<Watcher<EventKind>, 'wants' | 'offer'>>()

  /** How many watch. */
  get watchers(): number {
    return this.#watchers.size
  }

  publish<Kind extends EventKind>(kind: Kind, concerns: readonly string[], say: () => EventOf<Kind>['content']): void {
    let event: SiteEvent | undefined
    for (const watcher of this.#watchers) {
      if (!watcher.wants(kind, concerns)) continue
      event ??= { kind, concerns, content: say() } as SiteEvent
      watcher.offer(event)
    }
  }

  /** From now on, until `signal` aborts or the watcher is disposed of. */
  watch<Kind extends EventKind>(filter: EventFilter<Kind>, signal: AbortSignal): Watcher<Kind> {
    const watcher = new Watcher<Kind>(filter, signal, () => this.#watchers.delete(watcher))
    if (!signal.aborted) this.#watchers.add(watcher)
    return watcher
  }
}

/** Read by one reader, once. */
export class Watcher<Kind extends EventKind> implements AsyncIterable<EventOf<Kind>>, Disposable {
  readonly #filter: EventFilter<Kind>
  readonly #signal: AbortSignal
  readonly #leave: () => void
  /** In the order in which they happened. Progress is found by what it is of, everything else has a number. */
  readonly #waiting = new Map<string | number, SiteEvent>()
  #numbered = 0
  #hasEnded = false
  #failure: ControlError | undefined
  #wake: (() => void) | undefined
  readonly #aborted = () => this[Symbol.dispose]()

  constructor(filter: EventFilter<Kind>, signal: AbortSignal, leave: () => void) {
    this.#filter = filter
    this.#signal = signal
    this.#leave = leave
    signal.addEventListener('abort', this.#aborted, { once: true }) // Its reader may never come again.
  }

  /** Events that it has not read yet. */
  get waiting(): number {
    return this.#waiting.size
  }

  wants(kind: EventKind, concerns: readonly string[]): boolean {
    const { kinds, concerning } = this.#filter
    return (kinds as readonly EventKind[]).includes(kind) && (concerning === undefined || concerns.includes(concerning))
  }

  offer(event: SiteEvent): void {
    const isProgress = event.content.type === 'progress'
    const key = isProgress ? `${event.kind} ${event.concerns.join(' ')}` : this.#numbered++
    this.#waiting.delete(key)
    if (this.#waiting.size < maxWaitingEvents || this.#dropProgress()) this.#waiting.set(key, event)
    else if (!isProgress) this.#fail()
    this.#wake?.()
  }

  /** Nothing comes any more; what waits is still given out. */
  end(): void {
    this.#hasEnded = true
    this.#signal.removeEventListener('abort', this.#aborted)
    this.#leave()
    this.#wake?.()
  }

  [Symbol.dispose](): void {
    this.#waiting.clear()
    this.end()
  }

  /** @throws ControlError `watcher-behind` */
  async *[Symbol.asyncIterator](): AsyncGenerator<EventOf<Kind>> {
    try {
      while (!this.#signal.aborted) {
        if (this.#failure) throw this.#failure
        const [next] = this.#waiting
        if (next) {
          this.#waiting.delete(next[0])
          yield next[1] as EventOf<Kind>
        } else if (this.#hasEnded) return
        else await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    } finally {
      this[Symbol.dispose]()
    }
  }

  /** The oldest there is. @returns whether there was any */
  #dropProgress(): boolean {
    for (const key of this.#waiting.keys()) if (typeof key === 'string') return this.#waiting.delete(key)
    return false
  }

  #fail(): void {
    this.#failure = new ControlError({
      code: 'watcher-behind',
      exit: ExitCode.other,
      message: `This reader of events was ${maxWaitingEvents} of them behind, so it is told no more.`,
      safe: 'What it watched goes on without it.',
      next: 'Watch again: that begins with how things stand.',
    })
    this[Symbol.dispose]()
  }
}
