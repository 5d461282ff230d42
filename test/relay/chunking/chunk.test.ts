import assert from 'node:assert/strict'
import { createHmac, hash, randomBytes } from 'node:crypto'
import { constants, zstdCompressSync } from 'node:zlib'
import {
  type ChunkKeys,
  type ExpectedChunk,
  largestChunkBytes,
  packChunk,
  paddedBytes,
  unpackChunk,
} from '../../../src/relay/chunking/chunk.ts'
import { readFrame } from '../../../src/relay/chunking/zstd-frame.ts'
import { SealError } from '../../../src/relay/errors.ts'
import { moveKeys } from '../../../src/relay/keys.ts'
import { sealWith } from '../../../src/relay/seal.ts'

const move = 'move-1'
const keys: ChunkKeys = { move, ...moveKeys(randomBytes(32), move) }
const mib = 1024 * 1024
const text = (sizeBytes: number): Buffer => Buffer.alloc(sizeBytes, 'what a disk holds, again and again; ')
const expectedOf = (plain: Uint8Array): ExpectedChunk => ({
  lengthBytes: plain.length,
  digest: hash('sha256', plain, 'buffer'),
})

/** As packChunk seals, of a body that it would never make: what only a holder of the key can do. */
function sealedByHand(name: string, encoding: number, lengthBytes: number, body: Uint8Array, padding?: number): Buffer {
  const head = Buffer.alloc(12)
  head[0] = 1
  head[1] = encoding
  head.writeUInt32BE(lengthBytes, 4)
  head.writeUInt32BE(body.length, 8)
  const key = createHmac('sha256', keys.chunk).update('key\n').update(name).digest()
  const zeros = Buffer.alloc(padding ?? paddedBytes(body.length) - body.length)
  return sealWith(key, randomBytes(12), { move, kind: 'chunk', position: name, generation: 0 }, [head, body, zeros])
}

const frameOf = (plain: Uint8Array): Buffer => zstdCompressSync(plain, { pledgedSrcSize: plain.length })

