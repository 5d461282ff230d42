// Reads a disk for its destination: walks data and holes, and turns data into pieces. Blocks of zeros that stand in the file
// as data are found by looking, and travel as such, in pieces of their own. Pieces are aligned to blocks, but for the
// disk's end.

import { blockSizeBytes } from '../../block/block-map.ts'
import { withOwnMemory } from '../../block/own-memory.ts'
import type { Extent, Piece, Run } from '../../block/units.ts'
import { blockExtents } from '../../block/zeros.ts'
import type { MaybePromise } from '../../store/files.ts'
import { UnreadableRange } from '../unreadable-range.ts'

/** Read at once, and the most that one piece of data has: one hash, one landing. */
const pieceBytes = 256 * 1024
/** Looked for in one turn of the loop: of a fragmented file each takes the file system up to 6 µs. */
const extentsAtOnce = 32

/** The bytes of a disk, past whatever holds its guests. */
export interface ReadableDisk {
  readonly name: string
  read(offset: number, target: Uint8Array): MaybePromise<void>
  /** At least one extent from `offset` on, in order, at most `limit`, within `lengthBytes`. */
  extents(offset: number, lengthBytes: number, limit: number): readonly Extent[]
}

/**
 * Data and holes from `offset` on, merged and aligned: a block with any data is data. Covers `lengthBytes` unless `limit`
 * extents do not reach. `offset` is a multiple of a block.
 */
export function alignedExtents(disk: ReadableDisk, offset: number, lengthBytes: number, limit: number): Extent[] {
  const end = offset + lengthBytes
  const extents: Extent[] = []
  for (const extent of disk.extents(offset, lengthBytes, limit)) {
    const reached = extents.at(-1)
    const from = reached ? reached.offset + reached.length : offset
    const extentEnd = extent.offset + extent.length
    const isHole = !extent.data
    // Data grows to whole blocks, a hole shrinks to them.
    const to = extentEnd === end ? end : isHole ? floorToBlock(extentEnd) : Math.min(ceilToBlock(extentEnd), end)
    if (to <= from) continue
    if (reached && reached.data === !isHole) extents[extents.length - 1] = { ...reached, length: to - reached.offset }
    else extents.push({ offset: from, length: to - from, data: !isHole })
  }
  return extents
}

/** The same of a run, found in steps until there are `limit` extents or some more. `turn` resolves when a step may begin. */
export async function alignedExtentsInTurns(
  disk: ReadableDisk,
  run: Run,
  limit: number,
  turn: () => Promise<void>,
): Promise<Extent[]> {
  const end = run.offset + run.length
  const extents: Extent[] = []
  for (let at = run.offset; at < end && extents.length < limit; ) {
    await turn()
    const more = alignedExtents(disk, at, end - at, extentsAtOnce)
    extents.push(...more)
    at = more.at(-1)!.offset + more.at(-1)!.length
  }
  return extents
}

/**
 * The pieces of `runs`, in order; before each step its `turn` is awaited. The disk may be written meanwhile, before switchover:
 * each byte is one that it had.
 */
export async function* readPieces(
  disk: ReadableDisk,
  runs: readonly Run[],
  turn: () => Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  for (const run of runs) {
    const end = run.offset + run.length
    for (let at = run.offset; at < end; ) {
      await turn()
      const extents = alignedExtents(disk, at, end - at, extentsAtOnce)
      for (const extent of extents) {
        signal.throwIfAborted()
        at = extent.offset + extent.length
        if (!extent.data) yield { offset: extent.offset, length: extent.length, bytes: undefined, hole: true }
        for (let offset = extent.offset; extent.data && offset < at; offset += pieceBytes) {
          if (offset > extent.offset) await turn() // The first is of the step that found the extent.
          signal.throwIfAborted()
          const part = { offset, length: Math.min(pieceBytes, at - offset) }
          const bytes = await readOrError(disk, part)
          if (Buffer.isBuffer(bytes)) for (const piece of piecesOf(offset, bytes)) yield piece
          else yield* readableBlocks(disk, part, bytes.error)
        }
      }
    }
  }
}

function* piecesOf(offset: number, bytes: Buffer): Generator<Piece> {
  for (const { from, end, isZero } of blockExtents(bytes, offset)) {
    const isWhole = end - from === bytes.length
    const part = isWhole ? bytes : bytes.subarray(from, end) // Of several parts none has the memory alone.
    yield { offset: offset + from, length: end - from, bytes: isZero ? undefined : part }
  }
}

async function readOrError(disk: ReadableDisk, run: Run): Promise<Buffer | { error: unknown }> {
  const bytes = withOwnMemory(Buffer.allocUnsafeSlow(run.length))
  try {
    await disk.read(run.offset, bytes)
    return bytes
  } catch (error) {
    return { error }
  }
}

/**
 * A range of which some cannot be read: the blocks before that come, one by one, and the error names the blocks that
 * do not, so that whoever fetches goes on behind them. @throws UnreadableRange
 */
async function* readableBlocks(disk: ReadableDisk, run: Run, cause: unknown): AsyncGenerator<Piece> {
  const end = run.offset + run.length
  let badFrom: number | undefined
  let at = run.offset
  for (; at < end; at += blockSizeBytes) {
    const bytes = await readOrError(disk, { offset: at, length: Math.min(blockSizeBytes, end - at) })
    if (!Buffer.isBuffer(bytes)) badFrom ??= at
    else if (badFrom !== undefined) break
    else yield* piecesOf(at, bytes)
  }
  if (badFrom !== undefined)
    throw new UnreadableRange(disk.name, { offset: badFrom, length: Math.min(at, end) - badFrom }, cause)
}

/** The bytes of a range. @throws UnreadableRange that names what of it cannot be read */
export async function readWhole(disk: ReadableDisk, run: Run): Promise<Uint8Array> {
  const bytes = await readOrError(disk, run)
  if (Buffer.isBuffer(bytes)) return bytes
  const good: Uint8Array[] = []
  for await (const piece of readableBlocks(disk, run, bytes.error)) good.push(piece.bytes ?? Buffer.alloc(piece.length))
  return Buffer.concat(good) // It could be read the second time.
}

function floorToBlock(offset: number): number {
  return offset - (offset % blockSizeBytes)
}

function ceilToBlock(offset: number): number {
  return floorToBlock(offset + blockSizeBytes - 1)
}
