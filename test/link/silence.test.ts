// Lanes whose stream says nothing any more, and dials that are not answered, as in a network that drops packets. Streams
// are in memory, time is moved by hand.

import assert from 'node:assert/strict'
import { type Duplex, duplexPair } from 'node:stream'
import type { PeerHandlers, Purpose } from '../../src/link/channel.ts'
import { maximumAttempts } from '../../src/link/peers/dialler.ts'
import { collect, fetchOf, isLinkError, ManualClock, never, noHandlers, quiet, StreamHub, settle } from './pair.ts'

interface Dial {
  readonly purpose: Purpose
  readonly atMs: number
  readonly signal: AbortSignal
}

/** A dials B. While the network is silent, streams carry nothing and dials hang. */
class SilentNetwork {
  readonly clock = new ManualClock()
  readonly dials: Dial[] = []
  readonly a: StreamHub
  readonly b: StreamHub
  isSilent = false
  /** B refuses dials at once. */
  isRefusing = false
  readonly #hanging: { readonly signal: AbortSignal; answer(): void }[] = []
  readonly #waiting: (() => void)[] = []

  constructor(handlers: Partial<PeerHandlers> = {}) {
    const site = (ownId: string) =>
      new StreamHub({
        ownId,
        clock: this.clock,
        random: () => 1,
        log: quiet,
        handlers: { ...noHandlers, call: async (_peer, method) => ({ method }), ...handlers },
        hasAddress: () => ownId === 'a',
        dial: (_peer, purpose, signal) => this.#dial(purpose, signal),
      })
    this.a = site('a')
    this.b = site('b')
  }

  get hanging(): number {
    return this.#hanging.filter(({ signal }) => !signal.aborted).length
  }

  /** New dials are answered; nothing comes of the old streams for now. */
  answerDials(): void {
    this.isSilent = false
  }

  /** What was written meanwhile arrives. */
  deliver(): void {
    this.isSilent = false
    for (const pass of this.#waiting.splice(0)) pass()
  }

  async #dial(purpose: Purpose, signal: AbortSignal): Promise<Duplex> {
    this.dials.push({ purpose, atMs: this.clock.nowMs, signal })
    if (this.isRefusing) throw new Error('refused')
    if (this.isSilent) await new Promise<void>((answer) => this.#hanging.push({ signal, answer }))
    const [near, far] = duplexPair() as [Duplex, Duplex]
    this.#muffle(near)
    this.#muffle(far)
    this.b.take('a', far)
    return near
  }

  #muffle(stream: Duplex): void {
    const write = stream._write.bind(stream)
    let isBlocked = false
    stream._write = (chunk, encoding, done) => {
      isBlocked ||= this.isSilent
      if (!isBlocked) return write(chunk, encoding, done)
      this.#waiting.push(() => {
        isBlocked = false
        if (!stream.destroyed) write(chunk, encoding, done)
      })
    }
  }
}

