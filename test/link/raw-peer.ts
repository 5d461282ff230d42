// A peer that speaks in frames of the test's choosing, to a lane that dialled it.

import { type Duplex, duplexPair } from 'node:stream'
import type { Lane, LaneOptions } from '../../src/link/lane/lane.ts'
import { encodeJson, type Frame, FrameDecoder } from '../../src/link/wire/frames.ts'
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
  protocolVersion: 1,
  oldestVersion: 1,
  purpose: 'control',
  features: [],
})

export async function rawPeer(options: Partial<LaneOptions> & { greet?: boolean } = {}): Promise<RawPeer> {
  const [near, far] = duplexPair()
  const clock = new ManualClock()
  const { greet = true, ...rest } = options
  const made = lane(near, { clock, ...rest })
  const decoder = new FrameDecoder()
  const heard: Frame[] = []
  far.on('error', () => {})
  far.on('data', (chunk: Buffer) => heard.push(...decoder.push(chunk)))
  const say = async (...bytes: Uint8Array[]) => {
    far.write(Buffer.concat(bytes))
    await settle()
  }
  if (greet) await say(helloFrame)
  return { lane: made, clock, stream: far, heard, say }
}
