// Makes the lanes of a site over streams: over one that it dials, from plain data, or over one that a peer dialled. What is
// above uses lanes only (lane.ts).

import type { Duplex } from 'node:stream'
import type { Timers } from '../../block/clock.ts'
import type { Log } from '../../transport/index.ts'
import type { PeerHandlers } from '../channel.ts'
import type { Lane, LaneMaker, LaneTarget } from './lane.ts'
import { StreamLane } from './stream-lane.ts'

export interface StreamLanesOptions {
  /** A secured stream to the peer, whose key was checked. Rejects with LinkError 'unreachable'. */
  connect(target: LaneTarget, signal: AbortSignal): Promise<Duplex>
  readonly handlers: PeerHandlers
  readonly log: Log
  readonly clock: Timers
  /** A peer broke the protocol on a lane of its. */
  readonly onJunk?: ((peerId: string, bytes: number) => void) | undefined
}

export class StreamLanes implements LaneMaker {
  readonly #options: StreamLanesOptions

  constructor(options: StreamLanesOptions) {
    this.#options = options
  }

  async dial(target: LaneTarget, signal: AbortSignal): Promise<Lane> {
    const { peerId, purpose, stripe } = target
    const stream = await raced(this.#options.connect(target, signal), signal)
    const lane = new StreamLane(stream, { ...this.#options, peerId, use: { purpose, stripe } })
    const giveUp = () => lane.close()
    signal.addEventListener('abort', giveUp, { once: true })
    try {
      if (signal.aborted) lane.close()
      await lane.opened
    } finally {
      signal.removeEventListener('abort', giveUp)
    }
    return lane
  }

  /** A secured stream that the peer dialled; its hello says what the lane is for. */
  accept(peerId: string, stream: Duplex): Lane {
    return new StreamLane(stream, { ...this.#options, peerId, use: undefined })
  }
}

/** Settles when `signal` aborts, though `connecting` may not; a stream that comes too late is closed. */
function raced(connecting: Promise<Duplex>, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      reject(signal.reason)
      connecting.then(
        (late) => late.destroy(),
        () => {},
      )
    }
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    connecting.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
