// What survives a switchover is one cut through the writes of all disks that move together: of the writes at the source, in
// the order in which they began, the first ones, whichever disk they went to. Whoever takes care that what he writes to one
// disk is never without what he wrote to another (a database and its log) finds it so at the destination.

import type { SimSite } from './sim-site.ts'
import type { Stage, StageDisk } from './stage.ts'

/** A write of which it is not known yet what becomes of it. */
export interface OpenWish {
  acknowledged(): void
  /** Nothing of it happened. */
  refused(): void
}

interface Wish {
  readonly disk: StageDisk
  /** In the order of all. */
  readonly at: number
}

/** Of the writes at one site while its disks were in one generation. */
interface Cut {
  lastKept: Wish | undefined
  firstLost: Wish | undefined
}

export class CutWatch {
  readonly #stage: Stage
  readonly #cuts = new Map<string, Cut>()
  #begun = 0

  constructor(stage: Stage) {
    this.#stage = stage
  }

  /** To be called in the step in which a guest asks for a write. undefined: it does not go to an owner. */
  begins(disk: StageDisk, site: SimSite): OpenWish | undefined {
    const live = site.disks?.get(disk.id)
    if (live?.state !== 'owned') return undefined
    const key = `${site.name} ${live.record.generation}`
    const cut = this.#cuts.get(key) ?? { lastKept: undefined, firstLost: undefined }
    this.#cuts.set(key, cut)
    const wish = { disk, at: this.#begun++ }
    return {
      acknowledged: () => {
        if (!cut.lastKept || cut.lastKept.at < wish.at) cut.lastKept = wish
        this.#check(cut)
      },
      refused: () => {
        const state = site.disks?.get(disk.id)?.state
        if (state !== 'departed' && state !== 'released') return
        if (!cut.firstLost || cut.firstLost.at > wish.at) cut.firstLost = wish
        this.#check(cut)
      },
    }
  }

  #check({ lastKept, firstLost }: Cut): void {
    if (!lastKept || !firstLost || lastKept.at < firstLost.at) return
    const { fail, facts } = this.#stage
    const [kept, lost] = [lastKept.disk.name, firstLost.disk.name]
    fail(
      new Error(`${facts}: promise 2: a write to ${kept} was let through that began after one to ${lost} that is lost`),
    )
  }
}
