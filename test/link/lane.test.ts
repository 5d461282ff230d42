// One lane: calls, fetches, cancels, silence, bounds. In memory, with time moved by hand.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { duplexPair } from 'node:stream'
import type { Piece } from '../../src/block/units.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import { maximumBufferedBytes, maximumRequests } from '../../src/link/lane/requester.ts'
import { maximumServedFetches } from '../../src/link/lane/responder.ts'
import { sendWindowBytes } from '../../src/link/lane/sender.ts'
import { collect, fetchOf, isLinkError, lane, lanePair, ManualClock, never, settle } from './pair.ts'
import { pieceFrame, rawPeer } from './raw-peer.ts'

const mebibyte = 1024 * 1024
const disk = randomBytes(4 * mebibyte)
const pieceOf = (offset: number, length: number): Piece => ({
  offset,
  length,
  bytes: disk.subarray(offset, offset + length),
})

describe('link lane', () => {
  it('calls are answered out of order, each to its caller', async () => {
    const gates = new Map<string, () => void>()
    const { near } = await lanePair({
      handlers: {
        call: (_peer, method) => new Promise((resolve) => gates.set(method, () => resolve({ was: method }))),
      },
    })
    const first = near.call('first', {}, never)
    const second = near.call('second', {}, never)
    await settle()
    gates.get('second')!()
    assert.deepEqual(await second, { was: 'second' })
    gates.get('first')!()
    assert.deepEqual(await first, { was: 'first' })
  })

  it('either side may ask, whoever dialled', async () => {
    const { far } = await lanePair({ dialledHandlers: { call: async (_peer, method, params) => ({ method, params }) } })
    assert.deepEqual(await far.call('hi', { a: 1 }, never), { method: 'hi', params: { a: 1 } })
  })

  it('a refusal travels with code, message and facts, and nothing else', async () => {
    const { near } = await lanePair({
      handlers: {
        async call() {
          throw new PeerRefusal('disk-unknown', 'no such\u001b[31m disk', { name: 'web01' })
        },
      },
    })
    await assert.rejects(near.call('x', {}, never), (error: unknown) => {
      assert.ok(error instanceof PeerRefusal)
      assert.deepEqual(
        [error.code, error.message, error.facts],
        ['disk-unknown', 'no such [31m disk', { name: 'web01' }],
      )
      return true
    })
  })

  it('any other error of a handler is told as internal, and logged here', async () => {
    const logged: unknown[] = []
    const log = { debug() {}, info() {}, warn() {}, error: (facts: object) => void logged.push(facts) }
    const secret = Object.assign(new Error('ENOSPC: /secret/path'), { code: 'ENOSPC' })
    const { near } = await lanePair({ log, handlers: { call: () => Promise.reject(secret) } })
    await assert.rejects(near.call('x', {}, never), (error: unknown) => {
      assert.ok(error instanceof PeerRefusal)
      assert.equal(error.code, 'internal')
      assert.doesNotMatch(error.message, /secret/)
      return true
    })
    assert.equal(logged.length, 1)
  })

  it('a fetch gives exactly the bytes asked for, zeros and holes without bytes', async () => {
    const { near } = await lanePair({
      handlers: {
        async *fetch(_peer, request) {
          assert.deepEqual(request, fetchOf([0, 3 * mebibyte], [2 ** 40, 8192]))
          yield { offset: 2 ** 40, length: 4096, bytes: undefined, hole: true }
          yield { offset: 2 ** 40 + 4096, length: 4096, bytes: undefined }
          yield pieceOf(mebibyte, 2 * mebibyte)
          yield pieceOf(0, mebibyte)
        },
      },
    })
    const pieces = await collect(near.fetch(fetchOf([0, 3 * mebibyte], [2 ** 40, 8192]), 'demand', never))
    const [hole, zero, ...parts] = pieces
    assert.deepEqual([hole!.bytes, hole!.hole, zero!.bytes, zero!.hole], [undefined, true, undefined, false])
    assert.equal(parts.length, 3)
    for (const part of parts)
      assert.ok(Buffer.from(part.bytes!).equals(disk.subarray(part.offset, part.offset + part.length)))
  })

  it('a piece that came is hashed in steps of 64 KiB, with turns of the loop for others between', async () => {
    const peer = await rawPeer()
    const fetched = peer.lane.fetch(fetchOf([0, mebibyte]), 'demand', never).next()
    await settle()
    // Past the stream, whose turns are its own: all of the piece is there at once.
    let turns = 0
    const frames = pieceFrame(1, pieceOf(0, mebibyte))
    peer.stream.write(Buffer.concat(frames).subarray(0, -1))
    await settle()
    peer.stream.write(Buffer.concat(frames).subarray(-1))
    for (let isOver = false; !isOver; turns++) {
      isOver = await Promise.race([fetched.then(() => true), new Promise<false>((go) => setImmediate(() => go(false)))])
    }
    assert(turns >= mebibyte / 65536 - 1, `${turns} turns`)
  })

  it('an aborted call tells the other side, whose signal aborts', async () => {
    const seen = Promise.withResolvers<void>()
    const { near, far } = await lanePair({
      handlers: {
        call: (_peer, _method, _params, signal) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              seen.resolve()
              reject(signal.reason)
            })
          }),
      },
    })
    const control = new AbortController()
    const call = near.call('slow', {}, control.signal)
    await settle()
    control.abort()
    await assert.rejects(call, isLinkError('aborted'))
    await seen.promise
    await settle()
    assert.deepEqual([near.outstanding, far.outstanding], [0, 0])
    assert.ok(near.isOpen)
  })

  it('a consumer that leaves a fetch early stops the other side', async () => {
    let stopped = false
    const { near, far } = await lanePair({
      handlers: {
        async *fetch() {
          try {
            for (let offset = 0; offset < 2 ** 40; offset += mebibyte) yield { ...pieceOf(0, mebibyte), offset }
          } finally {
            stopped = true
          }
        },
      },
    })
    for await (const _piece of near.fetch(fetchOf([0, 2 ** 40]), 'background', never)) break
    await settle()
    assert.ok(stopped)
    assert.deepEqual([near.outstanding, far.outstanding], [0, 0])
  })

  it('promise 11: a consumer that does not pull bounds what both sides hold, and is served when it pulls', async () => {
    let yielded = 0
    const { near, farStream } = await lanePair({
      handlers: {
        async *fetch() {
          for (; yielded < 64; yielded++) yield { ...pieceOf(0, mebibyte), offset: yielded * mebibyte }
        },
      },
    })
    const pieces = near.fetch(fetchOf([0, 64 * mebibyte]), 'background', never)
    await pieces.next()
    await settle()
    await settle()
    const boundBytes = maximumBufferedBytes + sendWindowBytes + 5 * mebibyte
    assert.ok(yielded * mebibyte <= boundBytes, `${yielded} MiB were read ahead`)
    assert.ok(yielded * mebibyte >= maximumBufferedBytes)
    assert.ok(farStream.writableLength <= sendWindowBytes + 2 * mebibyte)
    assert.equal((await collect(pieces)).length, 63)
  })

  it('a side that paused is not taken for dead, and does not take its peer for dead', async () => {
    const clock = new ManualClock()
    const { near, far } = await lanePair({
      clock,
      handlers: {
        async *fetch() {
          for (let index = 0; index < 32; index++) yield { ...pieceOf(0, mebibyte), offset: index * mebibyte }
        },
      },
    })
    const pieces = near.fetch(fetchOf([0, 32 * mebibyte]), 'background', never)
    await pieces.next()
    await clock.advance(60_000)
    assert.ok(near.isOpen && far.isOpen)
    assert.equal((await collect(pieces)).length, 31)
  })

  it('an idle lane lives on pings', async () => {
    const clock = new ManualClock()
    const { near, far } = await lanePair({ clock })
    await clock.advance(3_600_000)
    assert.ok(near.isOpen && far.isOpen)
  })

  it('a peer that says nothing for ten seconds is lost, with everything under way', async () => {
    const clock = new ManualClock()
    const { near, farStream } = await lanePair({ clock, handlers: { call: () => new Promise(() => {}) } })
    const call = near.call('x', {}, never)
    call.catch(() => {})
    farStream.write = () => true
    await clock.advance(9_000)
    assert.ok(near.isOpen)
    await clock.advance(4_000)
    await assert.rejects(call, isLinkError('lost'))
    assert.equal(near.isOpen, false)
  })

  it('over 256 requests wait for a slot here, and all are answered', async () => {
    let most = 0
    let running = 0
    const { near } = await lanePair({
      handlers: {
        async call(_peer, _method, params) {
          most = Math.max(most, ++running)
          await settle()
          running--
          return params as object
        },
      },
    })
    const answers = await Promise.all(Array.from({ length: 1000 }, (_, index) => near.call('n', { index }, never)))
    assert.deepEqual(
      answers,
      Array.from({ length: 1000 }, (_, index) => ({ index })),
    )
    assert.equal(most, maximumRequests)
  })

  it('eight fetches are served at once, the others in turn', async () => {
    let most = 0
    let running = 0
    const { near } = await lanePair({
      handlers: {
        async *fetch(_peer, request) {
          most = Math.max(most, ++running)
          await settle()
          running--
          yield pieceOf(request.runs[0]!.offset, 4096)
        },
      },
    })
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => collect(near.fetch(fetchOf([index * 4096, 4096]), 'demand', never))),
    )
    assert.equal(most, maximumServedFetches)
  })

  it('a fetch that is cancelled in the queue of the peer is never served', async () => {
    let served = 0
    const gate = Promise.withResolvers<void>()
    const { near, far } = await lanePair({
      handlers: {
        async *fetch(_peer, request) {
          served++
          await gate.promise
          yield pieceOf(request.runs[0]!.offset, 4096)
        },
      },
    })
    const first = Array.from({ length: 8 }, (_, index) =>
      collect(near.fetch(fetchOf([index * 4096, 4096]), 'demand', never)),
    )
    const control = new AbortController()
    const ninth = collect(near.fetch(fetchOf([0, 4096]), 'demand', control.signal))
    await settle()
    control.abort()
    await assert.rejects(ninth, isLinkError('aborted'))
    gate.resolve()
    await Promise.all(first)
    await settle()
    assert.equal(served, 8)
    assert.deepEqual([near.outstanding, far.outstanding], [0, 0])
  })

  it('a handler that forgets bytes, or gives others, is told as internal, and the lane lives', async () => {
    let answer: Piece[] = []
    const { near } = await lanePair({
      handlers: {
        async *fetch() {
          yield* answer
        },
      },
    })
    for (answer of [[], [pieceOf(4096, 4096)], [pieceOf(0, 2048)], [pieceOf(0, 4096), pieceOf(0, 4096)]]) {
      await assert.rejects(collect(near.fetch(fetchOf([0, 4096]), 'demand', never)), {
        name: 'PeerRefusal',
        code: 'internal',
      })
    }
    assert.ok(near.isOpen)
  })

  it('a message over the bound is refused here, and the lane lives', async () => {
    const { near } = await lanePair({ handlers: { call: async () => ({ much: 'x'.repeat(300_000) }) } })
    await assert.rejects(near.call('x', { much: 'x'.repeat(300_000) }, never), RangeError)
    await assert.rejects(near.call('x', {}, never), { name: 'PeerRefusal', code: 'internal' })
    assert.equal(near.outstanding, 0)
  })

  it('a newer peer that speaks no version of ours is refused with a sentence on both sides', async () => {
    const [one, other] = duplexPair()
    const clock = new ManualClock()
    const near = lane(one, { clock, versions: { protocolVersion: 9, oldestVersion: 7 } })
    const far = lane(other, { clock, use: undefined })
    const here = {
      code: 'incompatible',
      message: 'the peer speaks link protocol 7 to 9, this site 3: upgrade vmstore at this site',
    }
    const there = {
      code: 'incompatible',
      message: 'the peer speaks link protocol 3, this site 7 to 9: upgrade vmstore at the peer',
    }
    await Promise.all([assert.rejects(far.opened, here), assert.rejects(near.opened, there)])
    await clock.advance(5_000)
    assert.equal(one.destroyed && other.destroyed, true)
  })

  it('a newer peer that still speaks our version is welcome', async () => {
    const [one, other] = duplexPair()
    const near = lane(one, { versions: { protocolVersion: 4, oldestVersion: 3 } })
    const far = lane(other, { use: undefined })
    await Promise.all([near.opened, far.opened])
    assert.equal(far.purpose, 'control')
  })

  it('no hello within ten seconds closes the lane', async () => {
    const clock = new ManualClock()
    const [one] = duplexPair()
    const near = lane(one, { clock })
    await clock.advance(10_000)
    await assert.rejects(near.opened, isLinkError('lost'))
    assert.equal(clock.pending, 0)
  })
})
