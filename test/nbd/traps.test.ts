// The traps of the protocol, by the numbers of the design's list. Trap 12 goes on in negotiation.test.ts, traps 2, 7, 8 and
// 10 with extended headers in extended-headers.test.ts, traps 13 and 14 for disks that arrive in test/disk/io.test.ts.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { GuestError } from '../../src/guest/export.ts'
import { TlsServer } from '../../src/nbd/server/tls-server.ts'
import {
  Command,
  CommandFlag,
  ErrorNumber,
  InfoType,
  OptionType,
  ReplyType,
  TransmissionFlag,
} from '../../src/nbd/wire/constants.ts'
import { encodeInfoRequest, encodeMetaContextRequest, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { decodeBlockStatusPayload, decodeErrorPayload } from '../../src/nbd/wire/transmission-codecs.ts'
import { Authority, layOut } from './certificates.ts'
import { Gate, RawClient, requestBytesOf, serve, temporaryFolder } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

const mebibyte = 1024 * 1024

describe('nbd traps', () => {
  it('trap 1: all replies to an option arrive in one piece', async () => {
    await using site = await serve(Array.from({ length: 50 }, (_, index) => new MemoryExport({ name: `disk${index}` })))
    const client = await RawClient.connect(site.path)
    await client.greet()
    const infos = [InfoType.name, InfoType.description]
    for (const [option, payload, count] of [
      [OptionType.list, undefined, 51],
      [OptionType.info, encodeInfoRequest({ exportName: 'disk7', infos }), 5],
      [OptionType.structuredReply, undefined, 1],
      [OptionType.listMetaContext, encodeMetaContextRequest({ exportName: 'disk7', queries: [] }), 2],
      [OptionType.go, encodeInfoRequest({ exportName: 'disk7', infos }), 5],
    ] as const) {
      const before = client.chunks.length
      assert.equal((await client.option(option, payload)).length, count)
      assert.equal(client.chunks.length - before, 1)
    }
    client.destroy()
  })

  it('trap 2: a refused write has its payload consumed before the answer', async () => {
    await using site = await serve([new MemoryExport({ readOnly: true })])
    const client = await RawClient.open(site.path)
    const refused = requestBytesOf({ type: Command.write, cookie: 1, payload: Buffer.alloc(300_000, 0x25) })
    client.send(refused.subarray(0, 200_000))
    client.send(refused.subarray(200_000))
    client.request({ type: Command.read, cookie: 2, lengthBytes: 0 })
    assert.deepEqual(await client.reply(), {
      kind: 'simple',
      errorNumber: ErrorNumber.EPERM,
      cookieHigh: 0,
      cookieLow: 1,
    })
    assert.deepEqual(await client.reply(), { kind: 'simple', errorNumber: 0, cookieHigh: 0, cookieLow: 2 })
    client.destroy()
  })

  it('trap 2: a refused write is not answered before its last byte', async () => {
    await using site = await serve([new MemoryExport({ readOnly: true })])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.flush, cookie: 1 })
    client.send(requestBytesOf({ type: Command.write, cookie: 2, payload: Buffer.alloc(4096) }).subarray(0, -1))
    await client.reply()
    assert.equal(client.leftBytes, 0)
    client.send(Buffer.alloc(1))
    assert.equal((await client.reply()).cookieLow, 2)
    client.destroy()
  })

  it('trap 3: an error to EXPORT_NAME is a close', async () => {
    const disk = new MemoryExport()
    disk.openFault = new GuestError('not-served', 'departed')
    await using site = await serve([disk])
    for (const name of ['nothing', 'disk', 'a\0b', 'x'.repeat(4097)]) {
      const client = await RawClient.connect(site.path)
      await client.greet()
      client.send(encodeOption(OptionType.exportName, Buffer.from(name)))
      await client.closed
      assert.equal(client.leftBytes, 0)
    }
  })

  it('trap 3: 124 zeros follow EXPORT_NAME unless NO_ZEROES, and never GO', async () => {
    await using site = await serve([new MemoryExport()])
    for (const [flags, tailBytes] of [
      [1, 124],
      [3, 0],
    ] as const) {
      const client = await RawClient.connect(site.path)
      await client.greet(flags)
      client.send(encodeOption(OptionType.exportName, Buffer.from('disk')))
      client.request({ type: Command.flush, cookie: 9 })
      const head = await client.take(10)
      assert.equal(head.readBigUInt64BE(0), BigInt(mebibyte))
      assert((await client.take(tailBytes)).every((byte) => byte === 0))
      assert.equal((await client.reply()).cookieLow, 9)
      client.destroy()
    }
    const client = await RawClient.connect(site.path)
    await client.greet(1)
    await client.go('disk')
    client.request({ type: Command.flush, cookie: 9 })
    assert.equal((await client.reply()).cookieLow, 9)
    client.destroy()
  })

  describe('trap 4: STARTTLS', () => {
    async function serveSecurely() {
      using place = temporaryFolder()
      const authority = await Authority.make()
      const server = await authority.issue('server', { hosts: ['localhost'] })
      const tls = await TlsServer.open({ folder: layOut(join(place.path, 'pki'), { server }), verifyPeer: false })
      const site = await serve([new MemoryExport()], {}, { tls })
      const trust = { ca: authority.certificate, servername: 'localhost' }
      return { site, trust, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() }
    }
    const queries = encodeMetaContextRequest({ exportName: 'disk', queries: ['base:allocation'] })

    it('trap 4: what was agreed on before it holds no more', async () => {
      await using secure = await serveSecurely()
      const plain = await RawClient.connect(secure.site.path)
      await plain.greet()
      await plain.option(OptionType.structuredReply)
      assert.equal((await plain.option(OptionType.setMetaContext, queries)).at(-1)!.type, ReplyType.ack)
      await plain.option(OptionType.startTls)
      const client = await plain.secure(secure.trust)
      assert.equal((await client.option(OptionType.setMetaContext, queries)).at(-1)!.type, ReplyType.errInvalid)
      await client.go('disk')
      client.request({ type: Command.read, cookie: 1, lengthBytes: 512 })
      assert.equal((await client.reply()).errorNumber, 0)
      await client.take(512)
      client.request({ type: Command.blockStatus, cookie: 2, lengthBytes: 512 })
      assert.equal((await client.reply()).errorNumber, ErrorNumber.EINVAL)
      client.destroy()
    })

    it('trap 4: what came behind it in the clear is discarded, not taken as if it had come through TLS', async () => {
      await using secure = await serveSecurely()
      const go = encodeOption(OptionType.go, encodeInfoRequest({ exportName: 'disk', infos: [] }))
      const injected = [go, encodeOption(OptionType.abort), go.subarray(0, 7), Buffer.alloc(1)]
      for (const behind of injected) {
        const plain = await RawClient.connect(secure.site.path)
        await plain.greet()
        plain.send(Buffer.concat([encodeOption(OptionType.startTls), behind]))
        assert.equal((await plain.optionReplies()).at(-1)!.type, ReplyType.ack)
        const client = await plain.secure(secure.trust)
        const [reply] = await client.option(OptionType.list)
        assert.equal(reply!.type, ReplyType.server)
        assert.equal(plain.leftBytes, 0)
        client.destroy()
      }
      assert.equal(secure.site.log.filter(({ message }) => /STARTTLS in the clear: discarded/.test(message)).length, 4)
    })
  })

  it('trap 5: what is not served is ERR_UNSUP, and the negotiation goes on', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.connect(site.path)
    await client.greet()
    for (const option of [OptionType.startTls, OptionType.peekExport, 0, 4711]) {
      assert.deepEqual(
        (await client.option(option)).map(({ type }) => type),
        [ReplyType.errUnsup],
      )
    }
    assert.equal((await client.go('disk')).at(-1)!.type, ReplyType.ack)
    client.destroy()
  })

  it('trap 5: ABORT is acknowledged, and hanging up without reading that harms nobody', async () => {
    await using site = await serve([new MemoryExport()])
    const polite = await RawClient.connect(site.path)
    await polite.greet()
    assert.deepEqual(
      (await polite.option(OptionType.abort)).map(({ type }) => type),
      [ReplyType.ack],
    )
    await polite.closed
    const hasty = await RawClient.connect(site.path)
    await hasty.greet()
    hasty.send(encodeOption(OptionType.abort))
    hasty.socket.destroySoon()
    await hasty.closed
    const next = await RawClient.open(site.path)
    next.destroy()
    assert.deepEqual(
      site.log.filter(({ level }) => level === 'error' || level === 'warn'),
      [],
    )
  })

  it('trap 6: HAS_FLAGS is always set', async () => {
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'fixed', readOnly: true })])
    for (const name of ['disk', 'fixed']) {
      const client = await RawClient.connect(site.path)
      await client.greet()
      const [info] = await client.option(OptionType.info, encodeInfoRequest({ exportName: name, infos: [] }))
      assert.equal(info!.payload.readUInt16BE(10) & TransmissionFlag.hasFlags, TransmissionFlag.hasFlags)
      client.send(encodeOption(OptionType.exportName, Buffer.from(name)))
      const answer = await client.take(10)
      assert.equal(answer.readUInt16BE(8) & TransmissionFlag.hasFlags, TransmissionFlag.hasFlags)
      client.destroy()
    }
  })

  it('trap 6: a cookie is opaque and may repeat', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.open(site.path)
    const bytes = requestBytesOf({ type: Command.flush })
    bytes.fill(0xff, 8, 16)
    client.send(Buffer.concat([bytes, bytes]))
    for (let index = 0; index < 2; index++) {
      const reply = await client.take(16)
      assert.equal(reply.toString('hex', 8), 'ffffffffffffffff')
    }
    client.destroy()
  })

  describe('trap 7: bounds are checked in 64 bits, first', () => {
    const cases: [string, number, number | bigint, number, keyof typeof ErrorNumber][] = [
      ['READ', Command.read, mebibyte - 1, 2, 'EINVAL'],
      ['READ at 2^64-1', Command.read, 2n ** 64n - 1n, 2, 'EINVAL'],
      ['READ at 2^53', Command.read, 2n ** 53n, 1, 'EINVAL'],
      ['READ of 0 bytes past the end', Command.read, mebibyte + 1, 0, 'EINVAL'],
      ['WRITE', Command.write, mebibyte, 1, 'ENOSPC'],
      ['WRITE that would wrap', Command.write, 2n ** 64n - 4n, 8, 'ENOSPC'],
      ['WRITE_ZEROES', Command.writeZeroes, 1, mebibyte, 'ENOSPC'],
      ['TRIM of 4 GiB', Command.trim, 0, 0xffffffff, 'EINVAL'],
      ['CACHE', Command.cache, mebibyte, 1, 'EINVAL'],
      ['BLOCK_STATUS', Command.blockStatus, mebibyte, 1, 'EINVAL'],
    ]
    for (const [what, type, offset, lengthBytes, code] of cases) {
      it(`${what} past the end is ${code}`, async () => {
        const disk = new MemoryExport()
        await using site = await serve([disk])
        const client = await RawClient.open(site.path)
        const payload = type === Command.write ? Buffer.alloc(lengthBytes) : undefined
        client.request({ type, offset, lengthBytes, ...(payload && { payload }) })
        assert.equal((await client.reply()).errorNumber, ErrorNumber[code])
        assert.deepEqual(disk.calls, [])
        client.destroy()
      })
    }

    it('a read-only export answers EPERM to all that writes', async () => {
      const disk = new MemoryExport({ readOnly: true })
      await using site = await serve([disk])
      const client = await RawClient.open(site.path)
      client.request({ type: Command.write, payload: Buffer.alloc(512) })
      client.request({ type: Command.trim, lengthBytes: 512 })
      client.request({ type: Command.writeZeroes, lengthBytes: 512 })
      for (let index = 0; index < 3; index++) assert.equal((await client.reply()).errorNumber, ErrorNumber.EPERM)
      assert.deepEqual(disk.calls, [])
      client.destroy()
    })

    it('unknown commands and flags are EINVAL', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await RawClient.open(site.path)
      client.request({ type: 4711 })
      client.request({ type: Command.resize })
      client.request({ type: Command.read, flags: CommandFlag.noHole, lengthBytes: 1 })
      client.request({ type: Command.trim, flags: 0x8000, lengthBytes: 1 })
      for (let index = 0; index < 4; index++) assert.equal((await client.reply()).errorNumber, ErrorNumber.EINVAL)
      assert.deepEqual(disk.calls, [])
      client.destroy()
    })

    it('an error that is not the protocol’s travels as EIO, and the log has what it said', async () => {
      const disk = new MemoryExport()
      disk.gate = () => {
        throw new Error('secret path')
      }
      await using site = await serve([disk])
      const client = await RawClient.open(site.path, { structured: true })
      client.request({ type: Command.trim, lengthBytes: 1 })
      const { errorNumber, sentence } = decodeErrorPayload((await client.chunk()).payload)
      assert.equal(errorNumber, ErrorNumber.EIO)
      assert(!sentence.includes('secret'))
      assert(site.log.some(({ level, message }) => level === 'error' && message.includes('secret path')))
      client.destroy()
    })
  })

  it('trap 8: DISC may carry garbage', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.disc, flags: 0xffff, offset: 2n ** 64n - 1n, lengthBytes: 0xffffffff })
    await client.closed
    await disk.closed(1)
    assert.deepEqual(disk.closes, ['disconnected'])
    assert.equal(client.leftBytes, 0)
  })

  it('trap 9: zero length succeeds without a call, BLOCK_STATUS excepted', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
    client.request({ type: Command.read, cookie: 5, lengthBytes: 0 })
    const { type, flags, payload } = await client.chunk()
    assert.deepEqual([type, flags, payload.length], [0, 1, 0])
    for (const command of [Command.write, Command.trim, Command.writeZeroes, Command.cache]) {
      client.request({ type: command, lengthBytes: 0 })
      assert.equal((await client.reply()).errorNumber, 0)
    }
    client.request({ type: Command.blockStatus, lengthBytes: 0 })
    assert.equal(decodeErrorPayload((await client.chunk()).payload).errorNumber, ErrorNumber.EINVAL)
    assert.deepEqual(disk.calls, [])
    client.destroy()
  })

  it('trap 10: 64 MiB are accepted though 32 are advertised, and one byte more is EINVAL', async () => {
    const disk = new MemoryExport({ sizeBytes: 65 * mebibyte })
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    const [, sizes] = await infosOf(site.path)
    assert.equal(sizes!.readUInt32BE(10), 32 * mebibyte)
    client.request({ type: Command.write, payload: Buffer.alloc(64 * mebibyte, 7) })
    assert.equal((await client.reply()).errorNumber, 0)
    assert.equal(disk.bytes[64 * mebibyte - 1], 7)
    client.request({ type: Command.write, payload: Buffer.alloc(64 * mebibyte + 1) })
    assert.equal((await client.reply()).errorNumber, ErrorNumber.EINVAL)
    client.request({ type: Command.read, lengthBytes: 64 * mebibyte + 1 })
    assert.equal((await client.reply()).errorNumber, ErrorNumber.EINVAL)
    assert.equal(site.server.heldBytes, 0)
    client.destroy()
  })

  it('trap 10: TRIM, WRITE_ZEROES, CACHE and BLOCK_STATUS reach 4 GiB in one call', async () => {
    const disk = new MemoryExport()
    // A huge disk without its bytes: only the calls count.
    const huge = Object.create(disk, { sizeBytes: { value: 2 ** 40 } }) as MemoryExport
    disk.gate = () => Promise.reject(new GuestError('unsupported', 'enough'))
    await using site = await serve([huge])
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
    for (const type of [Command.trim, Command.writeZeroes, Command.cache]) {
      client.request({ type, offset: 2 ** 33, lengthBytes: 0xffffffff })
      assert.equal(decodeErrorPayload((await client.chunk()).payload).errorNumber, ErrorNumber.ENOTSUP)
    }
    disk.blockStatusFault = [{ lengthBytes: 0xffffffff, status: 'hole' }]
    client.request({ type: Command.blockStatus, offset: 2 ** 33, lengthBytes: 0xffffffff })
    const told = [{ lengthBytes: 0xffffffff, flags: 3 }]
    assert.deepEqual(decodeBlockStatusPayload((await client.chunk()).payload).extents, told)
    assert.equal(site.server.heldBytes, 0)
    assert.deepEqual(disk.calls, [
      `trim ${2 ** 33} ${0xffffffff}`,
      `zero ${2 ** 33} ${0xffffffff} punch`,
      `cache ${2 ** 33} ${0xffffffff}`,
    ])
    client.destroy()
  })

  it('trap 11: a failed structured read is an error chunk with its sentence, and nothing before it', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true })
    for (const lengthBytes of [512, 50_000, 200_000]) {
      for (const fault of ['throw', 'reject'] as const) {
        disk.gate = () => {
          const error = new GuestError('not-served', 'the disk departed')
          if (fault === 'throw') throw error
          return Promise.reject(error)
        }
        client.request({ type: Command.read, cookie: lengthBytes, lengthBytes })
        const chunk = await client.chunk()
        assert.equal(chunk.cookieLow, lengthBytes)
        assert.equal(chunk.flags, 1)
        assert.deepEqual(decodeErrorPayload(chunk.payload), {
          errorNumber: ErrorNumber.ESHUTDOWN,
          sentence: 'the disk departed',
        })
      }
    }
    disk.gate = undefined
    client.request({ type: Command.flush })
    await client.reply()
    assert.equal(client.leftBytes, 0)
    client.destroy()
  })

  it('trap 11: nothing of a read is sent before its bytes are there', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^read/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true })
    client.request({ type: Command.read, cookie: 1, lengthBytes: 4096 })
    client.request({ type: Command.flush, cookie: 2 })
    assert.equal((await client.reply()).cookieLow, 2)
    assert.equal(client.leftBytes, 0)
    disk.bytes.fill(3)
    gate.release()
    const { payload } = await client.chunk()
    assert.equal(payload.length, 8 + 4096)
    assert(payload.subarray(8).every((byte) => byte === 3))
    client.destroy()
  })

  it('trap 12: without a context agreed on, BLOCK_STATUS is EINVAL', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.open(site.path, { structured: true })
    client.request({ type: Command.blockStatus, lengthBytes: 4096 })
    assert.equal(decodeErrorPayload((await client.chunk()).payload).errorNumber, ErrorNumber.EINVAL)
    client.destroy()
  })

  it('trap 12: the ids of a reply are those of the negotiation, in its order', async () => {
    const disk = new MemoryExport({ statuses: ['allocation', 'present'] })
    await using site = await serve([disk])
    const client = await RawClient.connect(site.path)
    await client.greet()
    await client.option(OptionType.structuredReply)
    const queries = encodeMetaContextRequest({ exportName: '', queries: ['vmstore:present', 'base:allocation'] })
    const replies = await client.option(OptionType.setMetaContext, queries)
    const ids = replies.slice(0, -1).map(({ payload }) => payload.readUInt32BE(0))
    await client.go('')
    client.request({ type: Command.blockStatus, lengthBytes: 65536, flags: CommandFlag.reqOne })
    const chunks = [await client.chunk(), await client.chunk()]
    assert.deepEqual(
      chunks.map(({ payload }) => decodeBlockStatusPayload(payload).contextId),
      ids,
    )
    assert.deepEqual(
      chunks.map(({ flags }) => flags),
      [0, 1],
    )
    assert(disk.calls.every((call) => call.endsWith(' 1')))
    client.destroy()
  })

  it('trap 13: a structured read sends a hole only where the export says zero', async () => {
    const disk = new MemoryExport()
    disk.bytes.fill(9, 0, 65536)
    disk.written.fill(1, 0, 16)
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true })
    client.request({ type: Command.read, lengthBytes: 131072 })
    const chunks = [await client.chunk(), await client.chunk()]
    assert.deepEqual(
      chunks.map(({ type, flags, payload }) => [type, flags, payload.length]),
      [
        [1, 0, 8 + 65536],
        [2, 1, 12],
      ],
    )
    client.request({ type: Command.read, flags: CommandFlag.df, lengthBytes: 131072 })
    assert.equal((await client.chunk()).payload.length, 8 + 131072)
    disk.written.fill(1)
    client.request({ type: Command.read, lengthBytes: 131072 })
    assert.equal((await client.chunk()).payload.length, 8 + 131072)
    client.destroy()
  })

  it('trap 14: a client that negotiates nothing reads and writes single bytes, up to an odd end', async () => {
    const disk = new MemoryExport({ sizeBytes: 10_001 })
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.write, offset: 10_000, payload: Buffer.from([42]) })
    assert.equal((await client.reply()).errorNumber, 0)
    client.request({ type: Command.read, offset: 10_000, lengthBytes: 1 })
    await client.reply()
    assert.equal((await client.take(1))[0], 42)
    client.destroy()
  })

  it('trap 15: names are UTF-8 up to 4096 bytes without NUL, and "" is the default', async () => {
    const longName = 'é'.repeat(2048)
    await using site = await serve([new MemoryExport({ name: longName, sizeBytes: 4096 })])
    const client = await RawClient.connect(site.path)
    await client.greet()
    const info = async (name: Buffer) => {
      const payload = Buffer.concat([
        encodeInfoRequest({ exportName: '', infos: [] }).subarray(0, 4),
        name,
        Buffer.alloc(2),
      ])
      payload.writeUInt32BE(name.length, 0)
      return (await client.option(OptionType.info, payload)).at(-1)!.type
    }
    assert.equal(await info(Buffer.from(longName)), ReplyType.ack)
    assert.equal(await info(Buffer.alloc(0)), ReplyType.ack)
    assert.equal(await info(Buffer.from(`${longName}x`)), ReplyType.errTooBig)
    assert.equal(await info(Buffer.from([0xff])), ReplyType.errInvalid)
    assert.equal(await info(Buffer.from('a\0')), ReplyType.errInvalid)
    assert.equal(await info(Buffer.from('other')), ReplyType.errUnknown)
    const [listed] = await client.option(OptionType.list)
    assert.equal(listed!.payload.toString('utf8', 4), longName)
    client.destroy()
  })

  it('trap 16: several connections use one export, and simple replies serve all of it', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const clients = await Promise.all([1, 2, 3].map(() => RawClient.open(site.path)))
    for (const [index, client] of clients.entries()) {
      client.request({ type: Command.write, offset: index * 512, payload: Buffer.alloc(512, index + 1) })
      await client.reply()
    }
    clients[0]!.request({ type: Command.flush })
    await clients[0]!.reply()
    clients[1]!.request({ type: Command.read, lengthBytes: 1536 })
    await clients[1]!.reply()
    const bytes = await clients[1]!.take(1536)
    assert.deepEqual([bytes[0], bytes[512], bytes[1024]], [1, 2, 3])
    assert.equal(disk.opens, 3)
    for (const client of clients) client.destroy()
  })
})

async function infosOf(path: string): Promise<Buffer[]> {
  const client = await RawClient.connect(path)
  await client.greet()
  const replies = await client.option(OptionType.info, encodeInfoRequest({ exportName: '', infos: [] }))
  client.destroy()
  return replies.slice(0, -1).map(({ payload }) => payload)
}
