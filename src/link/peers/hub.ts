// All links of a site. Finds the peer that a request is for, and hands the rest to that peer's links.

import { systemTimers } from '../../block/clock.ts'
import type { Piece } from '../../block/units.ts'
import { type FetchRequest, LinkError, type PeerChannel, type Purpose } from '../channel.ts'
import type { Lane } from '../lane/lane.ts'
import type { LinkEvent, LinkFacts } from './link-watch.ts'
import { PeerLinks, type PeerLinksOptions, type Stripes } from './peer-links.ts'

const oneStripe: Stripes = { control: 1, demand: 1, background: 1 }

type Defaulted = 'clock' | 'random' | 'dateMs' | 'stripes'

/** The clock, the date and the chance are real ones unless given; of each purpose there is one stripe. */
export interface LinkHubOptions extends Omit<PeerLinksOptions, Defaulted>, Partial<Pick<PeerLinksOptions, Defaulted>> {}

export class LinkHub {
  readonly #options: PeerLinksOptions
  readonly #peers = new Map<string, PeerLinks>()
  readonly #listeners = new Set<(peerId: string) => void>()
  readonly #eventListeners = new Set<(peerId: string, event: LinkEvent) => void>()
  #closed = false

  constructor(options: LinkHubOptions) {
    this.#options = { clock: systemTimers, random: Math.random, dateMs: Date.now, stripes: oneStripe, ...options }
  }

  /** A lane over a stream that the peer dialled. */
  accept(peerId: string, lane: Lane): void {
    if (this.#closed) lane.close()
    else this.#links(peerId).accept(lane)
  }

  channel(peerId: string): PeerChannel {
    const lane = (purpose: Purpose, signal: AbortSignal) => this.#links(peerId).lane(purpose, signal)
    return {
      peerId,
      async call(method, params, { signal }) {
        return (await lane('control', signal)).call(method, params, signal)
      },
      async callForBody(method, params, { maximumBytes, signal }) {
        return (await lane('control', signal)).callForBody(method, params, maximumBytes, signal)
      },
      // The one generator between the socket and whoever fetches.
      async *fetch(request: FetchRequest, { urgency, signal }): AsyncGenerator<Piece> {
        for await (const piece of (await lane(urgency, signal)).fetch(request, urgency, signal)) yield piece
      },
    }
  }

  /** Resolves when the peer can be spoken to now; else makes one attempt, and rejects with a LinkError that says why not. */
  async probe(peerId: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#links(peerId).probe(signal)
  }

  /** Until disposed, all lanes to the peer are kept open by the side that can dial. */
  keep(peerId: string): Disposable {
    return this.#links(peerId).keep()
  }

  connected(peerId: string): boolean {
    return this.#peers.get(peerId)?.connected ?? false
  }

  /** Why the peer cannot be reached, in a sentence; undefined while it is connected or was not tried. */
  trouble(peerId: string): string | undefined {
    return this.#peers.get(peerId)?.trouble
  }

  /** undefined: nobody has spoken with the peer, or wanted to, since this site started. */
  facts(peerId: string): LinkFacts | undefined {
    return this.#peers.get(peerId)?.facts
  }

  /** What happens to the links, for people. */
  onEvent(listener: (peerId: string, event: LinkEvent) => void): Disposable {
    this.#eventListeners.add(listener)
    return { [Symbol.dispose]: () => this.#eventListeners.delete(listener) }
  }

  /** Called when a peer that had no open lane has one. */
  onUp(listener: (peerId: string) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** Closes everything of a peer: it was removed, or `why`. */
  drop(peerId: string, why = 'the peer was removed here'): void {
    const links = this.#peers.get(peerId)
    this.#peers.delete(peerId)
    links?.close(new LinkError('closed', why))
  }

  async close(): Promise<void> {
    this.#closed = true
    const all = [...this.#peers.values()]
    this.#peers.clear()
    for (const links of all) links.close(new LinkError('closed', 'this site is stopping'))
  }

  #links(peerId: string): PeerLinks {
    if (this.#closed) throw new LinkError('closed', 'this site is stopping')
    let links = this.#peers.get(peerId)
    if (!links) {
      links = new PeerLinks(peerId, this.#options, {
        up: () => {
          for (const listener of this.#listeners) listener(peerId)
        },
        event: (event) => {
          for (const listener of this.#eventListeners) listener(peerId, event)
        },
      })
      this.#peers.set(peerId, links)
    }
    return links
  }
}
