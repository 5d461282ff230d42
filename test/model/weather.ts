// What befalls the sites and their link: the link goes and comes, daemons are killed and stopped, power is lost, disks are
// full for a while, syncs and commits fail. In the end it clears up, and everything must come to a good end.

import assert from 'node:assert/strict'
import { checkRefused, type Rot, rotMaps } from './rot.ts'
import type { SimSite } from './sim-site.ts'
import type { Stage } from './stage.ts'
import type { SimProcess } from './world.ts'

/** Of a hundred steps in which there is something that has to outlive the power, in so many it goes, as a fraction. */
const strikeRate = 0.03
/** One run in so many has syncs fail where the disk arrives, and nowhere else: at its owner they would keep it from moving. */
const arrivalFaultsEvery = 3
const arrivalFaultRate = 0.1
/** Of a hundred steps after that, in so many the operator starts the daemon again, as a fraction. */
const restartRate = 0.02

export interface Climate {
  /** Nothing happens at all. */
  readonly calm: boolean
  readonly messageFaultRate: number
  readonly flipRate: number
  readonly commitFaultRate: number
  readonly syncFaultRate: number
  readonly disksFillUp: boolean
  /** Of power losses so many leave a map log damaged. */
  readonly rotRate: number
}

export class Weather {
  readonly #stage: Stage
  readonly #climate: Climate
  powerLosses = 0
  #cleared = false
  /** Sites with a damaged map log. */
  readonly #rotten = new Map<SimSite, Rot>()
  /**
   * Sites that were started again after a failed sync, under the same kernel, which may show what it dropped and never write
   * it: how many flushes had been answered by then.
   */
  readonly #outlived = new Map<SimSite, number>()

  constructor(stage: Stage) {
    const { random } = stage.world
    this.#stage = stage
    this.#climate = {
      calm: random.chance(0.2),
      messageFaultRate: random.pick([0, 0.02, 0.1]),
      flipRate: random.pick([0, 0, 0.1]),
      commitFaultRate: random.pick([0, 0, 0.05, 0.2]),
      syncFaultRate: random.pick([0, 0, 0, 0, 0.05]),
      disksFillUp: random.chance(0.25),
      rotRate: random.pick([0, 0, 0.3]),
    }
    stage.link.onFlip = () => stage.counts.flippedPieces++
    for (const site of this.#sites) site.onSyncFailed = () => this.#stage.counts.failedSyncs++
  }

  /** No commit fails. */
  get keepsRecords(): boolean {
    return this.#climate.commitFaultRate === 0 && !this.#climate.disksFillUp
  }

  get #sites(): readonly SimSite[] {
    return [this.#stage.a, this.#stage.b]
  }

