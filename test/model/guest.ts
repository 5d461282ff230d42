// The guest: a machine that reads and writes the disk, moves from one site to the other, and after a crash or a refusal
// finds the site that serves and reads what the disk holds now. Not every hypervisor flushes before it moves.

import { Client } from './client.ts'
import { sectorBytes, valuesOf } from './oracle.ts'
import type { OpenSession, SimSite } from './sim-site.ts'
import { type Answer, diskName, type Stage, sectors, sectorsInBlock, sizeBytes, strayRange } from './stage.ts'

export class Guest extends Client {
  here: SimSite
  #open: OpenSession | undefined
  /** How its hypervisor leaves a site. */
  readonly #leaves: 'as QEMU' | 'without a flush' | 'broken'

  constructor(stage: Stage) {
    super(stage, 'guest')
    this.here = stage.a
    const chance = stage.world.random.next()
    this.#leaves = chance < 0.8 ? 'as QEMU' : chance < 0.9 ? 'without a flush' : 'broken'
  }

  /** Works, moves, works on. `stays`: it was decided that the disk stays. */
  async work(stays: () => boolean): Promise<void> {
    const { random } = this.stage.world
    const { a } = this.stage
    const rounds = 8 + random.integer(25)
    const moveAt = random.integer(rounds)
    for (let round = 0; round < rounds; round++) {
      if (round === moveAt && this.here === a && !this.stage.isLost(this.stage.b)) await this.#move()
      await this.#batch(1 + random.integer(4))
    }
    if (this.here === a && !stays()) await this.#move()
    await this.#batch(3)
    await this.#flushHere()
  }

  /** As a hypervisor moves a machine: everything answered, one flush, silence; then the other side. */
  async #move(): Promise<void> {
    const { world, a, b } = this.stage
    world.log(`guest: moves to ${b.name}, ${this.#leaves}`)
    if (this.#leaves === 'as QEMU') {
      const answer = await this.#flushHere()
      if (answer.kind !== 'good') await this.resync()
    }
    const left = this.#open
    if (left && this.#leaves !== 'as QEMU') a.close(left, this.#leaves === 'broken' ? 'broken' : 'disconnected')
    this.#open = undefined // QEMU stays attached to the source, and is silent.
    this.here = b
  }

