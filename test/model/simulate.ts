// One run of the crash model: a guest reads and writes a disk of some blocks while it moves from one site to the other, and
// the seed decides what is delayed, lost, repeated, killed and powered off. Throws, with the trace, at the first promise
// that does not hold.

import assert from 'node:assert/strict'
import type { Disk } from '../../src/disk/disk.ts'
import type { ExportHandle } from '../../src/nbd/export.ts'
import { fill, Oracle, sectorBytes, valuesOf } from './oracle.ts'
import { SimLink } from './sim-link.ts'
import { SimSite } from './sim-site.ts'
import { drained, SimProcess, World } from './world.ts'

const diskName = 'web01'
const diskId = '00000000-0000-4000-8000-000000000001'
/** Not a whole number of blocks: the last one is short. */
const sizeBytes = 11 * 4096 + 3 * sectorBytes
const sectors = sizeBytes / sectorBytes
const stepLimit = 60_000

export interface Outcome {
  readonly steps: number
  readonly reads: number
  readonly writes: number
  readonly crashes: number
  readonly switched: boolean
  readonly cancelled: boolean
}

type Answer = { kind: 'good' } | { kind: 'error'; error: unknown } | { kind: 'unknown' }

class Run {
  readonly world: World
  readonly link: SimLink
  /** Source and destination; they change roles when the disk goes back. */
  a: SimSite
  b: SimSite
  readonly oracle: Oracle
  readonly guestProcess = new SimProcess('guest')
  here: SimSite
  handle: { site: SimSite; process: SimProcess; session: ExportHandle } | undefined
  nextValue = 1000
  reads = 0
  writes = 0
  crashes = 0
  powerLosses = 0
  cancelled = false
  departedSeen = false
  settling = false
  failure: unknown
  generationHolder = new Map<number, string>()

  constructor(seed: number) {
    this.world = new World(seed)
    this.link = new SimLink(this.world)
    this.a = new SimSite(this.world, 'A', this.link)
    this.b = new SimSite(this.world, 'B', this.link)
    this.a.other = this.b
    this.b.other = this.a
    this.here = this.a
    const { random } = this.world
    const initial = Array.from({ length: sectors }, (_, index) => (random.chance(0.3) ? 0 : index + 1))
    // Runs of zeros and of data, so that there are holes too.
    for (let at = 0; at < sectors; at += 8) if (random.chance(0.3)) initial.fill(0, at, at + 8)
    this.oracle = new Oracle(initial.slice(0, sectors))
    const image = new Uint8Array(sizeBytes)
    for (let index = 0; index < sectors; index++)
      fill(image.subarray(index * sectorBytes, (index + 1) * sectorBytes), initial[index]!)
    this.a.machine.putFile(`A/${diskId}/${diskName}.raw`, image)
    this.a.database.disk.set(diskId, {
      id: diskId,
      name: diskName,
      path: `A/${diskId}/${diskName}.raw`,
      folder: `A/${diskId}`,
      sizeBytes,
      state: 'owned',
      generation: 1,
      owner: 'A',
      migrationId: null,
      servedFile: null,
      before: null,
      taken: false,
      createdAt: '',
    })
  }

  get facts(): string {
    return `seed ${this.world.seed} at ${Math.round(this.world.nowMs)} ms`
  }

  // ---- what must hold at every step

  checkOwners(): void {
    const onA = this.a.database.disk.get(diskId)
    const onB = this.b.database.disk.get(diskId)
    const aOwns = onA?.state === 'owned'
    const bOwns = onB?.state === 'arriving' || onB?.state === 'owned'
    assert(!(aOwns && bOwns), `${this.facts}: promise 1: both sites own the disk`)
    if (bOwns) {
      assert(
        onA?.state === 'departed' || onA?.state === 'released',
        `${this.facts}: promise 2: B took what A had not given up`,
      )
      assert.equal(onA.generation, onB.generation, `${this.facts}: the sites disagree on the generation`)
    }
    if (onA?.state === 'departed' && !this.departedSeen) {
      this.departedSeen = true
      this.oracle.allDurable()
    }
    if (onA?.state === 'released')
      assert.equal(onB?.state, 'owned', `${this.facts}: promise 8: A was released before B had everything`)
  }

