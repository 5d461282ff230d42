// The migrations of a site as its operators see them: begun, shown, watched, steered.

import type { SiteMigrations } from '../control/service.ts'
import type { CheckedMigrateRequest, MigrationEvent, MigrationView } from '../control/types.ts'
import type { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import type { Course, CourseEvent } from '../migration/course.ts'
import { onlyDisk } from '../migration/move.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { Terms } from '../migration/terms.ts'
import { EventQueue } from './event-queue.ts'
import { type PeerBook, peerFacts } from './peer-book.ts'
import { courseView, type Naming, recordView, stateOf } from './views.ts'

export interface LocalMigrationsParts {
  readonly disks: Disks
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly naming: Naming
}

export class LocalMigrations implements SiteMigrations {
  readonly #parts: LocalMigrationsParts

  constructor(parts: LocalMigrationsParts) {
    this.#parts = parts
  }

  async begin(request: CheckedMigrateRequest, signal: AbortSignal): Promise<MigrationView> {
    const { book, migrations } = this.#parts
    const { disk, to, from, mode, source, ...rest } = request
    if (mode !== 'post-copy') {
      const message = `this vmstore moves disks in mode post-copy; ${mode} is not there yet`
      throw new Refusal('mode-unknown', message, { disk, safe: 'Nothing was changed.' })
    }
    const terms: Terms = { ...rest, mode, sourcePolicy: source }
    const peer = peerFacts(book.named(to ?? from ?? ''))
    const course =
      to === undefined
        ? await migrations.beginnings.request([disk], peer, terms, signal)
        : await migrations.beginnings.start([disk], peer, terms, signal)
    return courseView(course, this.#parts.naming)
  }

  list(): readonly MigrationView[] {
    const { migrations, naming, disks } = this.#parts
    const past = migrations.past().map((record) => {
      const disk = disks.get(onlyDisk(record).id)
      return recordView(record, naming, disk ? stateOf(disk) : null)
    })
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

  async switchover(id: string, options: { force: boolean }): Promise<MigrationView> {
    this.#refuseIfOver(id, 'switched over')
    const { commands } = this.#parts.migrations
    const course = await commands.switchover(id, options.force, AbortSignal.timeout(10_000))
    return courseView(course, this.#parts.naming)
  }

  async setPaused(id: string, paused: boolean): Promise<MigrationView> {
    this.#refuseIfOver(id, paused ? 'paused' : 'resumed')
    const course = await this.#parts.migrations.commands.setPaused(id, paused, AbortSignal.timeout(15_000))
    return courseView(course, this.#parts.naming)
  }

  async cancel(id: string, options: { force: boolean }): Promise<MigrationView> {
    this.#refuseIfOver(id, 'cancelled')
    const course = await this.#parts.migrations.commands.cancel(id, options.force, AbortSignal.timeout(15_000))
    return this.show(course.id)
  }

  async *events(id: string, signal: AbortSignal): AsyncGenerator<MigrationEvent> {
    const shown = this.show(id)
    const course = this.#parts.migrations.courses().find((each) => each.id === shown.id)
    if (!course) {
      yield { type: 'result', ...shown }
      return
    }
    const queue = new EventQueue<MigrationEvent>((event) => event.type === 'progress')
    const stop = course.listen((event) => {
      queue.push(this.#migrationEvent(course, event))
      if (event.kind === 'ended') queue.end()
    })
    try {
      yield* this.#present(course)
      yield* queue.drain(signal)
    } finally {
      stop()
    }
  }

  /** Where the migration stands, for whoever begins to watch. */
  *#present(course: Course): Generator<MigrationEvent> {
    const migration = courseView(course, this.#parts.naming)
    yield { type: 'step', step: migration.state, message: stepMessages[migration.state] ?? migration.state, migration }
    if (migration.state === 'ready') yield { type: 'ready', message: course.readyMessage, migration }
    if (migration.state === 'copying' || migration.state === 'finishing')
      yield this.#migrationEvent(course, { kind: 'switchover' })
  }

  #migrationEvent(course: Course, event: CourseEvent): MigrationEvent {
    const migration = courseView(course, this.#parts.naming)
    switch (event.kind) {
      case 'step':
        return { type: 'step', step: migration.state, message: event.message, migration }
      case 'ready':
        return { type: 'ready', message: event.message, migration }
      case 'switchover':
        return {
          type: 'switchover',
          generation: migration.generation,
          seconds: migration.seconds.switchover,
          migration,
        }
      case 'progress':
        return { type: 'progress', migration }
      case 'ended':
        return { type: 'result', ...migration }
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

const stepMessages: Readonly<Record<string, string>> = {
  preparing: 'the destination makes room',
  ready: 'the destination serves the disk, the source owns it',
  switching: 'the destination asks for the disk',
  copying: 'the destination owns the disk and fetches it',
  finishing: 'every block has come; the source is being released',
}
