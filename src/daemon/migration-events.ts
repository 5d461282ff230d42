// What is told to whoever watches a migration: an event of its course, with the migration as it is at that moment.

import type { MigrationEvent } from '../control/types.ts'
import type { Course, CourseEvent } from '../migration/course.ts'
import { courseView, type Naming } from './views.ts'

const stepMessages: Readonly<Record<string, readonly [ofOne: string, ofSeveral: string]>> = {
  preparing: ['the destination makes room', 'the destination makes room'],
  'pre-copying': [
    'the destination serves the disk and copies it ahead, the source owns it',
    'the destination serves the disks and copies them ahead, the source owns them',
  ],
  ready: [
    'the destination serves the disk, the source owns it',
    'the destination serves the disks, the source owns them',
  ],
  switching: ['the destination asks for the disk', 'the destination asks for the disks'],
  copying: ['the destination owns the disk and fetches it', 'the destination owns the disks and fetches them'],
  finishing: [
    'every block has come; the source is being released',
    'every block has come; the source is being released',
  ],
}

export function migrationEvent(course: Course, event: CourseEvent, naming: Naming): MigrationEvent {
  const migration = courseView(course, naming)
  switch (event.kind) {
    case 'step':
      return { type: 'step', step: migration.state, message: event.message, migration }
    case 'ready':
      return { type: 'ready', message: event.message, migration }
    case 'switchover':
      return { type: 'switchover', generation: migration.generation, seconds: migration.seconds.switchover, migration }
    case 'progress':
      return { type: 'progress', migration }
    case 'ended':
      return { type: 'result', ...migration }
  }
}

/** Where the migration stands, for whoever begins to watch. */
export function* presentEvents(course: Course, naming: Naming): Generator<MigrationEvent> {
  const migration = courseView(course, naming)
  const message = stepMessages[migration.state]?.[course.disks.length > 1 ? 1 : 0] ?? migration.state
  yield { type: 'step', step: migration.state, message, migration }
  if (migration.state === 'ready') yield { type: 'ready', message: course.readyMessage, migration }
  if (migration.state === 'copying' || migration.state === 'finishing') {
    yield migrationEvent(course, { kind: 'switchover' }, naming)
  }
}