  // ---- the guest

  async guest(): Promise<void> {
    const { random } = this.world
    const rounds = 8 + random.integer(25)
    const moveAt = random.integer(rounds)
    for (let round = 0; round < rounds; round++) {
      if (round === moveAt && this.here === this.a) await this.moveGuest()
      await this.batch(1 + random.integer(4))
    }
    if (this.here === this.a && !this.cancelled) await this.moveGuest()
    await this.batch(3)
    await this.flush()
  }

  /** As a hypervisor moves a machine: everything answered, one flush, silence; then the other side. */
  async moveGuest(): Promise<void> {
    this.world.log('guest: moves to B')
    const answer = await this.flush()
    if (answer.kind !== 'good') await this.resync()
    this.here = this.b
  }

  /** Requests at once, on sectors that do not overlap, but for reads. */
  async batch(count: number): Promise<void> {
    const { random } = this.world
    const answers: Promise<Answer>[] = []
    const taken = new Set<number>()
    for (let index = 0; index < count; index++) {
      const first = random.integer(sectors)
      const length = Math.min(sectors - first, 1 + random.integer(random.chance(0.3) ? 24 : 6))
      const range = Array.from({ length }, (_, at) => first + at)
      const kind = random.next()
      if (kind < 0.4) answers.push(this.read(this.readSite(), first, length))
      else if (kind < 0.5) answers.push(this.flush())
      else if (range.every((sector) => !taken.has(sector))) {
        for (const sector of range) taken.add(sector)
        answers.push(random.chance(0.2) ? this.zero(first, length) : this.write(first, length, random.chance(0.2)))
      }
    }
    const all = await Promise.all(answers)
    if (all.some((answer) => answer.kind !== 'good')) await this.resync()
  }

  /** Mostly where the guest is; sometimes a look at the destination, which forwards. */
  readSite(): SimSite {
    const other = this.here === this.a ? this.b : this.a
    const state = other.disk(diskName)?.state
    return state === 'incoming' && this.world.random.chance(0.4) ? other : this.here
  }

  async read(site: SimSite, first: number, count: number): Promise<Answer> {
    const target = new Uint8Array(count * sectorBytes)
    const before = this.oracle.readBegins(first, count)
    const answer = await this.ask(site, (session) => session.read(first * sectorBytes, target))
    if (answer.kind === 'good') {
      this.reads++
      const facts = `${this.facts}: promise 3: a read at ${site.name}`
      this.oracle.readAnswered(first, before, valuesOf(target, facts), facts)
    }
    return site === this.here ? answer : { kind: 'good' }
  }

  async write(first: number, count: number, fua: boolean): Promise<Answer> {
    const value = this.nextValue++
    const source = new Uint8Array(count * sectorBytes)
    fill(source, value)
    return this.change(first, count, value, fua, (session) => session.write(first * sectorBytes, source, fua))
  }

  async zero(first: number, count: number): Promise<Answer> {
    const options = { mayPunch: this.world.random.chance(0.5), fast: false, fua: false }
    return this.change(first, count, 0, false, (session) =>
      session.writeZeroes(first * sectorBytes, count * sectorBytes, options),
    )
  }

  async change(
    first: number,
    count: number,
    value: number,
    fua: boolean,
    request: (session: ExportHandle) => unknown,
  ): Promise<Answer> {
    const site = this.here
    const label = `${value} to ${first}+${count}${fua ? ' fua' : ''}`
    this.world.log(`guest: writes ${label} at ${site.name}`)
    this.oracle.writeBegins(first, count, value)
    let generation = 0
    const answer = await this.ask(site, async (session) => {
      await request(session)
      generation = site.disks!.get(diskId)!.record.generation
    })
    this.world.log(`guest: ${label}: ${answer.kind}`)
    if (answer.kind === 'good') {
      this.writes++
      this.oracle.writeAcknowledged(first, count, value)
      if (fua) this.oracle.madeDurable(first, count, value)
      const holder = this.generationHolder.get(generation) ?? site.name
      assert.equal(holder, site.name, `${this.facts}: promise 1: two sites took writes in generation ${generation}`)
      this.generationHolder.set(generation, holder)
    }
    return answer
  }

