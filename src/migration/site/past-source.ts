// What a destination that was away is told by a source that has no course any more of its migration: it is over; or it never
// began; or it could not be taken up.
//
// What always holds: nothing of it is granted, and no byte of it is served. Whoever took what was given away and taken back
// since hears that it is void.

import type { Deed } from '../../deed/entries.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { noRightCode, startingCode, unknownMigrationCode } from '../codes.ts'
import type { AcquireAnswer, DiskAt, Release, SourceDesk, SourceStanding } from '../counterpart.ts'
import { endedStates } from '../course.ts'
import { releasesOf } from '../deeds.ts'
import { restoredRefusal, supersededRefusal } from '../supersession.ts'
import type { PastMigrations } from './past.ts'

export class PastSource implements SourceDesk {
  readonly #migration: string
  readonly #siteId: string
  /** undefined: its beginning was refused, and what the peer may have made of it is not wanted; or it is none of the peer's. */
  readonly #known: MigrationRecord | undefined
  readonly #deedOf: (diskId: string) => Deed | null

  /** `deedOf`: of a disk, as far as this site knows. */
  constructor(
    past: PastMigrations,
    siteId: string,
    peerId: string,
    migration: string,
    deedOf: (diskId: string) => Deed | null,
  ) {
    const record = past.get(migration)
    this.#deedOf = deedOf
    this.#migration = migration
    this.#siteId = siteId
    this.#known = record?.peerId === peerId && record.role === 'source' ? record : undefined
  }

  async inquire(): Promise<SourceStanding> {
    const state = this.#isDone ? 'released' : 'cancelled'
    return { state, writersAreGone: false, sessions: 0, boot: null }
  }

  async acquire(): Promise<AcquireAnswer> {
    const isDone = this.#isDone
    const message = isDone
      ? 'it is complete'
      : `migration ${this.#migration} is cancelled; the source owns the ${this.#known && this.#known.disks.length > 1 ? 'disks' : 'disk'}`
    return { answer: 'refused', code: isDone ? 'already-taken' : 'cancelled', message }
  }

  async complete(): Promise<Release> {
    if (this.#isDone) {
      const deeds = this.#known!.disks.map(({ id }) => this.#deedOf(id))
      return { answer: 'released', disks: [], released: releasesOf(deeds, this.#migration) }
    }
    throw this.#refusal
  }

  async taken(): Promise<void> {
    // Whoever has everything says `complete`; who still says `taken` was restored to before. If the disk has moved on since,
    // that site sees it by the deed.
    if (this.#isDone) throw restoredRefusal(this.#known!)
    throw this.#refusal
  }

  async cancel(): Promise<{ cancelled: boolean; message: string }> {
    const isDone = this.#isDone
    return { cancelled: !isDone, message: isDone ? 'it is complete' : '' }
  }

  blocks({ disk, generation }: DiskAt): never {
    const known = this.#known
    const given = known?.disks.find(({ id }) => id === disk)
    if (known && given && given.reclaimedAs !== null && generation === given.generation)
      throw supersededRefusal(known, this.#siteId)
    throw new PeerRefusal(noRightCode, `there is no migration ${this.#migration} to fetch for`)
  }

  flush = () => this.#refuse()
  extents = () => this.#refuse()
  digests = () => this.#refuse()
  progress = () => this.#refuse()
  guests = () => this.#refuse()
  paused = () => this.#refuse()

  /** @throws PeerRefusal when it could not be taken up, and is not over: nothing may be said of it */
  get #isDone(): boolean {
    const state = this.#known?.state
    if (state !== undefined && !endedStates.includes(state))
      throw new PeerRefusal(startingCode, `migration ${this.#migration} is stopped there`)
    return state === 'done'
  }

  async #refuse(): Promise<never> {
    void this.#isDone
    throw this.#refusal
  }

  /** Whoever took what was given away has to hear that it is void. */
  get #refusal(): PeerRefusal {
    const known = this.#known
    if (known?.disks.some(({ reclaimedAs }) => reclaimedAs !== null)) return supersededRefusal(known, this.#siteId)
    return new PeerRefusal(unknownMigrationCode, `there is no migration ${this.#migration} there`)
  }
}
