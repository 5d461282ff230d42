// A chunk: bytes of a disk on their way through a relay, as one object. Compressed if that pays, padded, sealed. Pure; runs in
// the workers of pool.ts.
//
// Sealed is: format (1), encoding (0: as it is, 1: one zstd frame), two zero bytes, the length of the bytes, the length of the body
// (each 32 bits, big-endian), the body, zeros up to the padded length.
//
// What always holds:
// - Equal bytes have an equal name, and the same vmstore makes equal objects of them: nobody stores them twice.
// - A nonce is never used for two texts. The key is the chunk's own, made from its name, and the nonce is a keyed hash of the
//   text: another release of zstd makes another text of the same bytes, and so another nonce.
// - What is decoded is one frame, which says its length, which is the expected one, and fills its body to the end; only then is
//   memory taken for it. What comes out has the digest that was expected.

import { createHmac, hash } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { SealError } from '../errors.ts'
import { chunkName } from '../names.ts'
import { open, type SealedAs, sealWith } from '../seal.ts'
import { readFrame } from './zstd-frame.ts'

export const largestChunkBytes = 4 * 1024 * 1024
/** Beside what it decodes, a decoder keeps no more than this of memory. */
const largestWindowBytes = 8 * 1024 * 1024
const headBytes = 12
const format = 1
const asItIs = 0
const oneFrame = 1
/** Level 1: a gigabyte a second and more where nothing can be compressed. Higher ones spare a few percent, and cost the rate. */
const level = 1
/** Node compresses into pieces of so many bytes; those of 16 KiB, which are usual, halve the rate. */
const stepBytes = 1024 * 1024
const leastStepBytes = 64
/** Compressed that saves less is left: whoever opens it is spared the work. */
const worthwhile = 31 / 32

/** Of one move. */
export interface ChunkKeys {
  readonly move: string
  readonly names: Uint8Array
  readonly chunk: Uint8Array
}

export interface PackedChunk {
  readonly name: string
  readonly sealed: Uint8Array
  /** SHA-256 of the bytes. */
  readonly digest: Uint8Array
}

export interface ExpectedChunk {
  readonly lengthBytes: number
  readonly digest: Uint8Array
}

export function packChunk(keys: ChunkKeys, plain: Uint8Array): PackedChunk {
  if (plain.length === 0 || plain.length > largestChunkBytes) throw new RangeError(`a chunk of ${plain.length} bytes`)
  const digest = hash('sha256', plain, 'buffer')
  const name = chunkName(keys.names, digest)
  const frame = zstdCompressSync(plain, {
    pledgedSrcSize: plain.length,
    chunkSize: stepBytes,
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_contentSizeFlag]: 1 },
  })
  const pays = frame.length <= plain.length * worthwhile
  const body = pays ? frame : plain
  const head = Buffer.alloc(headBytes)
  head[0] = format
  head[1] = pays ? oneFrame : asItIs
  head.writeUInt32BE(plain.length, 4)
  head.writeUInt32BE(body.length, 8)
  const parts = [head, body, Buffer.alloc(paddedBytes(body.length) - body.length)]
  const key = keyOfChunk(keys, name)
  return { name, sealed: sealWith(key, nonceOf(key, head, body), placeOf(keys, name), parts), digest }
}

/** @throws SealError */
export function unpackChunk(keys: ChunkKeys, name: string, sealed: Uint8Array, expected: ExpectedChunk): Uint8Array {
  const what = `the relay's chunk ${name}`
  if (expected.lengthBytes > largestChunkBytes) throw new SealError(`${what} would be larger than any chunk is`)
  const text = open(keyOfChunk(keys, name), placeOf(keys, name), sealed)
  const plain = decode(text, expected.lengthBytes, what)
  if (!hash('sha256', plain, 'buffer').equals(expected.digest)) {
    throw new SealError(`${what} holds other bytes than its manifest says`)
  }
  return plain
}

function decode(text: Buffer, lengthBytes: number, what: string): Uint8Array {
  if (text.length < headBytes || text[0] !== format || text.readUInt16BE(2) !== 0) {
    throw new SealError(`${what} is in no format that this vmstore knows`)
  }
  const encoding = text[1]
  const body = text.subarray(headBytes, headBytes + text.readUInt32BE(8))
  if (text.readUInt32BE(4) !== lengthBytes || text.length !== headBytes + paddedBytes(text.readUInt32BE(8))) {
    throw new SealError(`${what} has another length than its manifest says`)
  }
  if (encoding === asItIs && body.length === lengthBytes) return ownCopy(body)
  if (encoding !== oneFrame) throw new SealError(`${what} is encoded in no way that this vmstore knows`)
  const frame = readFrame(body)
  if (frame?.contentBytes !== lengthBytes || frame.frameBytes !== body.length) {
    throw new SealError(`${what} is not one zstd frame of the length that its manifest says`)
  }
  if (frame.windowBytes > largestWindowBytes) throw new SealError(`${what} asks for too much memory to be decoded`)
  try {
    return ownCopy(
      zstdDecompressSync(body, { maxOutputLength: lengthBytes, chunkSize: Math.max(leastStepBytes, lengthBytes) }),
    )
  } catch (error) {
    throw new SealError(`${what} cannot be decompressed`, { cause: error })
  }
}

/**
 * A relay's owner sees sizes. Exact ones, of thousands of chunks in a row, would tell which well-known image a disk was made of, as
 * fingerprints do; so a length is rounded up until at most its six highest bits are not zero (PADMÉ), which
 * adds about 1.5 % on average, 3 % at most, and nothing to a chunk of a power of two that could not be compressed.
 */
export function paddedBytes(lengthBytes: number): number {
  if (lengthBytes < 2) return lengthBytes
  const exponent = Math.floor(Math.log2(lengthBytes))
  const kept = Math.floor(Math.log2(exponent)) + 1
  const step = 2 ** Math.max(0, exponent - kept)
  return Math.ceil(lengthBytes / step) * step
}

function placeOf({ move }: ChunkKeys, name: string): SealedAs {
  // Of no generation: the same bytes are the same chunk whichever disk of the move has them, and the manifest says when they were its.
  return { move, kind: 'chunk', position: name, generation: 0 }
}

function keyOfChunk(keys: ChunkKeys, name: string): Buffer {
  return createHmac('sha256', keys.chunk).update('key\n').update(name).digest()
}

function nonceOf(key: Uint8Array, head: Uint8Array, body: Uint8Array): Buffer {
  return createHmac('sha256', key).update('nonce\n').update(head).update(body).digest().subarray(0, 12)
}

/** In memory of its own: results under 32 KiB lie in Node's shared pool, which cannot be transferred. */
function ownCopy(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}