  /** Requests at once, on sectors that do not overlap, but for reads. */
  async #batch(count: number): Promise<void> {
    const { random } = this.stage.world
    const answers: Promise<Answer>[] = []
    const taken = new Set<number>()
    if (this.stage.hasStrays) for (let at = 0; at < strayRange.count; at++) taken.add(strayRange.first + at)
    for (let index = 0; index < count; index++) {
      const first = random.integer(sectors)
      const length = Math.min(sectors - first, 1 + random.integer(random.chance(0.3) ? 24 : 6))
      const range = Array.from({ length }, (_, at) => first + at)
      const kind = random.next()
      if (kind < 0.35) answers.push(this.#read(first, length))
      else if (kind < 0.4) answers.push(this.#status(first, length))
      else if (kind < 0.47) answers.push(this.#flushHere())
      else if (kind < 0.5) answers.push(this.#flushThere())
      else if (range.every((sector) => !taken.has(sector))) {
        const [before, after] = [first - 1, first + length]
        const isRagged = !taken.has(before) && !taken.has(after) && random.chance(0.3)
        for (const sector of isRagged ? [before, ...range, after] : range) taken.add(sector)
        answers.push(this.#change(first, length, isRagged))
      }
    }
    const all = await Promise.all(answers)
    if (all.some((answer) => answer.kind !== 'good')) await this.resync()
  }

  async #change(first: number, count: number, isRagged: boolean): Promise<Answer> {
    const { random } = this.stage.world
    const asZeroes = random.chance(0.2)
    const fua = random.chance(0.2)
    const open = await this.#attached()
    const answer = asZeroes
      ? await this.zero(open, first, count)
      : isRagged
        ? await this.writeRagged(open, first, count, fua)
        : await this.write(open, first, count, fua)
    if (answer.kind === 'good') this.stage.counts.writes++
    return answer
  }

  /** Mostly where the guest is; sometimes a look at the destination, which forwards. */
  async #read(first: number, count: number): Promise<Answer> {
    const { a, b, world } = this.stage
    const other = this.here === a ? b : a
    if (other.disk(diskName)?.state !== 'incoming' || !world.random.chance(0.4))
      return this.read(await this.#attached(), first, count)
    const look = await this.connect(other)
    await this.read(look, first, count)
    if (look) other.close(look, 'disconnected')
    return { kind: 'good' }
  }

  async #status(first: number, count: number): Promise<Answer> {
    return this.status(await this.#attached(), first, count)
  }

  async #flushHere(): Promise<Answer> {
    return this.flush(await this.#attached())
  }

  /** At the destination, of which the guest has a look. */
  async #flushThere(): Promise<Answer> {
    const { a, b } = this.stage
    const other = this.here === a ? b : a
    if (other.disk(diskName)?.state !== 'incoming') return this.#flushHere()
    const look = await this.connect(other)
    await this.flush(look)
    if (look) other.close(look, 'disconnected')
    return { kind: 'good' }
  }

  async #attached(): Promise<OpenSession | undefined> {
    if (this.#open?.site === this.here && this.#open.process.alive && this.here.up) return this.#open
    this.#open = undefined
    const open = await this.connect(this.here)
    if (this.#open) {
      if (open) open.site.close(open, 'disconnected') // Another request of the same batch was first.
      return this.#open
    }
    this.#open = open
    return open
  }

  /** After a crash or a refusal: finds the site that serves, and reads what the disk holds now. */
  async resync(): Promise<void> {
    const { world, oracle, a, b } = this.stage
    for (;;) {
      const onB = b.disk(diskName)?.state
      const onA = a.disk(diskName)?.state
      const bServes = onB === 'incoming' || onB === 'arriving' || onB === 'owned'
      if (this.stage.isLost(b)) this.here = a
      else if (this.here === a && onA !== 'owned' && bServes) this.here = b
      else if (this.here === b && onA === 'owned' && !bServes) this.here = a
      const target = new Uint8Array(sizeBytes)
      const before = oracle.readBegins(0, sectors)
      const losses = this.stage.powerLosses
      const answer = await this.ask(await this.#attached(), (session) => session.read(0, target))
      // What was forwarded in part before and in part after a power loss of the source settles nothing.
      if (answer.kind === 'good' && losses === this.stage.powerLosses) {
        const facts = `${this.stage.facts}: the whole disk at ${this.here.name}`
        const values = valuesOf(target, facts)
        oracle.readAnswered(before, values, facts)
        oracle.settle(before, values)
        return
      }
      if (answer.kind === 'error' && a.blockFile?.unreadable.size && (await this.#readBlocks())) return
      this.#leave()
      await world.event(this.process, 'guest waits')
    }
  }

  /** Block by block, because some of them cannot be read at the source. Whether all others could. */
  async #readBlocks(): Promise<boolean> {
    const { oracle, a } = this.stage
    for (let first = 0; first < sectors; first += sectorsInBlock) {
      const target = new Uint8Array(Math.min(sectorsInBlock, sectors - first) * sectorBytes)
      const before = oracle.readBegins(first, target.length / sectorBytes)
      const losses = this.stage.powerLosses
      const answer = await this.ask(await this.#attached(), (session) => session.read(first * sectorBytes, target))
      if (answer.kind === 'unknown' || losses !== this.stage.powerLosses) return false
      if (answer.kind === 'error') {
        if (a.blockFile?.unreadable.has(first / sectorsInBlock)) continue
        return false
      }
      const values = valuesOf(target, this.stage.facts)
      oracle.readAnswered(before, values, `${this.stage.facts}: a block at ${this.here.name}`)
      oracle.settle(before, values)
    }
    return true
  }

  #leave(): void {
    const open = this.#open
    this.#open = undefined
    open?.site.close(open, 'broken')
  }
}
