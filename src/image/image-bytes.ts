// The bytes of an image file as its examiners read them: what a header points at is in the file, or the image is cut short.
// Always: no more than a chunk is held at a time, whatever a header says.

import { cutShort } from './image-fault.ts'

const chunkBytes = 2 ** 20

export interface ImageBytes {
  readonly sizeBytes: number
  /** Bytes [at, at + lengthBytes), fewer where the file ends. `lengthBytes` is the caller's to bound. */
  read(at: number, lengthBytes: number): Promise<Buffer>
}

/** @throws ImageFault `image-cut` unless all of the range is in the file */
export function mustHold({ sizeBytes }: ImageBytes, at: number, lengthBytes: number, what: string): void {
  if (at + lengthBytes > sizeBytes) throw cutShort(what, at + lengthBytes, sizeBytes)
}

/** A header or the like, whole. @throws ImageFault `image-cut` */
export async function readWhole(bytes: ImageBytes, at: number, lengthBytes: number, what: string): Promise<Buffer> {
  mustHold(bytes, at, lengthBytes, what)
  const found = await bytes.read(at, lengthBytes)
  if (found.length < lengthBytes) throw cutShort(what, at + lengthBytes, at + found.length)
  return found
}

/** A table of any length, in order: `visit` gets whole entries, and the index of the first. @throws ImageFault `image-cut` */
export async function walkTable(
  bytes: ImageBytes,
  table: { readonly at: number; readonly count: number; readonly entryBytes: number; readonly what: string },
  visit: (entries: Buffer, first: number) => void | Promise<void>,
): Promise<void> {
  const { at, count, entryBytes, what } = table
  mustHold(bytes, at, count * entryBytes, what)
  const step = Math.floor(chunkBytes / entryBytes)
  for (let first = 0; first < count; first += step) {
    const here = Math.min(step, count - first)
    await visit(await readWhole(bytes, at + first * entryBytes, here * entryBytes, what), first)
  }
}

/** A 64-bit field as a number: beyond 2^53 it is not exact, and far beyond every file. */
export const u64be = (from: Buffer, at: number): number => Number(from.readBigUInt64BE(at))
export const u64le = (from: Buffer, at: number): number => Number(from.readBigUInt64LE(at))
