// A set of blocks as bytes, to travel or to be kept: segment by segment, each in the shortest of three ways, so that what is
// alike costs next to nothing, and a disk in full disorder a bit a block (1 TiB: 32 MiB). Pure.
//
//   map     = segments in order, those that are empty left out | u32 0xffffffff
//   segment = u32 index | u8 kind | full: nothing | bits: 4096 bytes, the first block the lowest bit of the first byte |
//             runs: u16 count, and for each u16 first block, u16 last block
//
// All integers are big-endian. It ends by itself: several may stand one after the other.

import { BlockMap, segmentBlocks, segmentBytes } from './block-map.ts'

const kinds = { full: 0, bits: 1, runs: 2 } as const
const end = 0xffffffff
const headBytes = 5
const runBytes = 4
/** More of them take more than the bits would. */
const mostRuns = segmentBytes / runBytes - 1
/** Of what is given out at once. */
const partBytes = 64 * 1024

/** The parts of a map, each a short step's work. It must not change until the last one is given. */
export function* encodeMap(map: BlockMap): Generator<Buffer> {
  let waiting: Buffer[] = []
  let waitingBytes = 0
  for (let index = 0; index < map.segmentCount; index++) {
    const segment = encodeSegment(map, index)
    if (!segment) continue
    waiting.push(segment)
    waitingBytes += segment.length
    if (waitingBytes < partBytes) continue
    yield Buffer.concat(waiting)
    waiting = []
    waitingBytes = 0
  }
  const last = Buffer.allocUnsafe(4)
  last.writeUInt32BE(end)
  yield Buffer.concat([...waiting, last])
}

/** The same of several, one after the other. */
export function* encodeMaps(maps: readonly BlockMap[]): Generator<Buffer> {
  for (const map of maps) yield* encodeMap(map)
}

function encodeSegment(map: BlockMap, index: number): Buffer | undefined {
  const bits = map.segmentAt(index)
  if (bits === 'empty') return undefined
  const runs = bits === 'full' ? [] : fewRuns(map, index)
  const kind = bits === 'full' ? kinds.full : runs ? kinds.runs : kinds.bits
  const head = Buffer.allocUnsafe(headBytes)
  head.writeUInt32BE(index)
  head.writeUInt8(kind, 4)
  if (bits === 'full') return head
  if (!runs) return Buffer.concat([head, bits])
  const body = Buffer.allocUnsafe(2 + runs.length * 2)
  body.writeUInt16BE(runs.length / 2)
  for (const [at, block] of runs.entries()) body.writeUInt16BE(block, 2 + at * 2)
  return Buffer.concat([head, body])
}

/** First and last block of each run, within the segment. undefined: there are too many. */
function fewRuns(map: BlockMap, index: number): number[] | undefined {
  const base = index * segmentBlocks
  const runs: number[] = []
  for (const run of map.runs(base, Math.min(map.blocks, base + segmentBlocks), true)) {
    if (runs.length === 2 * mostRuns) return undefined
    runs.push(run.first - base, run.end - 1 - base)
  }
  return runs
}

/** The most bytes that a map of so many blocks has. */
export function longestMapBytes(blocks: number): number {
  return Math.ceil(blocks / segmentBlocks) * (headBytes + segmentBytes) + 4
}

/** Reads maps that come in parts, one after the other. */
export class MapReader {
  readonly #parts: AsyncIterator<Uint8Array> | Iterator<Uint8Array>
  #rest: Buffer = Buffer.alloc(0)

  constructor(parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
    this.#parts =
      Symbol.asyncIterator in parts ? parts[Symbol.asyncIterator]() : (parts as Iterable<Uint8Array>)[Symbol.iterator]()
  }

  /** The next one, of a disk of so many blocks. @throws RangeError when it is none, and what the parts throw */
  async next(blocks: number): Promise<BlockMap> {
    const map = new BlockMap(blocks)
    for (let least = 0; ; ) {
      const index = (await this.#take(4)).readUInt32BE()
      if (index === end) return map
      if (index < least || index >= map.segmentCount)
        throw new RangeError(`segment ${index} of a map is out of its place`)
      least = index + 1
      await this.#segment(map, index)
    }
  }

  /** Nothing may come after the last. @throws RangeError */
  async end(): Promise<void> {
    for (;;) {
      if (this.#rest.length > 0) throw new RangeError('bytes stand behind a map')
      const part = await this.#parts.next()
      if (part.done) return
      this.#rest = Buffer.from(part.value)
    }
  }

  async #segment(map: BlockMap, index: number): Promise<void> {
    const base = index * segmentBlocks
    const size = Math.min(segmentBlocks, map.blocks - base)
    const kind = (await this.#take(1)).readUInt8()
    if (kind === kinds.full) map.add(base, base + size)
    else if (kind === kinds.bits) map.putSegment(index, await this.#take(segmentBytes))
    else if (kind !== kinds.runs) throw new RangeError(`a segment of a map is of kind ${kind}`)
    else {
      const runs = await this.#take((await this.#take(2)).readUInt16BE() * runBytes)
      for (let at = 0, from = 0; at < runs.length; at += runBytes) {
        const [first, last] = [runs.readUInt16BE(at), runs.readUInt16BE(at + 2)]
        if (first < from || last < first || last >= size) throw new RangeError(`a run of a map is ${first} to ${last}`)
        map.add(base + first, base + last + 1)
        from = last + 1
      }
    }
  }

  async #take(lengthBytes: number): Promise<Buffer> {
    while (this.#rest.length < lengthBytes) {
      const part = await this.#parts.next()
      if (part.done) throw new RangeError('a map ends too soon')
      this.#rest = Buffer.concat([this.#rest, part.value])
    }
    const taken = this.#rest.subarray(0, lengthBytes)
    this.#rest = this.#rest.subarray(lengthBytes)
    return taken
  }
}
