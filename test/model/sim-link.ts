// The way between two simulated sites: what one says arrives late (the seed chooses when), gets lost, is repeated or cut off,
// bits flip, and requests wait while the way is closed. What the other throws travels as the real link lets it travel.
//
// What goes this way is a site's counterpart: over the link's own code (a channel with JSON), or straight, desk to desk
// (direct.ts). What holds by the way must hold by any.

import type { Piece } from '../../src/block/units.ts'
import {
  AnswerWithBody,
  type FetchRequest,
  LinkError,
  type LongAnswer,
  type PeerChannel,
  type PeerHandlers,
  PeerRefusal,
} from '../../src/link/channel.ts'
import type { SiteDesk } from '../../src/migration/counterpart.ts'
import { overTheWire } from './wire.ts'
import type { SimProcess, World } from './world.ts'

/** In which a whole disk may arrive. */
const lateSteps = 200

export interface SimEnd {
  readonly process: SimProcess
  readonly handlers: PeerHandlers
  desk(peerId: string): SiteDesk
}

/** Who speaks, and to whom it finds at that moment. */
export interface Way {
  readonly from: SimProcess
  readonly fromPeerId: string
  readonly to: () => SimEnd | undefined
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
  /** What is called so arrives after much else has. */
  late: string | undefined
  /** Something that is asked or told arrives, called so. */
  onCall: (from: SimProcess, what: string) => void = () => {}
  /** A piece is given out, that was asked for under a generation. */
  onServed: (by: SimProcess, disk: string, generation: number) => void = () => {}
  /** Grows when the link is cut: what was under way before is lost. */
  #epoch = 0

  constructor(world: World) {
    this.#world = world
  }

  cut(): void {
    this.#epoch++
  }

  /** The link, as its hub would give it. */
  channel(way: Way, toPeerId: string): PeerChannel {
    return {
      peerId: toPeerId,
      call: async (method, params, { signal }) => (await this.#call(way, method, params, signal)).answer,
      callForBody: async (method, params, { signal }) => {
        const { answer, body } = await this.#call(way, method, params, signal)
        return { answer, body: this.#body(body) }
      },
      fetch: (request, { urgency, signal }) =>
        this.stream(way, request, signal, (end) => end.handlers.fetch(way.fromPeerId, request, urgency, signal)),
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

  /** Something is asked, once or twice, and answered; or one of both is lost. */
  async exchange<Answer>(
    { from, to }: Way,
    what: string,
    ask: (end: SimEnd) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const end = await this.#arrive(from, what, to, signal)
    const epoch = this.#epoch
    const { random } = this.#world
    if (random.chance(this.faultRate)) throw new LinkError('lost', `${what} was lost`)
    this.onCall(from, what)
    const handle = async () => ask(end)
    if (random.chance(this.faultRate)) void this.#repeat(end, what, handle)
    const answer = Promise.withResolvers<Answer>()
    handle().then(answer.resolve, (error: unknown) => answer.reject(travelled(error)))
    // The answer comes when it is ready and the seed says so; never from a process that died, nor over a cut link.
    let settled = false
    answer.promise.then(
      () => (settled = true),
      () => (settled = true),
    )
    const broken = () => !end.process.alive || this.#epoch !== epoch || signal.aborted
    await this.#world.event(from, `← ${what}`, { ready: () => settled || broken() })
    if (signal.aborted) throw new LinkError('aborted', 'given up', { cause: signal.reason })
    if (broken() || random.chance(this.faultRate)) throw new LinkError('lost', `the answer to ${what} was lost`)
    return answer.promise
  }

  #call(way: Way, method: string, params: object, signal: AbortSignal): Promise<Answered> {
    const message = JSON.stringify(params)
    const heard = async (end: SimEnd) =>
      byValue(await end.handlers.call(way.fromPeerId, method, JSON.parse(message), unheard()))
    return this.exchange(way, method, heard, signal)
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

  /** The same once more, at some later time. Its answer goes nowhere. */
  async #repeat(end: SimEnd, what: string, handle: () => Promise<unknown>): Promise<void> {
    await this.#world.event(end.process, `→ ${what} again`)
    await handle().catch(() => {})
  }

  /** Pieces that come one by one, as `open` gives them there. */
  async *stream(
    { from, to }: Way,
    { disk, generation, runs }: Pick<FetchRequest, 'disk' | 'generation' | 'runs'>,
    signal: AbortSignal,
    open: (end: SimEnd) => AsyncIterable<Piece>,
  ): AsyncGenerator<Piece> {
    const what = `fetch ${runs.map((run) => `${run.offset}+${run.length}`).join(',')}`
    const end = await this.#arrive(from, what, to, signal)
    const epoch = this.#epoch
    const served = open(end)[Symbol.asyncIterator]()
    for (;;) {
      const broken = () => !end.process.alive || this.#epoch !== epoch || signal.aborted
      const next = served.next().catch((error: unknown) => travelled(error))
      let settled = false
      void next.then((result) => {
        settled = true
        if (!(result instanceof Error) && !result.done) this.onServed(end.process, disk, generation)
      })
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

/** Of a peer's signal the desks here never hear: whatever arrived is done. */
function unheard(): AbortSignal {
  return new AbortController().signal
}
