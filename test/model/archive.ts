// Sites that are put back to an old copy of their data folder. Only copies that the product must know for old, by the
// generation or by the mark, and only while the other site can be reached (docs/safety.md, "Old copies"): the restored
// site must then serve nobody, whatever comes after.
//
// A source whose disk has all arrived is missed by nobody, and the run goes on. In any other case bytes are lost with the
// restored folder: after some more weather the operator takes the disk back, if the product lets him, or the run ends.

import assert from 'node:assert/strict'
import type { DiskRecord } from '../../src/store/records.ts'
import { Client } from './client.ts'
import type { SimSite } from './sim-site.ts'
import { blocks, type Stage, type StageDisk, sectors, sectorsInBlock } from './stage.ts'
import type { SimProcess } from './world.ts'

const mostCopies = 8
const startLimit = 5000
/** Steps of weather that a stranded disk sees. */
const aftermathSteps = 400

export interface Copy {
  readonly site: SimSite
  /** Of the disks. */
  readonly records: ReadonlyMap<string, DiskRecord>
  /** The last mark that this site had on record, as a destination. */
  readonly mark: number
  readonly putBack: () => void
}

export class Archive {
  readonly #stage: Stage
  readonly #rate: number
  readonly #copies: Copy[] = []
  #restored: SimSite | undefined
  #strandedSteps: number | undefined

  constructor(stage: Stage) {
    this.#stage = stage
    this.#rate = stage.world.random.pick([0, 0, 0, 0, 0.02])
  }

  get isUsed(): boolean {
    return this.#rate > 0
  }

  get restored(): SimSite | undefined {
    return this.#restored
  }

  /** Another move begins. */
  begins(): void {
    this.#restored = undefined
  }

  /** Before a step of the world, in bad weather: makes a copy, or returns one to be put back. */
  pass(): Copy | undefined {
    const { world, a, b, isLost } = this.#stage
    const { random } = world
    if (!this.isUsed || this.#restored || !random.chance(this.#rate)) return undefined
    if (random.chance(0.6)) {
      const site = random.pick([a, b])
      if (site.hasRottenMaps) return undefined // A copy of it would be served to nobody.
      const mark = Math.max(0, ...[...site.database.migration.values()].map((each) => each.mark))
      if (this.#copies.length === mostCopies) this.#copies.splice(random.integer(mostCopies), 1)
      this.#copies.push({ site, records: new Map(site.database.disk), mark, putBack: site.copyFolder() })
      return undefined
    }
    const seen = isLost(b) ? [] : this.#copies.filter((copy) => this.#isSeen(copy))
    return seen.length > 0 ? random.pick(seen) : undefined
  }

  /** The weather is calm until the site has started. `steps` lets the world go on until the start is over. */
  async restore(copy: Copy, steps: (until: Promise<unknown>, limit: number) => Promise<void>): Promise<void> {
    const { world, b, counts, link, disks } = this.#stage
    const { site } = copy
    const { haste } = world
    const states = (of: ReadonlyMap<string, DiskRecord>) => disks.map(({ id }) => of.get(id)?.state)
    world.haste = 0 // Messages are faster than the 2 s for which a site that starts waits for its peers.
    link.late = world.random.chance(0.5) ? 'taken' : undefined // By which an old copy of a destination is known.
    site.losePower()
    const before = states(site.database.disk)
    copy.putBack()
    site.failedSyncs.clear()
    world.log(`${site.name}: RESTORED from ${before} to ${states(copy.records)}`)
    this.#restored = site
    await steps(site.start(), startLimit)
    world.haste = haste
    link.late = undefined
    counts.restored++
    if (site === b || states(b.database.disk).includes('arriving')) this.#strandedSteps = 0
  }

  /** A call has arrived. An old copy of a destination must be known for one before it says that it has everything. */
  hears(from: SimProcess, method: string): void {
    const { b, fail, facts } = this.#stage
    const isOld = this.#restored === b && from === b.process
    if (isOld && method === 'complete')
      fail(new Error(`${facts}: promise 8: ${b.name} is an old copy, and has the source released`))
  }

  /** Bytes of the disk were lost with the folder, and the weather goes on. */
  get isStranded(): boolean {
    return this.#strandedSteps !== undefined
  }

  /** To be called at every step. Whether a stranded disk has seen enough weather. */
  hasSeenEnough(): boolean {
    return this.#strandedSteps !== undefined && ++this.#strandedSteps > aftermathSteps
  }

  /** Calm weather. What is left of the disk: taken back at the source, or what the destination has. Whether the run goes on. */
  async end(takenBack: () => void): Promise<boolean> {
    const { world, a, b, counts, disks } = this.#stage
    const { id, name } = disks[0]! // They come back together.
    await world.event(undefined, 'both are up', { ready: () => a.up && b.up })
    this.#strandedSteps = undefined
    if (this.#restored === a) {
      for (const disk of disks) await this.#probe(disk)
      return false
    }
    if (a.disks!.get(id)?.state !== 'departed') return false
    a.closeAll()
    const outcome = await a.migrations!.commands.reclaim(name, true, new AbortController().signal).then(
      () => 'done',
      (error: Error) => error.message,
    )
    world.log(`operator: reclaim after a restoration: ${outcome}`)
    if (outcome !== 'done') return false
    counts.restoredReclaims++
    takenBack()
    return true
  }

  /** The source has older bytes now: the destination may read what it has, and not a byte more. */
  async #probe(probed: StageDisk): Promise<void> {
    const { b, facts } = this.#stage
    const client = new Client(this.#stage, probed, 'probe')
    const open = await client.connect(b)
    const disk = b.disks!.get(probed.id)
    if (!disk || !['arriving', 'owned'].includes(disk.state)) return
    for (let block = 0; open && block < blocks; block++) {
      const isPresent = (): boolean =>
        disk.state === 'owned' || disk.arriving.missingBlocksIn({ first: block, end: block + 1 }) === 0
      const wasHere = isPresent()
      const first = block * sectorsInBlock
      const answer = await client.read(open, first, Math.min(sectorsInBlock, sectors - first))
      if (answer.kind === 'unknown') return
      const isWritten = answer.kind === 'good' && isPresent() // By somebody who wrote all of it meanwhile.
      const expected = wasHere || isWritten ? 'good' : 'error'
      assert.equal(answer.kind, expected, `${facts}: block ${block} of ${probed.name}, whose source is an old copy`)
    }
  }

  /** Whether the product must know the copy for old, were it put back now. */
  #isSeen(copy: Copy): boolean {
    return this.#stage.disks.every(({ id }) => this.#isSeenBy(id, copy))
  }

  #isSeenBy(id: string, { site, records, mark }: Copy): boolean {
    const { a, b } = this.#stage
    const record = records.get(id)
    const other = site === a ? b : a
    // As the site itself has it: what was committed, and reported as failed, it has not heard.
    const there = other.disks?.get(id)?.record
    if (!other.up || other.isTroubled || !there) return false
    const isLower = (record?.generation ?? 0) < there.generation
    if (site === a) return isLower && (there.state === 'arriving' || there.state === 'owned')
    // Until the source has heard that it was taken, the grant is simply given again.
    if (there.state !== 'released' && !(there.state === 'departed' && there.taken)) return false
    if (isLower) return true
    if (record?.state !== 'arriving') return false
    const course = a.migrations!.courses().find((each) => each.id === record.migrationId)
    return there.state === 'released' || (course?.record.mark ?? 0) > mark
  }
}
