// What the log says of a migration: everything that is told of it but how far it is.

import type { Logger } from 'pino'
import type { Course } from '../migration/course.ts'
import { diskNames } from '../migration/move.ts'

export function logCourse(course: Course, log: Logger): void {
  const { id: migration, record } = course
  const generations = record.disks.map(({ generation }) => generation)
  const generation = generations.length === 1 ? generations[0] : generations
  const facts = { migration, disk: diskNames(record), role: record.role, generation }
  course.listen((event) => {
    if (event.kind === 'progress') return
    const message = 'message' in event ? event.message : event.kind
    log.info({ ...facts, state: course.record.state }, message)
  })
}
