// What the comparison with the source must find. The model sees both files: when a comparison begins, it notes which blocks
// differ; before the destination owns, each of these must have been named, and no block may differ any more.
//
// Which blocks it may not speak of, because the product cannot: those that a guest wrote to at the destination, be it one
// sector; those that were there when its power went (which of them a guest wrote is not known any more); and what changes
// on a platter after the comparison began. A block that was named, and on record as missing, is as the source's from then
// on, also after the power went: it was fetched again, and will be if that was lost.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import type { Course } from '../../src/migration/course.ts'
import { merged, rangesText } from '../../src/migration/unreadable.ts'
import type { SimSite } from './sim-site.ts'
import { blocks, type Stage, type StageDisk, sectorsInBlock } from './stage.ts'
import type { SimProcess } from './world.ts'

/** As sentences name ranges. */
const bytesOfUnit: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 2 ** 20 }

export class ComparisonWatch {
  readonly #stage: Stage
  readonly #id: string
  readonly #name: string
  readonly #noted: RegExp
  #lastNoted: string | undefined
  /** Blocks that guests wrote to at the destination, or that may count as such there. */
  readonly #touched = new Set<number>()
  /** Blocks that changed below the sites since the comparison began. */
  readonly #late = new Set<number>()
  /** Blocks that differed when it began, and that it has not named yet. */
  readonly #toFind = new Set<number>()
  /** Blocks that were named, by the process that named them. */
  #named: { readonly by: SimProcess; readonly blocks: Set<number> } | undefined
  /** Blocks that were named, and are not known yet to be missing durably. */
  readonly #unsettled = new Set<number>()
  /** Blocks that are known to be missing durably, or have come again; of them, those that the power went over. */
  readonly #settled = new Set<number>()
  readonly #outlived = new Set<number>()
  #comparing: SimProcess | undefined
  #isOwned = false

  constructor(stage: Stage, { id, name }: Pick<StageDisk, 'id' | 'name'>) {
    this.#stage = stage
    this.#id = id
    this.#name = name
    this.#noted = new RegExp(`(?:^|${name}: )(it differed from the source in [^;]*)`)
  }

