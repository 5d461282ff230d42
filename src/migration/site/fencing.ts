// Disks of which a later generation exists elsewhere, as a deed shows (generations.ts): they are served to nobody any more, and keep their
// bytes. The disk's course ends with it, if it is in a migration.
//
// What always holds:
// - From the moment at which that is known until it is on record guests are held, and the disk is neither granted
//   nor taken back: nobody reads or writes what is known to be void. The next start hears of it again.
// - What may come to an end by itself meanwhile (a move, a cancel, a deletion) is looked at again after each step.

import type { Disk } from '../../disk/disk.ts'
import { commitTogether } from '../../disk/plan.ts'
import { Refusal } from '../../disk/refusal.ts'
import { unknownOwner } from '../../disk/states.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { changed } from '../move.ts'
import { leftNote, mayServe, type Supersession, supersededNote } from '../supersession.ts'
import type { MigrationsServices } from './services.ts'
import type { SiteCourse } from './site-course.ts'

const retryMs = 5000
/** What has the disk for a moment (a migration that begins, a deletion) is waited for. */
const busyRetryMs = 100
/** So many times in silence. */
const loudAfter = 50

/** The migrations of this site. */
export interface FencingHost {
  readonly stopping: AbortSignal
  readonly past: { get(id: string): MigrationRecord | undefined; add(record: MigrationRecord): void }
  courses(): readonly SiteCourse[]
}

interface Pending {
  /** The latest that was heard of. */
  by: Supersession
  over: Promise<void>
}

export class Fencing {
  readonly #services: MigrationsServices
  readonly #host: FencingHost
  readonly #pending = new Map<Disk, Pending>()

  constructor(services: MigrationsServices, host: FencingHost) {
    this.#services = services
    this.#host = host
  }

  /** Resolves when the disk is superseded, or is none to serve any more. Rejects only when this site stops. */
  supersede(disk: Disk, claim: Supersession): Promise<void> {
    // That of which this site is an old copy was its own, and is nowhere any more.
    const by = claim.owner === this.#services.siteId ? { ...claim, owner: unknownOwner } : claim
    const before = this.#pending.get(disk)
    if (before) {
      if (before.by.generation < by.generation) before.by = by
      return before.over
    }
    if (!mayServe(disk)) return Promise.resolve()
    const pending: Pending = { by, over: Promise.resolve() }
    pending.over = this.#supersede(disk, pending).finally(() => this.#pending.delete(disk))
    this.#pending.set(disk, pending)
    return pending.over
  }

  async #supersede(disk: Disk, pending: Readonly<Pending>): Promise<void> {
    const { clock, log } = this.#services
    const { stopping } = this.#host
    const drained = disk.gate.freeze()
    disk.becomesVoid()
    let waits = 0
    while (this.#isDue(disk)) {
      try {
        const course = this.#courseOf(disk)
        if (course) await course.supersede(pending.by, disk)
        else await drained.then(() => this.#supersedeIdle(disk, pending.by))
      } catch (error) {
        stopping.throwIfAborted()
        const isBusy = error instanceof Refusal
        const facts = { disk: disk.name, error: String(error) }
        if (!isBusy || ++waits % loudAfter === 0) log('error', facts, 'that it is superseded is not on record yet')
        await clock.sleep(isBusy ? busyRetryMs : retryMs, stopping)
      }
    }
    stopping.throwIfAborted() // And nobody is let in again.
    disk.gate.thaw()
  }

  /** It was old when this was heard: a grant or a taking back that was being recorded then makes it no newer. */
  #isDue(disk: Disk): boolean {
    const isHere = this.#services.disks.get(disk.record.id) === disk
    return isHere && mayServe(disk) && !this.#host.stopping.aborted
  }

  #courseOf(disk: Disk): SiteCourse | undefined {
    return this.#host.courses().find((each) => each.inMove.includes(disk) && !each.ended)
  }

  /** A disk without a course: in no migration, or in one that was stopped until the next start. @throws Refusal when it is busy */
  async #supersedeIdle(disk: Disk, by: Supersession): Promise<void> {
    if (this.#courseOf(disk)) return // It has begun while requests in flight ended.
    const { migrationId } = disk.record
    const stopped = migrationId === null ? undefined : this.#host.past.get(migrationId)
    if (stopped) return this.#supersedeStopped(disk, by, stopped)
    using _claim = disk.reserve('a later generation of it exists elsewhere')
    await commitTogether([disk.supersede(by)])
  }

  /** As its course would: before switchover the move ends, and its other disks are free; after it, it goes on without this one. */
  async #supersedeStopped(disk: Disk, by: Supersession, stopped: MigrationRecord): Promise<void> {
    const { clock, disks: ours } = this.#services
    const others = stopped.disks.filter(({ id, hasLeft }) => id !== disk.id && !hasLeft)
    const hasPassed = stopped.state === 'copying' || stopped.state === 'finishing'
    const isOver = others.length === 0 || !hasPassed
    const ending = others.length > 0 ? `${disk.name}: ${supersededNote(by)}` : supersededNote(by)
    const record = changed(stopped, {
      ...(isOver && { state: 'failed', endedAt: clock.date().toISOString() }),
      note: isOver ? ending : leftNote(disk.name, by),
      disks: { [disk.id]: { owner: by.owner, hasLeft: !isOver } },
    })
    const free = isOver ? others.flatMap(({ id }) => ours.get(id) ?? []) : []
    const inIt = free.filter((each) => each.record.migrationId === stopped.id)
    const plans = [disk.supersede(by), ...inIt.map((each) => each.leaveMigration())]
    await commitTogether(plans, [{ put: 'migration', record }])
    this.#host.past.add(record)
  }
}
