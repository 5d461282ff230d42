// A paired peer that lies: wrong digests, bytes nobody asked for, the same bytes twice, answers to nothing, frames that do not
// exist. Promise 11: a defined error, the lane closed, nothing handed over that was not checked.

import assert from 'node:assert/strict'
import type { Piece } from '../../src/block/units.ts'
import { LinkError } from '../../src/link/channel.ts'
import { cancelledTicks, maximumRequests } from '../../src/link/lane/requester.ts'
import { encodeEmpty, encodeJson, maximumPieceBytes } from '../../src/link/wire/frames.ts'
import { fetchOf, isLinkError, never, noHandlers, settle } from '../link/pair.ts'
import { helloFrame, pieceFrame, rawPeer } from '../link/raw-peer.ts'

const bytes = Buffer.alloc(4096, 7)
const good = (offset: number) => pieceFrame(1, { offset, length: 4096, bytes })

/** What a fetch of two blocks yields, and how it ends, when the peer answers with `frames`. */
async function fetched(...frames: Uint8Array[]): Promise<{ offsets: number[]; error: unknown; open: boolean }> {
  const peer = await rawPeer()
  const offsets: number[] = []
  const consumed = (async () => {
    for await (const piece of peer.lane.fetch(fetchOf([0, 4096], [8192, 4096]), 'demand', never))
      offsets.push(piece.offset)
  })()
  const ended = consumed.then(
    () => undefined,
    (error: unknown) => error,
  )
  await settle()
  await peer.say(...frames)
  return { offsets, error: await ended, open: peer.lane.isOpen }
}

