// One run of the crash model: a guest reads and writes disks of some blocks while they move from one site to the other, and
// the seed decides what is delayed, lost, repeated, killed, stopped and powered off. Throws, with the trace, at the first
// promise that does not hold.

import assert from 'node:assert/strict'
import type { CourseEvent } from '../../src/migration/course.ts'
import { Archive, type Copy } from './archive.ts'
import { ComparisonWatch } from './comparison-watch.ts'
import { CutWatch } from './cut-watch.ts'
import { FailingDisk } from './failing-disk.ts'
import { GroupWatch } from './group-watch.ts'
import { Guest } from './guest.ts'
import { putDisk } from './image.ts'
import { Liar } from './liar.ts'
import { LiarWatch } from './liar-watch.ts'
import { Lies } from './lies.ts'
import { Operator } from './operator.ts'
import { Oracle, valuesOf } from './oracle.ts'
import { Owners } from './owners.ts'
import { SimLink } from './sim-link.ts'
import { SimSite } from './sim-site.ts'
import { type Counts, diskIds, diskNames, type Stage, type StageDisk, sectors } from './stage.ts'
import { roam } from './stray.ts'
import { Tally } from './tally.ts'
import { Weather } from './weather.ts'
import { drained, World } from './world.ts'

/** For each disk. */
const stepLimit = 60_000
/** One run in so many has its sites speak by another way than the link. */
const directEvery = 4
/** In one run in so many a peer lies to both sites. */
const liarEvery = 5
/** In one run in so many two disks move together, in one in so many three. */
const togetherEvery = { two: 3, three: 7 }
/** In one run in so many writes of the disks may take long; in one in so many a copy ahead comes in rounds of two blocks. */
const slowEvery = 3
const shortRoundsEvery = 2
/** Of a hundred writes so many, as a fraction. */
const slowRate = 0.2
/** Steps after which the weather has cleared, and after which the operator helps out. */
const badWeather = { least: 300, spread: 4000 }
const deadlines = 5000
/** A disk that cannot be read is mended after so many, when that keeps nothing from coming. */
const mendAfter = 1000

export interface Outcome extends Counts {
  readonly steps: number
  readonly switched: boolean
  /** And the sites spoke by another way than the link. */
  readonly switchedDirectly: boolean
  /** And several disks moved together. */
  readonly switchedTogether: boolean
  readonly cancelled: boolean
  /** What the liar has said. */
  readonly lies: number
}

class Run implements Stage {
  readonly world: World
  readonly link: SimLink
  a: SimSite
  b: SimSite
  readonly disks: readonly StageDisk[]
  readonly counts: Counts = {
    reads: 0,
    writes: 0,
    flushes: 0,
    flushesThere: 0,
    raggedWrites: 0,
    zerosTold: 0,
    crashes: 0,
    stops: 0,
    pauses: 0,
    failedSyncs: 0,
    markedLosses: 0,
    acceptances: 0,
    ready: 0,
    blocksAhead: 0,
    blocksAheadTogether: 0,
    reclaims: 0,
    verifications: 0,
    endedByForce: 0,
    flippedPieces: 0,
    rottenMaps: 0,
    flips: 0,
    differencesFound: 0,
    unreadableBlocks: 0,
    unreadableProbes: 0,
    restored: 0,
    restoredReclaims: 0,
    strayWrites: 0,
    strayRefusals: 0,
  }
  readonly hasStrays: boolean
  readonly cut: CutWatch
  readonly archive: Archive
  readonly #isDirect: boolean
  readonly #liar: Liar | undefined
  readonly #liarWatch: LiarWatch
  readonly #group: GroupWatch
  readonly #weather: Weather
  /** One of each for each disk. */
  readonly #lies: readonly Lies[]
  readonly #failing: readonly FailingDisk[]
  readonly #owners: ReadonlyMap<string, Owners>
  readonly #tallies: readonly Tally[]
  #values = 1000
  #operator: Operator | undefined
  #failure: unknown

