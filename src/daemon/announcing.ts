// Puts on the bus what happens at this site: to its migrations, their disks, and its links.

import type { EventBus } from '../control/event-bus.ts'
import type { Course } from '../migration/course.ts'
import { migrationEvent } from './migration-events.ts'
import { linkView, type Naming } from './views.ts'

/** For as long as the course runs. The state of its disk is told at once, and whenever it is another. */
export function announceCourse(course: Course, bus: EventBus, naming: Naming): void {
  const { id: migration, record } = course
  const { peerId } = record
  const { id: diskId, name } = course.moved(course.disk)
  let state: string | undefined
  const tellState = () => {
    if (course.disk.state === state) return
    state = course.disk.state
    announceDisk(diskId, name, state, bus)
  }
  tellState()
  course.listen((event) => {
    tellState()
    bus.publish('migration', [migration, diskId, peerId], () => migrationEvent(course, event, naming))
  })
}

/** `state`: of the disk, or `removed`. */
export function announceDisk(id: string, name: string, state: string, bus: EventBus): void {
  bus.publish('disk', [id], () => ({ type: 'state', disk: name, state }))
}

export function announceLink(peerId: string, type: 'up' | 'down', bus: EventBus, naming: Naming): void {
  const say = () => ({ type, peer: naming.peerName(peerId), link: linkView(naming.link(peerId)) })
  bus.publish('link', [peerId], say)
}