describe('faults: a peer that lies', () => {
  it('an honest answer passes (so that the other tests mean something)', async () => {
    const { offsets, error, open } = await fetched(...good(8192), ...good(0), encodeEmpty('done', 1))
    assert.deepEqual([offsets, error, open], [[8192, 0], undefined, true])
  })

  const wrongDigest = Buffer.concat(good(8192))
  wrongDigest[wrongDigest.length - 1]! ^= 1
  const lies: [string, Uint8Array[]][] = [
    ['bytes that do not match their digest', [wrongDigest]],
    ['bytes that do not match their digest, and the end at once behind them', [wrongDigest, encodeEmpty('done', 1)]],
    ['bytes outside of the runs', good(4096)],
    ['bytes across the end of a run', pieceFrame(1, { offset: 2048, length: 4096, bytes })],
    ['zeros over more than was asked', pieceFrame(1, { offset: 0, length: 12288, bytes: undefined })],
    ['the same bytes twice', good(0)],
    ['an end before all the bytes came', [encodeEmpty('done', 1)]],
    ['a reply to a fetch', [encodeJson('reply', 1, {})]],
    ['an answer to an id never asked', [encodeEmpty('done', 77)]],
    ['a second hello', [helloFrame]],
    ['a frame of no type', [Buffer.from('000000000c00000000000001', 'hex')]],
    ['an oversize frame', [Buffer.from('ffffffff0700000000000001', 'hex')]],
    ['an error without a code', [encodeJson('error', 1, { message: 'no code' })]],
  ]
  for (const [what, frames] of lies) {
    it(`${what}: a protocol error, after what was good`, async () => {
      const { offsets, error, open } = await fetched(...good(0), ...frames)
      assert.deepEqual(offsets, [0])
      assert.ok(isLinkError('protocol')(error), String(error))
      assert.equal(open, false)
    })
  }

  it('long bytes that do not match their digest: a protocol error, though all has come and the peer said so', async () => {
    const peer = await rawPeer()
    const big = Buffer.alloc(maximumPieceBytes, 7)
    const frames = pieceFrame(1, { offset: 0, length: big.length, bytes: big }).map((part) => Buffer.from(part))
    frames.at(-1)![big.length - 1]! ^= 1
    const fetched = peer.lane.fetch(fetchOf([0, big.length]), 'background', never).next()
    fetched.catch(() => {})
    await settle()
    await peer.say(...frames, encodeEmpty('done', 1))
    await assert.rejects(fetched, isLinkError('protocol'))
    assert.equal(peer.lane.isOpen, false)
  })

  it('a piece in answer to a call: a protocol error', async () => {
    const peer = await rawPeer()
    const call = peer.lane.call('x', {}, never)
    call.catch(() => {})
    await settle()
    await peer.say(...good(0))
    await assert.rejects(call, isLinkError('protocol'))
  })

  it('anything before the hello: a protocol error', async () => {
    const peer = await rawPeer({ greet: false })
    await peer.say(encodeEmpty('ping', 0))
    await assert.rejects(peer.lane.opened, isLinkError('protocol'))
  })

  it('a request id used twice, or more requests than agreed: closed', async () => {
    const handlers = { ...noHandlers, call: () => new Promise<never>(() => {}) }
    const call = (id: number) => encodeJson('call', id, { method: 'm', params: {} })
    const twice = await rawPeer({ handlers })
    await twice.say(call(1), call(1))
    assert.equal(twice.lane.isOpen, false)

    const many = await rawPeer({ handlers })
    await many.say(...Array.from({ length: maximumRequests }, (_, index) => call(index + 1)))
    assert.ok(many.lane.isOpen)
    await many.say(call(maximumRequests + 1))
    assert.equal(many.lane.isOpen, false)
  })

  it('requests that are illegal reach no handler', async () => {
    const asked: unknown[] = []
    const handlers = {
      call: async (...all: unknown[]) => ({ count: asked.push(all) }),
      async *fetch(...all: unknown[]): AsyncGenerator<Piece> {
        asked.push(all)
        yield { offset: 0, length: 1, bytes: undefined }
      },
    }
    const runs = { migration: 'm', disk: 'd', generation: 1, urgency: 'demand' }
    const requests = [
      encodeJson('call', 1, { method: 'm' }),
      encodeJson('call', 1, { method: 5, params: {} }),
      encodeJson('fetch', 1, { ...runs, runs: [] }),
      encodeJson('fetch', 1, { ...runs, runs: [[0, 0]] }),
      encodeJson('fetch', 1, { ...runs, runs: [[-4096, 4096]] }),
      encodeJson('fetch', 1, {
        ...runs,
        runs: [
          [4096, 4096],
          [0, 4096],
        ],
      }),
      encodeJson('fetch', 1, {
        ...runs,
        runs: [
          [0, 8192],
          [4096, 4096],
        ],
      }),
      encodeJson('fetch', 1, { ...runs, runs: [[2 ** 53 - 4096, 8192]] }),
      encodeJson('fetch', 1, { ...runs, runs: Array.from({ length: 5000 }, (_, index) => [index * 2, 1]) }),
    ]
    for (const request of requests) {
      const peer = await rawPeer({ handlers })
      await peer.say(request)
      assert.equal(peer.lane.isOpen, false, request.subarray(12, 200).toString())
    }
    assert.deepEqual(asked, [])
  })

  it('a peer that never ends what was cancelled loses its lane', async () => {
    const peer = await rawPeer()
    const control = new AbortController()
    const call = peer.lane.call('x', {}, control.signal)
    await settle()
    control.abort()
    await assert.rejects(call, isLinkError('aborted'))
    assert.deepEqual(peer.heard.at(-1), { type: 'cancel', id: 1 })
    for (let second = 0; second < cancelledTicks + 1; second++) {
      await peer.say(encodeEmpty('pong', 0))
      await peer.clock.advance(1000)
    }
    assert.equal(peer.lane.isOpen, false)
  })

  it('pieces after a cancel are dropped, and the lane lives', async () => {
    const peer = await rawPeer()
    const control = new AbortController()
    const next = peer.lane.fetch(fetchOf([0, 1 << 30]), 'background', control.signal).next()
    await settle()
    control.abort()
    await assert.rejects(next, LinkError)
    for (let index = 0; index < 32; index++) {
      const big = Buffer.alloc(maximumPieceBytes, index)
      await peer.say(...pieceFrame(1, { offset: index * big.length, length: big.length, bytes: big }))
    }
    await peer.say(encodeJson('error', 1, { code: 'cancelled', message: '' }))
    assert.deepEqual([peer.lane.isOpen, peer.lane.outstanding], [true, 0])
  })
})
