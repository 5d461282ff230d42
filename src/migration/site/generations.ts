// What two paired sites tell each other of the disks that moved between them, when one starts and when a link comes up: which
// deed they have, by its last entry. Who does not know that entry asks for the deed. A site whose own deed is a beginning of it,
// or is void where the two fork, was restored from an old copy of its data folder, or was away while the disk was taken back:
// it serves that disk to nobody any more, and keeps the bytes.
//
// What always holds: no word of a peer counts, and no number: a deed that was verified does, whoever brings it. A site speaks only
// of disks that moved between it and that peer, or whose deed names that peer. What is claimed is durable here.
// What it cannot see: a peer that is out of reach, or to which the old copy was not paired yet.

import type { Clock } from '../../block/clock.ts'
import { DeedError, headOf, isNamed } from '../../deed/deed.ts'
import { type Deed, hashOf } from '../../deed/entries.ts'
import { relate } from '../../deed/relation.ts'
import type { Disk } from '../../disk/disk.ts'
import type { Disks } from '../../disk/disks.ts'
import { commitTogether } from '../../disk/plan.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import { startingCode } from '../codes.ts'
import type { Claim, Counterpart } from '../counterpart.ts'
import type { CourseLog } from '../course.ts'
import { askDeed, deedUnknownCode } from '../deeds.ts'
import { mayServe, type Supersession, supersededNote, supersessionBy } from '../supersession.ts'

/** Of which one message has room. */
const maximumClaims = 1500
/** How long a site that starts waits for its peers before guests are served: those that do not answer are asked again. */
const firstAnswerMs = 2000
const askAgainMs = 30_000
/** Deeds that are asked for at once: a link has so many places, and others ask too. */
const askedAtOnce = 8

export interface GenerationsParts {
  readonly disks: Disks
  readonly clock: Clock
  readonly log: CourseLog
  readonly siteOf: (fingerprint: string) => string
  counterpart(peerId: string): Counterpart
  probe(peerId: string, signal: AbortSignal): Promise<void>
  /** Every migration that this site knows. */
  migrations(): readonly MigrationRecord[]
  /** Ends whatever the disk does here, durably. */
  supersede(disk: Disk, by: Supersession): Promise<void>
  /** Resolves when the disks that are arriving from the peer are known not to be old copies, or are superseded. */
  confirmed(peerId: string): Promise<unknown>
}

/** Its own, and the one that forks from it. */
function deedsIn(known: Pick<DiskRecord, 'deed' | 'rival'> | undefined): readonly Deed[] {
  return [known?.deed, known?.rival].filter((deed): deed is Deed => deed !== null && deed !== undefined)
}

export class Generations {
  readonly #parts: GenerationsParts
  readonly #stopping: AbortSignal
  readonly #asking = new Map<string, Promise<void>>()
  /** Peers that are asked again until they have answered. */
  readonly #askedAgain = new Set<string>()
  /** What does not count, and was told: peer, disk and the end of its deed. */
  readonly #told = new Set<string>()

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

  /** What a peer says, and what it is told. What it says is looked at besides: its deeds are to be had from it first. */
  answer(peerId: string, claims: readonly Claim[]): readonly Claim[] {
    this.#lookAt(peerId, claims).catch(() => void this.#askAgain(peerId))
    return this.#claims(peerId)
  }

