// Who dials when, and what a request does while no lane is there. Dials are fakes, time is moved by hand.

import assert from 'node:assert/strict'
import { type Duplex, duplexPair } from 'node:stream'
import { LinkError, type PeerHandlers, type Purpose } from '../../src/link/channel.ts'
import type { Lane } from '../../src/link/lane/lane.ts'
import { LinkHub } from '../../src/link/peers/hub.ts'
import { maximumLanes } from '../../src/link/peers/peer-links.ts'
import {
  collect,
  fetchOf,
  isLinkError,
  lanePair,
  ManualClock,
  never,
  noHandlers,
  quiet,
  StreamHub,
  settle,
} from './pair.ts'

interface World {
  readonly clock: ManualClock
  readonly hubs: Record<string, StreamHub>
  readonly dials: string[]
  readonly streams: Duplex[]
  reachable: boolean
}

/** Sites that reach each other in memory; `addresses` says who knows whose. */
function world(sites: string[], addresses: string[], handlers: Partial<PeerHandlers> = {}): World {
  const made: World = { clock: new ManualClock(), hubs: {}, dials: [], streams: [], reachable: true }
  for (const ownId of sites) {
    made.hubs[ownId] = new StreamHub({
      ownId,
      clock: made.clock,
      random: () => 1,
      dateMs: () => made.clock.nowMs,
      log: quiet,
      handlers: { ...noHandlers, call: async (_peer, method) => ({ method, at: ownId }), ...handlers },
      hasAddress: (peerId) => addresses.includes(`${ownId}>${peerId}`),
      async dial(peerId: string, purpose: Purpose) {
        made.dials.push(`${ownId}>${peerId} ${purpose}`)
        if (!made.reachable) throw new LinkError('unreachable', 'no route')
        const [near, far] = duplexPair()
        made.streams.push(near)
        made.hubs[peerId]!.take(ownId, far)
        return near
      },
    })
  }
  return made
}

