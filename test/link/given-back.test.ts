// The memory of what travels is given back as soon as it has left, or was taken: left to the collector it costs guests 25 ms.
// Only over TLS, where nobody else has the same memory.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type Duplex, duplexPair } from 'node:stream'
import { systemTimers } from '../../src/block/clock.ts'
import { giveBack, withOwnMemory } from '../../src/block/own-memory.ts'
import type { Piece } from '../../src/block/units.ts'
import type { PeerHandlers } from '../../src/link/channel.ts'
import { StreamLane } from '../../src/link/lane/stream-lane.ts'
import { linkProtocol, type SecuredStream, secureClient } from '../../src/peer/secure.ts'
import { cleanUp, dial, gate, never, newIdentity } from '../peer/sites.ts'
import { noHandlers, quiet } from './pair.ts'

const length = 256 * 1024

async function tlsPair(): Promise<[Duplex, Duplex]> {
  const [identity, asker] = [await newIdentity(), await newIdentity()]
  const at = await gate({ identity, isPaired: () => true })
  const expectFingerprint = identity.fingerprint
  const options = { identity: asker, expectFingerprint, alpn: linkProtocol, signal: never }
  const here = await secureClient(await dial(at.port), options)
  return [here.stream, ((await at.next()) as SecuredStream).stream]
}

/** Fetches one piece. Resolves to the sender's bytes and to what came. */
async function fetched([near, far]: [Duplex, Duplex]): Promise<{ sent: Buffer; came: Piece }> {
  const sent = withOwnMemory(Buffer.alloc(length, 7))
  const handlers: PeerHandlers = {
    ...noHandlers,
    async *fetch() {
      yield { offset: 0, length, bytes: sent }
    },
  }
  const shared = { peerId: 'peer', log: quiet, clock: systemTimers }
  const asker = new StreamLane(near, { ...shared, use: { purpose: 'background', stripe: 0 }, handlers: noHandlers })
  const answerer = new StreamLane(far, { ...shared, use: undefined, handlers })
  try {
    await asker.opened
    const request = { migration: 'm', disk: 'd', generation: 1, runs: [{ offset: 0, length }] }
    const pieces: Piece[] = []
    for await (const piece of asker.fetch(request, 'background', never)) pieces.push(piece)
    while (far.writableLength > 0) await once(far, 'drain')
    return { sent, came: pieces[0]! }
  } finally {
    asker.close()
    answerer.close()
  }
}

describe('memory of what travels', () => {
  afterEach(cleanUp)

  it('is given back over TLS: what was sent, and each chunk that was taken', async () => {
    const pair = await tlsPair()
    const chunks: Buffer[] = []
    const lanes = fetched(pair)
    pair[0].on('data', (chunk: Buffer) => chunks.push(chunk)) // Behind the lane's listener.
    const { sent, came } = await lanes
    assert(came.bytes?.every((byte) => byte === 7))
    assert.equal(sent.length, 0)
    giveBack(came.bytes)
    assert.equal(came.bytes?.length, 0)
    assert(chunks.some((chunk) => chunk.length === 0))
  })

  it('stays over a stream whose other end may have the same memory', async () => {
    const { sent, came } = await fetched(duplexPair() as [Duplex, Duplex])
    assert(came.bytes?.every((byte) => byte === 7))
    assert.equal(sent.length, length)
  })
})
