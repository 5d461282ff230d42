// The link between two simulated sites: messages are delayed (the seed chooses when each arrives), lost, repeated and cut
// off, bits flip, and requests wait while the link is down. What a peer's handler throws travels as the real link lets it travel.

import {
  AnswerWithBody,
  type FetchRequest,
  LinkError,
  type LongAnswer,
  type PeerChannel,
  type PeerHandlers,
  PeerRefusal,
  type Piece,
} from '../../src/link/channel.ts'
import { overTheWire } from './wire.ts'
import type { SimProcess, World } from './world.ts'

/** In which a whole disk may arrive. */
const lateSteps = 200

export interface SimEnd {
  readonly process: SimProcess
  readonly peerId: string
  readonly handlers: PeerHandlers
}

export class SimLink {
  readonly #world: World
  up = true
  /** Faults per message; 0 when the world is to settle. */
  faultRate = 0
  /** Of a hundred pieces in so many a bit flips on the way, as a fraction. */
  flipRate = 0
  /** A bit flipped in a piece with bytes. */
  onFlip: () => void = () => {}
  /** Calls of this method arrive after much else has. */
  late: string | undefined
  /** A call arrives. */
  onCall: (from: SimProcess, method: string) => void = () => {}
  /** Grows when the link is cut: what was under way before is lost. */
  #epoch = 0

  constructor(world: World) {
    this.#world = world
  }

  cut(): void {
    this.#epoch++
  }

  /** What `from` uses to speak to whoever `to` finds at that moment. */
  channel(from: SimProcess, fromPeerId: string, toPeerId: string, to: () => SimEnd | undefined): PeerChannel {
    return {
      peerId: toPeerId,
      call: async (method, params, { signal }) =>
        (await this.#call(from, fromPeerId, to, method, params, signal)).answer,
      callForBody: async (method, params, { signal }) => {
        const { answer, body } = await this.#call(from, fromPeerId, to, method, params, signal)
        return { answer, body: this.#body(body) }
      },
      fetch: (request, { urgency, signal }) => this.#fetch(from, fromPeerId, to, request, urgency, signal),
    }
  }

  /** One attempt to reach whoever `to` finds. */
  async probe(from: SimProcess, to: () => SimEnd | undefined): Promise<void> {
    await this.#world.event(from, 'probe')
    if (!this.up || to() === undefined) throw new LinkError('unreachable', 'the peer could not be reached')
  }

  async #arrive(from: SimProcess, label: string, to: () => SimEnd | undefined, signal: AbortSignal): Promise<SimEnd> {
    if (signal.aborted) throw new LinkError('aborted', 'given up', { cause: signal.reason })
    const { nowMs } = this.#world
    let stepsLeft = label === this.late ? lateSteps : 0
    const isDue = () => stepsLeft-- <= 0 || this.#world.nowMs > nowMs
    const ready = () => signal.aborted || (isDue() && this.up && to() !== undefined)
    await this.#world.event(from, `→ ${label}`, { ready })
    if (signal.aborted) throw new LinkError('aborted', 'given up', { cause: signal.reason })
    return to()!
  }

  async #call(
    from: SimProcess,
    fromPeerId: string,
    to: () => SimEnd | undefined,
    method: string,
    params: object,
    signal: AbortSignal,
  ): Promise<Answered> {
    const end = await this.#arrive(from, method, to, signal)
    const epoch = this.#epoch
    const { random } = this.#world
    if (random.chance(this.faultRate)) throw new LinkError('lost', `${method} was lost`)
    this.onCall(from, method)
    const message = JSON.stringify(params)
    const handle = () => end.handlers.call(fromPeerId, method, JSON.parse(message), new AbortController().signal)
    if (random.chance(this.faultRate)) void this.#repeat(end, method, handle)
    const answer = Promise.withResolvers<Answered>()
    handle().then(
      (value) => answer.resolve(byValue(value)),
      (error: unknown) => answer.reject(travelled(error)),
    )
    // The answer comes when it is ready and the seed says so; never from a process that died, nor over a cut link.
    let settled = false
    answer.promise.then(
      () => (settled = true),
      () => (settled = true),
    )
    const broken = () => !end.process.alive || this.#epoch !== epoch || signal.aborted
    await this.#world.event(from, `← ${method}`, { ready: () => settled || broken() })
    if (signal.aborted) throw new LinkError('aborted', 'given up', { cause: signal.reason })
    if (broken() || random.chance(this.faultRate)) throw new LinkError('lost', `the answer to ${method} was lost`)
    return answer.promise
  }