describe('a silent network', () => {
  it('promise 8: a dial without an answer is not waited for: the next starts within a second, up to four are under way', async () => {
    const network = new SilentNetwork()
    network.isSilent = true
    const call = network.a.channel('b').call('x', {}, { signal: never })
    await network.clock.advance(30_000)
    assert(network.dials.length >= 30, `${network.dials.length} dials in 30 s`)
    assert.equal(network.hanging, maximumAttempts)
    network.answerDials()
    await network.clock.advance(1000)
    assert.deepEqual(await call, { method: 'x' })
    assert.equal(network.hanging, 0, 'the others are given up')
    const made = network.dials.length
    await network.clock.advance(60_000)
    assert.equal(network.dials.length, made)
  })

  it('the oldest dial is let go on for 15 s, for networks in which it takes long', async () => {
    const network = new SilentNetwork()
    network.isSilent = true
    network.a
      .channel('b')
      .call('x', {}, { signal: never })
      .catch(() => {})
    await network.clock.advance(14_900)
    assert.equal(network.dials[0]!.signal.aborted, false)
    assert.equal(network.dials[1]!.signal.aborted, true)
    await network.clock.advance(200)
    assert.equal(network.dials[0]!.signal.aborted, true)
    await network.a.close()
    await settle()
    assert.equal(network.hanging, 0)
    assert.equal(network.clock.pending, 0)
  })

  it('a peer that refuses is dialled with back-off, whatever hangs beside', async () => {
    const network = new SilentNetwork()
    network.isSilent = true
    network.a
      .channel('b')
      .call('x', {}, { signal: never })
      .catch(() => {})
    await network.clock.advance(5000)
    network.isRefusing = true
    await network.clock.advance(10_000)
    const before = network.dials.length
    await network.clock.advance(20_000)
    assert.equal(network.dials.length - before, 10, 'one in two seconds')
  })

  it('promise 8: a lane on which nothing is heard for 3 s is dialled anew, and given up when that works', async () => {
    let answered = 0
    const network = new SilentNetwork({
      call: (_peer, method) => (++answered === 1 ? new Promise<never>(() => {}) : Promise.resolve({ method })),
    })
    const channel = network.a.channel('b')
    const ended = channel.call('held', {}, { signal: never }).catch((error: unknown) => error)
    await network.clock.advance(5000)
    assert.equal(network.dials.length, 1, 'a call that takes its time is no silence')
    network.isSilent = true
    await network.clock.advance(1900)
    assert.equal(network.dials.length, 1)
    await network.clock.advance(1200)
    assert.equal(network.dials.length, 2)
    await network.clock.advance(3000)
    assert(network.dials.length >= 5)
    assert(network.a.connected('b'), 'nothing is lost yet')
    network.answerDials()
    await network.clock.advance(1000)
    assert(isLinkError('lost')(await ended), 'it may be asked again')
    assert.deepEqual(await channel.call('again', {}, { signal: never }), { method: 'again' })
    assert.equal(network.hanging, 0)
  })

  it('a lane that is heard of before another is there goes on, and nothing is asked again', async () => {
    const gate = Promise.withResolvers<object>()
    const network = new SilentNetwork({ call: () => gate.promise })
    const call = network.a.channel('b').call('held', {}, { signal: never })
    await network.clock.advance(5000)
    network.isSilent = true
    await network.clock.advance(5000)
    assert(network.hanging > 0)
    gate.resolve({ late: true })
    network.deliver()
    assert.deepEqual(await call, { late: true })
    await network.clock.advance(2000)
    assert.equal(network.hanging, 0, 'the dials are given up')
    const made = network.dials.length
    await network.clock.advance(60_000)
    assert.equal(network.dials.length, made)
  })

  it('promise 8: lanes that are kept for a migration are dialled anew, though nothing is asked', async () => {
    const network = new SilentNetwork()
    network.a.keep('b')
    await network.clock.advance(10_000)
    network.isSilent = true
    await network.clock.advance(7000)
    const purposes = network.dials.slice(3).map(({ purpose }) => purpose)
    assert.deepEqual([...new Set(purposes)].sort(), ['background', 'control', 'demand'])
    network.answerDials()
    await network.clock.advance(1000)
    network.isSilent = false
    assert.deepEqual(await network.a.channel('b').call('x', {}, { signal: never }), { method: 'x' })
  })

  it('promise 8: a side to which nothing is owed, and whose answers are stuck, dials anew', async () => {
    const gate = Promise.withResolvers<void>()
    const network = new SilentNetwork({
      async *fetch(_peer, { runs }) {
        await gate.promise
        yield { ...runs[0]!, bytes: Buffer.alloc(runs[0]!.length) }
      },
    })
    network.a.keep('b')
    await network.clock.advance(5000)
    const fetched = collect(
      network.b.channel('a').fetch(fetchOf([0, 4096]), { urgency: 'background', signal: never }),
    ).catch((error: unknown) => error)
    await settle()
    network.isSilent = true
    gate.resolve()
    await network.clock.advance(4100)
    assert(network.dials.slice(3).some(({ purpose }) => purpose === 'background'))
    network.answerDials()
    await network.clock.advance(1000)
    assert(isLinkError('lost')(await fetched), 'it may be asked again')
  })

  it('promise 8: a lane that was silent before anybody asked on it is dialled anew within a second', async () => {
    const network = new SilentNetwork()
    const channel = network.a.channel('b')
    await channel.call('x', {}, { signal: never })
    network.isSilent = true
    await network.clock.advance(4000)
    const ended = channel.call('late', {}, { signal: never }).catch((error: unknown) => error)
    await settle()
    network.answerDials()
    await network.clock.advance(1000)
    assert.equal(network.dials.length, 2)
    assert(isLinkError('lost')(await ended), 'it may be asked again')
  })

  it('is told as down after 3 s, and as up with the first word, at both ends', async () => {
    const network = new SilentNetwork()
    const told: string[] = []
    network.a.onEvent((_peer, event) => told.push(`a ${event.kind}`))
    network.b.onEvent((_peer, event) => told.push(`b ${event.kind}`))
    using _kept = network.a.keep('b')
    await network.clock.advance(2000)
    assert.deepEqual(told.splice(0).sort(), ['a up', 'b up'])
    network.isSilent = true
    await network.clock.advance(5000)
    assert.deepEqual(told.splice(0).sort(), ['a down', 'a retry', 'b down'])
    assert.match(network.a.facts('b')!.why!, /nothing is heard of it/)
    network.deliver()
    await network.clock.advance(1000)
    assert.deepEqual(told.sort(), ['a up', 'b up'])
  })

  it('a lane that nobody needs is not dialled anew', async () => {
    const network = new SilentNetwork()
    await network.a.channel('b').call('x', {}, { signal: never })
    network.isSilent = true
    await network.clock.advance(60_000)
    assert.equal(network.dials.length, 1)
    assert.equal(network.a.connected('b'), false)
  })

  it('whoever was dialled gives its silent lane up too, when a fresh one comes', async () => {
    const gate = Promise.withResolvers<object>()
    const network = new SilentNetwork({ call: () => gate.promise })
    network.a.keep('b')
    await network.clock.advance(5000)
    const asked = network.b
      .channel('a')
      .call('held', {}, { signal: never })
      .catch((error: unknown) => error)
    await settle()
    network.isSilent = true
    await network.clock.advance(5000)
    network.answerDials()
    await network.clock.advance(1000)
    assert(isLinkError('lost')(await asked))
  })

  it('the peer is up again when a fresh lane takes the place of silent ones', async () => {
    const network = new SilentNetwork()
    let ups = 0
    network.a.onUp(() => ups++)
    network.a.keep('b')
    await network.clock.advance(5000)
    assert.equal(ups, 1)
    network.isSilent = true
    await network.clock.advance(7000)
    network.answerDials()
    await network.clock.advance(1000)
    assert.equal(ups, 2)
  })
})
