// What the log says of a migration: everything that is told of it but how far it is.

import type { Logger } from 'pino'
import type { Course } from '../migration/course.ts'

export function logCourse(course: Course, log: Logger): void {
  const facts = () => ({
    migration: course.id,
    disk: course.moved(course.disk).name,
    role: course.record.role,
    generation: course.moved(course.disk).generation,
  })
  course.listen((event) => {
    if (event.kind === 'progress') return
    const message = 'message' in event ? event.message : event.kind
    log.info({ ...facts(), state: course.record.state }, message)
  })
}
