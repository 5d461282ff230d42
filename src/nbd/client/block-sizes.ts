// What a server's block size constraints (proto.md, "Block size constraints") ask of a client's requests. Pure.
// Always: what `requestBounds` returned is usable: alignment divides the size and the payload bound, and neither is 0.

import { payloadAdvertisedBytes } from '../wire/constants.ts'
import { NbdConnectionError } from './errors.ts'

/** proto.md: a minimum is a power of two of at most 64 KiB. */
const minimumMaxBytes = 64 * 1024
/** A range of TRIM, WRITE_ZEROES, BLOCK_STATUS and CACHE has 32 bits. */
const rangeMaxBytes = 2 ** 32 - minimumMaxBytes

export interface RequestBounds {
  /** Offsets and lengths are multiples of it. */
  readonly alignBytes: number
  /** The longest READ or WRITE. */
  readonly payloadBytes: number
  /** The longest request without payload. */
  readonly rangeBytes: number
}

export interface Range {
  readonly offset: number
  readonly lengthBytes: number
}

/** Throws NbdConnectionError for constraints that no request can keep. */
export function requestBounds(info: {
  readonly sizeBytes: number
  readonly blockSize: { readonly minimum: number; readonly maximum: number }
}): RequestBounds {
  const { minimum, maximum } = info.blockSize
  const refuse = (why: string): never => {
    throw new NbdConnectionError(`the server's block sizes cannot be kept: ${why}`)
  }
  if (minimum > minimumMaxBytes || !Number.isInteger(Math.log2(minimum))) refuse(`a minimum of ${minimum}`)
  if (info.sizeBytes % minimum !== 0) refuse(`an export of ${info.sizeBytes} bytes with a minimum of ${minimum}`)
  const payloadMax = Math.min(maximum, payloadAdvertisedBytes)
  if (payloadMax < minimum) refuse(`a maximum of ${maximum} with a minimum of ${minimum}`)
  return { alignBytes: minimum, payloadBytes: payloadMax - (payloadMax % minimum), rangeBytes: rangeMaxBytes }
}

/** The smallest aligned range that holds `range`. */
export function widened({ offset, lengthBytes }: Range, alignBytes: number): Range {
  const from = offset - (offset % alignBytes)
  const end = Math.ceil((offset + lengthBytes) / alignBytes) * alignBytes
  return { offset: from, lengthBytes: end - from }
}

/** The range in parts of at most `maxBytes`; one, even if it is empty. */
export function parts({ offset, lengthBytes }: Range, maxBytes: number): Range[] {
  const found: Range[] = []
  for (let at = 0; at < lengthBytes || found.length === 0; at += maxBytes) {
    found.push({ offset: offset + at, lengthBytes: Math.min(maxBytes, lengthBytes - at) })
  }
  return found
}
