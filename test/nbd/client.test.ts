// Our own client: against our server, and against servers that lie.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { GuestError } from '../../src/guest/export.ts'
import {
  NbdClient,
  NbdConnectionError,
  type NbdConnectOptions,
  NbdRefusedError,
  NbdRequestError,
} from '../../src/nbd/client/client.ts'
import { NbdTooLargeError } from '../../src/nbd/client/errors.ts'
import { ChunkFlag, ChunkType, OptionType, ReplyType, TransmissionFlag } from '../../src/nbd/wire/constants.ts'
import {
  encodeGreeting,
  encodeInfoExport,
  encodeOptionReply,
  encodeServerName,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import {
  encodeBlockStatusChunk,
  replyStyles,
  writeChunkHeader,
  writeOffsetDataHeader,
  writeOffsetHole,
  writeSimpleReply,
} from '../../src/nbd/wire/reply-writers.ts'
import { Gate, serve, uriOf } from './harness.ts'
import { MemoryExport } from './memory-export.ts'
import { rawServer } from './raw-server.ts'

const { structured } = replyStyles
const cookie = { cookieHigh: 0, cookieLow: 1, offsetHigh: 0, offsetLow: 0 }

/** A whole negotiation, blindly; then `replies` as answer to the first request. */
function blindly(replies: Buffer): (socket: Socket) => void {
  return (socket) => {
    socket.write(
      Buffer.concat([
        encodeGreeting(),
        encodeOptionReply(OptionType.structuredReply, ReplyType.ack),
        encodeOptionReply(OptionType.go, ReplyType.info, encodeInfoExport(1 << 20, 1)),
        encodeOptionReply(OptionType.go, ReplyType.ack),
      ]),
    )
    let arrivedBytes = 0
    socket.on('data', (chunk) => {
      // 4 bytes of flags, two options without and with payload, then a request.
      arrivedBytes += chunk.length
      if (arrivedBytes >= 4 + 16 + 16 + 12 + 28) socket.write(replies)
    })
  }
}

function bytesOf(lengthBytes: number, write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  write(bytes)
  return bytes
}

describe('nbd client', () => {
  for (const structuredReplies of [true, false]) {
    it(`does all it can with ${structuredReplies ? 'structured' : 'simple'} replies`, async () => {
      const disk = new MemoryExport({ sizeBytes: 4 << 20 })
      await using site = await serve([disk])
      const options: NbdConnectOptions = { structuredReplies, metaContexts: ['base:allocation'] }
      const client = await NbdClient.connect(uriOf(site, 'disk'), options)
      assert.equal(client.info().sizeBytes, 4 << 20)
      assert.equal(client.info().name, 'disk')
      assert.deepEqual(client.contexts, structuredReplies ? ['base:allocation'] : [])
      const pattern = Buffer.alloc(300_000, 'pattern')
      await Promise.all([
        client.write(1000, pattern, { fua: true }),
        client.trim(1 << 20, 8192),
        client.writeZeroes(2 << 20, 4096, { noHole: true, fastZero: true }),
        client.cache(0, 4096),
      ])
      await client.flush()
      const bytes = await client.read(0, 4 << 20)
      assert(bytes.equals(disk.bytes))
      assert(bytes.subarray(1000, 301_000).equals(pattern))
      assert(disk.calls.includes('zero 2097152 4096 keep fast'))
      // In pieces, of which the last one carries FUA.
      assert(disk.calls.some((call) => /^write \d+ \d+ fua$/.test(call)))
      if (structuredReplies) {
        const extents = (await client.blockStatus(0, 4 << 20)).get('base:allocation')!
        assert.deepEqual(extents[0], { lengthBytes: 303104, flags: 0 })
      }
      await client.disconnect()
      assert.deepEqual(disk.closes, ['disconnected'])
    })
  }

  it('lists and describes exports without opening any', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk, new MemoryExport({ name: 'größe', readOnly: true })])
    assert.deepEqual(await NbdClient.list(site.uri), ['disk', 'größe'])
    const info = await NbdClient.info(uriOf(site, 'gr%C3%B6%C3%9Fe'))
    assert.equal(info.readOnly, true)
    assert.equal(info.canTrim, false)
    assert.deepEqual(info.contexts, ['base:allocation'])
    assert.equal(disk.opens, 0)
  })

  it('tells a refused export, a failed request and a lost connection apart', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    await assert.rejects(
      NbdClient.connect(uriOf(site, 'nothing')),
      (error: NbdRefusedError) => error instanceof NbdRefusedError && error.reply === 'ERR_UNKNOWN',
    )
    const client = await NbdClient.connect(site.uri)
    disk.gate = () => Promise.reject(new GuestError('no-space', 'the disk’s folder is full'))
    await assert.rejects(client.write(0, Buffer.alloc(1)), (error: NbdRequestError) => {
      return error instanceof NbdRequestError && error.code === 'ENOSPC' && /folder is full/.test(error.message)
    })
    const gate = new Gate(/./)
    disk.gate = gate.enter
    const waiting = client.flush()
    await gate.reached(1)
    const stopped = site.server.stop({ drain: false })
    await assert.rejects(waiting, NbdConnectionError)
    await assert.rejects(client.flush(), NbdConnectionError)
    await client.closed
    gate.releaseAll()
    await stopped
    await assert.rejects(NbdClient.connect(site.uri), NbdConnectionError)
  })

  it('stops waiting at a signal, and the connection stays in step', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^read/)
    disk.gate = gate.enter
    disk.written.fill(1)
    await using site = await serve([disk])
    const client = await NbdClient.connect(site.uri)
    const controller = new AbortController()
    const read = client.read(0, 100_000, { signal: controller.signal })
    await gate.reached(1)
    controller.abort(new Error('enough'))
    await assert.rejects(read, /enough/)
    gate.release()
    await client.flush()
    await client.disconnect()
    await assert.rejects(NbdClient.connect(site.uri, { signal: AbortSignal.abort(new Error('before')) }), /before/)
  })

  it('answers DISC only after what was owed', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await NbdClient.connect(site.uri)
    const flush = client.flush()
    const leaving = client.disconnect()
    await gate.reached(1)
    gate.release()
    await flush
    await leaving
    await assert.rejects(client.flush(), NbdConnectionError)
  })

  describe('against an old server', () => {
    const sizeAndFlags = encodeInfoExport(1 << 20, TransmissionFlag.hasFlags | TransmissionFlag.sendFlush).subarray(2)
    const unsupported = (option: number) => encodeOptionReply(option, ReplyType.errUnsup)
    const greetingWith = (flags: number) =>
      bytesOf(18, (bytes) => encodeGreeting().copy(bytes) && bytes.writeUInt16BE(flags, 16))

    /** Answers options one by one, each with what `answers` has for it, and a flush. */
    const oldServer = (flags: number, answers: ReadonlyMap<number, Buffer>) => (socket: Socket) => {
      socket.write(greetingWith(flags))
      let arrived = Buffer.alloc(0)
      let isNegotiating = true
      socket.on('data', (chunk) => {
        arrived = Buffer.concat([arrived, chunk])
        for (let at = 4; isNegotiating && arrived.length >= at + 16; at += 16 + arrived.readUInt32BE(at + 12)) {
          const option = arrived.readUInt32BE(at + 8)
          socket.write(answers.get(option) ?? Buffer.alloc(0))
          arrived.writeUInt32BE(0, at + 8) // It has been answered.
          isNegotiating = option !== OptionType.exportName
        }
        if (chunk.includes(Buffer.from([0x25, 0x60, 0x95, 0x13])))
          socket.write(bytesOf(16, (bytes) => writeSimpleReply(bytes, 0, cookie, 0)))
      })
    }
    const withoutGo = new Map([
      [OptionType.structuredReply, unsupported(OptionType.structuredReply)],
      [OptionType.go, unsupported(OptionType.go)],
    ])
    const servers: [string, number, Map<number, Buffer>][] = [
      ['without GO', 3, new Map([...withoutGo, [OptionType.exportName, sizeAndFlags]])],
      [
        'without GO and with zeroes',
        1,
        new Map([...withoutGo, [OptionType.exportName, Buffer.concat([sizeAndFlags, Buffer.alloc(124)])]]),
      ],
      [
        'that is newstyle and not fixed',
        0,
        new Map([[OptionType.exportName, Buffer.concat([sizeAndFlags, Buffer.alloc(124)])]]),
      ],
    ]
    for (const [what, flags, answers] of servers) {
      it(`opens an export of one ${what}`, async () => {
        await using server = await rawServer(oldServer(flags, answers))
        const client = await NbdClient.connect(server.uri, { metaContexts: ['base:allocation'] })
        assert.equal(client.info().sizeBytes, 1 << 20)
        assert.equal(client.info().canFlush, true)
        assert.equal(client.info().canMultiConn, false)
        assert.deepEqual(client.contexts, [])
        await client.flush()
      })
    }

    it('says of an export that is too large that it is, and not that the server is wrong', async () => {
      const size = 2n ** 63n - 1n
      const answer = Buffer.alloc(134)
      answer.writeBigUInt64BE(size)
      await using server = await rawServer(oldServer(3, new Map([...withoutGo, [OptionType.exportName, answer]])))
      await assert.rejects(NbdClient.connect(server.uri), (error: NbdTooLargeError) => {
        assert(error instanceof NbdTooLargeError)
        assert.equal(error.sizeBytes, size)
        assert.match(error.message, /has 9223372036854775807 bytes, which is more than this client can count/)
        return true
      })
    })

    it('says that a hang-up is how it refuses an export', async () => {
      const script = oldServer(3, withoutGo)
      await using server = await rawServer((socket) => {
        script(socket)
        socket.on('data', (chunk) => chunk.readUInt32BE(8) === OptionType.exportName && socket.destroy())
      })
      await assert.rejects(NbdClient.connect(server.uri), /hung up, which is how one without NBD_OPT_GO refuses/)
    })

    it('cannot ask one that is not fixed for its list', async () => {
      await using server = await rawServer(oldServer(0, new Map()))
      await assert.rejects(NbdClient.list(server.uri), /no fixed newstyle/)
    })
  })

  describe('against a server that lies', () => {
    const greeting = encodeGreeting()
    const negotiations: [string, Buffer][] = [
      ['sends garbage', Buffer.alloc(64, 0x33)],
      ['is oldstyle', Buffer.concat([greeting.subarray(0, 8), Buffer.alloc(144)])],
      ['answers another option', Buffer.concat([greeting, encodeOptionReply(OptionType.list, ReplyType.ack)])],
      [
        'announces a huge option reply',
        Buffer.concat([
          greeting,
          bytesOf(20, (bytes) => {
            encodeOptionReply(OptionType.structuredReply, ReplyType.ack).copy(bytes)
            bytes.writeUInt32BE(0xffffffff, 16)
          }),
        ]),
      ],
      [
        'says no size',
        Buffer.concat([
          greeting,
          encodeOptionReply(OptionType.structuredReply, ReplyType.ack),
          encodeOptionReply(OptionType.go, ReplyType.ack),
        ]),
      ],
    ]
    for (const [what, bytes] of negotiations) {
      it(`fails when it ${what}`, async () => {
        await using server = await rawServer((socket) => socket.write(bytes))
        await assert.rejects(NbdClient.connect(server.uri), NbdConnectionError)
      })
    }

    it('fails at the deadline when it says nothing', async () => {
      await using server = await rawServer(() => {})
      await assert.rejects(NbdClient.connect(server.uri, { connectTimeoutMs: 20 }), /within 20 ms/)
    })

    it('fails when it lists without end', async () => {
      const name = encodeOptionReply(OptionType.list, ReplyType.server, encodeServerName('x'))
      const many = Buffer.concat(Array.from({ length: 20_000 }, () => name))
      await using server = await rawServer((socket) => socket.write(Buffer.concat([greeting, many])))
      await assert.rejects(NbdClient.list(server.uri), /over 16384 replies/)
    })

    const chunk = (flags: number, type: number, lengthBytes: number) =>
      bytesOf(20 + Math.min(lengthBytes, 64), (bytes) =>
        writeChunkHeader(bytes, 0, structured, cookie, flags, type, lengthBytes),
      )
    const replies: [string, Buffer, RegExp][] = [
      ['garbage', Buffer.alloc(32, 0x77), /magic/],
      [
        'a reply to no request',
        bytesOf(16, (bytes) => writeSimpleReply(bytes, 0, { ...cookie, cookieLow: 9 }, 0)),
        /no request/,
      ],
      [
        'a simple reply to a structured read',
        bytesOf(16, (bytes) => writeSimpleReply(bytes, 0, cookie, 0)),
        /simple reply/,
      ],
      [
        'too much data',
        bytesOf(28, (bytes) => writeOffsetDataHeader(bytes, 0, structured, cookie, 1, 0, 5000)),
        /outside/,
      ],
      [
        'data before the range',
        bytesOf(28, (bytes) => writeOffsetDataHeader(bytes, 0, structured, cookie, 1, 0, 512)),
        /outside/,
      ],
      [
        'overlapping chunks',
        Buffer.concat([
          bytesOf(32, (bytes) => writeOffsetHole(bytes, 0, structured, cookie, 0, 4096, 4096)),
          bytesOf(32, (bytes) => writeOffsetHole(bytes, 0, structured, cookie, 0, 4096, 1)),
        ]),
        /overlap/,
      ],
      [
        'too little',
        bytesOf(32, (bytes) => writeOffsetHole(bytes, 0, structured, cookie, 1, 4096, 100)),
        /only 100 bytes/,
      ],
      ['a lone DONE', chunk(ChunkFlag.done, ChunkType.none, 0), /only 0 bytes/],
      ['an empty chunk that is not the last', chunk(0, ChunkType.none, 0), /must be the last/],
      ['a huge error', chunk(ChunkFlag.done, ChunkType.error, 0xffffffff), /of type 32769/],
      [
        'a status that nobody asked for',
        encodeBlockStatusChunk(structured, cookie, 1, 1, [{ lengthBytes: 1, flags: 0 }]),
        /of type 5/,
      ],
      ['an unknown chunk', chunk(ChunkFlag.done, 77, 4), /of type 77/],
    ]
    for (const [what, bytes, message] of replies) {
      it(`fails when a read brings ${what}`, async () => {
        await using server = await rawServer(blindly(bytes))
        const client = await NbdClient.connect(server.uri)
        await assert.rejects(client.read(4096, 4096), (error: Error) => {
          return error instanceof NbdConnectionError && message.test(error.message)
        })
        await client.closed
      })
    }

    it('fails when it falls silent, or hangs up', async () => {
      await using silent = await rawServer(blindly(Buffer.alloc(0)))
      const client = await NbdClient.connect(silent.uri, { requestTimeoutMs: 20 })
      await assert.rejects(client.read(0, 512), /silent for 20 ms/)
      await using gone = await rawServer((socket) => {
        blindly(Buffer.alloc(0))(socket)
        socket.on('data', (bytes) => bytes.includes(Buffer.from([0x25, 0x60, 0x95, 0x13])) && socket.destroy())
      })
      const other = await NbdClient.connect(gone.uri)
      await assert.rejects(other.read(0, 512), NbdConnectionError)
    })
  })
})
