// A peer that asks and does not read: its requests, its pings, its fetches pile up at its own cost. Promise 11: no growth here.

import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { sendWindowBytes } from '../../src/link/lane/sender.ts'
import { encodeEmpty, encodeJson } from '../../src/link/wire/frames.ts'
import { lane, ManualClock, noHandlers, settle } from '../link/pair.ts'
import { helloFrame } from '../link/raw-peer.ts'

const mebibyte = 1024 * 1024

describe('faults: a peer that stops reading', () => {
  it('a fetch reads no further ahead than the window', async () => {
    let yielded = 0
    const [near, far] = duplexPair()
    const clock = new ManualClock()
    const made = lane(near, {
      clock,
      use: undefined,
      handlers: {
        ...noHandlers,
        async *fetch() {
          for (; yielded < 1000; yielded++) {
            yield { offset: yielded * mebibyte, length: mebibyte, bytes: Buffer.alloc(mebibyte) }
          }
        },
      },
    })
    const runs = [[0, 1000 * mebibyte]]
    const fetches = [1, 2, 3, 4].map((id) =>
      encodeJson('fetch', id, { migration: 'm', disk: 'd', generation: 1, urgency: 'demand', runs }),
    )
    far.write(Buffer.concat([helloFrame, ...fetches]))
    await settle()
    assert.ok(yielded >= 2 && yielded <= 8, `${yielded} pieces were read ahead`)
    assert.ok(near.writableLength <= sendWindowBytes + mebibyte + 1000)
    assert.ok(made.isOpen)
    // It says nothing either: after ten seconds it is gone, and with it what it asked for.
    await clock.advance(11_000)
    assert.ok(near.destroyed)
    assert.equal(made.outstanding, 0)
  })

  it('a flood of pings gets one answer at a time, and a flood of calls is closed', async () => {
    const [near, far] = duplexPair()
    const calls: number[] = []
    const big = { text: 'x'.repeat(200_000) }
    const call = async () => {
      calls.push(1)
      return big
    }
    const made = lane(near, {
      use: undefined,
      handlers: { ...noHandlers, call },
    })
    far.write(helloFrame)
    const pings = Buffer.concat(Array.from({ length: 10_000 }, () => encodeEmpty('ping', 0)))
    for (let round = 0; round < 20; round++) far.write(pings)
    await settle()
    assert.ok(near.writableLength < 1000, `${near.writableLength} bytes of answers wait`)
    assert.ok(made.isOpen)
    for (let id = 1; id <= 1000; id++) far.write(encodeJson('call', id, { method: 'm', params: {} }))
    await settle()
    await settle()
    assert.equal(made.isOpen, false)
    assert.ok(calls.length < 300, `${calls.length} calls were served`)
  })
})
