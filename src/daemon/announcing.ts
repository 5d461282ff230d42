// Puts on the bus what happens at this site: to its migrations, their disks, and its links.

import type { EventBus } from '../control/event-bus.ts'
import type { Disk } from '../disk/disk.ts'
import type { Course } from '../migration/course.ts'
import { migrationEvent } from './migration-events.ts'
import { linkView, type Naming } from './views.ts'

/** For as long as the course runs. The states of its disks are told at once, and whenever one is another. */
export function announceCourse(course: Course, bus: EventBus, naming: Naming): void {
  const { id: migration, record } = course
  const { peerId } = record
  const told = new Map<Disk, string>()
  const tellStates = () => {
    for (const disk of course.disks) {
      if (told.get(disk) === disk.state) continue
      told.set(disk, disk.state)
      announceDisk(disk.id, disk.name, disk.state, bus)
    }
  }
  tellStates()
  course.listen((event) => {
    tellStates()
    const concerned = [migration, ...course.disks.map(({ id }) => id), peerId]
    bus.publish('migration', concerned, () => migrationEvent(course, event, naming))
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
