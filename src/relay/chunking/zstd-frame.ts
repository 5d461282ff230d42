// What a zstd frame says of itself before anything is decoded (RFC 8878, "Frames"): how much comes out, how much memory that takes,
// and where it ends. Pure.
//
// Node's decoder cannot be asked this: it decodes a second frame behind the first, or drops what stands there in silence.

const magic = 0xfd2fb528

export interface Frame {
  readonly contentBytes: number
  /** What the decoder keeps of what it has decoded. */
  readonly windowBytes: number
  readonly frameBytes: number
}

/** Of the frame at the beginning; undefined: there is none, or it is cut, or does not say its content's size. */
export function readFrame(bytes: Uint8Array): Frame | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const has = (end: number): boolean => end <= bytes.length
  if (!has(6) || view.getUint32(0, true) !== magic) return undefined
  const descriptor = bytes[4]!
  const isSingleSegment = (descriptor & 0x20) !== 0
  const hasChecksum = (descriptor & 0x04) !== 0
  const sizeOfContentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!
  // A dictionary, or bits that are reserved: nothing that we write.
  if ((descriptor & 0x0b) !== 0 || sizeOfContentSize === 0) return undefined
  let at = 5
  let windowBytes = 0
  if (!isSingleSegment) {
    const window = bytes[at++]!
    const base = 2 ** (10 + (window >> 3))
    windowBytes = base + (base / 8) * (window & 7)
  }
  if (!has(at + sizeOfContentSize)) return undefined
  const contentBytes = contentSize(view, at, sizeOfContentSize)
  at += sizeOfContentSize
  if (isSingleSegment) windowBytes = contentBytes
  for (let isLast = false; !isLast; ) {
    if (!has(at + 3)) return undefined
    const head = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)
    isLast = (head & 1) === 1
    const type = (head >> 1) & 3
    if (type === 3) return undefined
    // Of a run-length block one byte stands there, whatever its length.
    at += 3 + (type === 1 ? 1 : head >> 3)
  }
  if (hasChecksum) at += 4
  return has(at) ? { contentBytes, windowBytes, frameBytes: at } : undefined
}

function contentSize(view: DataView, at: number, size: number): number {
  if (size === 1) return view.getUint8(at)
  if (size === 2) return view.getUint16(at, true) + 256
  return size === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true))
}
