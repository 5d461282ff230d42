// Extended headers: requests and replies of 32 bytes with 64-bit lengths (proto.md of the branch extension-ext-header).
// The bytes in hex are written down from the document's layouts, not made by the codecs under test.

import assert from 'node:assert/strict'
import { GuestError } from '../../src/guest/export.ts'
import {
  Command,
  CommandFlag,
  ErrorNumber,
  OptionType,
  ReplyType,
  TransmissionFlag,
} from '../../src/nbd/wire/constants.ts'
import {
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  ProtocolError,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import {
  encodeBlockStatusChunk,
  encodeErrorChunk,
  replyStyles,
  writeDone,
  writeOffsetHole,
  writeReadHead,
} from '../../src/nbd/wire/reply-writers.ts'
import { describe as describeRequest, refusalOf } from '../../src/nbd/wire/request-rules.ts'
import {
  decodeBlockStatusExtPayload,
  decodeErrorPayload,
  decodeExtendedReplyHeader,
  decodeExtendedRequest,
  decodeRequest,
  encodeExtendedRequest,
  type Request,
  requestOf,
} from '../../src/nbd/wire/transmission-codecs.ts'
import { extendedRequestBytesOf, RawClient, requestBytesOf, serve } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

const mebibyte = 1024 * 1024
const { extended } = replyStyles

/** "magic flags type cookie offset length", spaces for the eye. */
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

const requestText = '21e41c71 0001 0006 fedcba9887654321 0000001234567890 0000010000000000'
const request: Request = {
  flags: CommandFlag.fua,
  type: Command.writeZeroes,
  cookieHigh: 0xfedcba98,
  cookieLow: 0x87654321,
  offset: 0x1234567890,
  offsetHigh: 0x12,
  offsetLow: 0x34567890,
  lengthBytes: 2 ** 40,
  lengthHigh: 0x100,
  lengthLow: 0,
  payloadBytes: 0,
}

describe('nbd extended headers', () => {
  describe('on the wire', () => {
    it('a request is as the document lays it out, cut at every byte too', () => {
      const bytes = hex(requestText)
      assert.equal(bytes.length, 32)
      assert.deepEqual(decodeExtendedRequest(bytes, 0), request)
      assert.deepEqual(encodeExtendedRequest(request), bytes)
      for (let length = 0; length < 32; length++) {
        assert.equal(decodeExtendedRequest(bytes.subarray(0, length), 0), undefined, `cut at ${length}`)
      }
    })

    it('a request with another magic is refused, the compact one too', () => {
      assert.throws(() => decodeExtendedRequest(hex('25609513'), 0), ProtocolError)
      assert.throws(() => decodeRequest(hex('21e41c71'), 0), ProtocolError)
    })

    it('trap 17: a WRITE has its payload with PAYLOAD_LEN or without, any other command with it only, DISC never', () => {
      const of = (flags: string, type: string) =>
        decodeExtendedRequest(hex(`21e41c71 ${flags} ${type} 0000000000000000 0000000000000000 0000000000001000`), 0)!
          .payloadBytes
      assert.equal(of('0020', '0001'), 4096)
      assert.equal(of('0020', '0007'), 4096)
      assert.equal(of('0000', '0001'), 4096)
      assert.equal(of('0020', '0002'), 0)
      for (const type of ['0000', '0003', '0004', '0005', '0006', '0007', '1267']) assert.equal(of('ffdf', type), 0)
    })

    it('a payload above the maximum ends the connection, and DISC is spared', () => {
      const of =
        (type: string, length: string, flags = '0020') =>
        () =>
          decodeExtendedRequest(hex(`21e41c71 ${flags} ${type} 0000000000000000 0000000000000000 ${length}`), 0)
      assert.equal(of('0001', '0000000004000000')()!.payloadBytes, 64 * mebibyte)
      assert.throws(of('0001', '0000000004000001'), /payload of 67108865 bytes/)
      assert.throws(of('0001', '0000000004000001', '0000'), /payload of 67108865 bytes/)
      assert.throws(of('0003', 'ffffffffffffffff'), /payload of 18446744073709551615 bytes/)
      assert.equal(of('0002', 'ffffffffffffffff')()!.payloadBytes, 0)
    })

    it('offsets and lengths above 2^53 stay above every size, and messages tell them to the byte', () => {
      const text = '21e41c71 0000 0004 0000000000000000 0020000000000001 ffffffffffffffff'
      const huge = decodeExtendedRequest(hex(text), 0)!
      assert(huge.offset >= 2 ** 53 && huge.lengthBytes >= 2 ** 53)
      assert.equal(describeRequest(huge), 'NBD_CMD_TRIM offset=9007199254740993 length=18446744073709551615')
      const bounds = { sizeBytes: Number.MAX_SAFE_INTEGER, readOnly: false }
      const refusal = (high: number, low: number, lengthBytes: number) =>
        refusalOf({ ...requestOf(Command.trim, 0, 1, 0, lengthBytes), offset: high * 2 ** 32 + low }, bounds, 0, true)
      assert.equal(refusal(0x1fffff, 0xffffffff, 0), undefined)
      assert.equal(refusal(0x1fffff, 0xfffffffe, 1), undefined)
      assert.equal(refusal(0x1fffff, 0xffffffff, 1)?.code, 'EINVAL')
      assert.equal(refusal(0x200000, 0, 0)?.code, 'EINVAL')
      assert.equal(refusal(0xffffffff, 0xffffffff, 2)?.code, 'EINVAL')
    })

    const replyHead = '6e8a278c 0001 TYPE fedcba9887654321 0000001234567890 LENGTH'
    const reply = (type: string, length: string, payload = ''): Buffer =>
      hex(replyHead.replace('TYPE', type).replace('LENGTH', length) + payload)
    const read: Request = { ...request, type: Command.read, lengthBytes: 4096, lengthHigh: 0, lengthLow: 4096 }

    it('replies are as the document lays them out, with the request’s offset in each head', () => {
      const written = Buffer.alloc(40)
      writeDone(written, 0, extended, request)
      assert.deepEqual(written.subarray(0, 32), reply('0000', '0000000000000000'))
      writeReadHead(written, 0, extended, read)
      assert.equal(extended.readHeadBytes, 40)
      assert.deepEqual(written, reply('0001', '0000000000001008', '0000001234567890'))
      const hole = Buffer.alloc(44)
      writeOffsetHole(hole, 0, extended, read, 1, 0x1234568000, 0x800)
      assert.deepEqual(hole, reply('0002', '000000000000000c', '0000001234568000 00000800'))
      assert.deepEqual(
        encodeErrorChunk(extended, request, 'ENOSPC', 'full'),
        reply('8001', '000000000000000a', '0000001c 0004 66756c6c'),
      )
      const extents = [
        { lengthBytes: 2 ** 40 + 512, flags: 3 },
        { lengthBytes: 4096, flags: 0 },
      ]
      assert.deepEqual(
        encodeBlockStatusChunk(extended, request, 1, 7, extents),
        reply(
          '0006',
          '0000000000000028',
          '00000007 00000002 0000010000000200 0000000000000003 0000000000001000 0000000000000000',
        ),
      )
    })

    it('a reply’s head is taken whole, and its offset and length are words of 64 bits', () => {
      const bytes = hex('6e8a278c 0001 0001 fedcba9887654321 ffffffff00000001 0000000100000008')
      assert.deepEqual(decodeExtendedReplyHeader(bytes, 0), {
        kind: 'chunk',
        flags: 1,
        type: 1,
        cookieHigh: 0xfedcba98,
        cookieLow: 0x87654321,
        offsetHigh: 0xffffffff,
        offsetLow: 1,
        lengthBytes: 2 ** 32 + 8,
      })
      for (let length = 0; length < 32; length++) {
        assert.equal(decodeExtendedReplyHeader(bytes.subarray(0, length), 0), undefined, `cut at ${length}`)
      }
      assert.throws(() => decodeExtendedReplyHeader(hex('668e33ef'), 0), ProtocolError)
    })

    it('a status whose count or length is broken is refused', () => {
      const good = hex('00000007 00000001 0000010000000200 0000000000000003')
      assert.deepEqual(decodeBlockStatusExtPayload(good), {
        contextId: 7,
        extents: [{ lengthBytes: 2 ** 40 + 512, flags: 3 }],
      })
      for (let length = 0; length < good.length; length++) {
        assert.throws(() => decodeBlockStatusExtPayload(good.subarray(0, length)), ProtocolError, `cut at ${length}`)
      }
      for (const [at, value] of [
        [4, 0],
        [4, 2],
        [8, 0xffffffff],
        [16, 0x80000000],
      ] as const) {
        const wrong = Buffer.from(good)
        wrong.writeUInt32BE(value, at)
        assert.throws(() => decodeBlockStatusExtPayload(wrong), ProtocolError, `${value} at ${at}`)
      }
    })
  })

  describe('in the negotiation', () => {
    const greeted = async (path: string): Promise<RawClient> => {
      const client = await RawClient.connect(path)
      await client.greet()
      return client
    }
    const typeOf = async (client: RawClient, option: number, payload?: Uint8Array): Promise<number> =>
      (await client.option(option, payload)).at(-1)!.type

    it('need no structured replies before them, and take precedence after', async () => {
      await using site = await serve([new MemoryExport()])
      for (const first of [[], [OptionType.structuredReply]]) {
        const client = await greeted(site.path)
        for (const option of first) assert.equal(await typeOf(client, option), ReplyType.ack)
        await client.extendHeaders()
        assert.equal(await typeOf(client, OptionType.structuredReply), ReplyType.errExtHeaderReqd)
        await client.go('disk')
        client.request({ type: Command.flush })
        assert.equal((await client.extendedChunk()).flags, 1)
        client.destroy()
      }
    })

    it('carry nothing', async () => {
      await using site = await serve([new MemoryExport()])
      const client = await greeted(site.path)
      assert.equal(await typeOf(client, OptionType.extendedHeaders, Buffer.from([1])), ReplyType.errInvalid)
      await client.go('disk')
      client.send(requestBytesOf({ type: Command.flush }))
      assert.equal((await client.reply()).errorNumber, 0)
      client.destroy()
    })

    it('do for metadata contexts, and for DF', async () => {
      await using site = await serve([new MemoryExport()])
      const client = await greeted(site.path)
      const contexts = encodeMetaContextRequest({ exportName: 'disk', queries: ['base:allocation'] })
      assert.equal(await typeOf(client, OptionType.setMetaContext, contexts), ReplyType.errInvalid)
      await client.extendHeaders()
      assert.equal(await typeOf(client, OptionType.setMetaContext, contexts), ReplyType.ack)
      const [info] = await client.option(OptionType.info, encodeInfoRequest({ exportName: 'disk', infos: [] }))
      const flags = info!.payload.readUInt16BE(10)
      assert.notEqual(flags & TransmissionFlag.sendDf, 0)
      assert.equal(flags & TransmissionFlag.blockStatusPayload, 0)
      client.destroy()
    })

    it('are kept through contexts chosen before them', async () => {
      await using site = await serve([new MemoryExport()])
      const client = await greeted(site.path)
      await client.option(OptionType.structuredReply)
      const contexts = encodeMetaContextRequest({ exportName: 'disk', queries: ['base:allocation'] })
      assert.equal(await typeOf(client, OptionType.setMetaContext, contexts), ReplyType.ack)
      await client.extendHeaders()
      await client.go('disk')
      client.request({ type: Command.blockStatus, lengthBytes: 4096 })
      assert.equal((await client.extendedChunk()).type, 6)
      client.destroy()
    })

    it('do not go with EXPORT_NAME, which can only be hung up on', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await greeted(site.path)
      await client.extendHeaders()
      client.send(encodeOption(OptionType.exportName, Buffer.from('disk')))
      await client.closed
      assert.equal(client.leftBytes, 0)
      assert.equal(disk.opens, 0)
    })
  })

  describe('in transmission', () => {
    const open = (path: string, contexts?: string[]): Promise<RawClient> =>
      RawClient.open(path, { extended: true, ...(contexts && { contexts }) })

    it('every command is answered with an extended reply that repeats cookie and offset', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await open(site.path)
      const payload = Buffer.from('some bytes')
      for (const asked of [
        { type: Command.write, offset: 3, payload },
        { type: Command.flush },
        { type: Command.trim, offset: 4096, lengthBytes: 4096 },
        { type: Command.writeZeroes, offset: 8192, lengthBytes: 4096 },
        { type: Command.cache, offset: 4096, lengthBytes: 4096 },
        { type: Command.read, offset: 512, lengthBytes: 0 },
      ]) {
        client.request({ ...asked, cookie: 77 })
        const { offsetHigh, offsetLow, cookieLow, type, flags, lengthBytes } = await client.extendedChunk()
        assert.deepEqual(
          { offsetHigh, offsetLow, cookieLow, type, flags, lengthBytes },
          { offsetHigh: 0, offsetLow: asked.offset ?? 0, cookieLow: 77, type: 0, flags: 1, lengthBytes: 0 },
        )
      }
      client.request({ type: Command.read, offset: 3, lengthBytes: payload.length })
      const read = await client.extendedChunk()
      assert.deepEqual([read.type, read.flags, read.offsetLow], [1, 1, 3])
      assert.equal(read.payload.toString('utf8', 8), 'some bytes')
      assert.equal(client.leftBytes, 0)
      client.destroy()
    })

    it('a read around holes has the request’s offset in every head, and each chunk’s own in its payload', async () => {
      const disk = new MemoryExport()
      disk.bytes.fill(9, 0, 65536)
      disk.written.fill(1, 0, 16)
      await using site = await serve([disk])
      const client = await open(site.path)
      client.request({ type: Command.read, offset: 4096, lengthBytes: 131072 })
      const chunks = [await client.extendedChunk(), await client.extendedChunk()]
      assert.deepEqual(
        chunks.map(({ type, flags, offsetLow, payload }) => [
          type,
          flags,
          offsetLow,
          payload.readBigUInt64BE(0),
          payload.length,
        ]),
        [
          [1, 0, 4096, 4096n, 8 + 61440],
          [2, 1, 4096, 65536n, 12],
        ],
      )
      client.destroy()
    })

    it('trap 17: a WRITE without PAYLOAD_LEN is written, and what follows its payload is the next request', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await open(site.path)
      const payload = Buffer.alloc(512, 0x21)
      for (const [index, flags] of [0, CommandFlag.fua, CommandFlag.payloadLen].entries()) {
        client.request({ type: Command.write, flags, offset: index * 512, payload, cookie: index })
      }
      client.request({ type: Command.flush, cookie: 3 })
      for (const cookie of [0, 1, 2, 3]) {
        const { cookieLow, type } = await client.extendedChunk()
        assert.deepEqual([cookieLow, type], [cookie, 0])
      }
      assert.deepEqual(disk.bytes.subarray(0, 1536), Buffer.alloc(1536, 0x21))
      client.destroy()
    })

    it('trap 17: a WRITE without PAYLOAD_LEN that is refused has its payload consumed', async () => {
      const disk = new MemoryExport({ readOnly: true })
      await using site = await serve([disk])
      const client = await open(site.path)
      client.request({ type: Command.write, flags: 0, payload: Buffer.alloc(100_000, 0x21), cookie: 1 })
      client.request({ type: Command.flush, cookie: 2 })
      const { cookieLow, payload } = await client.extendedChunk()
      assert.deepEqual([cookieLow, decodeErrorPayload(payload).errorNumber], [1, ErrorNumber.EPERM])
      assert.equal((await client.extendedChunk()).cookieLow, 2)
      client.destroy()
    })

    it('a write of nothing succeeds, with PAYLOAD_LEN or without', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await open(site.path)
      for (const flags of [0, CommandFlag.payloadLen]) {
        client.request({ type: Command.write, flags, lengthBytes: 0 })
        assert.equal((await client.extendedChunk()).type, 0)
      }
      assert.deepEqual(disk.calls, [])
      client.destroy()
    })

    it('trap 2: a payload that no command wants is consumed before EINVAL, BLOCK_STATUS’s too', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await open(site.path, ['base:allocation'])
      const { read, flush, trim, cache, writeZeroes, blockStatus } = Command
      for (const type of [read, flush, trim, cache, writeZeroes, blockStatus, 4711]) {
        const bytes = extendedRequestBytesOf({ type, payload: Buffer.alloc(100_000, 0x21), cookie: 5 })
        client.send(bytes.subarray(0, 50_000))
        client.send(bytes.subarray(50_000))
        const { cookieLow, payload } = await client.extendedChunk()
        assert.equal(cookieLow, 5)
        assert.equal(decodeErrorPayload(payload).errorNumber, ErrorNumber.EINVAL)
      }
      client.request({ type: flush, cookie: 6 })
      assert.equal((await client.extendedChunk()).cookieLow, 6)
      assert.deepEqual(disk.calls, ['flush'])
      client.destroy()
    })

    it('a payload above the maximum ends the connection, and other connections go on', async () => {
      await using site = await serve([new MemoryExport()])
      const other = await open(site.path)
      for (const flags of [CommandFlag.payloadLen, 0]) {
        const client = await open(site.path)
        client.request({ type: Command.write, flags, lengthBytes: 64 * mebibyte + 1 })
        await client.closed
      }
      other.request({ type: Command.flush })
      assert.equal((await other.extendedChunk()).type, 0)
      other.destroy()
    })

    it('trap 8: DISC may carry garbage, a payload’s length too', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await open(site.path)
      client.request({ type: Command.disc, flags: 0xffff, offset: 2n ** 64n - 1n, lengthBytes: 2n ** 64n - 1n })
      await disk.closed(1)
      assert.deepEqual(disk.closes, ['disconnected'])
      client.destroy()
    })

    it('trap 10: TRIM, WRITE_ZEROES, CACHE and BLOCK_STATUS reach beyond 4 GiB in one call', async () => {
      const disk = new MemoryExport()
      // A huge disk without its bytes: only the calls count.
      const huge = Object.create(disk, { sizeBytes: { value: 2 ** 52 } }) as MemoryExport
      disk.blockStatusFault = [{ lengthBytes: 2 ** 51, status: 'hole' }]
      disk.gate = () => Promise.reject(new GuestError('unsupported', 'enough'))
      await using site = await serve([huge])
      const client = await open(site.path, ['base:allocation'])
      client.request({ type: Command.blockStatus, offset: 2 ** 33, lengthBytes: 2 ** 51 + 2 ** 40 })
      assert.deepEqual(decodeBlockStatusExtPayload((await client.extendedChunk()).payload).extents, [
        { lengthBytes: 2 ** 51, flags: 3 },
      ])
      for (const type of [Command.trim, Command.writeZeroes, Command.cache]) {
        client.request({ type, offset: 2 ** 33, lengthBytes: 2 ** 51 })
        assert.equal(decodeErrorPayload((await client.extendedChunk()).payload).errorNumber, ErrorNumber.ENOTSUP)
      }
      client.request({ type: Command.trim, lengthBytes: 2 ** 52 + 1 })
      assert.equal(decodeErrorPayload((await client.extendedChunk()).payload).errorNumber, ErrorNumber.EINVAL)
      assert.deepEqual(disk.calls, [
        `trim ${2 ** 33} ${2 ** 51}`,
        `zero ${2 ** 33} ${2 ** 51} punch`,
        `cache ${2 ** 33} ${2 ** 51}`,
      ])
      assert.equal(site.server.heldBytes, 0)
      client.destroy()
    })

    describe('trap 7: bounds are checked in 64 bits, first', () => {
      const end = 2n ** 64n - 1n
      const cases: [string, number, bigint, bigint, keyof typeof ErrorNumber][] = [
        ['READ of 2^64-1', Command.read, 0n, end, 'EINVAL'],
        ['READ of more than a payload', Command.read, 0n, 2n ** 27n, 'EINVAL'],
        ['TRIM that would wrap', Command.trim, end, 2n, 'EINVAL'],
        ['TRIM of 2^63', Command.trim, 0n, 2n ** 63n, 'EINVAL'],
        ['TRIM of 2^32 plus what would fit', Command.trim, 0n, 2n ** 32n + 512n, 'EINVAL'],
        ['WRITE_ZEROES of 2^63', Command.writeZeroes, 0n, 2n ** 63n, 'ENOSPC'],
        ['WRITE_ZEROES that would wrap', Command.writeZeroes, end - 3n, 8n, 'ENOSPC'],
        ['CACHE of 2^63', Command.cache, 1n, 2n ** 63n, 'EINVAL'],
        ['BLOCK_STATUS of 2^63', Command.blockStatus, 0n, 2n ** 63n, 'EINVAL'],
        ['BLOCK_STATUS of nothing', Command.blockStatus, 0n, 0n, 'EINVAL'],
      ]
      for (const [what, type, offset, lengthBytes, code] of cases) {
        it(`${what} is ${code}, and the reply repeats the offset`, async () => {
          const disk = new MemoryExport()
          await using site = await serve([disk])
          const client = await open(site.path, ['base:allocation'])
          client.request({ type, offset, lengthBytes })
          const { offsetHigh, offsetLow, payload } = await client.extendedChunk()
          assert.equal((BigInt(offsetHigh) << 32n) | BigInt(offsetLow), offset)
          assert.equal(decodeErrorPayload(payload).errorNumber, ErrorNumber[code])
          assert.deepEqual(disk.calls, [])
          client.destroy()
        })
      }
    })

    it('a compact request ends the connection', async () => {
      await using site = await serve([new MemoryExport()])
      const client = await open(site.path)
      client.send(Buffer.concat([requestBytesOf({ type: Command.flush }), requestBytesOf({ type: Command.flush })]))
      await client.closed
      assert.equal(client.leftBytes, 0)
    })

    it('PAYLOAD_LEN without extended headers is an unknown flag', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await RawClient.open(site.path)
      client.request({ type: Command.write, flags: CommandFlag.payloadLen, payload: Buffer.alloc(512) })
      assert.equal((await client.reply()).errorNumber, ErrorNumber.EINVAL)
      client.request({ type: Command.flush })
      assert.equal((await client.reply()).errorNumber, 0)
      assert.deepEqual(disk.calls, ['flush'])
      client.destroy()
    })

    it('requests cut at every byte are answered as whole ones are', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk])
      const client = await open(site.path)
      const bytes = Buffer.concat([
        extendedRequestBytesOf({ type: Command.write, cookie: 1, payload: Buffer.from('abc') }),
        extendedRequestBytesOf({ type: Command.read, cookie: 2, lengthBytes: 3 }),
      ])
      client.socket.setNoDelay(true)
      for (const byte of bytes) client.send(Buffer.from([byte]))
      assert.equal((await client.extendedChunk()).cookieLow, 1)
      assert.equal((await client.extendedChunk()).payload.toString('utf8', 8), 'abc')
      client.destroy()
    })
  })
})
