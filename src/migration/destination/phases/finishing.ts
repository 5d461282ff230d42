// The last phase of a destination's course: every block is here and owned, the source is released, and the migration is over.
//
// What always holds: the source is told only what is on record here (promise 8), of all disks together. It need not be alive:
// what it has said for good may be proven by something else; and the operator may end the migration without it, then it is
// told later.

import type { DeedEntry } from '../../../deed/entries.ts'
import { PeerRefusal } from '../../../link/channel.ts'
import { movedOnCodes } from '../../codes.ts'
import type { CompleteDisk, Release } from '../../counterpart.ts'
import { withRelease } from '../../deeds.ts'
import type { MoveChanges } from '../../move.ts'
import { diskNames } from '../../move.ts'
import { retryDelayMs } from '../../retries.ts'
import { signComplete } from '../../signed-words.ts'
import type { ComingDisk } from '../coming-disk.ts'
import { type DestinationHost, recorded } from '../host.ts'

export class Finishing {
  readonly #host: DestinationHost
  readonly #coming: readonly ComingDisk[]
  /** What the source has signed when it let the disks go. */
  #releases: readonly DeedEntry[] = []

  constructor(host: DestinationHost, coming: readonly ComingDisk[]) {
    this.#host = host
    this.#coming = coming
  }

  /** Resolves when the migration is over, on record. Rejects when `working` ends. */
  async run(working: AbortSignal): Promise<void> {
    const { course, services, source, note, update, tell } = this.#host
    // Of several disks the last to arrive may have left the move.
    const finishing = () => update({ state: 'finishing' })
    if (course.record.state !== 'finishing')
      await recorded(this.#host, [], 'that every block has come', finishing, working)
    for (let attempt = 1; ; attempt++) {
      try {
        const said = { disks: this.#complete, copyingMs: course.copyingMs }
        this.#released(await source.complete({ ...said, ...signComplete(services.key, course.record) }, working))
        break
      } catch (error) {
        working.throwIfAborted()
        if (error instanceof PeerRefusal && movedOnCodes.includes(error.code)) break
        note(`every block has come; the source is not released yet: ${(error as Error).message}`)
        await services.clock.sleep(retryDelayMs(attempt), working)
      }
    }
    note(null)
    await recorded(this.#host, [], 'that the migration is over', () => this.#end(), working)
    tell({ kind: 'ended' })
  }

  /** The operator does not wait for the source any longer: it is told when it comes back. Resolves when that is on record. */
  async recordUntold(): Promise<void> {
    await this.#end({ sourceTold: false, note: 'ended without the source, which is told when it comes back' })
  }

  /** The move is over, and its disks are free, in one transaction. */
  #end(changes: MoveChanges = {}): Promise<void> {
    const { services, ending, update } = this.#host
    const counters = new Map(this.#owned.map(({ id, tally }) => [id, { counters: tally.now }]))
    const ended = ending('done', services.siteId, ({ id }) => counters.get(id) ?? {})
    const leave = () =>
      this.#owned.map(({ disk }) => disk.leaveMigration(withRelease(disk.record.deed, this.#releases)))
    return update({ ...ended, ...changes }, leave)
  }

  get #owned(): readonly ComingDisk[] {
    return this.#coming.filter((each) => each.isInMove)
  }

  get #complete(): readonly CompleteDisk[] {
    return this.#owned.map(({ frozen, tally, moved: { verified, differed } }) => ({
      ...frozen,
      ...tally.now,
      verified,
      differed,
    }))
  }

  /** The source has heard it; or it is gone for good, and its word is proven by something else. */
  #released(release: Release): void {
    const { course, services, tell } = this.#host
    if (release.answer === 'released') {
      this.#releases = release.released
      for (const each of this.#owned) each.tally.heard(release.disks, each.id)
      return
    }
    const message = `every block has come; the source is gone, and that it gave the ${this.#owned.length > 1 ? 'disks' : 'disk'} up is proven by ${release.proof.foundIn}`
    services.log('info', { migration: course.id, disk: diskNames(course.record) }, message)
    tell({ kind: 'step', message })
  }
}
