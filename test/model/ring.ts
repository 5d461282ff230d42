// Three sites in a ring, and a liar beside them: a disk goes from each to the next, under a guest that writes and reads, while daemons
// are killed and messages get lost. At every step at most one site owns it, and nothing on record is a liar's word (liar-watch.ts); at
// the end the disk has gone all the way, and has every byte.

import assert from 'node:assert/strict'
import { signAdopted } from '../../src/deed/signing.ts'
import type { Terms } from '../../src/migration/terms.ts'
import { putDisk } from './image.ts'
import { keyOf, peerIdOf } from './keys.ts'
import { Liar } from './liar.ts'
import { LiarWatch } from './liar-watch.ts'
import { fill, sectorBytes, valuesOf } from './oracle.ts'
import { SimLink } from './sim-link.ts'
import { SimSite } from './sim-site.ts'
import { diskId, diskName, sectors, sizeBytes } from './stage.ts'
import { World } from './world.ts'

const names = ['A', 'B', 'C'] as const
const mostLegs = 5
const stepLimit = 40_000
/** Of a step. */
const killRate = 0.0015
const faultRates = [0, 0.02, 0.05]
/** Weather is bad for so many steps of a leg. */
const badSteps = 1500

const terms: Terms = {
  mode: 'post-copy',
  switchover: 'now',
  switchoverWaitMs: 10_000,
  maxRate: null,
  stallTimeoutMs: null,
  sourcePolicy: 'keep',
  force: true,
}

export interface RingOutcome {
  readonly ringMoves: number
  readonly ringKills: number
  readonly lies: number
  readonly deedsShown: number
}

class Ring {
  readonly world: World
  readonly sites: readonly SimSite[]
  readonly diskIds = [diskId]
  #link: SimLink
  readonly #values: number[]
  readonly #watch: LiarWatch
  readonly #liar: Liar
  #kills = 0
  #nextValue = 1000
  #failure: unknown

  constructor(seed: number) {
    this.world = new World(seed)
    this.#link = new SimLink(this.world)
    this.sites = names.map((name) => new SimSite(this.world, name, this.#link))
    for (const site of this.sites) site.others = this.sites.filter((each) => each !== site)
    this.#values = putDisk(this.sites[0]!, this.world.random)
    if (this.world.random.chance(0.5)) this.#isFromBeforeDeeds(this.sites[0]!)
    this.#watch = new LiarWatch(this)
    this.#liar = new Liar(this)
  }

  get facts(): string {
    return `seed ${this.world.seed} at ${Math.round(this.world.nowMs)} ms, in the ring`
  }

  /** The site has had the disk for long, and says so itself. */
  #isFromBeforeDeeds({ name, database }: SimSite): void {
    const generation = 3
    const deed = signAdopted(keyOf(name), diskId, generation, '2026-01-01T00:00:00.000Z')
    database.disk.set(diskId, { ...database.disk.get(diskId)!, generation, deed })
  }

  async run(): Promise<RingOutcome> {
    await this.#until('all are up', Promise.all(this.sites.map((site) => site.start())), () => false)
    let isOver = false
    const roaming = this.#liar.roam(() => isOver)
    roaming.catch((error: unknown) => {
      this.#failure ??= error
    })
    const legs = 1 + this.world.random.integer(mostLegs)
    for (let leg = 0; leg < legs; leg++) {
      const [from, to] = [this.sites[leg % 3]!, this.sites[(leg + 1) % 3]!]
      await this.#write(from)
      await this.#move(from, to)
      await this.#write(to)
      await this.#read(to)
    }
    isOver = true
    await this.#until('the liar has left', roaming, () => false)
    const { lies, shown: deedsShown } = this.#liar
    return { ringMoves: legs, ringKills: this.#kills, lies, deedsShown }
  }

  /** From the one to the other, to its end: the source is released, and neither has a course. */
  async #move(from: SimSite, to: SimSite): Promise<void> {
    this.world.log(`ring: the disk goes from ${from.name} to ${to.name}`)
    const peer = { id: peerIdOf(to.name), site: to.name, name: to.name }
    const isBegun = () => from.database.disk.get(diskId)?.migrationId != null
    const rate = this.world.random.pick(faultRates)
    let steps = 0
    const weather = () => {
      const isBad = ++steps < badSteps
      this.#link.faultRate = isBad ? rate : 0
      return isBad
    }
    while (!isBegun() && this.#stateAt(from) === 'owned') {
      const { process } = from
      let isAnswered = false
      const answered = () => {
        isAnswered = true
      }
      const never = new AbortController().signal
      if (from.up && to.up) from.migrations!.beginnings.start([diskName], peer, terms, never).then(answered, answered)
      else {
        await this.world.step() // One of them is coming up.
        continue
      }
      await this.#until('the move begins', undefined, weather, () => isAnswered || !process.alive)
    }
    const isOver = () => this.#stateAt(to) === 'owned' && this.#stateAt(from) === 'released' && this.#areIdle
    const isCancelled = () => this.#stateAt(from) === 'owned' && this.#areIdle && !isBegun()
    await this.#until(`the disk is at ${to.name}`, undefined, weather, () => isOver() || isCancelled())
    if (!isOver()) return this.#move(from, to)
  }

  get #areIdle(): boolean {
    return this.sites.every((site) => site.up && site.migrations!.courses().length === 0)
  }

