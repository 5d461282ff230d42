// A disk of the source that cannot read some of its blocks any more (EIO), before or after it was given up. It stays so
// until everything else has come; then the model looks whether the range is named at both sites, what a guest is told of
// it, and that the source is not released. Then the operator mends the disk, and the move must come to its end.

import assert from 'node:assert/strict'
import { Client } from './client.ts'
import type { SimSite } from './sim-site.ts'
import { blocks, type Stage, type StageDisk, sectors, sectorsInBlock } from './stage.ts'

export class FailingDisk {
  readonly #stage: Stage
  readonly #disk: StageDisk
  readonly #rate: number

  constructor(stage: Stage, disk: StageDisk) {
    this.#stage = stage
    this.#disk = disk
    this.#rate = stage.world.random.pick([0, 0, 0, 0, 0, 0.004])
  }

  /** Before a step of the world, in bad weather. */
  pass(): void {
    const { world, a, counts, disks } = this.#stage
    const { random } = world
    if (this.#rate === 0 || !random.chance(this.#rate / disks.length)) return
    const state = a.database.disk.get(this.#disk.id)?.state
    const file = a.blockFile(this.#disk.id)
    if (!file || (state !== 'owned' && state !== 'departed')) return
    const block = random.integer(blocks)
    if (file.isHole(block) || file.unreadable.has(block)) return
    world.log(`${a.name}: block ${block} of ${this.#disk.name} cannot be READ any more`)
    file.unreadable.add(block)
    counts.unreadableBlocks++
    this.#disk.comparison.changed(block)
  }

  mend(): void {
    const { a, b } = this.#stage
    for (const { machine } of [a, b]) machine.mend(this.#disk.id)
  }

  /** Something that the source cannot read has not come. */
  get isMissing(): boolean {
    return (this.#missing()?.length ?? 0) > 0
  }

  get isFailing(): boolean {
    return (this.#stage.a.blockFile(this.#disk.id)?.unreadable.size ?? 0) > 0
  }

  /** Whether the move waits for nothing but what the source cannot read, and both sites say so. */
  get isAllThatIsLeft(): boolean {
    const { a, b } = this.#stage
    const missing = this.#missing()
    const file = a.blockFile(this.#disk.id)
    if (!a.up || !b.up || !file || !missing || missing.some((block) => !file.unreadable.has(block))) return false
    // Of what is there the comparison waits, but for blocks that the guest wrote.
    if (missing.length === 0 && [...file.unreadable].every((block) => this.#disk.comparison.isTouched(block)))
      return false
    const notes = [a, b].map((site) => site.migrations!.courses()[0]?.note ?? '')
    return notes.every((note) => note.includes('cannot read')) && [a, b].every((site) => this.#names(site, missing))
  }

  /** A guest at the destination reads every block: what is there, and of what is not there an error. */
  async probe(): Promise<void> {
    const { a, b, facts, counts } = this.#stage
    const client = new Client(this.#stage, this.#disk, 'probe')
    const missing = this.#missing() ?? []
    const open = await client.connect(b)
    for (let block = 0; block < blocks; block++) {
      const first = block * sectorsInBlock
      const answer = await client.read(open, first, Math.min(sectorsInBlock, sectors - first))
      if (answer.kind === 'unknown' || !this.isFailing) return // It was stopped, or the source was mended, meanwhile.
      const word = answer.kind === 'good' ? 'good' : (answer.error as { code?: string }).code
      const expected = missing.includes(block) ? 'io' : 'good'
      assert.equal(
        word,
        expected,
        `${facts}: a read of block ${block} of ${this.#disk.name}, which the source cannot read`,
      )
    }
    if (open) b.close(open, 'disconnected')
    assert.equal(a.database.disk.get(this.#disk.id)?.state, 'departed', `${facts}: promise 8: ${a.name} was released`)
    counts.unreadableProbes++
  }

  /** Blocks that have not come; undefined: the destination does not arrive. */
  #missing(): number[] | undefined {
    const disk = this.#stage.b.disks?.get(this.#disk.id)
    if (!disk || disk.isUnusable || this.#stage.b.database.disk.get(this.#disk.id)?.state !== 'arriving')
      return undefined
    return Array.from({ length: blocks }, (_, block) => block).filter(
      (block) => disk.arriving.missingBlocksIn({ first: block, end: block + 1 }) === 1,
    )
  }

  #names(site: SimSite, missing: readonly number[]): boolean {
    const course = site.migrations!.courses()[0]
    const named = course?.figures(this.#disk).unreadable ?? []
    return missing.every((block) =>
      named.some(({ offset, length }) => offset <= block * 4096 && block * 4096 < offset + length),
    )
  }
}