  /** The deed of a disk, for a peer that may see it. @throws PeerRefusal */
  deedFor(peerId: string, diskId: string, head: string | null): Deed {
    const known = this.#known(diskId)
    const deeds = deedsIn(known)
    const deed = deeds.find((each) => head === null || headOf(each) === head)
    if (!deed || !this.#mayKnow(peerId, diskId, deeds))
      throw new PeerRefusal(deedUnknownCode, 'that site has no such deed, or none for this one')
    if (this.#parts.disks.get(diskId)?.isVoid && known?.state !== 'superseded')
      throw new PeerRefusal(startingCode, 'that site is putting another deed of the disk on record: ask again')
    return deed
  }

  /** The deed of a disk that is here, or was here, as far as this site knows. */
  deedOf(diskId: string): Deed | null {
    return this.#known(diskId)?.deed ?? null
  }

  /** A deed, verified, that was brought by whomever. Resolves when what it means is on record. */
  async heed(peerId: string, deed: Deed): Promise<void> {
    const { disks, log, siteOf, supersede } = this.#parts
    const disk = disks.get(deed[0]!.disk)
    const ours = disk?.record.deed
    if (!disk || !ours) return
    const relation = relate(ours, deed)
    if (relation.kind === 'unrelated') return this.#tell(peerId, disk.name, deed, 'it has nothing in common with ours')
    if (relation.kind === 'same') return this.#learnRelease(disk, deed)
    const by = mayServe(disk) ? supersessionBy(ours, deed, siteOf) : undefined
    // Whom this site gave it to has another key since: what was given to that site is its own still.
    const isRekeyedThere = disk.state === 'departed' && by?.rival === null && by.generation === disk.record.generation
    if (!by || isRekeyedThere) return
    const facts = { disk: disk.name, peer: peerId, state: disk.state, generation: by.generation, owner: by.owner }
    const what = by.rival ? supersededNote(by) : 'a peer has a deed that goes further: this site has an old copy'
    if (!disk.isVoid) log('error', facts, `${what}. The disk is served here no more`)
    await supersede(disk, by)
    if (by.rival) await this.#tellRival(peerId)
  }

  /** Both stop where nobody can say which is valid: the one that has brought its deed hears of ours. */
  async #tellRival(peerId: string): Promise<void> {
    const { counterpart } = this.#parts
    await counterpart(peerId)
      .generations(this.#claims(peerId), this.#stopping)
      .catch(() => void this.#askAgain(peerId))
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
        'a peer was not asked for the deeds that it has',
      )
      void this.#askAgain(peerId)
    }
  }

  async #askAgain(peerId: string): Promise<void> {
    if (this.#askedAgain.has(peerId)) return
    this.#askedAgain.add(peerId)
    for (let isAnswered = false; !isAnswered && !this.#stopping.aborted; ) {
      await this.#parts.clock.sleep(askAgainMs, this.#stopping).catch(() => {})
      isAnswered = await this.ask(peerId).then(
        () => true,
        () => false,
      )
    }
    this.#askedAgain.delete(peerId)
  }

  async #ask(peerId: string): Promise<void> {
    const { counterpart, probe } = this.#parts
    this.#stopping.throwIfAborted()
    await probe(peerId, this.#stopping)
    const claims = await counterpart(peerId).generations(this.#claims(peerId), this.#stopping)
    await this.#lookAt(peerId, claims)
  }

  /** The deed of each disk that moved between this site and the peer, or that names it. */
  #claims(peerId: string): Claim[] {
    const { disks, migrations } = this.#parts
    const moved = migrations().flatMap((record) => record.disks.map(({ id }) => id))
    const claims = [...new Set([...disks.all().map(({ id }) => id), ...moved])].flatMap((id) => {
      const known = this.#known(id)
      const isVoid = disks.get(id)?.isVoid && known?.state !== 'superseded'
      const deeds = deedsIn(known)
      if (isVoid || !this.#mayKnow(peerId, id, deeds)) return []
      return deeds.map((deed) => ({ disk: id, head: headOf(deed), length: deed.length }))
    })
    return claims.slice(0, maximumClaims)
  }

  /** Of a disk that is on its way here only its source knows. */
  #known(diskId: string): Pick<DiskRecord, 'state' | 'deed' | 'rival'> | undefined {
    const { disks, migrations } = this.#parts
    const record = disks.get(diskId)?.record
    if (record) return record.state === 'incoming' || record.state === 'gone' ? undefined : record
    const deleted = migrations().findLast((each) => each.disks.some(({ id, deed }) => id === diskId && deed !== null))
    const deed = deleted?.disks.find(({ id }) => id === diskId)?.deed
    return deed ? { state: 'gone', deed, rival: null } : undefined
  }

  #mayKnow(peerId: string, diskId: string, deeds: readonly Deed[]): boolean {
    const { migrations } = this.#parts
    if (deeds.some((deed) => isNamed(deed, peerId))) return true
    return migrations().some((record) => record.peerId === peerId && record.disks.some(({ id }) => id === diskId))
  }

  /** Asks for the deeds that are not known here. Resolves when what they mean is on record; rejects when one could not be had. */
  async #lookAt(peerId: string, claims: readonly Claim[]): Promise<void> {
    const unknown = claims.filter(({ disk: id, head }) => {
      const deed = this.#parts.disks.get(id)?.record.deed
      return deed && !deed.some((entry) => hashOf(entry) === head)
    })
    // One that cannot be recorded yet does not keep the others from being asked for.
    const heeded: Promise<void>[] = []
    for (let at = 0; at < unknown.length; at += askedAtOnce) {
      const asked = unknown.slice(at, at + askedAtOnce).map(async (claim) => {
        const deed = await this.#askFor(peerId, claim)
        if (!deed) return
        const over = this.heed(peerId, deed)
        over.catch(() => {}) // It is told below.
        heeded.push(over)
      })
      await Promise.all(asked)
    }
    await Promise.all(heeded)
  }

  /** undefined: what the peer has is none. */
  async #askFor(peerId: string, { disk: id, head }: Claim): Promise<Deed | undefined> {
    const { clock, counterpart, disks } = this.#parts
    try {
      return await askDeed(counterpart(peerId), id, { clock, head, signal: this.#stopping })
    } catch (error) {
      const isNone = error instanceof DeedError || (error instanceof PeerRefusal && error.code === deedUnknownCode)
      if (!isNone) throw error
      this.#tellOnce(peerId, disks.get(id)?.name ?? id, head, error.message)
      return undefined
    }
  }

  /** Who had given the disk has let it go, and this site had not heard it. Nothing depends on it, so that a move is left alone. */
  async #learnRelease(disk: Disk, deed: Deed): Promise<void> {
    const { deed: ours, state, migrationId } = disk.record
    const isMore = ours && deed.length === ours.length + 1 && hashOf(deed[ours.length - 1]!) === headOf(ours)
    if (!isMore || state !== 'owned' || migrationId !== null) return
    const noted = disk.noteDeed(deed)
    const next = (now: DiskRecord) => (now.deed === ours && now.migrationId === null ? noted.next(now) : now)
    await commitTogether([{ ...noted, next }]).catch(() => {}) // It is heard again.
  }

  #tell(peerId: string, disk: string, deed: Deed, why: string): void {
    this.#tellOnce(peerId, disk, headOf(deed), why)
  }

  /** That a deed does not count, once. */
  #tellOnce(peer: string, disk: string, head: string, why: string): void {
    const what = `${peer} ${disk} ${head}`
    if (this.#told.has(what)) return
    if (this.#told.size > maximumClaims) this.#told.clear()
    this.#told.add(what)
    this.#parts.log('warn', { peer, disk, why }, 'a peer speaks of a deed that does not count')
  }
}