describe('link hub', () => {
  it('a call dials, and the lane serves the next calls of both sides', async () => {
    const { hubs, dials } = world(['a', 'b'], ['a>b'])
    assert.deepEqual(await hubs['a']!.channel('b').call('one', {}, { signal: never }), { method: 'one', at: 'b' })
    await hubs['a']!.channel('b').call('two', {}, { signal: never })
    assert.deepEqual(await hubs['b']!.channel('a').call('three', {}, { signal: never }), { method: 'three', at: 'a' })
    assert.deepEqual(dials, ['a>b control'])
  })

  it('promise 9: demand and background fetches have lanes of their own', async () => {
    const made = world(['a', 'b'], ['a>b'], {
      async *fetch(_peer, request) {
        yield { ...request.runs[0]!, bytes: undefined }
      },
    })
    const channel = made.hubs['a']!.channel('b')
    await collect(channel.fetch(fetchOf([0, 4096]), { urgency: 'demand', signal: never }))
    await collect(channel.fetch(fetchOf([0, 4096]), { urgency: 'background', signal: never }))
    assert.deepEqual(made.dials, ['a>b demand', 'a>b background'])
  })

  it('without an address a call waits for the peer to dial', async () => {
    const { hubs } = world(['a', 'b'], ['b>a'])
    const waiting = hubs['a']!.channel('b').call('late', {}, { signal: never })
    await settle()
    await hubs['b']!.probe('a', { signal: never })
    assert.deepEqual(await waiting, { method: 'late', at: 'b' })
  })

  it('a call waits until its signal aborts, and dials again after 250 ms, doubling up to 2 s', async () => {
    const made = world(['a', 'b'], ['a>b'])
    made.reachable = false
    const control = new AbortController()
    const call = made.hubs['a']!.channel('b').call('x', {}, { signal: control.signal })
    const counts: number[] = []
    for (const ms of [0, 250, 500, 1000, 2000, 2000, 2000]) {
      await made.clock.advance(ms)
      counts.push(made.dials.length)
    }
    assert.deepEqual(counts, [1, 2, 3, 4, 5, 6, 7])
    assert.equal(made.hubs['a']!.trouble('b'), 'no route')
    control.abort()
    await assert.rejects(call, isLinkError('aborted'))
    await made.clock.advance(60_000)
    assert.equal(made.dials.length, 7)
  })

  it('probe makes one attempt and says why not', async () => {
    const made = world(['a', 'b'], ['a>b'])
    made.reachable = false
    await assert.rejects(made.hubs['a']!.probe('b', { signal: never }), { code: 'unreachable', message: 'no route' })
    await assert.rejects(made.hubs['b']!.probe('a', { signal: never }), {
      code: 'unreachable',
      message: /has no address/,
    })
    assert.equal(made.dials.length, 1)
    made.reachable = true
    await made.hubs['a']!.probe('b', { signal: never })
    await made.hubs['b']!.probe('a', { signal: never })
    assert.ok(made.hubs['a']!.connected('b') && made.hubs['b']!.connected('a'))
  })

  describe('tells of an outage', () => {
    /** What both sites hear, in order. */
    function listening(made: World): string[] {
      const told: string[] = []
      for (const [site, hub] of Object.entries(made.hubs)) {
        hub.onEvent((_peer, event) => told.push(`${site} ${event.kind}${'why' in event ? `: ${event.why}` : ''}`))
      }
      return told
    }

    it('each thing once, at both ends: down, the first retry, its failure, up', async () => {
      const made = world(['a', 'b'], ['a>b'])
      const told = listening(made)
      const a = made.hubs['a']!
      using _kept = a.keep('b')
      await settle()
      assert.deepEqual(told.splice(0).sort(), ['a up', 'b up'])
      assert.equal(a.facts('b')!.state, 'up')
      await made.clock.advance(5000)
      made.reachable = false
      for (const stream of made.streams.splice(0)) stream.destroy()
      await settle()
      await made.clock.advance(60_000)
      assert.deepEqual(
        told.filter((line) => line.startsWith('a')),
        ['a down: the connection was closed', 'a retry', 'a retry-failed: no route'],
      )
      assert.deepEqual(told.filter((line) => line.startsWith('b')).length, 1)
      assert.match(told.find((line) => line.startsWith('b'))!, /^b down: /)
      const { state, why } = a.facts('b')!
      assert.deepEqual([state, why], ['down', 'no route'])
      told.length = 0
      made.reachable = true
      await made.clock.advance(3000)
      assert.deepEqual(told.sort(), ['a up', 'b up'])
    })

    it('says since when, and how long it lasted', async () => {
      const made = world(['a', 'b'], ['a>b'])
      const lasted: (number | undefined)[] = []
      const a = made.hubs['a']!
      a.onEvent((_peer, event) => event.kind === 'up' && lasted.push(event.wasDownMs))
      using _kept = a.keep('b')
      await settle()
      made.reachable = false
      await made.clock.advance(10_000)
      for (const stream of made.streams.splice(0)) stream.destroy()
      await settle()
      const { sinceMs } = a.facts('b')!
      assert.equal(sinceMs, made.clock.nowMs)
      made.reachable = true
      await made.clock.advance(3000)
      assert.equal(lasted[0], undefined, 'the first time nothing was down')
      assert.equal(lasted[1], a.facts('b')!.sinceMs - sinceMs)
    })

    it('a link that breaks as soon as it is up, again and again, is told of once, and when it stays down', async () => {
      const made = world(['a', 'b'], ['a>b'])
      const told: string[] = []
      made.hubs['a']!.onEvent((_peer, event) => told.push(`${event.isQuiet ? 'quiet ' : ''}${event.kind}`))
      using _kept = made.hubs['a']!.keep('b')
      await made.clock.advance(5000)
      const cut = async () => {
        for (const stream of made.streams.splice(0)) stream.destroy()
        await settle()
      }
      await cut()
      for (let count = 0; count < 100; count++) {
        await made.clock.advance(200)
        if (made.hubs['a']!.facts('b')!.state === 'up') await cut()
      }
      const loud = told.filter((line) => !line.startsWith('quiet'))
      assert.deepEqual(loud, ['up', 'down', 'retry', 'up', 'down', 'retry', 'up'], 'the first time it may be chance')
      assert(told.filter((line) => line === 'quiet down').length > 5, told.join())
      made.reachable = false
      await made.clock.advance(500)
      await cut()
      told.length = 0
      await made.clock.advance(10_000)
      assert.deepEqual(
        told.filter((line) => !line.startsWith('quiet')),
        ['down', 'retry', 'retry-failed'],
      )
    })

    it('a peer that could never be dialled is down from the first failure on', async () => {
      const made = world(['a', 'b'], ['a>b'])
      const told = listening(made)
      made.reachable = false
      using _kept = made.hubs['a']!.keep('b')
      await made.clock.advance(10_000)
      assert.deepEqual(told, ['a down: no route'])
    })

    it('a peer that has to dial, and does not, is down after a while', async () => {
      const made = world(['a', 'b'], ['b>a'])
      const told = listening(made)
      using _kept = made.hubs['a']!.keep('b')
      await made.clock.advance(4000)
      assert.deepEqual(told, [])
      assert.equal(made.hubs['a']!.facts('b')!.state, 'untried')
      await made.clock.advance(2000)
      assert.match(told.join(), /^a down: it has not been heard of/)
    })

    it('a peer that is removed, or a site that stops, is no outage', async () => {
      const made = world(['a', 'b'], ['a>b'])
      using _kept = made.hubs['a']!.keep('b')
      await settle()
      const told = listening(made)
      made.hubs['a']!.drop('b')
      await made.hubs['b']!.close()
      await settle()
      assert.deepEqual(
        told.filter((line) => line.startsWith('a')),
        [],
      )
    })
  })

  it('a dial that hangs is given up', async () => {
    const clock = new ManualClock()
    const dial = () => new Promise<Duplex>(() => {})
    const hub = new StreamHub({ ownId: 'a', clock, log: quiet, handlers: noHandlers, hasAddress: () => true, dial })
    const probe = hub.probe('b', { signal: never })
    probe.catch(() => {})
    await clock.advance(15_000)
    await assert.rejects(probe, { code: 'unreachable', message: /within 15 s/ })
  })

  it('requests under way are lost with their lane, and the next one dials', async () => {
    const made = world(['a', 'b'], ['a>b'], {
      call: async (_peer, method) => (method === 'hang' ? new Promise<never>(() => {}) : { method }),
    })
    const channel = made.hubs['a']!.channel('b')
    const hanging = channel.call('hang', {}, { signal: never })
    await settle()
    made.streams[0]!.destroy()
    await assert.rejects(hanging, isLinkError('lost'))
    const again = channel.call('again', {}, { signal: never })
    await made.clock.advance(250)
    assert.deepEqual(await again, { method: 'again' })
    assert.equal(made.dials.length, 2)
  })

  it('keep holds three lanes open, brings them back, and stops when disposed', async () => {
    const made = world(['a', 'b'], ['a>b'])
    const kept = made.hubs['a']!.keep('b')
    await settle()
    assert.deepEqual(made.dials, ['a>b control', 'a>b demand', 'a>b background'])
    await made.clock.advance(10_000)
    for (const stream of made.streams.splice(0)) stream.destroy()
    await settle()
    assert.equal(made.dials.length, 6)
    kept[Symbol.dispose]()
    for (const stream of made.streams.splice(0)) stream.destroy()
    await made.clock.advance(60_000)
    assert.equal(made.dials.length, 6)
    assert.equal(made.hubs['a']!.connected('b'), false)
  })

  it('of two that can both dial, the smaller does, and the greater only when nothing comes', async () => {
    const made = world(['a', 'b'], ['a>b', 'b>a'])
    made.hubs['b']!.keep('a')
    await made.clock.advance(500)
    made.hubs['a']!.keep('b')
    await settle()
    await made.clock.advance(5_000)
    assert.deepEqual(made.dials, ['a>b control', 'a>b demand', 'a>b background'])

    const alone = world(['a', 'b'], ['a>b', 'b>a'])
    alone.hubs['b']!.keep('a')
    await alone.clock.advance(999)
    assert.equal(alone.dials.length, 0)
    await alone.clock.advance(1)
    assert.equal(alone.dials.length, 3)
  })

  it('a peer that says hello and closes at once is dialled with back-off', async () => {
    const clock = new ManualClock()
    let dials = 0
    const hub = new StreamHub({
      ownId: 'a',
      clock,
      random: () => 1,
      log: quiet,
      handlers: noHandlers,
      hasAddress: () => true,
      async dial() {
        dials++
        const [near, far] = duplexPair()
        far.on('error', () => {})
        far.resume()
        far.end(Buffer.concat([header(1, 0, hello.length), hello]))
        return near
      },
    })
    const kept = hub.keep('b')
    // By half seconds: without back-off this would never settle.
    for (let step = 0; step < 40; step++) await clock.advance(500)
    kept[Symbol.dispose]()
    assert.ok(dials <= 3 * 14, `${dials} dials in 20 s`)
  })

  it('promise 11: lanes that a peer opens over and over are bounded', async () => {
    const made = world(['a', 'b'], ['a>b'])
    for (let count = 0; count < 40; count++) {
      const [near, far] = duplexPair()
      near.on('error', () => {})
      made.hubs['b']!.take('a', far)
      near.write(Buffer.concat([header(1, 0, hello.length), hello]))
      near.resume()
      made.streams.push(far)
      await settle()
    }
    assert.equal(made.streams.filter((stream) => !stream.destroyed).length, maximumLanes)
    for (let count = 0; count < 60; count++) {
      const [near, far] = duplexPair()
      near.on('error', () => {})
      made.hubs['b']!.take('a', far)
      made.streams.push(far)
    }
    await settle()
    assert.equal(made.streams.filter((stream) => !stream.destroyed).length, maximumLanes + 24)
  })

  it('onUp tells when a peer comes, once', async () => {
    const made = world(['a', 'b'], ['a>b'])
    const seen: string[] = []
    made.hubs['b']!.onUp((peerId) => seen.push(peerId))
    made.hubs['a']!.keep('b')
    await settle()
    assert.deepEqual(seen, ['a'])
  })

  it('drop closes everything of a removed peer', async () => {
    const made = world(['a', 'b', 'c'], ['a>b', 'a>c'], { call: () => new Promise(() => {}) })
    const call = made.hubs['a']!.channel('b').call('x', {}, { signal: never })
    const other = made.hubs['a']!.channel('c').call('x', {}, { signal: never })
    other.catch(() => {})
    made.hubs['a']!.keep('b')
    await settle()
    made.hubs['a']!.drop('b')
    await assert.rejects(call, isLinkError('closed'))
    await made.clock.advance(10_000)
    assert.deepEqual([made.hubs['a']!.connected('b'), made.hubs['a']!.connected('c')], [false, true])
    assert.equal(made.dials.filter((dial) => dial.startsWith('a>b')).length, 3)
  })

  it('promise 10: a lane that opens in the moment in which its peer is removed is closed, whoever dialled', async () => {
    const dialled = Promise.withResolvers<Lane>()
    const lanes = { dial: () => dialled.promise }
    const hub = new LinkHub({ ownId: 'a', lanes, address: () => 'tcp://b', log: quiet, clock: new ManualClock() })
    const { near } = await lanePair()
    hub.probe('b', { signal: never }).catch(() => {})
    dialled.resolve(near)
    hub.drop('b')
    await settle()
    assert(!near.isOpen)
    for (let steps = 0; steps < 10; steps++) {
      const { far } = await lanePair()
      hub.accept('b', far)
      for (let step = 0; step < steps; step++) await undefined
      hub.drop('b')
      await settle()
      assert(!far.isOpen, `removed ${steps} steps after it was taken`)
    }
  })

  it('close ends everything, and leaves no timer', async () => {
    const made = world(['a', 'b'], ['a>b'])
    made.hubs['a']!.keep('b')
    await settle()
    await Promise.all([made.hubs['a']!.close(), made.hubs['b']!.close()])
    await settle()
    assert.equal(made.clock.pending, 0)
    await assert.rejects(made.hubs['a']!.channel('b').call('x', {}, { signal: never }), isLinkError('closed'))
  })
})

const hello = Buffer.from(
  JSON.stringify({ protocolVersion: 3, oldestVersion: 3, purpose: 'control', stripe: 0, features: [] }),
)

function header(type: number, id: number, length: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32BE(length, 0)
  bytes.writeUInt8(type, 4)
  bytes.writeUInt32BE(id, 8)
  return bytes
}
