// Who owns a disk, as the records of both sites have it: never two, never one that the other has not given up for, and
// generations that only grow (promises 1, 2, 8). A migration that is over names who owned then. Looked at after every step.

import assert from 'node:assert/strict'
import type { DiskRecord, MigrationRecord } from '../../src/store/records.ts'
import type { SimSite } from './sim-site.ts'
import type { Stage, StageDisk } from './stage.ts'
import type { SimProcess } from './world.ts'

export class Owners {
  readonly #stage: Stage
  readonly #disk: StageDisk
  /** In which generation each site took writes. */
  readonly #writers = new Map<number, string>()
  readonly #highestGeneration = new Map<SimSite, number>()
  #departedSeen = false
  /** Back to what the source had when it departed. */
  #asDeparted = () => {}
  #reclaimedAs: number | undefined
  /** Records of migrations that are over, and were looked at. */
  readonly #ended = new WeakSet<MigrationRecord>()

  constructor(stage: Stage, disk: StageDisk) {
    this.#stage = stage
    this.#disk = disk
  }

  /** Another move begins, of the same disk. */
  begins(): void {
    this.#departedSeen = false
  }

  /** A write was acknowledged. */
  wrote(site: SimSite, generation: number): void {
    const writer = this.#writers.get(generation) ?? site.name
    const { facts, fail } = this.#stage
    if (writer !== site.name)
      fail(new Error(`${facts}: promise 1: two sites took writes to ${this.#disk.name} in generation ${generation}`))
    this.#writers.set(generation, writer)
  }

  /** A site has given out a piece of the disk that was asked for under a generation: not under one that has ended. */
  served(by: SimProcess, generation: number): void {
    const { a, b, facts, fail } = this.#stage
    const site = [a, b].find(({ process }) => process === by)
    const now = site?.disks?.get(this.#disk.id)?.record.generation
    if (site && by.alive && now !== generation)
      fail(new Error(`${facts}: promise 3: ${site.name} serves generation ${generation}, and has ${now}`))
  }

  check(): void {
    const { a, b } = this.#stage
    this.#checkOwners()
    for (const site of [a, b]) {
      this.#checkGeneration(site)
      for (const record of site.database.migration.values()) this.#checkEnd(site, record)
    }
  }

  /** Whoever ended a migration without its source has told it, and has heard how it stood there. */
  get areEndsTold(): boolean {
    const { a, b } = this.#stage
    return [a, b].every((site) => [...site.database.migration.values()].every(({ sourceTold }) => sourceTold))
  }

  /** What a migration that is over says of the owner, at the moment at which it says so. */
  #checkEnd(site: SimSite, record: MigrationRecord): void {
    // A source that does not know yet that it is over may have taken the disk back: then the record is mended (afterword.ts).
    if (record.endedAt === null || !record.sourceTold || this.#ended.has(record)) return
    this.#ended.add(record)
    const moved = record.disks.find(({ id }) => id === this.#disk.id)
    if (!moved) return
    const { owner } = moved
    const expected = this.#ownerAtEnd(site, record)
    const facts = `${this.#stage.facts}: promise 2: ${site.name} has on record that ${owner} owned ${this.#disk.name}`
    assert.equal(owner, expected, `${facts} when its migration was ${record.state}, and it was ${expected}`)
  }

  #ownerAtEnd(site: SimSite, { role, state, peerSite, note }: MigrationRecord): string {
    const [source, destination] = role === 'source' ? [site.name, peerSite] : [peerSite, site.name]
    if (state === 'done') return destination
    if (state === 'cancelled' || note?.startsWith('it never began')) return source
    // It was taken back, here or there; or this site, or the other, is an old copy.
    const here = site.database.disk.get(this.#disk.id)
    if (here?.state !== 'superseded') return source
    const there = (site === this.#stage.a ? this.#stage.b : this.#stage.a).database.disk.get(this.#disk.id)
    const serves = there?.state === 'owned' || there?.state === 'arriving'
    return serves && there.generation >= here.generation ? peerSite : 'unknown'
  }

  #checkOwners(): void {
    const { a, b, facts } = this.#stage
    const onA = a.database.disk.get(this.#disk.id)
    const onB = b.database.disk.get(this.#disk.id)
    this.#checkReclaim(onA)
    if (this.#checkRestored() || this.#reclaimedAs !== undefined) return
    const aOwns = onA?.state === 'owned'
    const bOwns = onB?.state === 'arriving' || onB?.state === 'owned'
    assert(!(aOwns && bOwns), `${facts}: promise 1: both sites own ${this.#disk.name}`)
    if (bOwns) {
      assert(
        onA?.state === 'departed' || onA?.state === 'released',
        `${facts}: promise 2: B took ${this.#disk.name}, which A had not given up`,
      )
      assert.equal(onA.generation, onB.generation, `${facts}: the sites disagree on the generation`)
    }
    if (onA?.state === 'departed' && !this.#departedSeen) {
      this.#departedSeen = true
      this.#disk.oracle.allDurable()
      this.#asDeparted = this.#disk.oracle.remember()
    }
    if (onA?.state === 'released')
      assert.equal(onB?.state, 'owned', `${facts}: promise 8: A was released before B had all of ${this.#disk.name}`)
  }

  /** A site that was put back to an old copy serves nobody once it has started. Whether there is one. */
  #checkRestored(): boolean {
    const { archive, facts } = this.#stage
    const site = archive.restored
    if (!site) return false
    const state = site.database.disk.get(this.#disk.id)?.state
    assert(
      !site.up || (state !== 'owned' && state !== 'arriving'),
      `${facts}: promise 1: ${site.name} serves an old copy, ${state}`,
    )
    return true
  }

  /** A disk that was taken back: what was written at the destination is void. That site hears of it when it is up again. */
  #checkReclaim(onA: DiskRecord | undefined): void {
    const { b, counts, facts, isLost } = this.#stage
    if (onA?.state === 'owned' && this.#departedSeen && this.#reclaimedAs === undefined && isLost(b)) {
      this.#reclaimedAs = onA.generation
      counts.reclaims++
      this.#asDeparted()
    }
    if (this.#reclaimedAs === undefined) return
    assert(onA?.state === 'owned' && onA.generation === this.#reclaimedAs, `${facts}: what was taken back is gone`)
  }

  #checkGeneration(site: SimSite): void {
    const generation = site.database.disk.get(this.#disk.id)?.generation
    if (generation === undefined) return
    const before = site === this.#stage.archive.restored ? 0 : (this.#highestGeneration.get(site) ?? 0)
    assert(generation >= before, `${this.#stage.facts}: promise 1: generation ${before} of ${site.name} went back`)
    this.#highestGeneration.set(site, generation)
  }
}