  #stateAt(site: SimSite): string | undefined {
    return site.database.disk.get(diskId)?.state
  }

  /** A few writes, each answered, by a client that comes and goes. Daemons die in moves only. */
  async #write(site: SimSite): Promise<void> {
    for (let count = 0; count < 4; count++) {
      const first = this.world.random.integer(sectors)
      const value = this.#nextValue++
      const bytes = new Uint8Array(sectorBytes)
      fill(bytes, value)
      await this.#client(site, (open) => open.session.write(first * sectorBytes, bytes, false))
      this.#values[first] = value
    }
  }

  async #read(site: SimSite): Promise<void> {
    const bytes = new Uint8Array(sizeBytes)
    await this.#client(site, (open) => open.session.read(0, bytes))
    const facts = `${this.facts}: the whole of ${diskName} at ${site.name}`
    for (const [sector, value] of valuesOf(bytes, facts).entries())
      assert.equal(value, this.#values[sector], `${facts}: sector ${sector}`)
  }

  async #client(site: SimSite, request: (open: NonNullable<ReturnType<SimSite['open']>>) => unknown): Promise<void> {
    await this.#until(
      `${site.name} is up`,
      undefined,
      () => false,
      () => site.up,
    )
    const open = site.open(diskName, 'guest')
    assert(open, `${this.facts}: ${diskName} is not served at ${site.name}`)
    await this.#until(`a guest is answered at ${site.name}`, (async () => request(open))(), () => false)
    site.close(open, 'disconnected')
  }

  /** Lets the world go on, whatever the weather, until that is settled, or so. */
  async #until(
    what: string,
    work: Promise<unknown> | undefined,
    isBad: () => boolean,
    isSo: () => boolean = () => false,
  ): Promise<void> {
    let isDone = false
    work?.then(
      () => {
        isDone = true
      },
      (error: unknown) => {
        this.#failure ??= error
      },
    )
    for (let steps = 0; !isDone && !isSo(); steps++) {
      assert(
        steps < stepLimit,
        `${this.facts}: never: ${what}; up: ${this.sites.map((site) => `${site.name} ${site.up}`)}; pending: ${this.world.pending}`,
      )
      if (isBad() && this.world.random.chance(killRate)) this.#kill(this.world.random.pick(this.sites))
      await this.world.step()
      this.#check()
    }
  }

  #kill(site: SimSite): void {
    if (!site.up) return
    this.#kills++
    site.kill()
    void this.#revive(site).catch((error: unknown) => {
      this.#failure ??= error
    })
  }

  async #revive(site: SimSite): Promise<void> {
    await this.world.event(undefined, `${site.name} starts again`)
    await site.start()
  }

  #check(): void {
    if (this.#failure) throw this.#failure
    this.#watch.check()
    const owners = this.sites.filter((site) => ['owned', 'arriving'].includes(this.#stateAt(site) ?? ''))
    const are = owners.map(({ name }) => name).join(' and ')
    assert(owners.length <= 1, `${this.facts}: promise 1: ${are} own ${diskName}`)
    for (const site of this.sites)
      assert.notEqual(
        this.#stateAt(site),
        'superseded',
        `${this.facts}: promise 10: ${site.name} fences, and no deed says so`,
      )
  }
}

/** Runs one seed of the ring. @throws the first promise that does not hold, with the last events */
export async function simulateRing(seed: number): Promise<RingOutcome> {
  const ring = new Ring(seed)
  try {
    return await ring.run()
  } catch (error) {
    const trace = ring.world.trace.join('\n')
    throw new Error(`${(error as Error).stack}\n--- the last events, seed ${seed}:\n${trace}`, { cause: error })
  } finally {
    ring.world.end()
  }
}
