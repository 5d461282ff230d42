// The codecs: what a decoder does with input cut at every byte, and with lengths that lie.

import assert from 'node:assert/strict'
import { ChunkFlag, ChunkType, nameOf, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import {
  decodeGreeting,
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeName,
  decodeOptionHeader,
  decodeOptionReplyHeader,
  encodeGreeting,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  encodeOptionReply,
  OptionError,
  ProtocolError,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import {
  encodeBlockStatusChunk,
  encodeErrorChunk,
  replyStyles,
  writeChunkHeader,
  writeOffsetDataHeader,
  writeOffsetHole,
  writeSimpleReply,
} from '../../src/nbd/wire/reply-writers.ts'
import {
  decodeBlockStatusPayload,
  decodeErrorPayload,
  decodeReplyHeader,
  decodeRequest,
  encodeRequest,
} from '../../src/nbd/wire/transmission-codecs.ts'

const { structured } = replyStyles
const cookie = { cookieHigh: 0xfedcba98, cookieLow: 0x87654321 }
const to = { ...cookie, offsetHigh: 0, offsetLow: 0 }

/** Each proper beginning of `bytes`. */
function cuts(bytes: Buffer): Buffer[] {
  return Array.from({ length: bytes.length }, (_, length) => bytes.subarray(0, length))
}

describe('nbd codecs', () => {
  const request = {
    ...cookie,
    flags: 1,
    type: 6,
    offset: 0xfedcba98 * 2 ** 32 + 0x76543210,
    offsetHigh: 0xfedcba98,
    offsetLow: 0x76543210,
    lengthBytes: 0xffffffff,
    lengthHigh: 0,
    lengthLow: 0xffffffff,
    payloadBytes: 0,
  }
  const simple = Buffer.alloc(16)
  writeSimpleReply(simple, 0, cookie, 28)
  const chunk = Buffer.alloc(20)
  writeChunkHeader(chunk, 0, structured, to, ChunkFlag.done, ChunkType.none, 0)

  const heads: [string, Buffer, (bytes: Buffer) => unknown, unknown][] = [
    ['a greeting', encodeGreeting(), decodeGreeting, { flags: 3 }],
    ['an option', encodeOption(7).subarray(0, 16), decodeOptionHeader, { type: 7, lengthBytes: 0 }],
    [
      'an option reply',
      encodeOptionReply(7, ReplyType.errUnknown),
      decodeOptionReplyHeader,
      { option: 7, type: 2 ** 31 + 6, lengthBytes: 0 },
    ],
    ['a request', encodeRequest(request), (bytes) => decodeRequest(bytes, 0), request],
    ['a simple reply', simple, (bytes) => decodeReplyHeader(bytes, 0), { kind: 'simple', errorNumber: 28, ...cookie }],
    [
      'a chunk',
      chunk,
      (bytes) => decodeReplyHeader(bytes, 0),
      { kind: 'chunk', flags: 1, type: 0, lengthBytes: 0, ...cookie },
    ],
  ]
  for (const [what, bytes, decode, message] of heads) {
    it(`waits for the rest of ${what} cut at every byte`, () => {
      for (const cut of cuts(bytes)) assert.equal(decode(cut), undefined, `cut at ${cut.length}`)
      assert.deepEqual(decode(bytes), message)
    })
    it(`refuses ${what} with any byte of its magic wrong`, () => {
      for (let at = 0; at < 4; at++) {
        const wrong = Buffer.from(bytes)
        wrong[at]! ^= 0x40
        assert.throws(() => decode(wrong), ProtocolError)
      }
    })
  }

  const payloads: [string, Buffer, (bytes: Buffer) => unknown, unknown][] = [
    [
      'INFO',
      encodeInfoRequest({ exportName: 'größe', infos: [3, 1] }),
      decodeInfoRequest,
      { exportName: 'größe', infos: [3, 1] },
    ],
    [
      'SET_META_CONTEXT',
      encodeMetaContextRequest({ exportName: 'web01', queries: ['base:', 'a:b'] }),
      decodeMetaContextRequest,
      { exportName: 'web01', queries: ['base:', 'a:b'] },
    ],
  ]
  for (const [what, bytes, decode, message] of payloads) {
    it(`refuses the payload of ${what} cut at every byte, or longer than it says`, () => {
      assert.deepEqual(decode(bytes), message)
      for (const cut of cuts(bytes)) assert.throws(() => decode(cut), OptionError, `cut at ${cut.length}`)
      assert.throws(() => decode(Buffer.concat([bytes, Buffer.alloc(1)])), OptionError)
    })
    it(`refuses a length or count in ${what} that points past its end`, () => {
      // INFO's last four bytes are its infos, which may be any number.
      const end = what === 'INFO' ? bytes.length - 4 : bytes.length - 3
      for (let at = 0; at < end; at++) {
        const wrong = Buffer.from(bytes)
        wrong.writeUInt32BE(0xffffffff, at)
        assert.throws(() => decode(wrong), OptionError, `at ${at}`)
      }
    })
  }

  it('refuses names that are no UTF-8, hold NUL or are longer than 4096 bytes', () => {
    assert.equal(decodeName(Buffer.alloc(4096, 'a')).length, 4096)
    assert.throws(
      () => decodeName(Buffer.alloc(4097, 'a')),
      (error: OptionError) => error.tooBig,
    )
    assert.throws(() => decodeName(Buffer.from([0xc3, 0x28])), OptionError)
    assert.throws(() => decodeName(Buffer.from('a\0b')), OptionError)
  })

  it('writes offsets above 4 GiB in 64 bits', () => {
    const bytes = Buffer.alloc(40)
    for (const offset of [0, 0xffffffff, 0x100000000, 0x123456789a, Number.MAX_SAFE_INTEGER]) {
      writeOffsetDataHeader(bytes, 0, structured, to, 1, offset, 4096)
      assert.equal(bytes.readBigUInt64BE(20), BigInt(offset))
      assert.equal(bytes.readUInt32BE(16), 4104)
      writeOffsetHole(bytes, 0, structured, to, 0, offset, 65536)
      assert.equal(bytes.readBigUInt64BE(20), BigInt(offset))
      assert.equal(bytes.readUInt32BE(28), 65536)
    }
  })

  it('carries the sentence of an error chunk, cut to 4096 bytes between characters', () => {
    const bytes = encodeErrorChunk(structured, to, 'ENOSPC', `x${'é'.repeat(3000)}`)
    const { errorNumber, sentence } = decodeErrorPayload(bytes.subarray(20))
    assert.equal(errorNumber, 28)
    assert.equal(sentence, `x${'é'.repeat(2047)}`)
    for (const cut of cuts(bytes.subarray(20))) assert.throws(() => decodeErrorPayload(cut), ProtocolError)
  })

  it('carries extents, and refuses a status whose length is broken', () => {
    const extents = [
      { lengthBytes: 4096, flags: 0 },
      { lengthBytes: 0xfffff000, flags: 3 },
    ]
    const payload = encodeBlockStatusChunk(structured, to, 1, 7, extents).subarray(20)
    assert.deepEqual(decodeBlockStatusPayload(payload), { contextId: 7, extents })
    for (const cut of cuts(payload)) {
      if (cut.length !== 12) assert.throws(() => decodeBlockStatusPayload(cut), ProtocolError)
    }
  })

  it('names numbers as the spec does', () => {
    assert.equal(nameOf(OptionType, OptionType.setMetaContext), 'SET_META_CONTEXT')
    assert.equal(nameOf(OptionType, 99), '99')
  })
})
