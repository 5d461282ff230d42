// A paired peer that lies about the body of an answer: one that was not asked for, two of them, one that never ends, lengths
// that are none, bytes that are not what their digest says. Promise 11: a defined error, the lane closed, nothing handed over
// that was not checked.

import assert from 'node:assert/strict'
import { encodeEmpty, encodeEnd, encodeJson, encodePart, maximumPartBytes } from '../../src/link/wire/frames.ts'
import { isLinkError, never, settle } from '../link/pair.ts'
import { partFrame, pieceFrame, rawPeer } from '../link/raw-peer.ts'

const head = encodeJson('head', 1, { answer: true })
const bytes = Buffer.alloc(1000, 7)
const part = partFrame(1, bytes)

/** What comes of a call that takes 2500 bytes when the peer answers with `frames`. */
async function answered(...frames: Uint8Array[]): Promise<{ readBytes: number; error: unknown; isOpen: boolean }> {
  const peer = await rawPeer()
  let readBytes = 0
  const read = async () => {
    const { body } = await peer.lane.callForBody('x', {}, 2500, never)
    for await (const each of body) readBytes += each.length
  }
  const ended = read().then(
    () => undefined,
    (error: unknown) => error,
  )
  await settle()
  await peer.say(...frames)
  if (peer.lane.isOpen) peer.stream.destroy()
  return { readBytes, error: await ended, isOpen: peer.lane.isOpen }
}

describe('faults: a peer that lies about a body', () => {
  it('an honest answer passes (so that the other tests mean something)', async () => {
    assert.deepEqual(await answered(head, ...part, ...part, encodeEnd(1, 2000)), {
      readBytes: 2000,
      error: undefined,
      isOpen: true,
    })
  })

  const wrongDigest = encodePart(1, bytes, Buffer.alloc(32, 1))
  const lies: [string, number, Uint8Array[]][] = [
    ['a part without an answer', 0, part],
    ['an end without an answer', 0, [encodeEnd(1, 0)]],
    ['an answer twice', 1000, [head, ...part, head]],
    ['an answer that has no body, behind one that has', 1000, [head, ...part, encodeJson('reply', 1, {})]],
    ['a body behind an answer that has none', 0, [encodeJson('reply', 1, {}), ...part]],
    ['a second body', 1000, [head, ...part, encodeEnd(1, 1000), head]],
    ['parts behind the end', 1000, [head, ...part, encodeEnd(1, 1000), ...part]],
    ['an end before all has come', 1000, [head, ...part, encodeEnd(1, 1001)]],
    ['an end of less than has come', 1000, [head, ...part, encodeEnd(1, 999)]],
    ['more than the call takes', 2000, [head, ...part, ...part, ...part]],
    ['bytes that do not match their digest', 1000, [head, ...part, ...wrongDigest]],
    ['a piece of a disk', 1000, [head, ...part, ...pieceFrame(1, { offset: 0, length: 1000, bytes })]],
    ['the end of a fetch', 1000, [head, ...part, encodeEmpty('done', 1)]],
    ['a part without bytes', 1000, [head, ...part, Buffer.from('000000200c00000000000001', 'hex')]],
    ['a part over its bound', 1000, [head, ...part, Buffer.from('000400210c00000000000001', 'hex')]],
    ['an end of another length', 1000, [head, ...part, Buffer.from('000000090d00000000000001', 'hex')]],
    [
      'an end beyond all numbers',
      1000,
      [head, ...part, Buffer.from('000000080d00000000000001ffffffffffffffff', 'hex')],
    ],
  ]
  for (const [what, goodBytes, frames] of lies) {
    it(`${what}: a protocol error, after what was good`, async () => {
      const { readBytes, error, isOpen } = await answered(...frames)
      assert.equal(readBytes, goodBytes)
      // What had ended before the lie is answered.
      const wasComplete = ['a body behind', 'a second body', 'parts behind'].some((each) => what.startsWith(each))
      if (!wasComplete) assert(isLinkError('protocol')(error), String(error))
      else assert.equal(error, undefined)
      assert.equal(isOpen, false)
    })
  }

  it('a body for a call that takes none: a protocol error', async () => {
    const peer = await rawPeer()
    const call = peer.lane.call('x', {}, never)
    call.catch(() => {})
    await settle()
    await peer.say(head)
    await assert.rejects(call, isLinkError('protocol'))
    assert.equal(peer.lane.isOpen, false)
  })

  it('a body for a fetch: a protocol error', async () => {
    const peer = await rawPeer()
    const run = { offset: 0, length: 4096 }
    const next = peer.lane.fetch({ migration: 'm', disk: 'd', generation: 1, runs: [run] }, 'demand', never).next()
    next.catch(() => {})
    await settle()
    await peer.say(...part)
    await assert.rejects(next, isLinkError('protocol'))
  })

  it('a body that never ends, of a call that was given up: closed when it is over what the call takes', async () => {
    const peer = await rawPeer()
    const control = new AbortController()
    const { body } = await (async () => {
      const call = peer.lane.callForBody('x', {}, 64 * maximumPartBytes, control.signal)
      await settle()
      await peer.say(head)
      return call
    })()
    control.abort()
    await assert.rejects(body.next(), isLinkError('aborted'))
    const big = Buffer.concat(partFrame(1, Buffer.alloc(maximumPartBytes)))
    for (let index = 0; index < 64; index++) await peer.say(big)
    assert.equal(peer.lane.isOpen, true)
    await peer.say(big)
    assert.equal(peer.lane.isOpen, false)
  })

  it('a call that says illegally how much it takes reaches no handler', async () => {
    for (const bodyBytes of [-1, 1.5, 2 ** 60, '9']) {
      let isAsked = false
      const call = async () => {
        isAsked = true
        return {}
      }
      const peer = await rawPeer({ handlers: { call, fetch: () => assert.fail('nothing is fetched') } })
      await peer.say(encodeJson('call', 1, { method: 'm', params: {}, bodyBytes }))
      assert.deepEqual([isAsked, peer.lane.isOpen], [false, false], String(bodyBytes))
    }
  })

  it('what is only an answer to this site is no request: heads, parts and ends of nothing close the lane', async () => {
    for (const frame of [head, Buffer.concat(part), encodeEnd(1, 0)]) {
      const peer = await rawPeer()
      await peer.say(frame)
      assert.equal(peer.lane.isOpen, false)
    }
  })
})