describe('a chunk', () => {
  it('opens as what it was: text, noise, zeros, of any length', () => {
    for (const plain of [
      Buffer.from('x'),
      text(511),
      text(65_536),
      text(4 * mib),
      randomBytes(mib),
      Buffer.alloc(mib),
    ]) {
      const { name, sealed, digest } = packChunk(keys, plain)
      assert(Buffer.from(digest).equals(expectedOf(plain).digest))
      assert(plain.equals(unpackChunk(keys, name, sealed, expectedOf(plain))), `${plain.length} bytes`)
      assert.equal(sealed.byteLength, sealed.buffer.byteLength, 'it can be transferred')
    }
    assert.throws(() => packChunk(keys, Buffer.alloc(0)), RangeError)
    assert.throws(() => packChunk(keys, Buffer.alloc(largestChunkBytes + 1)), RangeError)
  })

  it('of equal bytes has an equal name and is the same object; of other bytes or another move it is another', () => {
    const one = packChunk(keys, text(mib))
    const same = packChunk(keys, text(mib))
    assert.equal(one.name, same.name)
    assert(Buffer.from(one.sealed).equals(same.sealed))
    const others = [packChunk(keys, text(mib - 1)), packChunk({ move, ...moveKeys(randomBytes(32), move) }, text(mib))]
    for (const other of others) assert.notEqual(other.name, one.name)
  })

  it('of the same name but encoded otherwise has another nonce: no nonce serves two texts', () => {
    const plain = text(mib)
    const one = packChunk(keys, plain)
    const other = packChunk(keys, randomBytes(mib))
    const nonceOf = (sealed: Uint8Array) => Buffer.from(sealed.subarray(1, 13)).toString('hex')
    assert.notEqual(nonceOf(one.sealed), nonceOf(other.sealed))
    // As the release of zstd of another Node would make it.
    const frame = zstdCompressSync(plain, {
      pledgedSrcSize: plain.length,
      params: { [constants.ZSTD_c_compressionLevel]: 9 },
    })
    const sealed = sealedByHand(one.name, 1, plain.length, frame)
    assert(plain.equals(unpackChunk(keys, one.name, sealed, expectedOf(plain))))
  })

  it('shows of its length the highest bits alone, at a price of 3 % at most', () => {
    const step = 997
    for (let length = 1; length <= largestChunkBytes; length += length < 5000 ? 1 : step) {
      const padded = paddedBytes(length)
      assert(padded >= length && (length < 4096 || padded <= length * 1.07), `${length}: ${padded}`)
      if (length >= mib) assert(padded <= length * 1.032, `${length}: ${padded}`)
    }
    assert.equal(paddedBytes(4 * mib), 4 * mib)
    const lengths = new Set(Array.from({ length: mib }, (_, index) => paddedBytes(mib + index)))
    assert(lengths.size <= 33, `${lengths.size} lengths between 1 and 2 MiB`)
    // Noise of a power of two costs nothing.
    assert(packChunk(keys, randomBytes(mib)).sealed.length < mib + 64)
  })

  it('swapped for another, cut, or changed by a bit is refused', () => {
    const plain = text(70_000)
    const { name, sealed } = packChunk(keys, plain)
    const other = packChunk(keys, text(70_001))
    assert.throws(() => unpackChunk(keys, name, other.sealed, expectedOf(plain)), SealError)
    for (let at = 0; at < sealed.length; at++) {
      assert.throws(() => unpackChunk(keys, name, sealed.subarray(0, at), expectedOf(plain)), SealError)
      const changed = Buffer.from(sealed)
      changed[at]! ^= 4
      assert.throws(() => unpackChunk(keys, name, changed, expectedOf(plain)), SealError)
    }
  })

  it('of another length or another digest than the manifest says is refused', () => {
    const plain = text(mib)
    const { name, sealed } = packChunk(keys, plain)
    const { digest } = expectedOf(plain)
    for (const lengthBytes of [0, mib - 1, mib + 1, largestChunkBytes + 1]) {
      assert.throws(() => unpackChunk(keys, name, sealed, { lengthBytes, digest }), SealError)
    }
    assert.throws(() => unpackChunk(keys, name, sealed, { lengthBytes: mib, digest: randomBytes(32) }), /other bytes/)
  })

  it('with a second frame, with bytes behind its frame, cut, or without its length is refused', () => {
    const plain = text(mib)
    const { name } = packChunk(keys, plain)
    const frame = frameOf(plain)
    const skippable = Buffer.from('502a4d1804000000deadbeef', 'hex')
    const withoutSize = zstdCompressSync(plain, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } })
    const bodies = {
      second: Buffer.concat([frame, frame]),
      trailing: Buffer.concat([frame, Buffer.from('trailing')]),
      zeros: Buffer.concat([frame, Buffer.alloc(9)]),
      skippable: Buffer.concat([frame, skippable]),
      'skippable first': Buffer.concat([skippable, frame]),
      cut: frame.subarray(0, frame.length - 3),
      empty: Buffer.alloc(0),
      'no length': withoutSize,
    }
    for (const [what, body] of Object.entries(bodies)) {
      const sealed = sealedByHand(name, 1, mib, body)
      assert.throws(() => unpackChunk(keys, name, sealed, expectedOf(plain)), SealError, what)
    }
    assert(plain.equals(unpackChunk(keys, name, sealedByHand(name, 1, mib, frame), expectedOf(plain))))
    assert.throws(() => unpackChunk(keys, name, sealedByHand(name, 2, mib, frame), expectedOf(plain)), SealError)
    assert.throws(() => unpackChunk(keys, name, sealedByHand(name, 1, mib, frame, 5000), expectedOf(plain)), SealError)
  })

  it('that would become more than the manifest says is refused before it is decoded', () => {
    const bomb = frameOf(Buffer.alloc(64 * mib))
    const { name } = packChunk(keys, text(mib))
    const expected = { lengthBytes: mib, digest: randomBytes(32) }
    assert.throws(() => unpackChunk(keys, name, sealedByHand(name, 1, mib, bomb), expected), /not one zstd frame/)
    // One that lies about it: its head says 1 MiB.
    const liar = Buffer.from(bomb)
    const sizeAt = (liar[4]! & 0x20) === 0 ? 6 : 5
    assert.equal(liar.readUInt32LE(sizeAt), 64 * mib)
    liar.writeUInt32LE(mib, sizeAt)
    assert.throws(() => unpackChunk(keys, name, sealedByHand(name, 1, mib, liar), expected), SealError)
  })

  it('that asks for a window of gigabytes is refused', () => {
    const params = { [constants.ZSTD_c_compressionLevel]: 1 }
    const frame = zstdCompressSync(text(mib), { pledgedSrcSize: mib, params })
    assert.equal(frame[4]! & 0x20, 0, 'a frame with a window of its own')
    frame[5] = 0xa0
    const { name } = packChunk(keys, text(mib))
    assert.throws(() => unpackChunk(keys, name, sealedByHand(name, 1, mib, frame), expectedOf(text(mib))), /memory/)
  })
})

describe('the head of a zstd frame', () => {
  it('says where the frame ends, whatever its blocks are and with a checksum', () => {
    for (const plain of [
      Buffer.from('x'),
      Buffer.alloc(300_000),
      text(300_000),
      randomBytes(300_000),
      randomBytes(200),
    ]) {
      for (const checksum of [0, 1]) {
        const params = { [constants.ZSTD_c_checksumFlag]: checksum }
        const frame = zstdCompressSync(plain, { pledgedSrcSize: plain.length, params })
        const read = readFrame(Buffer.concat([frame, randomBytes(50)]))
        assert.equal(read?.contentBytes, plain.length)
        assert.equal(read?.frameBytes, frame.length)
        for (let at = 0; at < frame.length; at += Math.max(1, frame.length >> 9)) {
          assert.equal(readFrame(frame.subarray(0, at)), undefined, `cut at ${at}`)
        }
      }
    }
  })

  it('of noise is none, and reading it ends', () => {
    for (let run = 0; run < 2000; run++) {
      const noise = randomBytes(64)
      noise.writeUInt32LE(0xfd2fb528)
      const read = readFrame(noise)
      assert(read === undefined || read.frameBytes <= noise.length)
    }
  })
})
