// One disk as the guest has it: its connection, at the site where the guest is, and a look now and then at the other.

import { Client } from './client.ts'
import { sectorBytes, valuesOf } from './oracle.ts'
import type { OpenSession, SimSite } from './sim-site.ts'
import { type Answer, type Stage, type StageDisk, sectors, sectorsInBlock, sizeBytes } from './stage.ts'

/** Steps of the world. */
const hesitation = 8

export class Drive extends Client {
  readonly #here: () => SimSite
  #open: OpenSession | undefined

  /** `here`: where the guest is. */
  constructor(stage: Stage, disk: StageDisk, here: () => SimSite) {
    super(stage, disk, 'guest')
    this.#here = here
  }

  async change(first: number, count: number, isRagged: boolean): Promise<Answer> {
    const { random } = this.stage.world
    await this.#hesitates()
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
  async readSomewhere(first: number, count: number): Promise<Answer> {
    const other = this.#other
    if (other.disk(this.disk.name)?.state !== 'incoming' || !this.stage.world.random.chance(0.4))
      return this.read(await this.#attached(), first, count)
    const look = await this.connect(other)
    await this.read(look, first, count)
    if (look) other.close(look, 'disconnected')
    return { kind: 'good' }
  }

  async statusHere(first: number, count: number): Promise<Answer> {
    return this.status(await this.#attached(), first, count)
  }

  async flushHere(): Promise<Answer> {
    return this.flush(await this.#attached())
  }

  /** At the destination, of which the guest has a look. */
  async flushThere(): Promise<Answer> {
    const other = this.#other
    if (other.disk(this.disk.name)?.state !== 'incoming') return this.flushHere()
    const look = await this.connect(other)
    await this.flush(look)
    if (look) other.close(look, 'disconnected')
    return { kind: 'good' }
  }

  /** Reads all of it, at a site that may have changed: what a crash left open is settled. Whether it could. */
  async readWhole(): Promise<boolean> {
    const { oracle } = this.disk
    const target = new Uint8Array(sizeBytes)
    const before = oracle.readBegins(0, sectors)
    const losses = this.stage.powerLosses
    const answer = await this.ask(await this.#attached(), (session) => session.read(0, target))
    // What was forwarded in part before and in part after a power loss of the source settles nothing.
    if (answer.kind === 'good' && losses === this.stage.powerLosses) {
      const facts = `${this.stage.facts}: the whole of ${this.disk.name} at ${this.#here().name}`
      const values = valuesOf(target, facts)
      oracle.readAnswered(before, values, facts)
      oracle.settle(before, values)
      return true
    }
    const isInPart = answer.kind === 'error' && this.stage.a.blockFile(this.disk.id)?.unreadable.size
    return isInPart ? this.#readBlocks() : false
  }

  /** The client falls silent: `undefined` stays attached, as QEMU does. */
  leave(end: 'broken' | 'disconnected' | undefined): void {
    const open = this.#open
    this.#open = undefined
    if (open && end) open.site.close(open, end)
  }

  /** Block by block, because some of them cannot be read at the source. Whether all others could. */
  async #readBlocks(): Promise<boolean> {
    const { oracle } = this.disk
    for (let first = 0; first < sectors; first += sectorsInBlock) {
      const target = new Uint8Array(Math.min(sectorsInBlock, sectors - first) * sectorBytes)
      const before = oracle.readBegins(first, target.length / sectorBytes)
      const losses = this.stage.powerLosses
      const answer = await this.ask(await this.#attached(), (session) => session.read(first * sectorBytes, target))
      if (answer.kind === 'unknown' || losses !== this.stage.powerLosses) return false
      if (answer.kind === 'error') {
        if (this.stage.a.blockFile(this.disk.id)?.unreadable.has(first / sectorsInBlock)) continue
        return false
      }
      const values = valuesOf(target, this.stage.facts)
      oracle.readAnswered(before, values, `${this.stage.facts}: a block of ${this.disk.name} at ${this.#here().name}`)
      oracle.settle(before, values)
    }
    return true
  }

  /** Writes to several disks do not all begin at once: what is under way on one is not on another. */
  async #hesitates(): Promise<void> {
    const { world, disks } = this.stage
    if (disks.length === 1) return
    for (let wait = world.random.integer(hesitation); wait > 0; wait--)
      await world.event(this.process, 'guest hesitates')
  }

  get #other(): SimSite {
    const { a, b } = this.stage
    return this.#here() === a ? b : a
  }

  async #attached(): Promise<OpenSession | undefined> {
    const here = this.#here()
    if (this.#open?.site === here && this.#open.process.alive && here.up) return this.#open
    this.#open = undefined
    const open = await this.connect(here)
    if (this.#open) {
      if (open) open.site.close(open, 'disconnected') // Another request of the same batch was first.
      return this.#open
    }
    this.#open = open
    return open
  }
}
