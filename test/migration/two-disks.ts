// A destination of a move of two disks, web01 and web02, over real files, and a source of which the test says what it answers.

import assert from 'node:assert/strict'
import type { Piece, Run } from '../../src/block/units.ts'
import type { Deed } from '../../src/deed/entries.ts'
import { Disk, type DiskServices } from '../../src/disk/disk.ts'
import { digestOf } from '../../src/migration/copy/verification.ts'
import type { AcquireAnswer, Acquisition, Completion, SourceDesk } from '../../src/migration/counterpart.ts'
import type { CourseServices } from '../../src/migration/course.ts'
import { DestinationCourse } from '../../src/migration/destination/destination-course.ts'
import { unlessAborted } from '../../src/migration/unless-aborted.ts'
import type { Change, DiskRecord, MigrationRecord } from '../../src/store/records.ts'
import { block, MemoryRecords, openDisk, ReadySource, settled } from '../disk/hand.ts'
import { migrationRecord, movedDisk } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSite } from './scripted-site.ts'
import { grantedDisks, keys } from './site-keys.ts'

export const ids = {
  web01: '33333333-3333-4333-8333-333333333333',
  web02: '44444444-4444-4444-8444-444444444444',
} as const
type Name = keyof typeof ids
const names = ['web01', 'web02'] as const

/** What never comes has not come by then; real files may be slow. */
const longestMs = 60_000

/** Records in memory that fail as long as the test says so. */
export class Ledger extends MemoryRecords {
  failure: Error | undefined
  tries = 0

  override async commit(changes: readonly Change[]): Promise<void> {
    this.tries++
    if (this.failure) throw this.failure
    await super.commit(changes)
  }

  /** What each commit since `from` has put, in its order: 'web01 arriving', 'move copying'. */
  put(from = 0): string[][] {
    return this.commits.slice(from).map((changes) =>
      changes.flatMap((change) => {
        if (!('put' in change) || change.put === 'peer') return []
        const { record } = change
        return [`${change.put === 'disk' ? (record as DiskRecord).name : 'move'} ${record.state}`]
      }),
    )
  }
}

export class TwoDisks {
  readonly clock = new FakeClock()
  readonly records = new Ledger()
  readonly bytes = new ReadySource()
  readonly acquired: Acquisition[] = []
  readonly completed: Completion[] = []
  /** Disks of which blocks were asked for, each time. */
  readonly fetched: string[] = []
  /** Blocks of a disk are not answered before. */
  readonly held = new Map<string, PromiseWithResolvers<void>>()
  readonly source: Partial<SourceDesk>
  /** What the source has of a disk. */
  deeds: (disk: string) => Deed = (disk) => this.course.disks.find(({ id }) => id === disk)!.record.deed!
  #made = new Map<string, { readonly services: DiskServices; record: DiskRecord }>()
  #record!: MigrationRecord
  course!: DestinationCourse

  constructor(answers: Partial<SourceDesk> = {}) {
    this.source = {
      inquire: async () => ({ state: 'ready', writersAreGone: false, sessions: 1, boot: 'boot-1' }),
      acquire: async (asked) => {
        this.acquired.push(asked)
        return this.grant(asked)
      },
      taken: async () => {},
      progress: async () => [],
      guests: async () => {},
      extents: async (_, run) => [{ ...run, data: true }],
      digests: (_, runs) =>
        Promise.all(runs.map(({ offset, length }) => digestOf(this.bytes.piece(offset, length).bytes!, this.clock))),
      blocks: (at, runs, { signal }) => this.#blocks(at.disk, runs, signal),
      complete: async (said) => {
        this.completed.push(said)
        return { answer: 'released', disks: [], released: [] }
      },
      ...answers,
    }
  }

  grant(asked: Acquisition): AcquireAnswer {
    return {
      answer: 'granted',
      disks: grantedDisks(asked, 'm-1', (disk) => this.course.disks.find(({ id }) => id === disk)!.record.offered!),
      boot: null,
      cutOff: [],
    }
  }

  async *#blocks(disk: string, runs: readonly Run[], signal: AbortSignal): AsyncGenerator<Piece> {
    this.fetched.push(disk)
    const held = this.held.get(disk)
    if (held) await unlessAborted(held.promise, signal)
    yield* this.bytes.fetch(runs)
  }

  /** Both are incoming, and the course of their move is not started yet. */
  async open(terms: object = {}): Promise<void> {
    for (const name of names) {
      const facts = { id: ids[name], name, state: 'incoming', generation: 1, owner: 'there', migrationId: 'm-1' }
      const { disk, services, record } = await openDisk(this.bytes, facts, undefined, undefined, {
        records: this.records,
      })
      await disk.close()
      this.#made.set(ids[name], { services, record })
    }
    const disks = names.map((name) => movedDisk({ id: ids[name], name, sizeBytes: 64 * block, generation: 2 }))
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'ready', disks })
    this.#record = { ...record, terms: { ...record.terms, ...terms } }
    await this.#openCourse()
  }

  /** The daemon ends, and the next one takes up what is on record. */
  async restart(): Promise<void> {
    await this.close()
    this.#record = this.course.record
    for (const disk of this.course.disks) this.#made.get(disk.id)!.record = disk.record
    await this.#openCourse()
  }

  async close(): Promise<void> {
    this.course.stop()
    for (const held of this.held.values()) held.resolve()
    await this.course.settled()
    for (const disk of this.course.disks) await disk.close()
  }

  async #openCourse(): Promise<void> {
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const services: CourseServices = { ...facts, records: this.records, clock: this.clock }
    const deed = async (disk: string) => JSON.parse(JSON.stringify(this.deeds(disk))) as unknown
    const there = { ...scriptedSite(this.#answers()), deed }
    this.course = await DestinationCourse.open(services, this.#record, there, false, (remote, id) => {
      const made = this.#made.get(id)
      assert(made)
      return Disk.open(made.services, made.record, remote)
    })
  }

  /** As the test says now, also where it has changed its mind. */
  #answers(): Partial<SourceDesk> {
    const source = this.source as Record<string, (...asked: unknown[]) => unknown>
    const names = Object.keys(source)
    return Object.fromEntries(names.map((name) => [name, (...asked: unknown[]) => source[name]!(...asked)]))
  }

  disk(name: Name): Disk {
    return this.course.disks.find(({ id }) => id === ids[name])!
  }

  get states(): string[] {
    return this.course.disks.map(({ state }) => state)
  }

  /** A guest's write of a block to one of them, that may have to wait. */
  write(name: Name, number = 0): Promise<void> {
    const done = Promise.resolve(
      this.disk(name)
        .open('guest')
        .write(number * block, Buffer.alloc(block, 9), false),
    )
    done.catch(() => {})
    return done
  }

  /** Lets time pass until it is so: real files are read and written meanwhile. */
  async until(what: string, isSo: () => boolean, stepMs = 100): Promise<void> {
    const deadlineMs = Date.now() + longestMs
    for (let steps = 0; !isSo(); steps++) {
      assert(
        Date.now() < deadlineMs,
        `never: ${what}; ${this.states}, ${this.course.record.state}: ${this.course.note}`,
      )
      await settled()
      if (steps % 20 === 19) await this.clock.advance(stepMs)
    }
  }
}