  async flush(): Promise<Answer> {
    const flushed = this.oracle.flushBegins()
    const site = this.here
    const state = site.disk(diskName)?.state
    const answer = await this.ask(site, (session) => session.flush())
    // A flush at a site that does not own answers for nothing.
    if (answer.kind === 'good' && (state === 'owned' || state === 'arriving')) flushed()
    return answer
  }

  /** One request, answered, refused, or left without an answer by the death of the site. */
  async ask(site: SimSite, request: (session: ExportHandle) => unknown): Promise<Answer> {
    const open = await this.session(site)
    if (!open) return { kind: 'error', error: new Error('no such export') }
    let answer: Answer | undefined
    void (async () => request(open.session))().then(
      () => (answer = { kind: 'good' }),
      (error: unknown) => {
        const cause = error instanceof Error ? (error.cause ?? error) : error
        if (cause instanceof assert.AssertionError) this.failure ??= cause // A bug of ours, not a refusal.
        answer = { kind: 'error', error }
      },
    )
    await this.world.event(this.guestProcess, `guest hears of ${site.name}`, {
      ready: () => answer !== undefined || !open.process.alive,
    })
    return open.process.alive && answer ? answer : { kind: 'unknown' }
  }

  async session(site: SimSite): Promise<{ process: SimProcess; session: ExportHandle } | undefined> {
    if (this.handle?.site === site && this.handle.process.alive) return this.handle
    if (!site.up) await this.world.event(this.guestProcess, `guest finds ${site.name}`, { ready: () => site.up })
    const disk: Disk | undefined = site.disk(diskName)
    if (!disk) return undefined
    const open = { site, process: site.process, session: disk.open('guest') }
    if (site === this.here) this.handle = open
    return open
  }

  /** After a crash or a refusal: finds the site that serves, and reads what the disk holds now. */
  async resync(): Promise<void> {
    for (;;) {
      const onB = this.b.disk(diskName)?.state
      const onA = this.a.disk(diskName)?.state
      const bServes = onB === 'incoming' || onB === 'arriving' || onB === 'owned'
      if (this.here === this.a && onA !== 'owned' && bServes) this.here = this.b
      else if (this.here === this.b && onA === 'owned' && !bServes) this.here = this.a
      this.handle = undefined
      const target = new Uint8Array(sizeBytes)
      const before = this.oracle.readBegins(0, sectors)
      const losses = this.powerLosses
      const answer = await this.ask(this.here, (session) => session.read(0, target))
      // What was forwarded in part before and in part after a power loss of the source settles nothing.
      if (answer.kind === 'good' && losses === this.powerLosses) {
        const facts = `${this.facts}: the whole disk at ${this.here.name}`
        const values = valuesOf(target, facts)
        this.oracle.readAnswered(0, before, values, facts)
        this.oracle.settle(0, values)
        return
      }
      await this.world.event(this.guestProcess, 'guest waits')
    }
  }

  // ---- the operator and the weather

  async operator(): Promise<void> {
    const { random } = this.world
    const switchover = random.pick(['auto', 'auto', 'now', 'manual'] as const)
    const terms = {
      mode: 'post-copy',
      switchover,
      switchoverWaitMs: 10_000,
      maxRate: null,
      stallTimeoutMs: null,
      sourcePolicy: 'keep',
    } as const
    await this.startMigration(terms)
    if (random.chance(0.15)) {
      for (let wait = random.integer(60); wait > 0; wait--) await this.world.event(this.guestProcess, 'operator waits')
      await this.cancel()
    } else if (switchover === 'manual' || random.chance(0.2)) {
      await this.switchOver()
    }
  }

