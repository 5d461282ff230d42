// The migrations of a site as its operators see them: begun, shown, watched, steered.

import type { EventBus } from '../control/event-bus.ts'
import type { ServiceOf } from '../control/service.ts'
import type {
  CheckedMigrateRequest,
  EstimatedBytes,
  EstimateView,
  ForceRequest,
  MigrationEvent,
  MigrationView,
  SetRequest,
} from '../control/types.ts'
import { nearestText } from '../disk/nearest-name.ts'
import { Refusal } from '../disk/refusal.ts'
import type { Estimate } from '../migration/site/estimates.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { Terms } from '../migration/terms.ts'
import { presentEvents } from './migration-events.ts'
import { type PeerBook, peerFacts } from './peer-book.ts'
import { courseView, type Naming, recordView } from './views.ts'

export interface LocalMigrationsParts {
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly naming: Naming
  readonly bus: EventBus
}

export class LocalMigrations implements ServiceOf<'migrations'> {
  readonly #parts: LocalMigrationsParts

  constructor(parts: LocalMigrationsParts) {
    this.#parts = parts
  }

  async begin(request: CheckedMigrateRequest, signal: AbortSignal): Promise<MigrationView> {
    const { book, migrations } = this.#parts
    const { disks, to, from } = request
    const terms = termsIn(request)
    const peer = peerFacts(book.named(to ?? from ?? ''))
    const course =
      to === undefined
        ? await migrations.beginnings.request(disks, peer, terms, signal)
        : await migrations.beginnings.start(disks, peer, terms, signal)
    return courseView(course, this.#parts.naming)
  }

  async estimate(request: CheckedMigrateRequest, signal: AbortSignal): Promise<EstimateView> {
    const { book, migrations } = this.#parts
    const { disks, to, from } = request
    if (to === undefined) {
      const facts = { disk: disks.join(', '), safe: 'Nothing was changed.', next: `Say it at ${from}, with --to.` }
      throw new Refusal('not-here', 'what a move costs is said at the site that has the disk', facts)
    }
    const peer = peerFacts(book.named(to))
    return estimateView(await migrations.estimates.make(disks, peer, termsIn(request), signal), peer.name)
  }

  list(): MigrationView[] {
    const { migrations, naming } = this.#parts
    const past = migrations.past().map((record) => recordView(record, naming))
    return [...past, ...migrations.courses().map((course) => courseView(course, naming))]
  }

  /** By its id, the beginning of it, or the name of one of its disks. @throws Refusal `migration-unknown` */
  show(named: string): MigrationView {
    const found = foundIn(this.list(), named)
    if (found.length === 1) return found[0]!
    const message =
      found.length === 0
        ? `there is no migration ${named || '(empty)'} here, nor one of a disk of that name`
        : `${named} may be any of ${found.length} migrations: ${found.map(({ id }) => id).join(', ')}`
    throw new Refusal('migration-unknown', message, {
      safe: 'Nothing was changed.',
      next: `${nearestText(
        named,
        this.list().flatMap(({ disks }) => disks.map(({ name }) => name)),
      )}See the migrations of this site: vmstore migration list.`,
    })
  }

  async switchover(named: string, { force = false }: ForceRequest): Promise<MigrationView> {
    const id = this.#underWay(named, 'switched over')
    const { commands } = this.#parts.migrations
    const course = await commands.switchover(id, force, AbortSignal.timeout(10_000))
    return courseView(course, this.#parts.naming)
  }

  pause(id: string): Promise<MigrationView> {
    return this.#setPaused(id, true)
  }

  resume(id: string): Promise<MigrationView> {
    return this.#setPaused(id, false)
  }

  async #setPaused(named: string, paused: boolean): Promise<MigrationView> {
    const id = this.#underWay(named, paused ? 'paused' : 'resumed')
    const course = await this.#parts.migrations.commands.setPaused(id, paused, AbortSignal.timeout(15_000))
    return courseView(course, this.#parts.naming)
  }

  async set(named: string, { maxRate }: SetRequest): Promise<MigrationView> {
    const id = this.#underWay(named, 'changed')
    const course = await this.#parts.migrations.commands.setMaxRate(id, maxRate, AbortSignal.timeout(15_000))
    return courseView(course, this.#parts.naming)
  }

  async cancel(named: string, { force = false }: ForceRequest): Promise<MigrationView> {
    const id = this.#underWay(named, 'cancelled')
    const course = await this.#parts.migrations.commands.cancel(id, force, AbortSignal.timeout(15_000))
    return this.show(course.id)
  }

  async *events(named: string, signal: AbortSignal): AsyncGenerator<MigrationEvent> {
    const shown = this.show(named)
    const course = this.#parts.migrations.courses().find((each) => each.id === shown.id)
    if (!course) {
      yield { type: 'result', ...shown }
      return
    }
    const { bus, naming } = this.#parts
    using watcher = bus.watch({ kinds: ['migration'], concerning: course.id }, signal)
    yield* presentEvents(course, naming)
    for await (const { content } of watcher) {
      yield content
      if (content.type === 'result') return
    }
  }

  /** The whole id of a migration that is under way. @throws Refusal `migration-unknown`, `migration-over` */
  #underWay(named: string, what: string): string {
    const { state, disk, id } = this.show(named)
    if (!isOver(state)) return id
    throw new Refusal('migration-over', `migration ${id} of ${disk} is ${state}: it cannot be ${what}`, {
      disk,
      safe: 'Nothing was changed.',
    })
  }
}

/** @throws Refusal `mode-unknown` */
function termsIn({ disks: _disks, to: _to, from: _from, source, ...rest }: CheckedMigrateRequest): Terms {
  return { ...rest, sourcePolicy: source }
}

function estimateView({ disks, freeBytes, rate }: Estimate, peer: string): EstimateView {
  const each = disks.map(({ name, sizeBytes, dataBytes: data, sparedBytes: spared }) => {
    return { name, bytes: { disk: sizeBytes, data, spared, sent: data - spared } }
  })
  const sum = (figure: keyof EstimatedBytes) => each.reduce((all, { bytes }) => all + bytes[figure], 0)
  const bytes = { disk: sum('disk'), data: sum('data'), spared: sum('spared'), sent: sum('sent') }
  const seconds = rate === null ? null : bytes.sent / rate
  return { disk: disks.map(({ name }) => name).join(', '), peer, bytes, disks: each, free: freeBytes, rate, seconds }
}

const isOver = (state: MigrationView['state']): boolean => ['done', 'cancelled', 'failed'].includes(state)

/**
 * A whole id means that one. Else all that are meant by the beginning of their ids, and by the name of a disk: of these the one
 * under way, or the latest.
 */
function foundIn(all: readonly MigrationView[], named: string): readonly MigrationView[] {
  if (named === '') return []
  const whole = all.find(({ id }) => id === named)
  if (whole) return [whole]
  const ofDisk = all.filter(({ disks }) => disks.some(({ name }) => name === named))
  const underWay = ofDisk.filter(({ state }) => !isOver(state))
  const latest = ofDisk.toSorted((one, other) => other.startedAt.localeCompare(one.startedAt)).slice(0, 1)
  const byDisk = underWay.length > 0 ? underWay : latest
  return [...new Set([...byDisk, ...all.filter(({ id }) => id.startsWith(named))])]
}