  constructor(seed: number) {
    this.world = new World(seed)
    this.link = new SimLink(this.world)
    this.a = new SimSite(this.world, 'A', this.link)
    this.b = new SimSite(this.world, 'B', this.link)
    this.a.other = this.b
    this.b.other = this.a
    this.#isDirect = seed % directEvery === 0
    for (const site of [this.a, this.b]) {
      site.isDirect = this.#isDirect
      if (seed % slowEvery === 1) site.machine.slowRate = slowRate
      if (seed % shortRoundsEvery === 1) site.roundBytes = 2 * 4096
    }
    this.disks = Array.from({ length: disksOf(seed) }, (_, index) => this.#disk(index))
    this.cut = new CutWatch(this)
    this.#group = new GroupWatch(this)
    this.hasStrays = this.world.random.chance(0.4)
    this.#owners = new Map(this.disks.map((disk) => [disk.id, new Owners(this, disk)]))
    this.#tallies = this.disks.map((disk) => new Tally(this, disk))
    for (const site of [this.a, this.b]) this.#watch(site)
    this.archive = new Archive(this)
    this.link.onCall = (from, method) => this.archive.hears(from, method)
    this.link.onServed = (by, disk, generation) => this.#owners.get(disk)?.served(by, generation)
    this.#lies = this.disks.map((disk) => new Lies(this, disk))
    this.#failing = this.disks.map((disk) => new FailingDisk(this, disk))
    this.#weather = new Weather(this)
    this.#liarWatch = new LiarWatch(this)
    this.#liar = seed % liarEvery === 0 ? new Liar(this) : undefined
  }

  get facts(): string {
    return `seed ${this.world.seed} at ${Math.round(this.world.nowMs)} ms`
  }

  get sites(): readonly SimSite[] {
    return [this.a, this.b]
  }

  get diskIds(): readonly string[] {
    return this.disks.map(({ id }) => id)
  }

  get #stepLimit(): number {
    return stepLimit * this.disks.length
  }

  get powerLosses(): number {
    return this.#weather.powerLosses
  }

  isLost = (site: SimSite): boolean => this.#operator?.lost === site

  nextValue(): number {
    return this.#values++
  }

  fail = (error: unknown): void => {
    this.#failure ??= error
  }

  acknowledged(disk: StageDisk, site: SimSite, generation: number): void {
    this.#owners.get(disk.id)!.wrote(site, generation)
  }

