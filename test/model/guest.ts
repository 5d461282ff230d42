// The guest: a machine that reads and writes its disks, moves from one site to the other, and after a crash or a refusal
// finds the site that serves and reads what the disks hold now. Not every hypervisor flushes before it moves.

import { Drive } from './drive.ts'
import type { SimSite } from './sim-site.ts'
import { type Answer, oneOf, type Stage, sectors, strayRange } from './stage.ts'
import { SimProcess } from './world.ts'

export class Guest {
  readonly #stage: Stage
  readonly #process = new SimProcess('guest')
  readonly #drives: readonly Drive[]
  here: SimSite
  /** How its hypervisor leaves a site. */
  readonly #leaves: 'as QEMU' | 'without a flush' | 'broken'

  constructor(stage: Stage) {
    this.#stage = stage
    this.here = stage.a
    this.#drives = stage.disks.map((disk) => new Drive(stage, disk, () => this.here))
    const chance = stage.world.random.next()
    this.#leaves = chance < 0.8 ? 'as QEMU' : chance < 0.9 ? 'without a flush' : 'broken'
  }

  /** Works, moves, works on. `stays`: it was decided that the disks stay. */
  async work(stays: () => boolean): Promise<void> {
    const { random } = this.#stage.world
    const { a } = this.#stage
    const rounds = 8 + random.integer(25)
    const moveAt = random.integer(rounds)
    for (let round = 0; round < rounds; round++) {
      if (round === moveAt && this.here === a && !this.#stage.isLost(this.#stage.b)) await this.#move()
      await this.#batch(1 + random.integer(2 + 2 * this.#drives.length))
    }
    if (this.here === a && !stays()) await this.#move()
    await this.#batch(3)
    for (const drive of this.#drives) await drive.flushHere()
  }

  /** As a hypervisor moves a machine: everything answered, one flush of each disk, silence; then the other side. */
  async #move(): Promise<void> {
    const { world, b } = this.#stage
    world.log(`guest: moves to ${b.name}, ${this.#leaves}`)
    if (this.#leaves === 'as QEMU') {
      const answers: Answer[] = []
      for (const drive of this.#drives) answers.push(await drive.flushHere())
      if (answers.some(({ kind }) => kind !== 'good')) await this.resync()
    }
    const ends = { 'as QEMU': undefined, 'without a flush': 'disconnected', broken: 'broken' } as const
    for (const drive of this.#drives) drive.leave(ends[this.#leaves]) // QEMU stays attached to the source, and is silent.
    this.here = b
  }

  /** Requests at once, on sectors that do not overlap, but for reads. */
  async #batch(count: number): Promise<void> {
    const { random } = this.#stage.world
    const answers: Promise<Answer>[] = []
    const takenOf = new Map(this.#drives.map((drive) => [drive, this.#strays()]))
    for (let index = 0; index < count; index++) {
      const drive = oneOf(random, this.#drives)
      const taken = takenOf.get(drive)!
      const first = random.integer(sectors)
      const length = Math.min(sectors - first, 1 + random.integer(random.chance(0.3) ? 24 : 6))
      const range = Array.from({ length }, (_, at) => first + at)
      const kind = random.next()
      if (kind < 0.35) answers.push(drive.readSomewhere(first, length))
      else if (kind < 0.4) answers.push(drive.statusHere(first, length))
      else if (kind < 0.47) answers.push(drive.flushHere())
      else if (kind < 0.5) answers.push(drive.flushThere())
      else if (range.every((sector) => !taken.has(sector))) {
        const [before, after] = [first - 1, first + length]
        const isRagged = !taken.has(before) && !taken.has(after) && random.chance(0.3)
        for (const sector of isRagged ? [before, ...range, after] : range) taken.add(sector)
        answers.push(drive.change(first, length, isRagged))
      }
    }
    const all = await Promise.all(answers)
    if (all.some((answer) => answer.kind !== 'good')) await this.resync()
  }

  /** The sectors that strays write. */
  #strays(): Set<number> {
    return new Set(
      this.#stage.hasStrays ? Array.from({ length: strayRange.count }, (_, at) => strayRange.first + at) : [],
    )
  }

  /** After a crash or a refusal: finds the site that serves, and reads what the disks hold now. */
  async resync(): Promise<void> {
    const { world } = this.#stage
    const unread = new Set(this.#drives)
    for (;;) {
      this.#find()
      for (const drive of unread) if (await drive.readWhole()) unread.delete(drive)
      if (unread.size === 0) return
      for (const drive of unread) drive.leave('broken')
      await world.event(this.#process, 'guest waits')
    }
  }

  /** All of its disks are at one site, whichever that is: the first one tells. */
  #find(): void {
    const { a, b, disks } = this.#stage
    const { name } = disks[0]!
    const onB = b.disk(name)?.state
    const onA = a.disk(name)?.state
    const bServes = onB === 'incoming' || onB === 'arriving' || onB === 'owned'
    if (this.#stage.isLost(b)) this.here = a
    else if (this.here === a && onA !== 'owned' && bServes) this.here = b
    else if (this.here === b && onA === 'owned' && !bServes) this.here = a
  }
}
