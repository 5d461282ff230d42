import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { giveBack } from '../../src/block/own-memory.ts'
import type { Extent, Piece } from '../../src/block/units.ts'
import { alignedExtents, type ReadableDisk, readPieces, readWhole } from '../../src/disk/departure/frozen-reader.ts'
import { UnreadableRange } from '../../src/disk/unreadable-range.ts'
import { seededRandom } from '../random.ts'
import { block } from './hand.ts'

type Kind = 'data' | 'hole'

/** A disk of ranges of data (with a byte that says where) and holes, as a file system with small blocks may have them. */
function diskOf(...ranges: readonly (readonly [Kind, number])[]): { disk: ReadableDisk; bytes: Buffer } {
  const extents: Extent[] = []
  const parts: Buffer[] = []
  let at = 0
  for (const [kind, length] of ranges) {
    extents.push({ offset: at, length, data: kind === 'data' })
    parts.push(Buffer.alloc(length, kind === 'data' ? 1 + (extents.length % 250) : 0))
    at += length
  }
  const bytes = Buffer.concat(parts)
  const disk = {
    name: 'web01',
    extents: (offset: number, lengthBytes: number, limit: number) =>
      extents
        .map((extent) => {
          const from = Math.max(extent.offset, offset)
          const to = Math.min(extent.offset + extent.length, offset + lengthBytes)
          return { offset: from, length: to - from, data: extent.data }
        })
        .filter(({ length }) => length > 0)
        .slice(0, limit),
    read: (offset: number, target: Uint8Array) => void bytes.copy(target, 0, offset),
  }
  return { disk, bytes }
}

async function piecesOf(disk: ReadableDisk, offset: number, length: number): Promise<Piece[]> {
  const pieces: Piece[] = []
  for await (const piece of readPieces(disk, [{ offset, length }], async () => {}, new AbortController().signal))
    pieces.push(piece)
  return pieces
}