  #disk(index: number): StageDisk {
    const named = { id: diskIds[index]!, name: diskNames[index]! }
    const oracle = new Oracle(putDisk(this.a, this.world.random, index))
    return { ...named, oracle, comparison: new ComparisonWatch(this, named) }
  }

  /** A site may be the destination of a move: what it says of its comparisons is listened to. */
  #watch(site: SimSite): void {
    site.onCourse = (course) => {
      for (const { comparison } of this.disks) comparison.listen(site, course)
      if (course.record.role === 'destination') course.listen(({ kind }) => this.#countAhead(site, kind))
    }
    site.onLog = (message, facts) => {
      for (const { comparison } of this.disks) comparison.hears(site, message, facts)
    }
  }

  #countAhead(site: SimSite, kind: CourseEvent['kind']): void {
    if (kind === 'ready') this.counts.ready++
    if (kind !== 'switchover') return
    const blocks = this.disks.reduce((sum, { name }) => sum + (site.disk(name)?.present.blocks ?? 0), 0)
    this.counts.blocksAhead += blocks
    if (this.disks.length > 1) this.counts.blocksAheadTogether += blocks
  }

  /** Each disk is in that state at that site. */
  #areAll(site: SimSite, state: string): boolean {
    return this.disks.every(({ id }) => site.database.disk.get(id)?.state === state)
  }

  async run(): Promise<Outcome> {
    const { world } = this
    await this.#steps(Promise.all([this.a.start(), this.b.start()]), 2000)
    const legs = world.random.chance(0.3) ? 2 : 1
    let steps = 0
    let cancelled = false
    for (let leg = 1; leg <= legs; leg++) {
      const operator = new Operator(this, (site, dead) => this.#weather.revive(site, dead))
      this.#operator = operator
      steps += await this.#leg(operator)
      cancelled ||= operator.cancelled
      if (leg === legs || !this.#areAll(this.b, 'owned')) break
      // The way back: the same disks, the other way, with late messages of the first move still about.
      world.log('the disks go back')
      ;[this.a, this.b] = [this.b, this.a]
      for (const owners of this.#owners.values()) owners.begins()
      for (const tally of this.#tallies) tally.begins()
      for (const { comparison } of this.disks) comparison.begins()
      this.archive.begins()
    }
    const switched = this.#areAll(this.b, 'owned')
    const switchedTogether = switched && this.disks.length > 1
    return {
      ...this.counts,
      steps,
      switched,
      switchedDirectly: switched && this.#isDirect,
      switchedTogether,
      cancelled,
      lies: this.#liar?.lies ?? 0,
    }
  }

  /** One move from `a` to `b`, under a guest's load, to its end. Resolves to the number of steps. */
  async #leg(operator: Operator): Promise<number> {
    const { world } = this
    const guest = new Guest(this)
    let worked = false
    const actors: Promise<unknown>[] = [
      guest.work(() => operator.cancelled || operator.lost !== undefined),
      operator.work(),
    ]
    const work = Promise.all(actors).then(() => {
      worked = true
    })
    const roaming = this.hasStrays ? roam(this, () => worked) : Promise.resolve()
    const lying = this.#liar?.roam(() => worked) ?? Promise.resolve()
    let isOver = false
    Promise.all([work, roaming, lying]).then(
      () => {
        isOver = true
      },
      (error: unknown) => this.fail(error),
    )
    await drained()
    const limit = badWeather.least + world.random.integer(badWeather.spread)
    let steps = 0
    for (; (!isOver || this.archive.isStranded) && steps < this.#stepLimit; steps++) {
      this.#weather.pass(steps < limit)
      const copy = steps < limit ? this.#disksFail() : undefined
      if (copy) await this.#restore(copy)
      if (this.archive.hasSeenEnough() && !(await this.#endStranded(operator))) return steps
      if (steps > limit + deadlines) operator.nudge()
      // A guest that meets what cannot be read on several disks, again and again, would not come to its end.
      if (this.disks.length > 1 && steps === limit + 2 * deadlines) for (const failing of this.#failing) failing.mend()
      if (!(await world.step())) this.#weather.pass(false)
      this.#check()
    }
    assert(isOver, `${this.facts}: the guest is stuck; ${this.#sight()}; pending: ${world.pending}`)
    await this.#finish(guest, operator)
    return steps
  }

  /** The migration ends, the source is released or owns; then all disks are read as a whole and compared. */
  async #finish(guest: Guest, operator: Operator): Promise<void> {
    for (let count = 0; !this.#isOver(); count++) {
      assert(count < this.#stepLimit, `${this.facts}: the migration does not end: ${this.#sight()}`)
      this.#weather.pass(false)
      if (count % 500 === 499) operator.nudge()
      await this.world.step()
      this.#check()
      for (const failing of this.#failing) if (failing.isFailing) await this.#mendDisk(failing, count)
    }
    for (const failing of this.#failing) failing.mend()
    if (this.#weather.keepsRecords) {
      for (const { comparison } of this.disks) comparison.checkRecord()
      for (const tally of this.#tallies) tally.checkRecord()
    }
    for (const lies of this.#lies) lies.settle()
    await this.#steps(guest.resync(), deadlines)
    for (const { id, name, oracle } of this.disks) {
      const owner = this.a.database.disk.get(id)?.state === 'owned' ? this.a : this.b
      assert.equal(guest.here.name, owner.name, `${this.facts}: the guest ends at the owner of ${name}`)
      const file = owner.blockFile(id)
      const facts = `${this.facts}: the block file of ${name} at the end`
      assert(file, `${facts}: promise 8: it is gone`)
      oracle.readAnswered(oracle.readBegins(0, sectors), valuesOf(file.bytes, facts), facts)
    }
  }

  /** Returns what is to be put back. */
  #disksFail(): Copy | undefined {
    for (const lies of this.#lies) lies.pass()
    for (const failing of this.#failing) failing.pass()
    return this.archive.pass()
  }

  async #restore(copy: Copy): Promise<void> {
    this.#weather.calm()
    await this.archive.restore(copy, (until, limit) => this.#steps(until, limit))
  }

  /** A site was put back to an old copy, and took bytes with it that are nowhere else. Whether the run goes on. */
  async #endStranded(operator: Operator): Promise<boolean> {
    let goesOn = false
    const ending = this.archive.end(() => {
      operator.lost = this.b
    })
    const over = ending.then((answer) => {
      goesOn = answer
    })
    for (const failing of this.#failing) failing.mend()
    await this.#steps(over, deadlines, () => this.#weather.pass(false))
    return goesOn
  }

  /** Once everything else has come; or when the move does not go on otherwise. */
  async #mendDisk(failing: FailingDisk, count: number): Promise<void> {
    if (failing.isAllThatIsLeft) await this.#steps(failing.probe(), deadlines)
    else if (failing.isMissing || count < mendAfter) return
    failing.mend()
  }

  #isOver(): boolean {
    if (!this.a.up || !this.b.up || this.a.isTroubled || this.b.isTroubled) return false
    if (![...this.#owners.values()].every(({ areEndsTold }) => areEndsTold)) return false
    return this.disks.every(({ id }) => this.#isOverFor(id))
  }

  #isOverFor(id: string): boolean {
    const onA = this.a.database.disk.get(id)
    const onB = this.b.database.disk.get(id)
    if (this.archive.restored === this.a) return onB?.state === 'owned' && onB.migrationId === null
    if (onA?.state === 'released') return onB?.state === 'owned' && onB.migrationId === null
    // `gone`: what could not be removed goes with the next start, or when the disk comes again.
    const left = onB === undefined || ['released', 'gone', 'superseded'].includes(onB.state)
    return onA?.state === 'owned' && onA.migrationId === null && left
  }

  async #steps(until: Promise<unknown>, limit: number, before = () => {}): Promise<void> {
    let isDone = false
    until.then(
      () => {
        isDone = true
      },
      (error: unknown) => this.fail(error),
    )
    for (let count = 0; !isDone; count++) {
      assert(count < limit, `${this.facts}: stuck; ${this.#sight()}`)
      before()
      await this.world.step()
      this.#check()
    }
  }

  // ---- what must hold at every step

  #check(): void {
    if (this.#failure) throw this.#failure
    for (const owners of this.#owners.values()) owners.check()
    this.#liarWatch.check()
    this.#group.check()
    for (const tally of this.#tallies) tally.check()
    for (const { comparison } of this.disks) comparison.check()
  }

  #sight(): string {
    const sight = (site: SimSite) => {
      const disks = this.disks.map(({ id, name }) => {
        const record = site.database.disk.get(id)
        return `${name} ${record?.state} ${record?.migrationId} ${site.disk(name)?.trouble}`
      })
      const states = site.migrations
        ?.courses()
        .map((course) => `${course.record.role} ${course.liveState} ${course.note}`)
      return `${site.name} ${site.up ? 'up' : 'down'} ${disks.join(', ')} [${states}]`
    }
    return `${sight(this.a)}; ${sight(this.b)}`
  }
}

/** How many disks move together. */
function disksOf(seed: number): number {
  if (seed % togetherEvery.three === 0) return 3
  return seed % togetherEvery.two === 0 ? 2 : 1
}

/** Runs one seed. @throws the first promise that does not hold, with the last events */
export async function simulate(seed: number): Promise<Outcome> {
  const run = new Run(seed)
  try {
    return await run.run()
  } catch (error) {
    const trace = run.world.trace.join('\n')
    throw new Error(`${(error as Error).stack}\n--- the last events, seed ${seed}:\n${trace}`, { cause: error })
  } finally {
    run.world.end()
  }
}

/** Adds the figures of one run to those of others. */
export function addTo(totals: Record<string, number>, outcome: object): void {
  for (const [key, figure] of Object.entries(outcome)) totals[key] = (totals[key] ?? 0) + Number(figure)
}
