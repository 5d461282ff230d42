// Simulates clients that send random bytes: from the start, within a negotiation, and within the transmission. The seed is
// printed in the test's name; VMSTORE_SEED repeats it.

import assert from 'node:assert/strict'
import { Command } from '../../src/nbd/wire/constants.ts'
import { encodeClientFlags, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { extendedRequestBytesOf, RawClient, requestBytesOf, serve, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

const seed = Number(process.env['VMSTORE_SEED'] ?? Math.floor(Math.random() * 2 ** 32))

/** mulberry32: small, and the same everywhere. */
function randomFrom(start: number): () => number {
  let state = start >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

describe(`nbd faults: garbage (seed ${seed})`, () => {
  const random = randomFrom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const garbage = (maxBytes: number) => Buffer.from(Array.from({ length: below(maxBytes) + 1 }, () => below(256)))

  /** Sends, hangs up, and sees that the server is as well as before. */
  async function survives(open: (path: string) => Promise<RawClient>, make: () => Buffer): Promise<void> {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    for (let round = 0; round < 60; round++) {
      const client = await open(site.path)
      client.send(make())
      client.socket.end()
      client.socket.resume()
      await client.closed
    }
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
    assert.equal(disk.closes.length, disk.opens)
    const errors = site.log.filter(({ level }) => level === 'error')
    assert.deepEqual(errors, [])
    const well = await RawClient.open(site.path)
    well.request({ type: Command.flush })
    assert.equal((await well.reply()).errorNumber, 0)
    well.destroy()
  }

  it('as a greeting is survived', () => survives(RawClient.connect, () => garbage(2000)))

  it('as the payload of any option is survived', () =>
    survives(RawClient.connect, () =>
      Buffer.concat([
        encodeClientFlags(below(4)),
        ...Array.from({ length: 6 }, () => encodeOption([1, 3, 6, 7, 8, 9, 10, 11][below(8)]!, garbage(60))),
      ]),
    ))

  it('as requests, broken in a few bytes, is survived', () =>
    survives(
      (path) => RawClient.open(path, { structured: random() < 0.5, contexts: [] }).catch(() => RawClient.open(path)),
      () => brokenStream(requestBytesOf, 0),
    ))

  it('as extended requests, broken in a few bytes, is survived', () =>
    survives(
      (path) => RawClient.open(path, { extended: true, contexts: ['base:allocation'] }),
      () => brokenStream(extendedRequestBytesOf, 0.1),
    ))

  /** Requests of any kind in which a few bytes are wrong. `strayPayloads`: how often one has a payload that is no write's. */
  function brokenStream(bytesOf: typeof requestBytesOf, strayPayloads: number): Buffer {
    const requests = Array.from({ length: 20 }, () => {
      const type = below(9)
      const payload = type === Command.write || random() < strayPayloads ? garbage(3000) : undefined
      // Mostly the length is the payload's: one that lies puts all that follows out of step.
      const lengthBytes = payload === undefined || random() < 0.05 ? below(1 << 17) : payload.length
      return bytesOf({ type, offset: below(1 << 21), lengthBytes, ...(payload && { payload }) })
    })
    const stream = Buffer.concat(requests)
    for (let count = below(4); count > 0; count--) stream[below(stream.length)] = below(256)
    return stream
  }
})