describe('frozen reader', () => {
  it('gives a piece its memory alone, unless the read has become several', async () => {
    const { disk, bytes } = diskOf(['data', 2 * block], ['hole', block], ['data', block])
    bytes.fill(0, block, 2 * block)
    const pieces = await piecesOf(disk, 0, 4 * block)
    assert.deepEqual(
      pieces.map(({ offset, bytes: some }) => [offset, some?.length]),
      [
        [0, block],
        [block, undefined],
        [2 * block, undefined],
        [3 * block, block],
      ],
    )
    for (const piece of pieces) giveBack(piece.bytes)
    assert.deepEqual([pieces[0]?.bytes?.length, pieces[3]?.bytes?.length], [block, 0])
  })

  it('leaves extents that are aligned as they are', () => {
    const { disk } = diskOf(['hole', 2 * block], ['data', block], ['hole', block])
    assert.deepEqual(alignedExtents(disk, 0, 4 * block, 100), [
      { offset: 0, length: 2 * block, data: false },
      { offset: 2 * block, length: block, data: true },
      { offset: 3 * block, length: block, data: false },
    ])
  })

  it('grows data to whole blocks and shrinks holes', () => {
    const { disk } = diskOf(['hole', 2 * block + 1024], ['data', 1024], ['hole', 3 * block - 2048])
    assert.deepEqual(alignedExtents(disk, 0, 5 * block, 100), [
      { offset: 0, length: 2 * block, data: false },
      { offset: 2 * block, length: block, data: true },
      { offset: 3 * block, length: 2 * block, data: false },
    ])
  })

  it('drops a hole that covers no whole block', () => {
    const { disk } = diskOf(['data', block + 512], ['hole', block], ['data', block - 512])
    assert.deepEqual(alignedExtents(disk, 0, 3 * block, 100), [{ offset: 0, length: 3 * block, data: true }])
  })

  it('calls a block of many small extents data', () => {
    const { disk } = diskOf(['hole', 512], ['data', 512], ['hole', 512], ['data', 512], ['hole', 2048 + block])
    assert.deepEqual(alignedExtents(disk, 0, 2 * block, 100), [
      { offset: 0, length: block, data: true },
      { offset: block, length: block, data: false },
    ])
  })

  it('reaches the end of a disk that ends within a block', () => {
    const { disk } = diskOf(['data', block], ['hole', 1536])
    assert.deepEqual(alignedExtents(disk, 0, block + 1536, 100), [
      { offset: 0, length: block, data: true },
      { offset: block, length: 1536, data: false },
    ])
  })

  it('sends a hole as one piece without bytes', async () => {
    const { disk } = diskOf(['hole', 1000 * block])
    assert.deepEqual(await piecesOf(disk, 0, 1000 * block), [
      { offset: 0, length: 1000 * block, bytes: undefined, hole: true },
    ])
  })

  it('sends data that is all zero without bytes, and not as a hole', async () => {
    const { disk, bytes } = diskOf(['data', block])
    bytes.fill(0)
    assert.deepEqual(await piecesOf(disk, 0, block), [{ offset: 0, length: block, bytes: undefined }])
  })

  it('sends data in pieces of at most 256 KiB', async () => {
    const { disk } = diskOf(['data', 150 * block])
    assert.deepEqual(
      (await piecesOf(disk, 0, 150 * block)).map(({ length }) => length / block),
      [64, 64, 22],
    )
  })

  it('stops when it is told to', async () => {
    const { disk } = diskOf(['data', 1000 * block])
    const stop = new AbortController()
    const pieces = readPieces(disk, [{ offset: 0, length: 1000 * block }], async () => {}, stop.signal)
    await pieces.next()
    stop.abort(new Error('stopped'))
    await assert.rejects(pieces.next(), /stopped/)
  })

  it('gives every byte once, in whole blocks, however extents lie', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    for (let round = 0; round < 100; round++) {
      const ranges = Array.from({ length: 1 + random.integer(150) }, (_, index) => {
        const unit = random.pick([512, 1024, block])
        return [(index + round) % 2 === 0 ? 'data' : 'hole', unit * (1 + random.integer(12))] as const
      })
      const { disk, bytes } = diskOf(...ranges)
      const first = random.integer(Math.ceil(bytes.length / block))
      const offset = first * block
      const length = Math.min(bytes.length - offset, (1 + random.integer(200)) * block)
      let at = offset
      for (const piece of await piecesOf(disk, offset, length)) {
        const facts = `seed ${seed} round ${round} at ${at}`
        const end = piece.offset + piece.length
        assert.equal(piece.offset, at, facts)
        assert(end % block === 0 || end === bytes.length, facts)
        assert(
          (piece.bytes ?? Buffer.alloc(piece.length)).every((byte, index) => byte === bytes[at + index]),
          facts,
        )
        at = end
      }
      assert.equal(at, offset + length, `seed ${seed} round ${round}`)
    }
  })

  describe('of a disk with blocks that cannot be read', () => {
    /** Reads that touch the bad blocks fail, as the kernel's do. */
    function withBad(disk: ReadableDisk, ...bad: readonly number[]): ReadableDisk {
      const { read } = disk
      const failing = (offset: number, target: Uint8Array) => {
        if (bad.some((each) => each * block < offset + target.length && offset < (each + 1) * block))
          throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
        return read(offset, target)
      }
      return { ...disk, read: failing }
    }

    it('brings every block before the first bad one, and names the bad ones', async () => {
      const { disk, bytes } = diskOf(['data', 8 * block])
      const pieces: Piece[] = []
      const reading = (async () => {
        const signal = new AbortController().signal
        for await (const piece of readPieces(
          withBad(disk, 3, 4),
          [{ offset: 0, length: 8 * block }],
          async () => {},
          signal,
        ))
          pieces.push(piece)
      })()
      await assert.rejects(reading, (error) => {
        assert(error instanceof UnreadableRange)
        assert.deepEqual(error.run, { offset: 3 * block, length: 2 * block })
        assert.match(error.message, /8192 bytes at 12288 of web01 cannot be read \(EIO\)/)
        return true
      })
      assert.deepEqual(Buffer.concat(pieces.map((piece) => piece.bytes!)), bytes.subarray(0, 3 * block))
    })

    it('hashes nothing in their place', async () => {
      const { disk, bytes } = diskOf(['data', 4 * block])
      const run = { offset: 0, length: 4 * block }
      await assert.rejects(readWhole(withBad(disk, 2), run), { run: { offset: 2 * block, length: block } })
      assert.deepEqual(await readWhole(withBad(disk), run), bytes)
    })
  })
})
