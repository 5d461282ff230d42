// The bus of events: who hears what, and what a watcher that does not read costs.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { ControlClient } from '../../src/control/client.ts'
import type { ControlError } from '../../src/control/errors.ts'
import {
  EventBus,
  type EventFilter,
  type EventKind,
  maxWaitingEvents,
  type SiteEvent,
} from '../../src/control/event-bus.ts'
import type { MigrationEvent } from '../../src/control/types.ts'
import { until } from '../e2e/sites.ts'
import { migrationView, type Served, serveFakeSite } from './fake-site.ts'

const never = new AbortController().signal
const progress = (sent: number, id = 'm-1'): MigrationEvent => {
  const { bytes, ...others } = migrationView('copying', { id })
  return { type: 'progress', migration: { ...others, bytes: { ...bytes, sent } } }
}
const step = (message: string, id = 'm-1'): MigrationEvent => ({
  type: 'step',
  step: 'copying',
  message,
  migration: migrationView('copying', { id }),
})
const result = (id = 'm-1'): MigrationEvent => ({ type: 'result', ...migrationView('done', { id }) })

/** What of an event the tests look at. */
function told({ content }: SiteEvent): string {
  if (content.type === 'step') return content.message
  if (content.type === 'progress' && 'migration' in content) return `progress ${content.migration.bytes.sent}`
  if (content.type === 'state') return `${content.disk} ${content.state}`
  return content.type
}

