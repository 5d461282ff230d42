// The crash model of a hand-over by a relay alone: a source and two destinations that have one ticket, and a store between them
// that is a third party (sim-store.ts). They claim, depart, grant, take, and want the disk back, and any of them dies at any await.
// The sites' own part is as small as can be; what decides is the code of src/relay.
//
// What must hold at every step: at most one site serves the disk, and at most one holds the claim. In the end, when the weather has
// cleared and the store is fit, all know one decision.

import assert from 'node:assert/strict'
import { Claim, type Claimant, fingerprintOfClaimant } from '../../src/relay/claim.ts'
import { Fence } from '../../src/relay/fence.ts'
import { moveKeys } from '../../src/relay/keys.ts'
import { moveFolder } from '../../src/relay/names.ts'
import type { OnceRecord } from '../../src/relay/once.ts'
import { WeatheredStore } from '../../src/relay/weather.ts'
import { SimStore } from './sim-store.ts'
import { diskId } from './stage.ts'
import { SimProcess, World } from './world.ts'

const move = '00000000-0000-4000-8000-0000000000aa'
const keys = moveKeys(new Uint8Array(32).fill(7), move)
const folder = moveFolder(keys.names)
const generation = 2
const disks = [{ disk: diskId, generation }]
const rules = {
  firstByteMs: 2000,
  slowestBytesPerSecond: 64 * 1024,
  attempts: 3,
  firstWaitMs: 100,
  longestWaitMs: 1000,
}
const pauseMs = 500
const stepLimit = 20_000
const badWeather = { least: 100, spread: 600 }

/** What is durable at a site. */
interface Durable {
  /** `returned`: owned again, after the source has won the fence. */
  state: 'owned' | 'departed' | 'returned' | 'waiting' | 'claimed' | 'arriving' | 'left'
  /** Fingerprint of whom the source gives to. */
  claimant?: string
  /** It has seen what was decided. */
  isSettled: boolean
  readonly kept: Map<'claim' | 'fence', Uint8Array>
}

export interface FenceCounts {
  grants: number
  returns: number
  parked: number
  claimsLost: number
  fenceCrashes: number
  unfits: number
}

class Site {
  readonly name: string
  readonly claimant: Claimant
  readonly fingerprint: string
  readonly durable: Durable
  readonly #run: FenceRun
  process = new SimProcess('')
  #starts = 0

  constructor(run: FenceRun, name: string, state: Durable['state']) {
    this.#run = run
    this.name = name
    this.claimant = { site: name, name, publicKey: Buffer.from(`key of ${name}`).toString('base64') }
    this.fingerprint = fingerprintOfClaimant(this.claimant)
    this.durable = { state, isSettled: false, kept: new Map() }
  }

  /** What it has begun is gone; what is durable is not. */
  start(course: (site: Site) => Promise<void>): void {
    this.process = new SimProcess(`${this.name}${++this.#starts}`)
    const { process } = this
    const goOn = async (): Promise<void> => {
      while (!this.durable.isSettled) {
        await course(this).catch((error: unknown) => {
          if (error instanceof assert.AssertionError) this.#run.fail(error)
          this.#run.world.log(`${process.name}: ${(error as Error).message.slice(0, 120)}`)
        })
        await this.#run.world.clock(process).sleep(pauseMs)
      }
    }
    goOn().catch((error: unknown) => this.#run.fail(error))
  }

  /** One transaction. A site that dies may have made it or not. */
  async commit(what: string, change: (durable: Durable) => void): Promise<void> {
    const apply = () => change(this.durable)
    const abandon = () => this.#run.world.random.chance(0.5) && apply()
    await this.#run.world.event(this.process, `commit ${what}`, { abandon })
    apply()
  }

  get #store(): WeatheredStore {
    const { world, store } = this.#run
    const clock = world.clock(this.process)
    return new WeatheredStore({
      store: store.of(this.process),
      address: 'sim',
      clock,
      random: () => world.random.next(),
      rules,
    })
  }

