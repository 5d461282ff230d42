// Simulates clients that connect and then dawdle: nothing at all, one byte at a time, options without end, answers unread.

import assert from 'node:assert/strict'
import { OptionType } from '../../src/nbd/wire/constants.ts'
import { encodeClientFlags, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { handTimers } from '../hand-timers.ts'
import { RawClient, serve, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

describe('nbd faults: slow negotiation', () => {
  it('is broken off at the deadline, however busy the client keeps', async () => {
    using timers = handTimers()
    await using site = await serve([new MemoryExport()], { negotiationMs: 10_000 })
    const silent = await RawClient.connect(site.path)
    const dripping = await RawClient.connect(site.path)
    const bytes = Buffer.concat([encodeClientFlags(3), encodeOption(OptionType.go, Buffer.alloc(60_000))])
    let at = 0
    const drip = (): void => {
      if (dripping.socket.destroyed || at === bytes.length) return
      dripping.socket.write(bytes.subarray(at, ++at), () => setImmediate(drip))
    }
    drip()
    await until(() => at > 1000)
    timers.pass(10_000)
    await Promise.all([silent.closed, dripping.closed])
    await until(() => site.server.sessions === 0)
    for (const why of ['negotiation took too long', 'its first byte did not come in time']) {
      assert.equal(site.log.filter(({ message }) => message.includes(why)).length, 1, why)
    }
  })

  it('holds no more than one long answer for a client that asks and does not read', async () => {
    const exports = Array.from(
      { length: 2000 },
      (_, index) => new MemoryExport({ name: `disk${index}`, sizeBytes: 4096 }),
    )
    using timers = handTimers()
    await using site = await serve(exports, { negotiationMs: 10_000 })
    const client = await RawClient.connect(site.path)
    await client.greet()
    client.socket.pause()
    // 2000 lists of 2000 names would be 120 MB.
    const before = process.memoryUsage().arrayBuffers
    client.send(Buffer.concat(Array.from({ length: 2000 }, () => encodeOption(OptionType.list))))
    const other = await RawClient.open(site.path)
    assert(process.memoryUsage().arrayBuffers - before < 16 * 1024 * 1024)
    other.destroy()
    await until(() => site.server.sessions === 1)
    timers.pass(10_000)
    await until(() => site.server.sessions === 0)
    client.destroy()
  })
})