  /** Before each step of the world. `may`: it may still be bad. */
  pass(may: boolean): void {
    const { world, disks, b } = this.#stage
    const { random } = world
    // Comparisons come last, when the weather has mostly cleared: what they find has to outlive the power too.
    const hasFound = disks.some(({ comparison }) => comparison.hasFound)
    if (hasFound && !this.#climate.calm && b.process.alive && random.chance(strikeRate)) this.#crash(b, true)
    // What a failed sync dropped and nobody wrote anew is missed only by a guest that has flushed, once the power goes.
    for (const [site, flushes] of this.#outlived) {
      const isDue = site.process.alive && this.#stage.counts.flushes > flushes
      if (isDue && random.chance(strikeRate)) this.#crash(site, true)
    }
    if (!may || this.#climate.calm) {
      this.#clear()
      return
    }
    this.#cleared = false
    const { link } = this.#stage
    link.faultRate = this.#climate.messageFaultRate
    link.flipRate = this.#climate.flipRate
    if (random.chance(0.006)) link.up = !link.up
    if (random.chance(0.004)) link.cut()
    for (const site of this.#sites) {
      site.database.faultRate = this.#climate.commitFaultRate
      site.machine.syncFaultRate = this.#syncFaultRate(site)
      if (this.#climate.disksFillUp && random.chance(0.01)) site.machine.isFull = !site.machine.isFull
      if (site.process.alive && random.chance(0.005)) this.#crash(site)
      else if (site.up && random.chance(0.002)) void this.stop(site)
      else if (this.#waitsForRestart(site) && random.chance(restartRate)) void this.stop(site)
    }
  }

  /** A disk that arrives takes no more writes after a failed sync, until its daemon is started again. */
  #waitsForRestart(site: SimSite): boolean {
    return site.up && this.#stage.disks.some(({ id }) => site.failedSyncs.has(id) && isArriving(site, id))
  }

  #syncFaultRate(site: SimSite): number {
    if (this.#stage.world.seed % arrivalFaultsEvery !== 0) return this.#climate.syncFaultRate
    return this.#stage.disks.some(({ id }) => isArriving(site, id)) ? arrivalFaultRate : 0
  }

  /** Stops a daemon as its operator does, and starts it again. */
  async stop(site: SimSite): Promise<void> {
    const { process } = site
    this.#stage.counts.stops++
    void site.stop()
    await this.#stage.world.event(undefined, `${site.name} is down`, { ready: () => !process.alive })
    if (site.process === process) await this.#restart(site)
  }

  /** Starts a site again of which `dead` was the last process. */
  async revive(site: SimSite, dead: SimProcess): Promise<void> {
    if (site.process === dead) await this.#restart(site)
  }

  /** No more faults from now on; what has failed stays so. */
  calm(): void {
    const { link } = this.#stage
    link.up = true
    link.faultRate = 0
    link.flipRate = 0
    for (const site of this.#sites) {
      site.database.faultRate = 0
      site.machine.syncFaultRate = 0
      site.machine.isFull = false
    }
  }

  #clear(): void {
    const { world } = this.#stage
    this.calm()
    for (const site of this.#sites) {
      // A disk that has failed is mended by its operator: the storage is replaced, the daemon started again, the disk accepted.
      if (!site.isTroubled || (this.#cleared && !world.random.chance(0.05))) continue
      if (!site.hasFailedDisk) {
        void this.#accept(site) // Its host lost the power: nothing needs to be mended.
        continue
      }
      site.machine.mend()
      void this.stop(site)
    }
    this.#cleared = true
  }

  #crash(site: SimSite, losesPower = this.#stage.world.random.chance(0.5)): void {
    const { counts, disks } = this.#stage
    counts.crashes++
    if (losesPower) {
      this.powerLosses++
      for (const { comparison } of disks) comparison.losesPower(site)
      const { bootId } = site.machine
      site.losePower()
      this.#rot(site)
      site.failedSyncs.clear() // What was dropped is seen to be gone.
      this.#outlived.delete(site)
      for (const { id, oracle } of disks) {
        const record = site.database.disk.get(id)
        const isOwner = record?.state === 'owned' || record?.state === 'arriving'
        // All clients are at other hosts: where no mark says that they may lose something, they lose nothing.
        if (isOwner && record.unsynced?.bootId !== bootId) oracle.answeredIsDurable()
        else if (isOwner) counts.markedLosses++
        oracle.powerLost(isOwner)
      }
    } else {
      site.kill()
    }
    for (const { comparison } of disks) comparison.check() // A commit may have come through, and the next process may start in the same step.
    void this.#restart(site)
  }

  /** A machine that is up again. A daemon that dies while it starts, or stops, is started again by whoever saw it die. */
  async #restart(site: SimSite): Promise<void> {
    const { process } = site
    await this.#stage.world.event(undefined, `${site.name} starts again`)
    if (site.process !== process) return
    for (const { id, oracle } of this.#stage.disks) if (site.hasForgottenSync(id)) oracle.syncForgotten()
    if (site.failedSyncs.size > 0) this.#outlived.set(site, this.#stage.counts.flushes)
    site.failedSyncs.clear()
    const starting = site.start().then(() => (this.#rotten.has(site) ? this.#putBack(site) : this.#accept(site)))
    await starting.catch((error: unknown) => {
      if (error instanceof assert.AssertionError) this.#stage.fail(error)
      this.#stage.world.log(`${site.name}: does not start: ${error}`)
      site.kill()
      void this.#restart(site)
    })
  }

  #rot(site: SimSite): void {
    const { disks, world } = this.#stage
    const { random } = world
    if (this.#rotten.has(site) || !random.chance(this.#climate.rotRate)) return
    const rot = rotMaps(
      site,
      disks.map(({ id }) => id),
      random,
    )
    if (!rot) return
    this.#stage.world.log(`${site.name}: its map log ROTS`)
    this.#stage.counts.rottenMaps++
    this.#rotten.set(site, rot)
    site.hasRottenMaps = true
  }

  /** The damage is seen; the operator puts the log back, and starts the daemon again. */
  async #putBack(site: SimSite): Promise<void> {
    const rot = this.#rotten.get(site)!
    this.#rotten.delete(site)
    site.hasRottenMaps = false
    if (!rot.isThere()) return
    checkRefused(site, rot)
    rot.putBack()
    void this.stop(site)
  }

  /** The operator accepts what a failed sync has left, before or after clients come; in bad weather not always. */
  async #accept(site: SimSite): Promise<void> {
    const { process } = site
    if (!site.isTroubled || !(this.#cleared || this.#stage.world.random.chance(0.5))) return
    try {
      this.#stage.counts.acceptances += await site.acceptAll()
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error
      this.#stage.world.log(`${process.name}: not accepted: ${error}`)
    }
  }
}

function isArriving(site: SimSite, id: string): boolean {
  return site.database.disk.get(id)?.state === 'arriving'
}
