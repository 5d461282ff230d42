// What a disk has, before it moves: its data by extents, and a few cells of it, by which the other site says what it has already.
// Evenly spread over the data, so that what is found of them is about what would be found of all.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import { shortDigest } from '../../block/digest.ts'
import type { Run } from '../../block/units.ts'
import { nonZeroExtents } from '../../block/zeros.ts'
import type { Disk } from '../../disk/disk.ts'
import { UnreadableRange } from '../../disk/unreadable-range.ts'
import type { Sample } from '../counterpart.ts'
import { cellBytes, readSeed, type Seed } from './seed.ts'

/** Of one disk. */
export const maximumSamples = 64
const extentsAtOnce = 64

export interface Sampling {
  /** By extents: zeros that stand there as data are in it. */
  readonly dataBytes: number
  readonly samples: readonly Sample[]
  /** Of the cells that were looked at: all of them, and what of them is not zero. */
  readonly lookedAtBytes: number
  readonly notZeroBytes: number
}

export async function sampled(disk: Disk, clock: Pick<Clock, 'turn'>, signal: AbortSignal): Promise<Sampling> {
  let dataBytes = 0
  for await (const { length } of dataOf(disk, clock, signal)) dataBytes += length
  const samples: Sample[] = []
  let [lookedAtBytes, notZeroBytes, passed] = [0, 0, 0]
  const stride = Math.max(cellBytes, Math.ceil(dataBytes / maximumSamples))
  let next = Math.floor(stride / 2)
  for await (const { offset, length } of dataOf(disk, clock, signal)) {
    for (; next < passed + length && samples.length < maximumSamples; next += stride) {
      const at = offset + next - passed
      const run = { offset: at - (at % cellBytes), length: cellBytes }
      if (run.offset + run.length > disk.sizeBytes) continue
      await clock.turn()
      const bytes = await bytesOf(disk, run)
      if (!bytes) continue
      lookedAtBytes += cellBytes
      notZeroBytes += nonZeroExtents(bytes, run.offset).reduce((sum, { from, end }) => sum + end - from, 0)
      samples.push({ offset: run.offset, cell: shortDigest(bytes), blocks: blocksOf(bytes) })
    }
    passed += length
  }
  return { dataBytes, samples, lookedAtBytes, notZeroBytes }
}

/** undefined: some of it cannot be read. The move itself will say so. */
async function bytesOf(disk: Disk, run: Run): Promise<Buffer | undefined> {
  try {
    const bytes = await disk.departing.readWhole(run)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  } catch (error) {
    if (error instanceof UnreadableRange) return undefined
    throw error
  }
}

async function* dataOf(disk: Disk, clock: Pick<Clock, 'turn'>, signal: AbortSignal): AsyncGenerator<Run> {
  for (let at = 0; at < disk.sizeBytes; ) {
    const rest = { offset: at, length: disk.sizeBytes - at }
    const extents = await disk.departing.alignedExtents(rest, extentsAtOnce, () => clock.turn())
    signal.throwIfAborted()
    for (const { offset, length, data } of extents) {
      if (data) yield { offset, length }
      at = offset + length
    }
  }
}

function blocksOf(bytes: Buffer): string[] {
  const count = bytes.length / blockSizeBytes
  return Array.from({ length: count }, (_, index) => {
    return shortDigest(bytes.subarray(index * blockSizeBytes, (index + 1) * blockSizeBytes))
  })
}

/** Of the samples, how many bytes stand at their places in one of the seeds. Zeros are nobody's work, and are not counted. */
export async function sparedOf(
  samples: readonly Sample[],
  seeds: readonly Seed[],
  clock: Pick<Clock, 'turn'>,
): Promise<number> {
  let sparedBytes = 0
  for (const sample of samples) {
    let most = 0
    for (const seed of seeds) {
      await clock.turn()
      most = Math.max(most, await alikeBytes(sample, seed))
    }
    sparedBytes += most
  }
  return sparedBytes
}

async function alikeBytes({ offset, cell, blocks }: Sample, seed: Seed): Promise<number> {
  if (offset % blockSizeBytes !== 0 || offset + cellBytes > seed.sizeBytes) return 0
  const bytes = await readSeed(seed, offset, cellBytes)
  if (!bytes) return 0
  const isZero = (block: Buffer) => nonZeroExtents(block, 0).length === 0
  const isWhole = shortDigest(bytes) === cell
  const here = blocks.map((digest, index) => {
    const block = bytes.subarray(index * blockSizeBytes, (index + 1) * blockSizeBytes)
    return (isWhole || shortDigest(block) === digest) && !isZero(block)
  })
  return here.filter(Boolean).length * blockSizeBytes
}
