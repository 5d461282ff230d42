// The codec of a lane: what is written is read, however it is cut, and nothing illegal passes.

import assert from 'node:assert/strict'
import { hash, randomBytes } from 'node:crypto'
import { unsealPiece } from '../../src/link/lane/digests.ts'
import {
  encodeEmpty,
  encodeEnd,
  encodeJson,
  type Frame,
  FrameDecoder,
  headerBytes,
  maximumJsonBytes,
  maximumPartBytes,
  maximumPieceBytes,
  splitPiece,
} from '../../src/link/wire/frames.ts'
import { isLinkError, randomOf } from './pair.ts'
import { partFrame, pieceFrame } from './raw-peer.ts'

const decode = (...chunks: Uint8Array[]): Frame[] => {
  const decoder = new FrameDecoder()
  const frames: Frame[] = []
  for (const chunk of chunks) decoder.push(Buffer.from(chunk), (frame) => frames.push(frame))
  return frames
}

const bytes = randomBytes(1000)
const sealed = { bytes, digest: hash('sha256', bytes, 'buffer') }
const samples = Buffer.concat([
  encodeJson('hello', 0, { protocolVersion: 1 }),
  encodeJson('call', 1, { method: 'm', params: { text: 'é\n' } }),
  encodeJson('head', 1, { far: true }),
  ...partFrame(1, bytes),
  encodeEnd(1, 2 ** 40),
  ...pieceFrame(2, { offset: 2 ** 40, length: bytes.length, bytes }),
  ...pieceFrame(2, { offset: 0, length: 2 ** 32 - 1, bytes: undefined, hole: true }),
  encodeEmpty('done', 2),
  encodeEmpty('cancel', 0xffffffff),
  encodeEmpty('ping', 0),
])

describe('link frames', () => {
  it('what is written is read', () => {
    assert.deepEqual(decode(samples), [
      { type: 'hello', id: 0, json: { protocolVersion: 1 } },
      { type: 'call', id: 1, json: { method: 'm', params: { text: 'é\n' } } },
      { type: 'head', id: 1, json: { far: true } },
      { type: 'part', id: 1, sealed },
      { type: 'end', id: 1, lengthBytes: 2 ** 40 },
      { type: 'piece', id: 2, piece: { offset: 2 ** 40, length: 1000, hole: false, sealed } },
      { type: 'piece', id: 2, piece: { offset: 0, length: 2 ** 32 - 1, hole: true, sealed: undefined } },
      { type: 'done', id: 2 },
      { type: 'cancel', id: 0xffffffff },
      { type: 'ping', id: 0 },
    ])
  })

  it('frames are the same when cut at every byte', () => {
    const whole = decode(samples)
    for (let cut = 0; cut <= samples.length; cut++) {
      assert.deepEqual(decode(samples.subarray(0, cut), samples.subarray(cut)), whole, `cut at ${cut}`)
    }
    assert.deepEqual(decode(...Array.from(samples, (byte) => Uint8Array.of(byte))), whole)
  })

  it('a length over the bound of its type is refused before its body comes', () => {
    const tooLong: [number, number][] = [
      [1, maximumJsonBytes + 1],
      [7, maximumPieceBytes + 49],
      [8, 1],
      [9, 0xffffffff],
      [11, maximumJsonBytes + 1],
      [12, maximumPartBytes + 33],
      [12, 32],
      [13, 9],
      [13, 7],
    ]
    for (const [type, length] of tooLong) {
      const head = Buffer.alloc(headerBytes)
      head.writeUInt32BE(length, 0)
      head.writeUInt8(type, 4)
      head.writeUInt32BE(type === 1 || type === 9 ? 0 : 1, 8)
      assert.throws(() => decode(head), isLinkError('protocol'), `type ${type}`)
    }
  })

  it('one bit changed anywhere in a piece is refused or changes what the piece says, never its bytes', async () => {
    const good = Buffer.concat(pieceFrame(7, { offset: 4096, length: 64, bytes: bytes.subarray(0, 64) }))
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bad = Buffer.from(good)
      bad[bit >> 3]! ^= 1 << (bit & 7)
      try {
        for (const frame of decode(bad)) {
          const piece = frame.type === 'piece' ? await unsealPiece(frame.piece, 'demand') : undefined
          if (piece?.bytes) assert.deepEqual(Buffer.from(piece.bytes), bytes.subarray(0, 64))
        }
      } catch (error) {
        assert.ok(isLinkError('protocol')(error), String(error))
      }
    }
  })

  it('random bytes give frames or a protocol error, nothing else', () => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
    const random = randomOf(seed)
    for (let round = 0; round < 3000; round++) {
      const noise = Buffer.from(samples.subarray(0, 1 + Math.floor(random() * samples.length)))
      for (let hit = 0; hit < 3; hit++) noise[Math.floor(random() * noise.length)] = Math.floor(random() * 256)
      try {
        decode(noise)
      } catch (error) {
        assert.ok(isLinkError('protocol')(error), `SEED=${seed} round ${round}: ${error}`)
      }
    }
  })

  it('a piece of one frame too many is split, and none is lost', () => {
    const whole = { offset: 5, length: maximumPieceBytes * 2 + 1, bytes: new Uint8Array(maximumPieceBytes * 2 + 1) }
    const parts = splitPiece(whole)
    assert.deepEqual(
      parts.map(({ offset, length, bytes }) => [offset, length, bytes?.length]),
      [
        [5, maximumPieceBytes, maximumPieceBytes],
        [5 + maximumPieceBytes, maximumPieceBytes, maximumPieceBytes],
        [5 + 2 * maximumPieceBytes, 1, 1],
      ],
    )
    assert.deepEqual(splitPiece({ offset: 0, length: 2 ** 33, bytes: undefined }).length, 4)
  })
})
