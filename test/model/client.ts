// A client of one disk of the simulated sites: asks, is answered, refused, or left without an answer by the death of the site; and
// checks what it hears against the oracle.

import assert from 'node:assert/strict'
import type { ExportHandle, StatusExtent } from '../../src/guest/export.ts'
import { fill, sectorBytes, valuesOf } from './oracle.ts'
import type { OpenSession, SimSite } from './sim-site.ts'
import { type Answer, type Stage, type StageDisk, sectors } from './stage.ts'
import { SimProcess } from './world.ts'

/** Errors that say that nothing was written, and nothing will be. */
const refusals = ['not-permitted', 'not-served']

export class Client {
  readonly stage: Stage
  readonly disk: StageDisk
  readonly name: string
  readonly process: SimProcess

  constructor(stage: Stage, disk: StageDisk, name: string) {
    this.stage = stage
    this.disk = disk
    this.name = name
    this.process = new SimProcess(name)
  }

  /** A connection to the disk at `site`, once the site is up; undefined: no such export there, or the site is lost. */
  async connect(site: SimSite): Promise<OpenSession | undefined> {
    const { world } = this.stage
    const isLost = () => this.stage.isLost(site)
    if (!site.up)
      await world.event(this.process, `${this.name} finds ${site.name}`, { ready: () => site.up || isLost() })
    return site.open(this.disk.name, this.name)
  }

  /** One request; `over` is called when nothing of it happens any more, heard or not. */
  async ask(
    open: OpenSession | undefined,
    request: (session: ExportHandle) => unknown,
    over: () => void = () => {},
  ): Promise<Answer> {
    if (!open) {
      over()
      return { kind: 'error', error: new Error('no such export') }
    }
    if (!open.process.alive) {
      over()
      return { kind: 'unknown' }
    }
    let answer: Answer | undefined
    let isOver = false
    const ends = () => {
      if (isOver) return
      isOver = true
      open.inFlight--
      over()
    }
    open.inFlight++
    void (async () => request(open.session))().then(
      () => {
        answer = { kind: 'good' }
        ends()
      },
      (error: unknown) => {
        const cause = error instanceof Error ? (error.cause ?? error) : error
        if (cause instanceof assert.AssertionError) this.stage.fail(cause) // A bug of ours, not a refusal.
        answer = { kind: 'error', error }
        ends()
      },
    )
    await this.stage.world.event(this.process, `${this.name} hears of ${open.site.name}`, {
      ready: () => answer !== undefined || !open.process.alive,
    })
    if (!open.process.alive) ends()
    return open.process.alive && answer ? answer : { kind: 'unknown' }
  }

  async read(open: OpenSession | undefined, first: number, count: number): Promise<Answer> {
    const { stage } = this
    const { oracle } = this.disk
    const target = new Uint8Array(count * sectorBytes)
    const before = oracle.readBegins(first, count)
    const answer = await this.ask(open, (session) => session.read(first * sectorBytes, target))
    if (answer.kind === 'good') {
      stage.counts.reads++
      const facts = `${stage.facts}: promise 3: a read of ${this.disk.name} by ${this.name} at ${open!.site.name}`
      oracle.readAnswered(before, valuesOf(target, facts), facts)
    }
    return answer
  }

