// What two paired sites tell each other of the disks that moved between them, when one starts and when a link comes up: which
// generation they know of. A site that owns, gives or has given away a lower one was restored from an old copy of its data
// folder, or was away while the disk was taken back: it serves that disk to nobody any more, and keeps the bytes.
//
// What always holds: a site speaks only of disks that its own records show to have moved between it and that peer. What is
// claimed is durable at the site that claims it, so that a lower generation is never the newer one.
// What it cannot see: a peer that is out of reach, or to which the old copy was not paired yet.

import type { Clock } from '../../block/clock.ts'
import type { Disk } from '../../disk/disk.ts'
import type { Disks } from '../../disk/disks.ts'
import type { MigrationRecord } from '../../store/records.ts'
import type { Claim, Counterpart } from '../counterpart.ts'
import type { CourseLog } from '../course.ts'
import { isOld, type Supersession } from '../supersession.ts'

const maximumClaims = 10_000
/** How long a site that starts waits for its peers before guests are served: those that do not answer are asked again. */
const firstAnswerMs = 2000
const askAgainMs = 30_000
/** Migration states of a record under which its generation was taken, or given. */
const passedStates: readonly string[] = ['copying', 'finishing', 'done']

export interface GenerationsParts {
  readonly disks: Disks
  readonly siteId: string
  readonly clock: Clock
  readonly log: CourseLog
  counterpart(peerId: string): Counterpart
  probe(peerId: string, signal: AbortSignal): Promise<void>
  /** Every migration that this site knows. */
  migrations(): readonly MigrationRecord[]
  /** Ends whatever the disk does here, durably. */
  supersede(disk: Disk, by: Supersession): Promise<void>
  /** Resolves when the disks that are arriving from the peer are known not to be old copies, or are superseded. */
  confirmed(peerId: string): Promise<unknown>
}

export class Generations {
  readonly #parts: GenerationsParts
  readonly #stopping: AbortSignal
  readonly #asking = new Map<string, Promise<void>>()

  constructor(parts: GenerationsParts, stopping: AbortSignal) {
    this.#parts = parts
    this.#stopping = stopping
  }

  /** Asks every peer. Resolves when each has answered, or cannot be reached, or the time is over. */
  async askAll(peerIds: readonly string[]): Promise<void> {
    const { clock } = this.#parts
    const done = new AbortController()
    const late = clock.sleep(firstAnswerMs, AbortSignal.any([done.signal, this.#stopping])).catch(() => {})
    await Promise.race([Promise.all(peerIds.map((peerId) => this.#askFirst(peerId))), late])
    done.abort()
  }

  /** Asks a peer to which a link has come up. */
  ask(peerId: string): Promise<void> {
    const asking = this.#asking.get(peerId) ?? this.#ask(peerId).finally(() => this.#asking.delete(peerId))
    this.#asking.set(peerId, asking)
    return asking
  }

  /** What a peer says, and what it is told. */
  answer(peerId: string, claims: readonly Claim[]): readonly Claim[] {
    this.#heed(peerId, claims)
    return this.#claims(peerId)
  }

  /** One attempt now; if it fails, more of them until one does not, while guests are served. */
  async #askFirst(peerId: string): Promise<void> {
    try {
      await this.ask(peerId)
      await this.#parts.confirmed(peerId)
    } catch (error) {
      this.#parts.log(
        'info',
        { peer: peerId, reason: (error as Error).message },
        'a peer was not asked for generations',
      )
      void this.#askAgain(peerId)
    }
  }

  async #askAgain(peerId: string): Promise<void> {
    for (let isAnswered = false; !isAnswered && !this.#stopping.aborted; ) {
      await this.#parts.clock.sleep(askAgainMs, this.#stopping).catch(() => {})
      isAnswered = await this.ask(peerId).then(
        () => true,
        () => false,
      )
    }
  }

  async #ask(peerId: string): Promise<void> {
    const { counterpart, probe } = this.#parts
    this.#stopping.throwIfAborted()
    await probe(peerId, this.#stopping)
    const claims = await counterpart(peerId).generations(this.#claims(peerId), this.#stopping)
    await Promise.all(this.#heed(peerId, claims))
  }

  /** The highest generation of each disk that moved between this site and the peer, as far as this site knows. */
  #claims(peerId: string): Claim[] {
    const { disks, siteId, migrations } = this.#parts
    const claims = new Map<string, Claim>()
    const add = (one: Claim) => {
      if ((claims.get(one.disk)?.generation ?? 0) < one.generation) claims.set(one.disk, one)
    }
    for (const record of migrations()) {
      if (record.peerId !== peerId || !passedStates.includes(record.state)) continue
      const owner = record.role === 'destination' ? siteId : record.peerSite
      for (const { id, generation } of record.disks) add({ disk: id, generation, owner })
    }
    for (const { id } of migrations().flatMap((record) => (record.peerId === peerId ? record.disks : []))) {
      const disk = disks.get(id)
      if (!disk || disk.state === 'incoming' || disk.state === 'gone') continue // These know of the source's only.
      add({ disk: id, generation: disk.record.generation, owner: disk.record.owner })
    }
    return [...claims.values()].slice(0, maximumClaims)
  }

  #heed(peerId: string, claims: readonly Claim[]): Promise<void>[] {
    const { disks, log, supersede } = this.#parts
    return claims.flatMap(({ disk: id, generation, owner }) => {
      const disk = disks.get(id)
      if (!disk || !isOld(disk, { generation, owner })) return []
      const facts = { disk: disk.name, peer: peerId, state: disk.state, own: disk.record.generation, generation, owner }
      log('error', facts, 'a peer knows a higher generation: this site has an old copy, and serves the disk no more')
      return [
        supersede(disk, { generation, owner }).catch((error: unknown) =>
          log('error', { error: String(error) }, 'not superseded yet'),
        ),
      ]
    })
  }
}
