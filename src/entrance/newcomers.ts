// The places at one listener of those who have connected and not shown yet what they may: how many there are, in all and of
// one source, who goes when there are too many, and how long each may take.
// Always: a newcomer is let in, at the cost of the oldest of the source that has most; so a herd pushes out its own, and
// whoever comes from elsewhere, or has only just come, stays. Each is gone from here when it is known, has left, or was sent
// away, whichever comes first, and is sent away at most once.

export interface NewcomerLimits {
  /** Of one listener. */
  readonly newcomers: number
  /** Of them, those of one source. */
  readonly newcomersPerAddress: number
  /** Until the first byte has come. */
  readonly firstByteMs: number
  /** From the beginning until it is known. */
  readonly negotiationMs: number
}

export const defaultNewcomerLimits: NewcomerLimits = {
  // After a restart a host with a hundred machines is back in one moment.
  newcomers: 256,
  newcomersPerAddress: 128,
  firstByteMs: 3000,
  negotiationMs: 10_000,
}

/** Why a newcomer was sent away. */
export type Dismissal = 'pushedOut' | 'silent' | 'slow'

export const dismissalTexts: Readonly<Record<Dismissal, string>> = {
  pushedOut: 'a newer connection needed the place of this one, which had not finished its negotiation',
  silent: 'its first byte did not come in time',
  slow: 'negotiation took too long',
}

export interface Newcomer {
  /** Who counts as one with it; undefined: that is not known, and nobody does. */
  readonly source: string | undefined
  /** Whether a byte of it has come. */
  hasSpoken(): boolean
  /** It has no place any more, and must be ended. */
  dismiss(why: Dismissal): void
}

/** How often, and when the last time. */
export interface Count {
  readonly count: number
  readonly last: string
}

export class Newcomers {
  readonly limits: NewcomerLimits
  /** Of each source the oldest first. */
  readonly #bySource = new Map<string, Set<Place>>()
  #size = 0
  readonly #counts: { [Why in Dismissal]: Count | null } = { pushedOut: null, silent: null, slow: null }

  constructor(limits: Partial<NewcomerLimits> = {}) {
    this.limits = { ...defaultNewcomerLimits, ...limits }
  }

  /** How many there are. */
  get size(): number {
    return this.#size
  }

  get counts(): Readonly<Record<Dismissal, Count | null>> {
    return this.#counts
  }

  /** The place is given back when the result is told so. */
  enter(newcomer: Newcomer): Place {
    const { newcomers, newcomersPerAddress, firstByteMs, negotiationMs } = this.limits
    const key = keyOf(newcomer)
    const own = newcomer.source === undefined ? undefined : this.#bySource.get(key)
    if (own !== undefined && own.size >= newcomersPerAddress) this.#dismiss(oldest(own), 'pushedOut')
    else if (this.#size >= newcomers) this.#dismiss(oldest(this.#largest()), 'pushedOut')
    const place = new Place(newcomer, (gone) => this.#remove(gone))
    this.#bySource.set(key, (this.#bySource.get(key) ?? new Set()).add(place))
    this.#size++
    // What has come while this process stood still is read first.
    place.waits(firstByteMs, () => setImmediate(() => !newcomer.hasSpoken() && this.#dismiss(place, 'silent')))
    place.waits(negotiationMs, () => this.#dismiss(place, newcomer.hasSpoken() ? 'slow' : 'silent'))
    return place
  }

  /** The places of the source that has most. */
  #largest(): ReadonlySet<Place> {
    return [...this.#bySource.values()].reduce((most, each) => (each.size > most.size ? each : most))
  }

  #dismiss(place: Place, why: Dismissal): void {
    if (!place.leave()) return
    this.#counts[why] = { count: (this.#counts[why]?.count ?? 0) + 1, last: new Date().toISOString() }
    place.newcomer.dismiss(why)
  }

  #remove(place: Place): void {
    const key = keyOf(place.newcomer)
    const own = this.#bySource.get(key)!
    own.delete(place)
    if (own.size === 0) this.#bySource.delete(key)
    this.#size--
  }
}

/** One newcomer's. */
export class Place {
  readonly newcomer: Newcomer
  readonly #gone: (place: Place) => void
  readonly #timers: NodeJS.Timeout[] = []
  #hasLeft = false

  constructor(newcomer: Newcomer, gone: (place: Place) => void) {
    this.newcomer = newcomer
    this.#gone = gone
  }

  waits(durationMs: number, late: () => void): void {
    this.#timers.push(setTimeout(late, durationMs))
  }

  /** It is known now, or has gone. May be told again; false then. */
  leave(): boolean {
    if (this.#hasLeft) return false
    this.#hasLeft = true
    for (const timer of this.#timers.splice(0)) clearTimeout(timer)
    this.#gone(this)
    return true
  }
}

/** Of those whose source is not known, none is told from another. */
function keyOf({ source }: Newcomer): string {
  return source ?? ''
}

function oldest(places: ReadonlySet<Place>): Place {
  return places.values().next().value!
}
