// The migrations of a site as its operators see them: begun, shown, watched, steered.

import type { EventBus } from '../control/event-bus.ts'
import type { ServiceOf } from '../control/service.ts'
import type { CheckedMigrateRequest, ForceRequest, MigrationEvent, MigrationView } from '../control/types.ts'
import { Refusal } from '../disk/refusal.ts'
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
    const { disks, to, from, mode, source, as, ...rest } = request
    if (mode !== 'post-copy') {
      const message = `this vmstore moves disks in mode post-copy; ${mode} is not there yet`
      throw new Refusal('mode-unknown', message, { disk: disks.join(', '), safe: 'Nothing was changed.' })
    }
    const terms: Terms = { ...rest, mode, sourcePolicy: source, ...(as !== undefined && { as }) }
    const peer = peerFacts(book.named(to ?? from ?? ''))
    const course =
      to === undefined
        ? await migrations.beginnings.request(disks, peer, terms, signal)
        : await migrations.beginnings.start(disks, peer, terms, signal)
    return courseView(course, this.#parts.naming)
  }

  list(): MigrationView[] {
    const { migrations, naming } = this.#parts
    const past = migrations.past().map((record) => recordView(record, naming))
    return [...past, ...migrations.courses().map((course) => courseView(course, naming))]
  }

  show(id: string): MigrationView {
    const found = id === '' ? [] : this.list().filter((migration) => migration.id.startsWith(id))
    if (found.length === 1) return found[0]!
    const message =
      found.length === 0 ? `there is no migration ${id} here` : `${id} begins the ids of ${found.length} migrations`
    throw new Refusal('migration-unknown', message, {
      next: 'See the migrations of this site: vmstore migration list.',
    })
  }

  async switchover(id: string, { force = false }: ForceRequest): Promise<MigrationView> {
    this.#refuseIfOver(id, 'switched over')
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

  async #setPaused(id: string, paused: boolean): Promise<MigrationView> {
    this.#refuseIfOver(id, paused ? 'paused' : 'resumed')
    const course = await this.#parts.migrations.commands.setPaused(id, paused, AbortSignal.timeout(15_000))
    return courseView(course, this.#parts.naming)
  }

  async cancel(id: string, { force = false }: ForceRequest): Promise<MigrationView> {
    this.#refuseIfOver(id, 'cancelled')
    const course = await this.#parts.migrations.commands.cancel(id, force, AbortSignal.timeout(15_000))
    return this.show(course.id)
  }

  async *events(id: string, signal: AbortSignal): AsyncGenerator<MigrationEvent> {
    const shown = this.show(id)
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

  #refuseIfOver(id: string, what: string): void {
    const { state, disk, id: whole } = this.show(id)
    if (!['done', 'cancelled', 'failed'].includes(state)) return
    throw new Refusal('migration-over', `migration ${whole} of ${disk} is ${state}: it cannot be ${what}`, {
      disk,
      safe: 'Nothing was changed.',
    })
  }
}
