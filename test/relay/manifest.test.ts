import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { RelayError } from '../../src/relay/errors.ts'
import { decodePart, encodePart, hashOfPart, type ManifestPart } from '../../src/relay/manifest.ts'

const kib = 1024
const mib = 1024 * kib
const part: ManifestPart = {
  previous: hashOfPart(Buffer.from('the part before')),
  disk: randomUUID(),
  sizeBytes: 10 * 1024 * mib + 512,
  generation: 3,
  epoch: randomUUID(),
  round: 2,
  endsRound: false,
  left: 77,
  isFrozen: false,
  stepBytes: 64 * kib,
  ranges: [
    { kind: 'chunk', offset: 0, length: mib, digest: randomBytes(32), steps: randomBytes(16 * 16) },
    { kind: 'hole', offset: mib, length: 9 * 1024 * mib },
    { kind: 'zero', offset: 9 * 1024 * mib + mib, length: 4096 },
    // The end of a disk whose size is no multiple of a block.
    { kind: 'chunk', offset: 10 * 1024 * mib, length: 512, digest: randomBytes(32), steps: randomBytes(16) },
  ],
}

const plainly = ({ ranges, ...head }: ManifestPart) => ({
  ...head,
  ranges: ranges.map((range) =>
    range.kind === 'chunk'
      ? { ...range, digest: Buffer.from(range.digest).toString('hex'), steps: Buffer.from(range.steps).toString('hex') }
      : range,
  ),
})

describe('a part of a manifest', () => {
  it('is read as it was written', () => {
    assert.deepEqual(plainly(decodePart(encodePart(part))), plainly(part))
    const without: ManifestPart = {
      ...part,
      previous: null,
      stepBytes: 0,
      ranges: [{ kind: 'chunk', offset: 4096, length: 4 * mib, digest: randomBytes(32), steps: new Uint8Array() }],
    }
    assert.deepEqual(plainly(decodePart(encodePart(without))), plainly(without))
    assert.deepEqual(decodePart(encodePart({ ...part, ranges: [] })).ranges, [])
  })

  it('cut at any byte, or longer, is refused', () => {
    const encoded = encodePart(part)
    for (let at = 0; at < encoded.length; at++) {
      assert.throws(() => decodePart(encoded.subarray(0, at)), RelayError, `cut at ${at}`)
    }
    assert.throws(() => decodePart(Buffer.concat([encoded, Buffer.alloc(1)])), RelayError)
  })

  it('with any byte changed is read or refused, and nothing else happens', () => {
    const encoded = encodePart(part)
    for (let at = 0; at < encoded.length; at++) {
      for (const bit of [1, 0x80]) {
        const changed = Buffer.from(encoded)
        changed[at]! ^= bit
        try {
          decodePart(changed)
        } catch (error) {
          assert(error instanceof RelayError, `byte ${at}: ${error}`)
        }
      }
    }
  })

  it('that would not be understood is not written', () => {
    const chunk = { kind: 'chunk', digest: randomBytes(32), steps: randomBytes(16) } as const
    const wrong: Partial<ManifestPart>[] = [
      { ranges: [{ kind: 'zero', offset: part.sizeBytes, length: 1 }] },
      { ranges: [{ kind: 'zero', offset: 0, length: 0 }] },
      { ranges: [{ ...chunk, offset: 0, length: 4 * mib + 1 }] },
      { ranges: [{ ...chunk, offset: 0, length: mib }] },
      { disk: 'web01' },
      { round: -1 },
      { stepBytes: 1 },
      { ranges: Array.from({ length: 16_385 }, (_, index) => ({ kind: 'hole', offset: index * 4096, length: 4096 })) },
    ]
    for (const one of wrong) assert.throws(() => encodePart({ ...part, ...one }), RelayError, JSON.stringify(one))
  })
})
