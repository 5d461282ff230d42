// What a site puts on the bus beside the events of its migrations.

import assert from 'node:assert/strict'
import { EventBus, type EventFilter, type EventKind } from '../../src/control/event-bus.ts'
import { announceCourse, announceDisk, announceLink } from '../../src/daemon/announcing.ts'
import type { Naming } from '../../src/daemon/views.ts'
import type { LinkFacts } from '../../src/link/peers/link-watch.ts'
import type { Course, CourseEvent } from '../../src/migration/course.ts'

const naming: Naming = {
  ownSite: 'site-a',
  siteName: (site) => site,
  peerName: () => 'tokyo',
  keyName: () => undefined,
  isConnected: () => true,
  link: (): LinkFacts => ({ state: 'down', sinceMs: Date.parse('2024-05-01T10:00:00.000Z'), why: 'no route' }),
  diskState: () => null,
}

describe('what a site announces', () => {
  let bus: EventBus
  beforeEach(() => {
    bus = new EventBus()
  })

  const watch = <Kind extends EventKind>(filter: EventFilter<Kind>) => bus.watch(filter, new AbortController().signal)

  async function all<Event>(watcher: AsyncIterable<Event> & { end(): void }): Promise<Event[]> {
    watcher.end()
    const heard: Event[] = []
    for await (const event of watcher) heard.push(event)
    return heard
  }

  it("a disk's state when a course of it begins, and whenever an event finds another", async () => {
    const watcher = watch({ kinds: ['disk'], concerning: 'd-1' })
    const listeners: ((event: CourseEvent) => void)[] = []
    const disk = { id: 'd-1', name: 'web01', state: 'incoming' }
    const disks = [{ id: 'd-2', name: 'web02', state: 'incoming' }, disk]
    const record = { peerId: 'p-1' }
    const listen = (listener: (event: CourseEvent) => void) => listeners.push(listener)
    announceCourse({ id: 'm-1', disks, record, listen } as unknown as Course, bus, naming)
    const happens = (kind: 'progress' | 'switchover' | 'ended', state: string) => {
      disk.state = state
      for (const listener of listeners) listener({ kind })
    }
    happens('progress', 'incoming')
    happens('switchover', 'arriving')
    happens('progress', 'arriving')
    happens('ended', 'owned')
    announceDisk('d-2', 'db', 'owned', bus)
    const states = (await all(watcher)).map(({ content }) => content)
    assert.deepEqual(
      states,
      ['incoming', 'arriving', 'owned'].map((state) => ({ type: 'state', disk: 'web01', state })),
    )
  })

  it('a link that is down, or is up, as whoever shows the peer sees it', async () => {
    const watcher = watch({ kinds: ['link'] })
    announceLink('p-1', 'down', bus, naming)
    assert.deepEqual(await all(watcher), [
      {
        kind: 'link',
        concerns: ['p-1'],
        content: {
          type: 'down',
          peer: 'tokyo',
          link: { state: 'down', since: '2024-05-01T10:00:00.000Z', why: 'no route' },
        },
      },
    ])
  })
})