describe('the bus of events', () => {
  let bus: EventBus
  beforeEach(() => {
    bus = new EventBus()
  })
  const publish = (event: MigrationEvent, id = 'm-1', disks = ['d-1']) =>
    bus.publish('migration', [id, ...disks, 'p-1'], () => event)
  const watch = <Kind extends EventKind>(filter: EventFilter<Kind>) => bus.watch(filter, never)
  /** What waits for a watcher, and comes. */
  async function heard(watcher: AsyncIterable<SiteEvent> & { end(): void }): Promise<string[]> {
    watcher.end()
    const all: string[] = []
    for await (const event of watcher) all.push(told(event))
    return all
  }

  it('tells each watcher what it asked for, by kind and by any of the ids', async () => {
    const ofOne = watch({ kinds: ['migration'], concerning: 'm-1' })
    const ofDisk = watch({ kinds: ['migration', 'disk'], concerning: 'd-2' })
    const ofPeer = watch({ kinds: ['link', 'migration'], concerning: 'p-1' })
    const ofAll = watch({ kinds: ['migration', 'disk', 'link', 'creation'] })
    publish(step('one'))
    publish(step('two', 'm-2'), 'm-2', ['d-2', 'd-3'])
    bus.publish('disk', ['d-2'], () => ({ type: 'state', disk: 'db', state: 'owned' }))
    const link = { state: 'up', since: null, why: null } as const
    bus.publish('link', ['p-1'], () => ({ type: 'up', peer: 'tokyo', link }))
    bus.publish('creation', ['d-4'], () => ({ type: 'progress', bytes: { done: 1, total: 2 } }))
    assert.deepEqual(await heard(ofOne), ['one'])
    assert.deepEqual(await heard(ofDisk), ['two', 'db owned'])
    assert.deepEqual(await heard(ofPeer), ['one', 'two', 'up'])
    assert.deepEqual(await heard(ofAll), ['one', 'two', 'db owned', 'up', 'progress'])
  })

  it('puts an event into words once, however many listen, and never if nobody does', () => {
    let said = 0
    const say = () => {
      said += 1
      return step('once')
    }
    bus.publish('migration', ['m-1'], say)
    watch({ kinds: ['disk'] })
    watch({ kinds: ['migration'], concerning: 'm-2' })
    bus.publish('migration', ['m-1'], say)
    assert.equal(said, 0)
    for (let count = 0; count < 3; count++) watch({ kinds: ['migration'] })
    bus.publish('migration', ['m-1'], say)
    assert.equal(said, 1)
  })

  it('has only the newest progress of each migration wait, after what happened before it', async () => {
    const watcher = watch({ kinds: ['migration'] })
    publish(progress(1))
    publish(progress(2, 'm-2'), 'm-2')
    publish(step('a step'))
    for (let sent = 3; sent < 10_000; sent++) publish(progress(sent))
    assert.equal(watcher.waiting, 3)
    assert.deepEqual(await heard(watcher), ['progress 2', 'a step', 'progress 9999'])
  })

  it('drops progress, and no step, when there is no room', async () => {
    const watcher = watch({ kinds: ['migration'] })
    for (let count = 1; count < maxWaitingEvents; count++) publish(step(`${count}`))
    publish(progress(1))
    publish(result())
    publish(progress(2))
    assert.equal(watcher.waiting, maxWaitingEvents)
    const all = await heard(watcher)
    assert.deepEqual(all, [...Array.from({ length: maxWaitingEvents - 1 }, (_, index) => `${index + 1}`), 'result'])
  })

  it('tells a watcher that is too far behind so, in a sentence, and holds nothing for it', async () => {
    const watcher = watch({ kinds: ['migration'] })
    const reader = watch({ kinds: ['migration'] })
    const events = reader[Symbol.asyncIterator]()
    for (let count = 0; count <= maxWaitingEvents; count++) {
      publish(step(`${count}`))
      assert.equal(told((await events.next()).value!), `${count}`)
    }
    assert.equal(watcher.waiting, 0)
    assert.equal(bus.watchers, 1, 'the one that reads')
    publish(step('after'))
    assert.equal(watcher.waiting, 0)
    const error = await heard(watcher).catch((thrown: unknown) => thrown)
    const { code, exit, message, safe, next } = error as ControlError
    assert.deepEqual([code, exit], ['watcher-behind', 1])
    assert.match(message, /^This reader of events was 256 of them behind, so it is told no more\.$/)
    assert(safe && next)
  })

  it('forgets a watcher whose reader leaves, aborts or ends, and one that was never read', async () => {
    const leave = new AbortController()
    const aborts = bus.watch({ kinds: ['migration'] }, leave.signal)[Symbol.asyncIterator]()
    const returns = watch({ kinds: ['migration'] })[Symbol.asyncIterator]()
    const unread = watch({ kinds: ['migration'] })
    const waits = aborts.next()
    publish(step('one'))
    await waits
    await returns.next()
    const last = aborts.next()
    assert.equal(bus.watchers, 3)
    leave.abort()
    assert.equal((await last).done, true)
    await returns.return(undefined)
    unread[Symbol.dispose]()
    assert.equal(bus.watchers, 0)
    assert.equal(unread.waiting, 0)
  })

  it('forgets a watcher whose signal aborts, also when its reader does not come again, and one that comes too late', async () => {
    const leave = new AbortController()
    const watcher = bus.watch({ kinds: ['migration'] }, leave.signal)
    const reader = watcher[Symbol.asyncIterator]()
    publish(step('one'))
    publish(step('two'))
    await reader.next()
    leave.abort()
    publish(step('three'))
    assert.deepEqual([bus.watchers, watcher.waiting], [0, 0])
    assert.equal((await reader.next()).done, true)
    bus.watch({ kinds: ['migration'] }, leave.signal)
    assert.equal(bus.watchers, 0)
  })

  describe('behind the control API', () => {
    let served: Served
    let client: ControlClient
    beforeEach(async () => {
      served = await serveFakeSite()
      client = new ControlClient(served.path)
      served.site.events = async function* (signal) {
        using watcher = bus.watch({ kinds: ['migration'], concerning: 'm-1' }, signal)
        for await (const { content } of watcher) yield content
      }
    })
    afterEach(async () => {
      await client.close()
      await served[Symbol.asyncDispose]()
    })

    /** Asks, and reads nothing of the answer. */
    async function stuckWatcher(): Promise<net.Socket> {
      const socket = net.connect(served.path)
      await once(socket, 'connect')
      socket.pause()
      socket.write('GET /v1/migrations/m-1/events HTTP/1.1\r\nhost: x\r\n\r\n')
      return socket
    }
    async function watched(all: string[] = []): Promise<string[]> {
      for await (const event of client.migrationEvents('m-1')) {
        all.push(told({ kind: 'migration', concerns: [], content: event }))
      }
      return all
    }

    it('three watch the same migration, and the one that never reads holds neither the others nor memory', async () => {
      const heard: string[][] = [[], []]
      const watching = heard.map((all) => watched(all))
      const stuck = await stuckWatcher()
      await until('three watch', () => bus.watchers === 3 || undefined)
      const message = 'x'.repeat(2000)
      let count = 0
      // What the sockets take is taken first; then its queue fills, and it is left behind.
      while (bus.watchers === 3) {
        assert(count < 5000, 'it is left behind')
        publish(progress(count))
        const line = `${count++} ${message}`
        publish(step(line))
        await new Promise(setImmediate)
        await until('the others have heard it', () => heard.every((all) => all.at(-1) === line) || undefined)
      }
      assert.equal(bus.watchers, 2, 'those that read are with us')
      publish(result())
      for (const all of await Promise.all(watching)) {
        const steps = all.filter((line) => line.endsWith(message)).map((line) => Number.parseInt(line, 10))
        assert.deepEqual(
          steps,
          Array.from({ length: count }, (_, index) => index),
        )
        assert.equal(all.at(-1), 'result')
      }
      // When it reads at last, it finds the sentence at the end of what was sent.
      let text = ''
      stuck.on('data', (chunk) => (text += chunk))
      stuck.resume()
      await once(stuck, 'close')
      assert.match(text, /"type":"error","error":\{"code":"watcher-behind"/)
      assert.doesNotMatch(text, /"type":"result"/)
    })

    it('one that goes away is forgotten, and the others hear on', async () => {
      const watching = watched()
      const gone = await stuckWatcher()
      await until('two watch', () => bus.watchers === 2 || undefined)
      gone.destroy()
      await until('one watches', () => bus.watchers === 1 || undefined)
      publish(step('on'))
      publish(result())
      assert.deepEqual(await watching, ['on', 'result'])
      await until('nobody watches', () => bus.watchers === 0 || undefined)
    })
  })
})