  /** A line of the log of a site. */
  hears(site: SimSite, message: string, facts: object): void {
    const said = facts as { readonly disk: string; readonly offset: number; readonly length: number }
    const settled = this.#noted.exec(message)?.[1]
    // Of several disks the sentences stand in one line, which comes again when that of another disk changes.
    const isNew = this.#stage.disks.length === 1 || settled !== this.#lastNoted
    if (site === this.#stage.b && settled !== undefined && isNew) {
      this.#lastNoted = settled
      this.#isSettled(settled)
    }
    if (message.startsWith('a range differs from the source') && said.disk === this.#name) this.#differs(site, said)
  }

  /** Another move begins. */
  begins(): void {
    for (const set of [this.#touched, this.#late, this.#toFind]) set.clear()
    for (const set of [this.#unsettled, this.#settled, this.#outlived]) set.clear()
    this.#named = undefined
    this.#comparing = undefined
    this.#isOwned = false
  }

  /** What differed is on record as missing, and may not be durable again: a good moment for the power to go. */
  get hasFound(): boolean {
    return this.#settled.size > 0 && this.#stage.b.database.disk.get(this.#id)?.state === 'arriving'
  }

  isTouched(block: number): boolean {
    return this.#touched.has(block)
  }

  /** A guest's write at a site has begun. */
  touches(site: SimSite, firstSector: number, sectors: number): void {
    if (site !== this.#stage.b) return
    const end = Math.ceil((firstSector + sectors) / sectorsInBlock)
    for (let block = Math.floor(firstSector / sectorsInBlock); block < end; block++) this.#touched.add(block)
  }

  /** The destination is about to lose its power. */
  losesPower(site: SimSite): void {
    if (site !== this.#stage.b || site.database.disk.get(this.#id)?.state !== 'arriving') return
    const disk = site.disks?.get(this.#id)
    const arriving = disk?.isUnusable ? undefined : disk?.arriving
    for (let block = 0; block < blocks; block++) {
      const isPresent = arriving?.missingBlocksIn({ first: block, end: block + 1 }) !== 1
      const mayBePresent = isPresent || this.#unsettled.has(block)
      if (this.#settled.has(block)) this.#outlived.add(block)
      else if (!this.#outlived.has(block) && mayBePresent) this.#touched.add(block)
    }
    this.#unsettled.clear()
    this.#settled.clear()
  }

  /** A block changed on a platter, or cannot be read any more. */
  changed(block: number): void {
    this.#late.add(block)
    this.#toFind.delete(block)
    this.#settled.delete(block)
    if (this.#outlived.delete(block)) this.#touched.add(block)
  }

  /** To be called at every step. */
  check(): void {
    const { a, b, facts, archive } = this.#stage
    if (archive.restored) return // The bytes of one of them are not those of this move any more.
    if (this.#isOwned || b.database.disk.get(this.#id)?.state !== 'owned') return
    if (a.database.disk.get(this.#id)?.state !== 'departed') return
    this.#isOwned = true
    assert.equal(this.#comparing, b.process, `${facts}: promise 8: ${b.name} owns what was never compared`)
    const missed = this.#untouched(this.#toFind)
    assert.deepEqual(missed, [], `${facts}: promise 8: blocks ${missed} differed, and were never named`)
    const unread = this.#untouched(a.blockFile(this.#id)?.unreadable ?? []).filter(
      (block) => !this.#late.has(block) && !a.blockFile(this.#id)!.isHole(block), // A hole is never read.
    )
    assert.deepEqual(
      unread,
      [],
      `${facts}: promise 8: blocks ${unread} cannot be read at ${a.name}, and ${b.name} owns`,
    )
    const wrong = this.#differing().filter((block) => !this.#late.has(block))
    assert.deepEqual(wrong, [], `${facts}: promise 8: blocks ${wrong} differ from the source, and ${b.name} owns`)
  }

  /** At the end of a move in which no commit could fail: what the last process named is on record at the destination. */
  checkRecord(): void {
    const { b, facts } = this.#stage
    if (this.#named?.by !== b.process) return
    const { generation } = b.database.disk.get(this.#id)!
    const [moved] = [...b.database.migration.values()]
      .filter(({ role, state }) => role === 'destination' && state === 'done')
      .flatMap(({ disks }) => disks.filter((disk) => disk.id === this.#id && disk.generation === generation))
    const onRecord = moved?.differed ?? []
    const unsaid = [...this.#named.blocks].filter(
      (block) =>
        !onRecord.some(
          ({ offset, length }) => offset <= block * blockSizeBytes && block * blockSizeBytes < offset + length,
        ),
    )
    assert.deepEqual(
      unsaid,
      [],
      `${facts}: blocks ${unsaid} differed, and the record names ${rangesText(merged(onRecord))}`,
    )
  }

  /** A course at a site begins, or is taken up. */
  listen(site: SimSite, course: Course): void {
    course.listen((event) => {
      if (event.kind !== 'step' || !event.message.includes('being compared')) return
      const isOurs = this.#stage.disks.length === 1 || event.message.startsWith(`${this.#name}: `)
      if (site === this.#stage.b && isOurs) this.#begins(site)
    })
  }

  #begins(site: SimSite): void {
    this.#comparing = site.process
    this.#late.clear()
    this.#toFind.clear()
    const { arriving } = site.disks!.get(this.#id)!
    for (const block of this.#differing()) {
      if (arriving.missingBlocksIn({ first: block, end: block + 1 }) === 0) this.#toFind.add(block)
    }
  }

  #differs(site: SimSite, { offset, length }: { offset: number; length: number }): void {
    if (this.#named?.by !== site.process) this.#named = { by: site.process, blocks: new Set() }
    this.#stage.counts.differencesFound++
    for (let at = offset; at < offset + length; at += blockSizeBytes) {
      this.#toFind.delete(at / blockSizeBytes)
      this.#unsettled.add(at / blockSizeBytes)
      for (const set of [this.#settled, this.#outlived]) set.delete(at / blockSizeBytes)
      this.#named.blocks.add(at / blockSizeBytes)
    }
  }

  /** That they differed is on record, and that they are missing. */
  #isSettled(note: string): void {
    const ranges = [...note.matchAll(/(\d+) (B|KiB|MiB) at (\d+) (B|KiB|MiB)/g)]
    assert(ranges.length > 0, `no ranges in '${note}'`)
    for (const [, length, lengthUnit, offset, offsetUnit] of ranges) {
      const begin = Number(offset) * bytesOfUnit[offsetUnit!]!
      for (let at = begin; at < begin + Number(length) * bytesOfUnit[lengthUnit!]!; at += blockSizeBytes) {
        this.#unsettled.delete(at / blockSizeBytes)
        this.#settled.add(at / blockSizeBytes)
      }
    }
  }

  /** Untouched blocks that are not the same on both platters. */
  #differing(): number[] {
    const { a, b } = this.#stage
    const [there, here] = [a.blockFile(this.#id), b.blockFile(this.#id)]
    if (!there || !here) return []
    const all = Array.from({ length: blocks }, (_, block) => block)
    return this.#untouched(all).filter((block) => {
      const [from, to] = [block * blockSizeBytes, (block + 1) * blockSizeBytes]
      return Buffer.compare(there.bytes.subarray(from, to), here.bytes.subarray(from, to)) !== 0
    })
  }

  #untouched(some: Iterable<number>): number[] {
    return [...some].filter((block) => !this.#touched.has(block))
  }
}