  /** A link that is cut in the middle leaves a part. */
  async *#body(whole: Buffer): LongAnswer['body'] {
    if (whole.length === 0) return
    const half = Math.ceil(whole.length / 2)
    yield whole.subarray(0, half)
    const isCut = this.faultRate > 0 && this.#world.random.chance(this.faultRate) // A calm world draws no number for it.
    if (isCut) throw new LinkError('lost', 'a body was cut')
    yield whole.subarray(half)
  }

  /** The same message once more, at some later time. Its answer goes nowhere. */
  async #repeat(end: SimEnd, method: string, handle: () => Promise<object>): Promise<void> {
    await this.#world.event(end.process, `→ ${method} again`)
    await handle().catch(() => {})
  }

  async *#fetch(
    from: SimProcess,
    fromPeerId: string,
    to: () => SimEnd | undefined,
    request: FetchRequest,
    urgency: 'demand' | 'background',
    signal: AbortSignal,
  ): AsyncGenerator<Piece> {
    const end = await this.#arrive(
      from,
      `fetch ${request.runs.map((run) => `${run.offset}+${run.length}`).join(',')}`,
      to,
      signal,
    )
    const epoch = this.#epoch
    const served = end.handlers.fetch(fromPeerId, request, urgency, signal)[Symbol.asyncIterator]()
    for (;;) {
      const broken = () => !end.process.alive || this.#epoch !== epoch || signal.aborted
      const next = served.next().catch((error: unknown) => travelled(error))
      let settled = false
      void next.then(() => (settled = true))
      await this.#world.event(from, '← piece', { ready: () => settled || broken() })
      if (signal.aborted) throw new LinkError('aborted', 'given up', { cause: signal.reason })
      if (broken() || this.#world.random.chance(this.faultRate)) throw new LinkError('lost', 'a fetch was cut')
      const result = await next
      if (result instanceof Error) throw result
      if (result.done) return
      // Bytes travel by value; they may be old when they arrive.
      const piece = await this.#carried(result.value)
      await this.#world.event(from, '← bytes')
      yield piece
    }
  }

  /** @throws LinkError, as the lane that breaks over a piece whose digest is wrong */
  async #carried(piece: Piece): Promise<Piece> {
    const { random } = this.#world
    if (this.flipRate === 0) return { ...piece, bytes: piece.bytes?.slice() } // Digests take time.
    const flips = piece.bytes !== undefined && random.chance(this.flipRate)
    if (flips) {
      this.#world.log(`a bit of the piece at ${piece.offset} FLIPS on its way`)
      this.onFlip()
    }
    return overTheWire(piece, flips ? random : undefined)
  }
}

interface Answered {
  readonly answer: unknown
  readonly body: Buffer
}

async function byValue(value: object): Promise<Answered> {
  const hasBody = value instanceof AnswerWithBody
  const chunks: Uint8Array[] = []
  if (hasBody) for await (const chunk of value.body) chunks.push(chunk)
  return { answer: JSON.parse(JSON.stringify(hasBody ? value.answer : value)), body: Buffer.concat(chunks) }
}

function travelled(error: unknown): Error {
  if (error instanceof PeerRefusal) return new PeerRefusal(error.code, error.message, error.facts)
  return new PeerRefusal('internal', String(error))
}
