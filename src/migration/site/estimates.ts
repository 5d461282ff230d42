// What a move would cost, said before it begins: at the source, what there is to send and how fast it went last time; at the
// destination, whether the disks may come, how much room there is, and what of them it has already.
//
// What always holds: nothing changes by it, at either site: no disk is made, and no record.

import { PeerRefusal } from '../../link/channel.ts'
import { type Sampling, sampled, sparedOf } from '../copy/sampling.ts'
import type { EstimatedDisk, Forecast } from '../counterpart.ts'
import { summed } from '../move.ts'
import { offeredAs } from '../new-record.ts'
import { asRefusal } from '../refusals.ts'
import type { Terms } from '../terms.ts'
import { prepareTimeoutMs, reachPeer, withinTime } from '../within-time.ts'
import { checkAdmission } from './admission.ts'
import type { Beginnings } from './beginnings.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices, PeerFacts } from './services.ts'

/** A move that sent less says nothing of the rate. */
const tellingBytes = 2 ** 20

export interface EstimateOfDisk {
  readonly name: string
  readonly sizeBytes: number
  /** By extents, less the zeros that a look at some of it found. */
  readonly dataBytes: number
  /** Of it, what the destination has already, as far as a look at some of it says. */
  readonly sparedBytes: number
}

export interface Estimate {
  readonly disks: readonly EstimateOfDisk[]
  readonly freeBytes: number
  /** Bytes a second, of the last move with that peer, within the bound that was asked for; null: not known. */
  readonly rate: number | null
}

export class Estimates {
  readonly #services: MigrationsServices
  readonly #roster: Roster
  readonly #beginnings: Beginnings

  constructor(services: MigrationsServices, roster: Roster, beginnings: Beginnings) {
    this.#services = services
    this.#roster = roster
    this.#beginnings = beginnings
  }

  /** Of a move of disks of this site. @throws Refusal, as the move itself would */
  async make(diskNames: readonly string[], peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<Estimate> {
    const { clock, counterpart } = this.#services
    const disks = this.#beginnings.movable(diskNames)
    await reachPeer(this.#services, peer, diskNames.join(', '), signal)
    const samplings: Sampling[] = []
    for (const disk of disks) samplings.push(await sampled(disk, clock, signal))
    const offered = offeredAs(disks, terms).map((disk, index) => ({ ...disk, samples: samplings[index]!.samples }))
    const forecast = await this.#ask(() =>
      withinTime(clock, prepareTimeoutMs, signal, (limited) => counterpart(peer.id).estimate(offered, terms, limited)),
    ).catch((error: unknown) => {
      throw asRefusal(error, diskNames.join(', '), peer.name)
    })
    return {
      disks: disks.map(({ name, sizeBytes }, index) => {
        const { dataBytes, lookedAtBytes, notZeroBytes } = samplings[index]!
        const part = (bytes: number) => (lookedAtBytes === 0 ? 0 : Math.round((dataBytes * bytes) / lookedAtBytes))
        const data = lookedAtBytes === 0 ? dataBytes : part(notZeroBytes)
        return { name, sizeBytes, dataBytes: data, sparedBytes: part(forecast.sparedBytes[index] ?? 0) }
      }),
      freeBytes: forecast.freeBytes,
      rate: this.#rateWith(peer.id, terms.maxRate),
    }
  }

  /** What the destination refuses is refused to the operator. */
  async #ask(ask: () => Promise<Forecast>): Promise<Forecast> {
    const forecast = await ask()
    if (forecast.refusal) throw new PeerRefusal(forecast.refusal.code, forecast.refusal.message)
    return forecast
  }

  #rateWith(peerId: string, maxRate: number | null): number | null {
    const last = this.#roster.past
      .all()
      .filter((record) => record.peerId === peerId && record.state === 'done' && record.copyingMs > 0)
      .filter(({ disks }) => summed(disks.map(({ counters }) => counters)).sent >= tellingBytes)
      .toSorted((one, other) => (other.endedAt ?? '').localeCompare(one.endedAt ?? ''))[0]
    if (!last) return maxRate
    const rate = (summed(last.disks.map(({ counters }) => counters)).sent * 1000) / last.copyingMs
    return maxRate === null ? rate : Math.min(rate, maxRate)
  }

  /** What a peer's disks would meet here. */
  async answer(peerId: string, disks: readonly EstimatedDisk[], terms: Terms): Promise<Forecast> {
    const { freeBytes, seeds, clock } = this.#services
    const room = await freeBytes()
    try {
      await checkAdmission(this.#services, this.#roster, peerId, { disks, terms })
    } catch (error) {
      if (!(error instanceof PeerRefusal)) throw error
      return { refusal: { code: error.code, message: error.message }, freeBytes: room, sparedBytes: [] }
    }
    const sparedBytes: number[] = []
    for (const { id, samples } of disks) {
      const named = terms.seed === undefined ? undefined : await seeds?.open(terms.seed, id)
      const found = [await seeds?.kept(id, peerId), named].filter((seed) => seed !== undefined)
      sparedBytes.push(await sparedOf(samples, found, clock))
      for (const seed of found) await seed.close()
    }
    return { refusal: null, freeBytes: room, sparedBytes }
  }
}
