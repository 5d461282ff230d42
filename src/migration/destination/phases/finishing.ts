// The last phase of a destination's course: every block is here and owned, the source is released, and the migration is over.
//
// What always holds: the source is told only what is on record here (promise 8). It need not be alive: what it has said for
// good may be proven by something else; and the operator may end the migration without it, then it is told later.

import { PeerRefusal } from '../../../link/channel.ts'
import { movedOnCodes } from '../../codes.ts'
import type { Completion, Release } from '../../counterpart.ts'
import { retryDelayMs } from '../../retries.ts'
import { type DestinationHost, frozenDisk, recorded } from '../host.ts'
import type { Tally } from '../tally.ts'

export class Finishing {
  readonly #host: DestinationHost
  readonly #tally: Tally

  constructor(host: DestinationHost, tally: Tally) {
    this.#host = host
    this.#tally = tally
  }

  /** Resolves when the migration is over, on record. Rejects when `working` ends. */
  async run(): Promise<void> {
    const { course, services, working, note, update, tell } = this.#host
    for (let attempt = 1; ; attempt++) {
      try {
        this.#released(await this.#host.source.complete(this.#completion, working))
        break
      } catch (error) {
        working.throwIfAborted()
        if (error instanceof PeerRefusal && movedOnCodes.includes(error.code)) break
        note(`every block has come; the source is not released yet: ${(error as Error).message}`)
        await services.clock.sleep(retryDelayMs(attempt), working)
      }
    }
    note(null)
    const over = () => this.#host.ending('done', services.siteId, () => ({ counters: this.#tally.now }))
    const end = () => update(over(), [course.disk.leaveMigration()])
    await recorded(this.#host, 'that the migration is over', end, working)
    tell({ kind: 'ended' })
  }

  /** The operator does not wait for the source any longer: it is told when it comes back. Resolves when that is on record. */
  async recordUntold(): Promise<void> {
    const { course, services, ending, update } = this.#host
    const note = 'ended without the source, which is told when it comes back'
    const ended = { ...ending('done', services.siteId, () => ({ counters: this.#tally.now })), sourceTold: false, note }
    await update(ended, [course.disk.leaveMigration()])
  }

  get #completion(): Completion {
    const { verified, differed } = this.#host.course.moved(this.#host.course.disk)
    const disk = { ...frozenDisk(this.#host), ...this.#tally.now, verified, differed }
    return { disks: [disk], copyingMs: this.#host.course.copyingMs }
  }

  /** The source has heard it; or it is gone for good, and its word is proven by something else. */
  #released(release: Release): void {
    const { course, services, tell } = this.#host
    if (release.answer === 'released') {
      this.#tally.heard(release.disks, course.moved(course.disk).id)
      return
    }
    const message = `every block has come; the source is gone, and that it gave the disk up is proven by ${release.proof.foundIn}`
    services.log('info', { migration: course.id, disk: course.disk.name }, message)
    tell({ kind: 'step', message })
  }
}
