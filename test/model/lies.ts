// Storage that lies: now and then a bit of a disk flips at rest, on the destination's platter under a block that no guest wrote there,
// or on the frozen one of the source, before or after the block went.
//
// A read of such a block before it is compared returns the flipped bit: no server can know better, and the oracle allows
// it. What the comparison must find, comparison-watch.ts knows.

import { flippable, flippedBits } from './oracle.ts'
import { sectorBytes } from './sim-file.ts'
import type { SimSite } from './sim-site.ts'
import { type Stage, type StageDisk, sectors, sectorsInBlock } from './stage.ts'

export class Lies {
  readonly #stage: Stage
  readonly #disk: StageDisk
  readonly #rate: number

  constructor(stage: Stage, disk: StageDisk) {
    const { random } = stage.world
    this.#stage = stage
    this.#disk = disk
    this.#rate = random.pick([0, 0, 0, 0.01])
  }

  /** Before a step of the world, in bad weather. */
  pass(): void {
    const { world, a, b } = this.#stage
    const { random } = world
    if (this.#rate === 0 || !random.chance(this.#rate)) return
    const state = (site: SimSite) => site.database.disk.get(this.#disk.id)?.state
    if (state(a) !== 'departed') return
    const site = random.pick([a, b])
    const sector = random.integer(sectors)
    const block = Math.floor(sector / sectorsInBlock)
    if (site === b && (state(b) !== 'arriving' || this.#disk.comparison.isTouched(block))) return
    this.#flip(site, sector, block)
  }

  #flip(site: SimSite, sector: number, block: number): void {
    const { world, counts } = this.#stage
    const { random } = world
    const file = site.blockFile(this.#disk.id)
    if (!file) return
    const bit = flippable.first + random.integer(flippable.count)
    const word = random.integer(sectorBytes / 4)
    world.log(`${site.name}: bit ${bit} of word ${word} of sector ${sector} of ${this.#disk.name} FLIPS`)
    file.flip(sector * sectorBytes, word * 32 + bit)
    this.#disk.oracle.flipped(sector, 1 << bit)
    counts.flips++
    this.#disk.comparison.changed(block)
  }

  /** The move is over: only what stands on a platter now may be read from now on. */
  settle(): void {
    const { a, b, counts } = this.#stage
    if (counts.flips === 0) return
    const files = [a, b].map((site) => site.blockFile(this.#disk.id)).filter((file) => file !== undefined)
    for (let sector = 0; sector < sectors; sector++) {
      const versions = files.flatMap((file) => file.versionsOf(sector * sectorBytes))
      this.#disk.oracle.standing(
        sector,
        versions.reduce((bits, version) => bits | flippedBits(version), 0),
      )
    }
  }
}