  async write(open: OpenSession | undefined, first: number, count: number, fua: boolean): Promise<Answer> {
    const value = this.stage.nextValue()
    const source = new Uint8Array(count * sectorBytes)
    fill(source, value)
    return this.#change(open, { first, count, value, fua }, (session) =>
      session.write(first * sectorBytes, source, fua),
    )
  }

  /**
   * As `write`, of a range that begins and ends within the sectors beside it. Of these it writes what they hold, if that is
   * known for certain at an owner; nobody else may write them meanwhile.
   */
  async writeRagged(open: OpenSession | undefined, first: number, count: number, fua: boolean): Promise<Answer> {
    const { world } = this.stage
    const { oracle, comparison } = this.disk
    const state = open?.site.disk(this.disk.name)?.state
    const before = first > 0 ? oracle.certain(first - 1) : undefined
    const after = first + count < sectors ? oracle.certain(first + count) : undefined
    if ((state !== 'owned' && state !== 'arriving') || before === undefined || after === undefined)
      return this.write(open, first, count, fua)
    const value = this.stage.nextValue()
    const source = new Uint8Array((count + 2) * sectorBytes)
    for (let index = -1; index <= count; index++) {
      const at = (index + 1) * sectorBytes
      fill(source.subarray(at, at + sectorBytes), index < 0 ? before : index < count ? value : after)
    }
    const [head, tail] = [world.random.integer(sectorBytes), 1 + world.random.integer(sectorBytes - 1)]
    const bytes = source.subarray(sectorBytes - head, sectorBytes * (count + 1) + tail)
    comparison.touches(open!.site, first - 1, count + 2)
    this.stage.counts.raggedWrites++
    return this.#change(open, { first, count, value, fua }, (session) =>
      session.write(first * sectorBytes - head, bytes, fua),
    )
  }

  /** What is said to be zeros is zeros. */
  async status(open: OpenSession | undefined, first: number, count: number): Promise<Answer> {
    const { oracle } = this.disk
    const before = oracle.readBegins(first, count)
    let extents: readonly StatusExtent[] = []
    const answer = await this.ask(open, async (session) => {
      extents = await session.blockStatus('allocation', first * sectorBytes, count * sectorBytes, 100)
    })
    const zeros = new Map<number, number>()
    let at = first * sectorBytes
    for (const { lengthBytes, status } of answer.kind === 'good' ? extents : []) {
      const end = at + lengthBytes
      if (status === 'hole' || status === 'zero')
        for (let sector = Math.ceil(at / sectorBytes); sector < Math.floor(end / sectorBytes); sector++)
          zeros.set(sector, 0)
      at = end
    }
    const values = Array.from({ length: count }, (_, index) => zeros.get(first + index))
    oracle.readAnswered(
      before,
      values,
      `${this.stage.facts}: promise 3: zeros of ${this.disk.name} told to ${this.name} at ${open?.site.name}`,
    )
    this.stage.counts.zerosTold += zeros.size
    return answer
  }

  async zero(open: OpenSession | undefined, first: number, count: number): Promise<Answer> {
    const options = { mayPunch: this.stage.world.random.chance(0.5), fast: false, fua: false }
    return this.#change(open, { first, count, value: 0, fua: false }, (session) =>
      session.writeZeroes(first * sectorBytes, count * sectorBytes, options),
    )
  }

  async flush(open: OpenSession | undefined): Promise<Answer> {
    const flushed = this.disk.oracle.flushBegins()
    const state = open?.site.disk(this.disk.name)?.state
    const answer = await this.ask(open, (session) => session.flush())
    // A flush at a site that does not own answers for nothing, but where the disk is incoming: for what its source had answered.
    const answersForAll = state === 'owned' || state === 'arriving' || state === 'incoming'
    if (answer.kind === 'good' && answersForAll) {
      flushed()
      this.stage.counts.flushes++
      if (state === 'incoming') this.stage.counts.flushesThere++
    }
    return answer
  }

  async #change(
    open: OpenSession | undefined,
    write: { first: number; count: number; value: number; fua: boolean },
    request: (session: ExportHandle) => unknown,
  ): Promise<Answer> {
    const { world, cut } = this.stage
    const { oracle, comparison } = this.disk
    const { first, count, value, fua } = write
    const site = open?.site
    const label = `${value} to ${this.disk.name} ${first}+${count}${fua ? ' fua' : ''}`
    world.log(`${this.name}: writes ${label} at ${site?.name}`)
    const begun = oracle.writeBegins(first, count, value)
    if (site) comparison.touches(site, first, count)
    const wish = site && cut.begins(this.disk, site)
    const generationNow = () => site!.disks!.get(this.disk.id)!.record.generation
    let generation = 0
    const answer = await this.ask(
      open,
      async (session) => {
        await request(session)
        generation = generationNow()
      },
      () => oracle.writeEnds(begun),
    )
    world.log(`${this.name}: ${label}: ${answer.kind}`)
    if (answer.kind === 'good') {
      oracle.writeAcknowledged(begun)
      if (fua) oracle.madeDurable(begun)
      this.stage.acknowledged(this.disk, site!, generation)
      wish?.acknowledged()
    } else if (isRefused(answer)) {
      wish?.refused()
      oracle.writeRefused(begun)
    }
    return answer
  }
}

/** Nothing of the write happened. */
export function isRefused(answer: Answer): boolean {
  return answer.kind === 'error' && refusals.includes((answer.error as { code?: string }).code ?? '')
}