  async cancel(): Promise<void> {
    const { process, migrations } = this.a
    const course = this.a.up ? migrations!.courses()[0] : undefined
    if (!course) return
    let outcome: string | undefined
    migrations!.cancel(course.id, false, new AbortController().signal).then(
      () => (outcome = 'done'),
      (error: unknown) => (outcome = `refused: ${(error as Error).message}`),
    )
    await this.world.event(this.guestProcess, 'operator hears', {
      ready: () => outcome !== undefined || !process.alive,
    })
    this.cancelled = outcome === 'done'
    this.world.log(`operator: cancel ${outcome ?? 'not answered'}`)
  }

  async startMigration(terms: Parameters<NonNullable<SimSite['migrations']>['start']>[2]): Promise<void> {
    for (;;) {
      await this.world.event(this.guestProcess, 'operator starts', { ready: () => this.a.up && this.b.up })
      const process = this.a.process
      if (this.a.database.disk.get(diskId)?.state !== 'owned') return
      let over = false
      const work = this.a.migrations!.start(
        diskName,
        { id: this.b.name, site: this.b.name, name: this.b.name },
        terms,
        new AbortController().signal,
      )
      let good = false
      if (this.world.random.chance(0.2)) {
        // The same command twice at once: one of them at most begins.
        const twice = this.a.migrations!.start(
          diskName,
          { id: this.b.name, site: this.b.name, name: this.b.name },
          terms,
          new AbortController().signal,
        )
        twice.then(
          () => good && this.world.log('operator: both began'),
          () => {},
        )
        Promise.all([work, twice]).then(
          () => (this.failure ??= new Error(`${this.facts}: two migrations of one disk began`)),
          () => {},
        )
      }
      work.then(
        () => {
          good = true
          over = true
        },
        (error: unknown) => {
          this.world.log(`operator: ${(error as Error).message}`)
          over = true
        },
      )
      await this.world.event(this.guestProcess, 'operator hears', { ready: () => over || !process.alive })
      if (good) return
    }
  }

  async switchOver(): Promise<void> {
    for (let tries = 0; tries < 200; tries++) {
      await this.world.event(this.guestProcess, 'operator switches', { ready: () => this.b.up })
      if (this.b.disk(diskName)?.state !== 'incoming') {
        if (this.b.database.disk.get(diskId)?.state !== 'incoming') return
        continue
      }
      const course = this.b.migrations!.courses()[0]
      if (course) void this.b.migrations!.switchover(course.id, new AbortController().signal).catch(() => {})
      return
    }
  }

  weather(): void {
    const { random } = this.world
    if (random.chance(0.006)) this.link.up = !this.link.up
    if (random.chance(0.004)) this.link.cut()
    for (const site of [this.a, this.b]) {
      if (!site.process.alive) continue
      if (random.chance(0.005)) this.crash(site, random.chance(0.5))
    }
  }

  crash(site: SimSite, power: boolean): void {
    this.crashes++
    if (power) {
      this.powerLosses++
      site.losePower()
      const state = site.database.disk.get(diskId)?.state
      if (state === 'owned' || state === 'arriving') this.oracle.powerLost()
    } else {
      site.kill()
    }
    void this.restart(site)
  }

  async restart(site: SimSite): Promise<void> {
    await this.world.event(undefined, `${site.name} starts again`)
    await site.start()
  }

  // ---- the whole

  async run(): Promise<Outcome> {
    const { world } = this
    await this.steps(Promise.all([this.a.start(), this.b.start()]), 2000)
    this.link.faultRate = world.random.pick([0, 0.02, 0.1])
    this.a.commitFaultRate = this.b.commitFaultRate = world.random.pick([0, 0.2])
    const legs = world.random.chance(0.3) ? 2 : 1
    let steps = 0
    for (let leg = 1; leg <= legs; leg++) {
      steps += await this.leg()
      if (leg === legs || this.b.database.disk.get(diskId)?.state !== 'owned') break
      // The way back: the same disk, the other way, with late messages of the first move still about.
      world.log('the disk goes back')
      ;[this.a, this.b] = [this.b, this.a]
      this.departedSeen = false
      this.link.faultRate = world.random.pick([0, 0.02, 0.1])
    }
    const switched = this.b.database.disk.get(diskId)?.state === 'owned'
    return { steps, reads: this.reads, writes: this.writes, crashes: this.crashes, switched, cancelled: this.cancelled }
  }

