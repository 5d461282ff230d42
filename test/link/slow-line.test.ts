// Lines on which a peer is heard of late and is not silent: 300 ms away, 1 Mbit/s, full of the background copy.

import assert from 'node:assert/strict'
import type { Piece } from '../../src/block/units.ts'
import { Line, overLines } from './line.ts'
import { fetchOf, ManualClock, never, noHandlers, quiet, StreamHub } from './pair.ts'

const bytesPerSecond = 125_000
const delayMs = 150
const chunkBytes = 256 * 1024
const secondsOfLoad = 120
/** TCP's handshake and those of TLS, before the lane's own. */
const tripsOfDial = 4
const handshakeBytes = 1000

interface Seen {
  readonly dials: number
  readonly brokenFetches: number
  readonly background: number
  readonly slowestDemandMs: number
}

/** A background copy that fills the line, and a guest that reads a block every three seconds. */
async function loaded(queueMs: number): Promise<Seen> {
  const clock = new ManualClock()
  const line = () => new Line({ clock, bytesPerSecond, delayMs, queueMs })
  const [there, back] = [line(), line()]
  const bytes = Buffer.alloc(chunkBytes)
  let dials = 0
  const site = (ownId: string): StreamHub =>
    new StreamHub({
      ownId,
      clock,
      random: () => 1,
      log: quiet,
      hasAddress: () => ownId === 'destination',
      handlers: {
        ...noHandlers,
        async *fetch(_peer, { runs }): AsyncGenerator<Piece> {
          for (const { offset, length } of runs) yield { offset, length, bytes: bytes.subarray(0, length) }
        },
      },
      async dial() {
        dials++
        for (let trip = 0; trip < tripsOfDial; trip++) {
          const way = trip % 2 === 0 ? there : back
          await new Promise<void>((arrive) => way.carry(handshakeBytes, () => {}, arrive))
        }
        const [near, far] = overLines(there, back)
        source.take('destination', far)
        return near
      },
    })
  const [source, destination] = [site('source'), site('destination')]
  const channel = destination.channel('source')
  destination.keep('source')
  await clock.advance(5000)

  const seen = { dials: 0, brokenFetches: 0, background: 0, slowestDemandMs: 0 }
  const ask = async (offset: number, length: number, urgency: 'demand' | 'background') => {
    const askedMs = clock.nowMs
    try {
      for await (const piece of channel.fetch(fetchOf([offset, length]), { urgency, signal: never })) {
        if (urgency === 'background') seen.background += piece.length
      }
    } catch {
      seen.brokenFetches++
    }
    if (urgency === 'demand') seen.slowestDemandMs = Math.max(seen.slowestDemandMs, clock.nowMs - askedMs)
  }
  const isOver = () => clock.nowMs > secondsOfLoad * 1000
  const copy = async (): Promise<void> => {
    while (!isOver()) await ask(0, chunkBytes, 'background')
  }
  void Promise.all(Array.from({ length: 4 }, copy))
  while (!isOver()) {
    void ask(2 ** 30, 4096, 'demand')
    await clock.advance(3000)
  }
  await Promise.all([source.close(), destination.close()])
  return { ...seen, dials }
}

describe('a slow line', () => {
  it('of 1 Mbit/s and 300 ms, full of the background with up to a second of queue, is never taken for silent', async () => {
    const seen = await loaded(700)
    assert.equal(seen.dials, 3, 'one a lane')
    assert.equal(seen.brokenFetches, 0)
    assert(seen.background > secondsOfLoad * bytesPerSecond * 0.9, `${seen.background} bytes came`)
    assert(seen.slowestDemandMs < 2500, `a demand fetch took ${seen.slowestDemandMs} ms`)
  })

  it('with three seconds of queue loses no lane and asks nothing again', async () => {
    const seen = await loaded(3000)
    assert.equal(seen.brokenFetches, 0)
    assert(seen.background > secondsOfLoad * bytesPerSecond * 0.9, `${seen.background} bytes came`)
  })
})
