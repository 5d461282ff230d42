// Our own client with extended headers: against our server, beside clients of the other styles, and against servers that
// do not know them or lie in them.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import {
  NbdClient,
  NbdConnectionError,
  type NbdConnectOptions,
  type NbdRequestError,
} from '../../src/nbd/client/client.ts'
import { ChunkFlag, ChunkType, OptionType, ReplyType, requestBytes } from '../../src/nbd/wire/constants.ts'
import {
  encodeGreeting,
  encodeInfoExport,
  encodeMetaContext,
  encodeOptionReply,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import {
  encodeBlockStatusChunk,
  replyStyles,
  writeChunkHeader,
  writeOffsetDataHeader,
} from '../../src/nbd/wire/reply-writers.ts'
import { seededRandom } from '../random.ts'
import { serve, uriOf } from './harness.ts'
import { MemoryExport } from './memory-export.ts'
import { type RawServer, rawServer } from './raw-server.ts'

const mebibyte = 1024 * 1024
const { extended, structured } = replyStyles
/** Compact and extended. */
const requestMagics = ['25609513', '21e41c71'].map((magic) => Buffer.from(magic, 'hex'))
const options: NbdConnectOptions = { extendedHeaders: true, metaContexts: ['base:allocation'] }

describe('nbd client, extended headers', () => {
  it('does all it can', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await NbdClient.connect(uriOf(site, 'disk'), options)
    assert(site.log.some(({ facts }) => 'replies' in facts && facts.replies === 'extended'))
    await client.write(3, Buffer.from('some bytes'), { fua: true })
    assert.equal((await client.read(3, 10)).toString(), 'some bytes')
    await client.write(4096, Buffer.alloc(300_000, 7))
    assert((await client.read(4096, 300_000)).every((byte) => byte === 7))
    await client.trim(8192, 8192)
    await client.writeZeroes(65536, 65536, { noHole: true })
    await client.cache(0, mebibyte)
    await client.flush()
    assert((await client.read(0, mebibyte)).equals(disk.bytes), 'a read around holes')
    assert.deepEqual((await client.blockStatus(0, 16384)).get('base:allocation'), [
      { lengthBytes: 8192, flags: 0 },
      { lengthBytes: 8192, flags: 3 },
    ])
    assert.equal((await client.read(0, 0)).length, 0)
    await assert.rejects(client.read(mebibyte, 1), (error: NbdRequestError) => {
      assert.match(error.message, /EINVAL: the range ends past/)
      return true
    })
    await client.disconnect()
    assert.deepEqual(disk.closes, ['disconnected'])
  })

  it('asks for more than 4 GiB in one request, and is told so much in one extent', async () => {
    const disk = new MemoryExport()
    const huge = Object.create(disk, { sizeBytes: { value: 2 ** 45 } }) as MemoryExport
    disk.blockStatusFault = [{ lengthBytes: 2 ** 44, status: 'hole' }]
    await using site = await serve([huge])
    const client = await NbdClient.connect(uriOf(site, 'disk'), options)
    assert.deepEqual((await client.blockStatus(2 ** 43, 2 ** 44)).get('base:allocation'), [
      { lengthBytes: 2 ** 44, flags: 3 },
    ])
    await client.cache(2 ** 43, 2 ** 44)
    assert.deepEqual(disk.calls, [`cache ${2 ** 43} ${2 ** 44}`])
    client.destroy()
    const compact = await NbdClient.connect(uriOf(site, 'disk'))
    assert.throws(() => compact.cache(0, 2 ** 32), RangeError)
    compact.destroy()
  })

  it('three clients, one of each style, read what each of them wrote', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    const disk = new MemoryExport({ sizeBytes: 300_001 })
    await using site = await serve([disk])
    const styles: NbdConnectOptions[] = [{ structuredReplies: false }, {}, { extendedHeaders: true }]
    const clients = await Promise.all(styles.map((style) => NbdClient.connect(uriOf(site, 'disk'), style)))
    const expected = Buffer.alloc(disk.sizeBytes)
    for (let round = 0; round < 150; round++) {
      const offset = random.integer(disk.sizeBytes)
      const lengthBytes = 1 + random.integer(disk.sizeBytes - offset)
      const writer = random.pick(clients)
      if (random.chance(0.3)) {
        await writer.writeZeroes(offset, lengthBytes)
        expected.fill(0, offset, offset + lengthBytes)
      } else {
        await writer.write(offset, Buffer.alloc(lengthBytes, round + 1))
        expected.fill(round + 1, offset, offset + lengthBytes)
      }
      const at = random.integer(disk.sizeBytes)
      const read = await random.pick(clients).read(at, disk.sizeBytes - at)
      assert(read.equals(expected.subarray(at)), `SEED=${seed} round ${round}`)
    }
    for (const client of clients) await client.disconnect()
  })

  describe('against a server that', () => {
    const info = encodeInfoExport(mebibyte, 1)
    const go = [encodeOptionReply(OptionType.go, ReplyType.info, info), encodeOptionReply(OptionType.go, ReplyType.ack)]
    const to = { cookieHigh: 0, cookieLow: 1, offsetHigh: 0, offsetLow: 0 }

    it('does not know them, does without', async () => {
      const refusal = encodeOptionReply(OptionType.extendedHeaders, ReplyType.errUnsup)
      const ack = encodeOptionReply(OptionType.structuredReply, ReplyType.ack)
      const head = bytesOf(28, (bytes) => writeOffsetDataHeader(bytes, 0, structured, to, ChunkFlag.done, 0, 4))
      await using server = await scripted(
        [encodeGreeting(), refusal, ack, ...go],
        Buffer.concat([head, Buffer.from('data')]),
      )
      const client = await NbdClient.connect(server.uri, { extendedHeaders: true })
      assert.equal((await client.read(0, 4)).toString(), 'data')
      client.destroy()
    })

    it('has them but no GO, is not asked by EXPORT_NAME', async () => {
      const ack = encodeOptionReply(OptionType.extendedHeaders, ReplyType.ack)
      const refusal = encodeOptionReply(OptionType.go, ReplyType.errUnsup)
      await using server = await scripted([encodeGreeting(), ack, refusal], Buffer.alloc(0))
      await assert.rejects(NbdClient.connect(server.uri, { extendedHeaders: true }), { reply: 'ERR_UNSUP' })
    })

    const dataOf = (replyTo: typeof to) =>
      bytesOf(44, (bytes) => writeOffsetDataHeader(bytes, 0, extended, replyTo, ChunkFlag.done, 0, 4))
    const headOf = (type: number, lengthBytes: number) =>
      bytesOf(32, (bytes) => writeChunkHeader(bytes, 0, extended, to, ChunkFlag.done, type, lengthBytes))
    const extents = [{ lengthBytes: 4096, flags: 0 }]
    const compactStatus = encodeBlockStatusChunk(structured, to, 1, 1, extents)
    const lies: [string, 'read' | 'status', Buffer, RegExp][] = [
      ['answers with another offset', 'read', dataOf({ ...to, offsetLow: 4096 }), /names another offset/],
      ['answers with another offset’s upper half', 'read', dataOf({ ...to, offsetHigh: 1 }), /names another offset/],
      ['answers in the structured style', 'read', compactStatus, /magic/],
      [
        'announces 2^40 bytes',
        'read',
        Buffer.concat([headOf(ChunkType.offsetData, 2 ** 40), Buffer.alloc(8)]),
        /outside/,
      ],
      ['announces a huge error', 'read', headOf(ChunkType.error, 2 ** 40), /of type 32769/],
      ['announces a huge status', 'status', headOf(ChunkType.blockStatusExt, 2 ** 40), /too long/],
      ['sends a compact status', 'status', headOf(ChunkType.blockStatus, 12), /of type 5/],
      [
        'sends a status of another context',
        'status',
        encodeBlockStatusChunk(extended, to, 1, 9, extents),
        /context 9, which was not asked for/,
      ],
    ]
    for (const [what, request, reply, sentence] of lies) {
      it(`${what}, ends the connection`, async () => {
        const context = encodeOptionReply(
          OptionType.setMetaContext,
          ReplyType.metaContext,
          encodeMetaContext(1, 'base:allocation'),
        )
        await using server = await scripted(
          [
            encodeGreeting(),
            encodeOptionReply(OptionType.extendedHeaders, ReplyType.ack),
            context,
            encodeOptionReply(OptionType.setMetaContext, ReplyType.ack),
            ...go,
          ],
          reply,
        )
        const client = await NbdClient.connect(server.uri, options)
        const asked = request === 'read' ? client.read(0, 4) : client.blockStatus(0, 4096)
        await assert.rejects(asked, (error: Error) => {
          assert(error instanceof NbdConnectionError)
          assert.match(error.message, sentence)
          return true
        })
        await client.closed
      })
    }
  })
})

function bytesOf(lengthBytes: number, write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  write(bytes)
  return bytes
}

/** A server that says its part of the negotiation at once, and `reply` when the first request has come. */
function scripted(parts: readonly Buffer[], reply: Buffer): Promise<RawServer> {
  return rawServer((socket) => {
    let arrived = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      arrived = Buffer.concat([arrived, chunk])
      const at = requestMagics.map((magic) => arrived.indexOf(magic)).find((found) => found >= 0)
      if (at === undefined || arrived.length - at < requestBytes) return
      arrived = Buffer.alloc(0)
      socket.write(reply)
    })
    socket.write(Buffer.concat(parts))
  })
}
