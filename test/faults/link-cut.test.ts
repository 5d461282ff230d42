// A lane whose stream ends at any byte of an answer, as a cut cable or a killed peer leaves it. What came whole is good and is
// handed over; then the request is lost, never short, never waiting.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { encodeEmpty } from '../../src/link/wire/frames.ts'
import { fetchOf, isLinkError, lanePair, never, settle } from '../link/pair.ts'
import { pieceFrame, rawPeer } from '../link/raw-peer.ts'

describe('faults: a lane that is cut', () => {
  it('promise 8: at every byte of an answer, whole pieces come and then the fetch is lost', async () => {
    const disk = randomBytes(192)
    const answer = Buffer.concat([
      ...pieceFrame(1, { offset: 0, length: 64, bytes: disk.subarray(0, 64) }),
      ...pieceFrame(1, { offset: 64, length: 64, bytes: undefined }),
      ...pieceFrame(1, { offset: 128, length: 64, bytes: disk.subarray(128) }),
      encodeEmpty('done', 1),
    ])
    const ends = [124, 152, 276]
    for (let cut = 0; cut < answer.length; cut++) {
      const peer = await rawPeer()
      const offsets: number[] = []
      const ended = (async () => {
        for await (const { offset, bytes } of peer.lane.fetch(fetchOf([0, 192]), 'demand', never)) {
          offsets.push(offset)
          if (bytes) assert.ok(disk.subarray(offset, offset + 64).equals(bytes))
        }
      })().then(
        () => undefined,
        (error: unknown) => error,
      )
      await new Promise((resolve) => setImmediate(resolve))
      peer.stream.end(answer.subarray(0, cut))
      assert.ok(isLinkError('lost')(await ended), `cut at ${cut}`)
      const whole = ends.filter((end) => end <= cut).length
      assert.deepEqual(offsets, [0, 64, 128].slice(0, whole), `cut at ${cut}`)
    }
  })

  it('in the middle of a fetch the asker loses it, and the handler of the other side is told to stop', async () => {
    const stopped = Promise.withResolvers<void>()
    const { near, far, nearStream } = await lanePair({
      handlers: {
        async *fetch(_peer, _request, _urgency, signal) {
          yield { offset: 0, length: 4096, bytes: Buffer.alloc(4096) }
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
          stopped.resolve()
        },
      },
    })
    const pieces = near.fetch(fetchOf([0, 8192]), 'background', never)
    await pieces.next()
    nearStream.end()
    await assert.rejects(pieces.next(), isLinkError('lost'))
    await stopped.promise
    await settle()
    assert.deepEqual([near.isOpen, far.isOpen, far.outstanding], [false, false, 0])
  })
})
