// A peer that speaks in frames of the test's choosing, to a lane that dialled it.

import { hash } from 'node:crypto'
import { type Duplex, duplexPair } from 'node:stream'
import type { Piece } from '../../src/block/units.ts'
import type { Lane } from '../../src/link/lane/lane.ts'
import type { StreamLaneOptions } from '../../src/link/lane/stream-lane.ts'
import { encodeJson, encodePart, encodePiece, type Frame, FrameDecoder } from '../../src/link/wire/frames.ts'
import { lane, ManualClock, settle } from './pair.ts'

export interface RawPeer {
  readonly lane: Lane
  readonly clock: ManualClock
  readonly stream: Duplex
  /** What the lane sent, in order. */
  readonly heard: Frame[]
  say(...bytes: Uint8Array[]): Promise<void>
}

export const helloFrame = encodeJson('hello', 0, {
  protocolVersion: 3,
  oldestVersion: 3,
  purpose: 'control',
  stripe: 0,
  features: [],
})

/** As sites of earlier link protocols say it. */
export const oldHelloFrames = {
  1: encodeJson('hello', 0, { protocolVersion: 1, oldestVersion: 1, purpose: 'control', features: [] }),
  2: encodeJson('hello', 0, { protocolVersion: 2, oldestVersion: 2, purpose: 'control', stripe: 0, features: [] }),
} as const
export type OldVersion = keyof typeof oldHelloFrames

/** The frame of a piece, with its digest. */
export function pieceFrame(id: number, piece: Piece): Uint8Array[] {
  return encodePiece(id, piece, piece.bytes && hash('sha256', piece.bytes, 'buffer'))
}

/** The frame of a part of a body, with its digest. */
export function partFrame(id: number, bytes: Uint8Array): Uint8Array[] {
  return encodePart(id, bytes, hash('sha256', bytes, 'buffer'))
}

export async function rawPeer(options: Partial<StreamLaneOptions> & { greet?: boolean } = {}): Promise<RawPeer> {
  const [near, far] = duplexPair()
  const clock = new ManualClock()
  const { greet = true, ...rest } = options
  const made = lane(near, { clock, ...rest })
  const decoder = new FrameDecoder()
  const heard: Frame[] = []
  far.on('error', () => {})
  far.on('data', (chunk: Buffer) => decoder.push(chunk, (frame) => heard.push(frame)))
  const say = async (...bytes: Uint8Array[]) => {
    far.write(Buffer.concat(bytes))
    await settle()
  }
  if (greet) await say(helloFrame)
  return { lane: made, clock, stream: far, heard, say }
}
