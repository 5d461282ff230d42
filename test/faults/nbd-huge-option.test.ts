// Simulates a client that announces huge options: 4 GiB of payload, counts beyond the payload, a name that never ends.

import assert from 'node:assert/strict'
import { OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { encodeInfoRequest, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { handTimers } from '../hand-timers.ts'
import { RawClient, serve, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

function announce(type: number, lengthBytes: number): Buffer {
  const bytes = encodeOption(type)
  bytes.writeUInt32BE(lengthBytes, 12)
  return bytes
}

describe('nbd faults: huge options', () => {
  it('an option above 64 KiB is consumed, refused as too big, and the negotiation goes on', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.connect(site.path)
    await client.greet()
    const tooLong = 8 * 1024 * 1024
    client.send(announce(OptionType.info, tooLong))
    client.send(Buffer.alloc(tooLong))
    assert.deepEqual(
      (await client.optionReplies()).map(({ type }) => type),
      [ReplyType.errTooBig],
    )
    assert.equal((await client.go('disk')).at(-1)!.type, ReplyType.ack)
    client.destroy()
  })

  it('4 GiB announced and not sent costs no memory, and the deadline ends it', async () => {
    using timers = handTimers()
    await using site = await serve([new MemoryExport()], { negotiationMs: 10_000 })
    const before = process.memoryUsage().arrayBuffers
    const clients = await Promise.all(Array.from({ length: 20 }, () => RawClient.connect(site.path)))
    for (const client of clients) {
      await client.greet()
      client.send(announce(OptionType.setMetaContext, 0xffffffff))
    }
    assert(process.memoryUsage().arrayBuffers - before < 8 * 1024 * 1024)
    timers.pass(10_000)
    await Promise.all(clients.map((client) => client.closed))
    await until(() => site.server.sessions === 0)
  })

  it('a huge EXPORT_NAME is a close', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.connect(site.path)
    await client.greet()
    client.send(announce(OptionType.exportName, 0xffffffff))
    await client.closed
  })

  it('counts that point past the payload are ERR_INVALID', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.connect(site.path)
    await client.greet()
    const payload = encodeInfoRequest({ exportName: 'disk', infos: [] })
    payload.writeUInt16BE(0xffff, payload.length - 2)
    assert.equal((await client.option(OptionType.go, payload))[0]!.type, ReplyType.errInvalid)
    payload.writeUInt32BE(0xffffffff, 0)
    assert.notEqual((await client.option(OptionType.go, payload))[0]!.type, ReplyType.ack)
    client.destroy()
  })
})