  /** One move from `a` to `b`, under a guest's load, to its end. Resolves to the number of steps. */
  async leg(): Promise<number> {
    const { world } = this
    const fails = (error: unknown) => {
      this.failure ??= error
    }
    const calm = world.random.chance(0.2)
    const work = Promise.all([this.guest(), this.operator()])
    let worked = false
    work.then(() => (worked = true), fails)
    await drained()
    let steps = 0
    const limit = 300 + world.random.integer(4000)
    for (; !worked && steps < stepLimit; steps++) {
      if (!calm && steps < limit) this.weather()
      else this.settleWorld()
      if (steps > limit + 5000) await this.nudge()
      if (!(await world.step())) this.settleWorld()
      this.check()
    }
    assert(
      worked,
      `${this.facts}: the guest is stuck; ${this.a.name} ${this.a.disk(diskName)?.state}, ${this.b.name} ${this.b.disk(diskName)?.state}; pending: ${world.pending}`,
    )
    this.settleWorld()
    await this.finish()
    return steps
  }

  check(): void {
    if (this.failure) throw this.failure
    this.checkOwners()
  }

  /** No more faults: everything must now come to a good end. */
  settleWorld(): void {
    this.link.up = true
    this.link.faultRate = 0
    this.a.commitFaultRate = this.b.commitFaultRate = 0
  }

  /** A guest that waits for a switchover that nobody gives (manual, or a session that broke): the operator gives it. */
  async nudge(): Promise<void> {
    if (this.b.disk(diskName)?.state === 'incoming') {
      const course = this.b.migrations!.courses()[0]
      if (course) void this.b.migrations!.switchover(course.id, new AbortController().signal).catch(() => {})
    }
  }

  async steps(until: Promise<unknown>, limit: number): Promise<void> {
    let done = false
    until.then(
      () => (done = true),
      (error: unknown) => {
        this.failure ??= error
      },
    )
    for (let count = 0; !done; count++) {
      assert(count < limit, `${this.facts}: stuck`)
      await this.world.step()
      this.check()
    }
  }

  /** The migration ends, the source is released or owns; then the whole disk is read and compared. */
  async finish(): Promise<void> {
    const over = () => {
      const onA = this.a.database.disk.get(diskId)
      const onB = this.b.database.disk.get(diskId)
      if (onA?.state === 'released') return onB?.state === 'owned' && onB.migrationId === null
      return onA?.state === 'owned' && onA.migrationId === null && (onB === undefined || onB.state === 'released')
    }
    for (let count = 0; !over(); count++) {
      assert(
        count < stepLimit,
        `${this.facts}: the migration does not end: A ${this.a.database.disk.get(diskId)?.state}, B ${this.b.database.disk.get(diskId)?.state}`,
      )
      if (count % 500 === 499) await this.nudge()
      await this.world.step()
      this.check()
    }
    await this.steps(this.resync(), 5000)
    const owner = this.a.database.disk.get(diskId)?.state === 'owned' ? this.a : this.b
    assert.equal(this.here.name, owner.name, `${this.facts}: the guest ends at the owner`)
    const raw = owner.machine.files.get(owner.database.disk.get(diskId)!.path)!.bytes
    const facts = `${this.facts}: the block file at the end`
    this.oracle.readAnswered(0, this.oracle.readBegins(0, sectors), valuesOf(raw, facts), facts)
  }
}

/** Runs one seed. @throws the first promise that does not hold, with the last events */
export async function simulate(seed: number): Promise<Outcome> {
  const run = new Run(seed)
  try {
    return await run.run()
  } catch (error) {
    const trace = run.world.trace.slice(-Number(process.env['TRACE'] ?? 60)).join('\n')
    throw new Error(`${(error as Error).stack}\n--- the last events, seed ${seed}:\n${trace}`, { cause: error })
  }
}
