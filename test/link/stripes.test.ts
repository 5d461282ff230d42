// Several lanes of one purpose: each is a slot of its own. Streams are in memory, time is moved by hand.

import assert from 'node:assert/strict'
import { type Duplex, duplexPair } from 'node:stream'
import type { Piece } from '../../src/block/units.ts'
import { encodeJson } from '../../src/link/wire/frames.ts'
import { collect, fetchOf, isLinkError, ManualClock, never, noHandlers, quiet, StreamHub, settle } from './pair.ts'
import { rawPeer } from './raw-peer.ts'

const mebibyte = 1024 * 1024
const stripes = { control: 1, demand: 1, background: 3 }

/** A dials B, with three stripes for the background; B has one, and hears of the others from A. */
class Sites {
  readonly clock = new ManualClock()
  readonly dials: string[] = []
  /** By purpose and stripe, the newest. */
  readonly streams = new Map<string, Duplex>()
  /** Bytes that B has written, by purpose and stripe. */
  readonly carried = new Map<string, number>()
  /** Fetches that B serves wait for it. */
  gate = Promise.withResolvers<void>()
  /** Purposes and stripes on which nothing passes any more. */
  readonly silent = new Set<string>()
  readonly a: StreamHub
  readonly b: StreamHub

  constructor() {
    const options = { clock: this.clock, random: () => 1, log: quiet }
    const gated = this
    const handlers = {
      ...noHandlers,
      async *fetch(_peer: string, { runs }: { runs: readonly { offset: number; length: number }[] }) {
        await gated.gate.promise
        for (const { offset, length } of runs) yield { offset, length, bytes: Buffer.alloc(length, 1) } as Piece
      },
    }
    this.a = new StreamHub({
      ...options,
      ownId: 'a',
      stripes,
      handlers,
      hasAddress: () => true,
      dial: async (_peer, purpose, _signal, stripe) => this.#dial(`${purpose} ${stripe}`),
    })
    const dial = () => assert.fail('B has no address')
    this.b = new StreamHub({ ...options, ownId: 'b', handlers, hasAddress: () => false, dial })
  }

  /** What B has written on the background's stripes, in MiB. */
  get backgroundMebibytes(): number[] {
    return [0, 1, 2].map((stripe) => Math.floor((this.carried.get(`background ${stripe}`) ?? 0) / mebibyte))
  }

  fetch(hub: StreamHub, index: number): Promise<Piece[]> {
    const channel = hub.channel(hub === this.a ? 'b' : 'a')
    return collect(channel.fetch(fetchOf([index * mebibyte, mebibyte]), { urgency: 'background', signal: never }))
  }

  #dial(name: string): Duplex {
    this.dials.push(name)
    const [near, far] = duplexPair() as [Duplex, Duplex]
    this.#watch(far, name, (bytes) => this.carried.set(name, (this.carried.get(name) ?? 0) + bytes))
    this.#watch(near, name, () => {})
    this.streams.set(name, near)
    this.b.take('a', far)
    return near
  }

  #watch(stream: Duplex, name: string, count: (bytes: number) => void): void {
    const write = stream._write.bind(stream)
    const isFirst = !this.streams.has(name)
    stream._write = (chunk, encoding, done) => {
      if (isFirst && this.silent.has(name)) return
      count(chunk.length)
      write(chunk, encoding, done)
    }
  }
}

/** Six fetches of A, under way and two to a stripe. */
async function sixUnderWay(sites: Sites): Promise<Promise<unknown>[]> {
  sites.a.keep('b')
  await sites.clock.advance(5000)
  const fetches = [0, 1, 2, 3, 4, 5].map((index) => sites.fetch(sites.a, index).catch((error: unknown) => error))
  await settle()
  return fetches
}

/** Which of the six were lost with one stripe: they take turns, from the second on. */
const lostOn = (stripe: number): boolean[] => [1, 2, 0, 1, 2, 0].map((taken) => taken === stripe)

describe('link stripes', () => {
  it('are dialled one by one, and requests are spread over those that are open: all carry', async () => {
    const sites = new Sites()
    const fetches = await sixUnderWay(sites)
    assert.deepEqual(sites.dials, ['control 0', 'demand 0', 'background 0', 'background 1', 'background 2'])
    sites.gate.resolve()
    await Promise.all(fetches)
    assert.deepEqual(sites.backgroundMebibytes, [2, 2, 2])
  })

  it('one that breaks takes nothing with it but what was under way on it, and comes back alone', async () => {
    const sites = new Sites()
    const fetches = await sixUnderWay(sites)
    sites.streams.get('background 1')!.destroy()
    await settle()
    sites.gate.resolve()
    const ended = await Promise.all(fetches)
    assert.deepEqual(
      ended.map((each) => isLinkError('lost')(each)),
      lostOn(1),
    )
    assert.deepEqual(sites.backgroundMebibytes, [2, 0, 2])
    await sites.clock.advance(5000)
    assert.deepEqual(sites.dials.slice(5), ['background 1'])
    await Promise.all([6, 7, 8].map((index) => sites.fetch(sites.a, index)))
    assert.deepEqual(sites.backgroundMebibytes, [3, 1, 3])
  })

  it('one that cannot be dialled leaves the others to carry everything', async () => {
    const sites = new Sites()
    sites.gate.resolve()
    await sixUnderWay(sites)
    sites.streams.get('background 0')!.destroy()
    await Promise.all([0, 1].map((index) => sites.fetch(sites.a, index)))
    assert.deepEqual(sites.backgroundMebibytes, [2, 3, 3])
  })

  it('one that is silent is replaced beside the others, which are not touched', async () => {
    const sites = new Sites()
    const fetches = await sixUnderWay(sites)
    sites.silent.add('background 2')
    await sites.clock.advance(5000)
    assert.deepEqual(sites.dials.slice(5), ['background 2'])
    sites.gate.resolve()
    const ended = await Promise.all(fetches)
    assert.deepEqual(
      ended.map((each) => isLinkError('lost')(each)),
      lostOn(2),
    )
  })

  it('that the peer dialled are used too, though this site would dial fewer', async () => {
    const sites = new Sites()
    sites.gate.resolve()
    sites.a.keep('b')
    await sites.clock.advance(5000)
    const carried = () => [0, 1, 2].map((stripe) => sites.carried.get(`background ${stripe}`)!)
    const before = carried()
    sites.gate = Promise.withResolvers()
    const fetches = [0, 1, 2].map((index) => sites.fetch(sites.b, index))
    await settle()
    const asked = carried().map((bytes, stripe) => bytes - before[stripe]!)
    assert(
      asked.every((bytes) => bytes > 50),
      `each has carried a request: ${asked}`,
    )
    sites.gate.resolve()
    await Promise.all(fetches)
  })

  it('are eight at most: a hello that names another is no hello', async () => {
    const peer = await rawPeer({ use: undefined, greet: false })
    await peer.say(
      encodeJson('hello', 0, {
        protocolVersion: 3,
        oldestVersion: 3,
        purpose: 'background',
        stripe: 8,
        features: [],
      }),
    )
    await assert.rejects(peer.lane.opened, isLinkError('protocol'))
  })
})
