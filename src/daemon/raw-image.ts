// Raw images that come from outside: whether a file is one, and how it is copied: without its holes, and without its blocks
// of zeros.

import { stat } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { nonZeroExtents } from '../block/zeros.ts'
import { Refusal } from '../disk/refusal.ts'
import type { BlockFile, Files } from '../store/files.ts'
import { type ForeignFormat, foreignFormatOf } from './image-format.ts'

const copyBytes = 2 ** 20

export interface InspectedImage {
  readonly sizeBytes: number
  readonly allocatedBytes: number
  /** undefined: it is raw, and `sizeBytes` is the disk's. */
  readonly foreign: ForeignFormat | undefined
}

/** @throws Refusal `not-raw`, `image-unknown` */
export async function inspectImage(path: string): Promise<InspectedImage> {
  try {
    const info = await stat(path)
    if (!info.isFile()) throw notRaw(path, 'it is no regular file')
    if (info.size === 0) throw notRaw(path, 'it is empty')
    const foreign = await foreignFormatOf(path)
    if (foreign === undefined && info.size % 512 !== 0)
      throw notRaw(path, `its size, ${info.size} bytes, is not a whole number of sectors of 512 bytes`)
    return { sizeBytes: info.size, allocatedBytes: info.blocks * 512, foreign }
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw new Refusal('image-unknown', `${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, {
      safe: 'Nothing was changed.',
      cause: error,
    })
  }
}

/** Of an image that must be raw. @throws Refusal `not-raw`, `image-unknown` */
export async function inspectRawImage(path: string): Promise<InspectedImage> {
  const inspected = await inspectImage(path)
  if (inspected.foreign) {
    const next = `Convert it first: qemu-img convert -O raw ${path} disk.raw.`
    throw notRaw(path, `it is a ${inspected.foreign.name} image`, next)
  }
  return inspected
}

export function notRaw(
  path: string,
  why: string,
  next = 'Give a raw image: bytes of the disk and nothing else.',
): Refusal {
  return new Refusal('not-raw', `${path} is not a raw disk image: ${why}`, { safe: 'Nothing was changed.', next })
}

/** Copies the data of an image into a block file of holes, and syncs it. `progress` gets bytes of the image walked so far. */
export async function copyImage(
  files: Files,
  from: string,
  to: string,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const source = await files.openBlockFile(from, true)
  try {
    const target = await files.openBlockFile(to, false)
    try {
      await copyExtents(source, target, progress, signal)
      await target.sync()
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

async function copyExtents(
  source: BlockFile,
  target: BlockFile,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let at = 0; at < source.sizeBytes; ) {
    const [extent] = source.extents(at, source.sizeBytes - at, 1)
    const end = extent!.offset + extent!.length
    for (; extent!.kind === 'data' && at < end; progress(at)) {
      await nextTurn() // Reads of what is cached and short writes are done at once: guests are served in between.
      signal.throwIfAborted()
      const bytes = Buffer.allocUnsafeSlow(Math.min(copyBytes, end - at))
      await source.read(at, bytes)
      for (const data of nonZeroExtents(bytes, at))
        await target.write(at + data.from, bytes.subarray(data.from, data.end))
      at += bytes.length
    }
    at = end
    progress(at)
  }
}