  get claim(): Claim {
    return new Claim({ store: this.#store, folder, key: keys.claim, move, record: this.#record('claim') })
  }

  /** `alongside`: what becomes durable with what is about to be put. */
  fence(alongside?: Durable['state']): Fence {
    const record = this.#record('fence', alongside)
    return new Fence({ store: this.#store, folder, key: keys.fence, move, generation, record })
  }

  #record(of: 'claim' | 'fence', alongside?: Durable['state']): OnceRecord {
    return {
      kept: async () => this.durable.kept.get(of),
      keep: (sealed) =>
        this.commit(`${alongside ?? ''} ${of}`, (durable) => {
          durable.kept.set(of, Buffer.from(sealed))
          if (alongside) durable.state = alongside
        }),
    }
  }
}

class FenceRun {
  readonly world: World
  readonly store: SimStore
  readonly #source: Site
  readonly #destinations: readonly Site[]
  /** The source departs to nobody, and whoever claims the ticket decides. */
  readonly #isParked: boolean
  readonly #wantsBack: boolean
  readonly #never = new AbortController().signal
  readonly #counts: FenceCounts = { grants: 0, returns: 0, parked: 0, claimsLost: 0, fenceCrashes: 0, unfits: 0 }
  /** In how many steps the store begins to keep versions. */
  readonly #versionsFrom: number
  #failure: unknown

  constructor(seed: number) {
    this.world = new World(seed)
    this.store = new SimStore(this.world)
    const { random } = this.world
    this.#isParked = random.chance(0.4)
    this.#wantsBack = random.chance(0.5)
    this.#versionsFrom = random.chance(0.4) ? random.integer(300) : Number.POSITIVE_INFINITY
    this.#source = new Site(this, 'S', 'owned')
    this.#destinations = [new Site(this, 'D', 'waiting'), new Site(this, 'E', 'waiting')]
  }

  fail = (error: unknown): void => {
    this.#failure ??= error
  }

  get #sites(): readonly Site[] {
    return [this.#source, ...this.#destinations]
  }

  async run(): Promise<FenceCounts> {
    const { world } = this
    for (const site of this.#sites) site.start(this.#courseOf(site))
    const limit = badWeather.least + world.random.integer(badWeather.spread)
    const faultRate = world.random.pick([0, 0.05, 0.2])
    const lieRate = world.random.pick([0, 0, 0.1])
    this.store.showsLate = world.random.chance(0.3)
    for (let steps = 0; !this.#isOver(steps > limit); steps++) {
      const isBad = steps < limit
      assert(steps < stepLimit, `${this.#facts}: all do not come to know one decision: ${this.#sight()}`)
      this.store.faultRate = isBad ? faultRate : 0
      this.store.lieRate = isBad ? lieRate : 0
      if (!isBad) this.store.showsLate = false
      this.store.up = isBad && world.random.chance(0.02) ? !this.store.up : this.store.up || !isBad
      if (steps === this.#versionsFrom) this.store.versions = world.random.pick(['all-win', 'racers-win'] as const)
      if (isBad && world.random.chance(0.02)) this.#crash(world.random.pick(this.#sites))
      await world.step()
      if (this.#failure) throw this.#failure
      this.#check()
    }
    return this.#sum()
  }

  #courseOf(site: Site): (site: Site) => Promise<void> {
    return site === this.#source ? this.#sourceCourse : this.#destinationCourse
  }

  #sourceCourse = async (site: Site): Promise<void> => {
    const { durable } = site
    const signal = this.#never
    if (durable.state === 'owned') {
      const claimed = durable.claimant === undefined && !this.#isParked ? await site.claim.read(signal) : undefined
      if (claimed) {
        const claimant = fingerprintOfClaimant(claimed)
        // On record: the store is not asked again who it is.
        await site.commit('claimant', (at) => {
          at.claimant = claimant
        })
      }
      if (this.#isParked) await site.commit('departed', (at) => this.#parks(at))
      else if (durable.claimant !== undefined) await this.#grant(site, durable.claimant)
      return
    }
    if (this.#wantsBack) return this.#wantBack(site)
    if (!this.#isParked) return this.#grant(site, durable.claimant!)
    const decided = await site.fence().read(signal)
    if (decided) await this.#settle(site)
  }

  #parks(at: Durable): void {
    at.state = 'departed'
    this.#counts.parked++
  }

  async #grant(site: Site, to: string): Promise<void> {
    const wanted = { decision: 'grant', disks, to, by: site.fingerprint } as const
    const { decided } = await site.fence('departed').decide(wanted, this.#never)
    assert.equal(decided.decision, 'grant', `${this.#facts}: nobody but the source revokes`)
    if (!this.#wantsBack) await this.#settle(site)
  }

  async #wantBack(site: Site): Promise<void> {
    const isBack = await site.fence().takesBack(disks, site.fingerprint, this.#never)
    await site.commit(isBack ? 'returned' : 'settled', (at) => {
      if (isBack) at.state = 'returned'
      at.isSettled = true
    })
  }

  #destinationCourse = async (site: Site): Promise<void> => {
    const { durable } = site
    const signal = this.#never
    if (durable.state === 'waiting') {
      const { isOurs } = await site.claim.take(site.claimant, signal)
      await site.commit(isOurs ? 'claimed' : 'left', (at) => {
        at.state = isOurs ? 'claimed' : 'left'
        at.isSettled = !isOurs
      })
      return
    }
    const decided = this.#isParked
      ? (await site.fence().decide({ decision: 'grant', disks, to: site.fingerprint, by: site.fingerprint }, signal))
          .decided
      : await site.fence().read(signal)
    if (!decided) return
    const isTaken = decided.decision === 'grant' && decided.to === site.fingerprint
    await site.commit(isTaken ? 'arriving' : 'left', (at) => {
      at.state = isTaken ? 'arriving' : 'left'
      at.isSettled = true
    })
  }

  #settle(site: Site): Promise<void> {
    return site.commit('settled', (at) => {
      at.isSettled = true
    })
  }

  #crash(site: Site): void {
    if (!site.process.alive) return
    this.#counts.fenceCrashes++
    this.world.log(`${site.name}: KILLED`)
    this.world.kill(site.process)
    void this.world.event(undefined, `${site.name} starts again`).then(() => site.start(this.#courseOf(site)))
  }

  #check(): void {
    const serving = this.#sites.filter(({ durable }) => ['owned', 'returned', 'arriving'].includes(durable.state))
    assert(serving.length <= 1, `${this.#facts}: promise 1: two sites serve the disk: ${this.#sight()}`)
    const claimants = this.#destinations.filter(({ durable }) => ['claimed', 'arriving'].includes(durable.state))
    assert(claimants.length <= 1, `${this.#facts}: two destinations hold one claim: ${this.#sight()}`)
  }

  /** In a store that keeps versions it may be that nobody learns anything any more: an operator has to. */
  #isOver(isClear: boolean): boolean {
    if (this.#sites.every(({ durable }) => durable.isSettled)) return true
    // Whoever has claimed nothing yet has nothing to wait for but the store.
    return isClear && this.store.versions !== undefined && this.store.unfits > 20
  }

  #sum(): FenceCounts {
    const serving = this.#sites.find(({ durable }) => ['returned', 'arriving'].includes(durable.state))
    if (this.store.versions === undefined) assert(serving, `${this.#facts}: nobody serves the disk: ${this.#sight()}`)
    return {
      ...this.#counts,
      grants: serving && serving !== this.#source ? 1 : 0,
      returns: serving === this.#source ? 1 : 0,
      claimsLost: this.#destinations.filter(({ durable }) => durable.state === 'left').length,
      unfits: this.store.unfits,
    }
  }

  get #facts(): string {
    return `seed ${this.world.seed} at ${Math.round(this.world.nowMs)} ms`
  }

  #sight(): string {
    return this.#sites.map(({ name, durable }) => `${name} ${durable.state}${durable.isSettled ? '.' : ''}`).join(', ')
  }
}

/** Runs one seed. @throws the first promise that does not hold, with the last events */
export async function simulateFence(seed: number): Promise<FenceCounts> {
  const run = new FenceRun(seed)
  try {
    return await run.run()
  } catch (error) {
    const trace = run.world.trace.join('\n')
    throw new Error(`${(error as Error).stack}\n--- the last events, seed ${seed}:\n${trace}`, { cause: error })
  } finally {
    run.world.end()
  }
}
