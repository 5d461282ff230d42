// What operators may do with the migrations under way at this site: finds the migration, has its course do it, and says in a
// sentence what became of it when the peer refused, or did not answer.
//
// What always holds: nothing is decided here about who owns a disk; the courses do. A disk is taken back only when its
// destination answers in no way, and the operator has said that the guest is off.

import { fingerprintOfKey } from '../../deed/keys.ts'
import type { Disk } from '../../disk/disk.ts'
import { Refusal } from '../../disk/refusal.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { Comparison } from '../copy/comparisons.ts'
import type { DiskAt } from '../counterpart.ts'
import type { Course } from '../course.ts'
import { diskNames } from '../move.ts'
import {
  asRefusal,
  destinationAnswers,
  notBounded,
  notCompared,
  notConfirmed,
  nothingToCompare,
  notKnown,
  notPaused,
  notReclaimable,
} from '../refusals.ts'
import { reachPeer, withinTime } from '../within-time.ts'
import { checkDeedsElsewhere } from './deeds-elsewhere.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices, PeerFacts } from './services.ts'

/** For what the destination is told on behalf of an operator who waits. */
const answerTimeoutMs = 5_000
/** For a source that decides whether a migration is cancelled. */
const cancelTimeoutMs = 10_000

const servesNobody = 'it serves the disk to nobody'

/** A disk of a move that was compared with its source. */
export interface Compared {
  readonly course: Course
  readonly disk: Disk
  readonly comparison: Comparison
}

/** `notAsked`: names of peers that could not be asked for its deed. */
export interface Reclaimed {
  readonly disk: Disk
  readonly notAsked: readonly string[]
}

export class Commands {
  readonly #services: MigrationsServices
  readonly #roster: Roster

  constructor(services: MigrationsServices, roster: Roster) {
    this.#services = services
    this.#roster = roster
  }

  /** `force`: also while a client works at the source, which is cut off then. @throws Refusal */
  async switchover(id: string, force: boolean, signal: AbortSignal): Promise<Course> {
    const course = this.#roster.course(id)
    try {
      await course.switchover(force, signal)
    } catch (error) {
      if (error instanceof LinkError) throw notKnown(course, error)
      throw asRefusal(error, diskNames(course.record), this.#services.peer(course.record.peerId).name)
    }
    return course
  }

  /** Holds the background copy, durably, or lets it go on. @throws Refusal */
  async setPaused(id: string, paused: boolean, signal: AbortSignal): Promise<Course> {
    const course = this.#roster.course(id)
    try {
      await withinTime(this.#services.clock, answerTimeoutMs, signal, (limited) => course.setPaused(paused, limited))
    } catch (error) {
      if (error instanceof LinkError) throw notPaused(course, paused, error)
      throw asRefusal(error, diskNames(course.record), this.#services.peer(course.record.peerId).name)
    }
    return course
  }

  /** Bounds the background copy anew, durably. @throws Refusal */
  async setMaxRate(id: string, maxRate: number | null, signal: AbortSignal): Promise<Course> {
    const course = this.#roster.course(id)
    try {
      await withinTime(this.#services.clock, answerTimeoutMs, signal, (limited) => course.setMaxRate(maxRate, limited))
    } catch (error) {
      if (error instanceof LinkError) throw notBounded(course, error)
      throw asRefusal(error, diskNames(course.record), this.#services.peer(course.record.peerId).name)
    }
    return course
  }

  /**
   * Takes a departed disk back, and all that passed with it, because their destination is lost for good. Refused while that
   * site answers in any way, or when any peer has a deed of one of them that goes further than this site's. Resolves to the
   * disk that was named.
   * `isConfirmed`: the operator was told what is lost, and has said that the guest is off. @throws Refusal
   */
  async reclaim(diskName: string, isConfirmed: boolean, signal: AbortSignal): Promise<Reclaimed> {
    const disk = this.#services.disks.named(diskName)
    const course = this.#roster.sources().find((each) => each.inMove.includes(disk))
    if (!course || disk.state !== 'departed') throw notReclaimable(disk)
    for (const each of course.inMove) {
      checkDetached(each)
      checkGiver(each, this.#services.key.fingerprint)
    }
    const peer = this.#services.peer(course.record.peerId)
    const says = await this.#whatPeerSays(course, signal)
    if (says !== undefined && says !== servesNobody) throw destinationAnswers(disk, peer.name, says)
    // A destination that has just not answered is not asked once more.
    const isOther = ({ id }: PeerFacts) => id !== peer.id || says === servesNobody
    const notAsked = await checkDeedsElsewhere(this.#services, course, isOther, signal)
    if (!isConfirmed) throw notConfirmed(course.record, peer.name, notAsked)
    for (const { name, record } of await course.reclaim(disk))
      this.#services.log('warn', { disk: name, generation: record.generation }, 'the disk was taken back')
    return { disk, notAsked }
  }

  /** Compares a disk on demand with the source that it comes from. @throws Refusal */
  async verify(diskName: string, signal: AbortSignal): Promise<Compared> {
    const disk = this.#services.disks.named(diskName)
    const course = this.#roster.destinations().find((each) => each.disks.includes(disk))
    if (!course) throw nothingToCompare(disk)
    const peer = this.#services.peer(course.record.peerId)
    if (disk.state === 'arriving') await reachPeer(this.#services, peer, disk.name, signal)
    try {
      return { course, disk, comparison: await course.verify(disk, signal) }
    } catch (error) {
      if (error instanceof LinkError || error instanceof PeerRefusal) throw notCompared(disk, peer.name, error)
      throw error
    }
  }

  async cancel(id: string, force: boolean, signal: AbortSignal): Promise<Course> {
    const course = this.#roster.course(id)
    await withinTime(this.#services.clock, cancelTimeoutMs, signal, (limited) => course.cancel(force, limited))
    return course
  }

  /**
   * Ends every migration with a peer here, and needs nothing of it. Resolves to what became of each, and what is lost with that
   * site: sentences. @throws what keeps one from being recorded; those before it are over then
   */
  async endAllWith(peerId: string): Promise<readonly string[]> {
    const { name } = this.#services.peer(peerId)
    const said: string[] = []
    for (const course of this.#roster.courses()) {
      if (course.record.peerId !== peerId) continue
      const sentence = await course.endWithout(name)
      this.#services.log('warn', { migration: course.id, peer: name }, sentence)
      said.push(sentence)
    }
    return said
  }

  /** undefined: it does not answer. `servesNobody`: it says so itself, of this disk. That it cannot be understood is an answer too. */
  async #whatPeerSays(course: Course, signal: AbortSignal): Promise<string | undefined> {
    const { counterpart, probe } = this.#services
    const { id } = course
    try {
      const { state, disks } = await withinTime(this.#services.clock, answerTimeoutMs, signal, (limited) =>
        counterpart(course.record.peerId).standing(id, limited),
      )
      if (state === 'failed') return servesNobody
      if (state === 'unknown') return `it knows nothing of migration ${id}`
      return `it has ${generationsOf(course, disks)}, ${state}`
    } catch (error) {
      if (!(error instanceof LinkError) || error.code === 'protocol') return (error as Error).message
    }
    try {
      await withinTime(this.#services.clock, answerTimeoutMs, signal, (limited) => probe(course.record.peerId, limited))
      return 'it can be reached'
    } catch (error) {
      if (error instanceof LinkError && !['protocol', 'incompatible'].includes(error.code)) return undefined
      return (error as Error).message
    }
  }
}

/** What was given can be taken back with the key that gave it, and with no other. @throws Refusal */
function checkGiver({ name, record: { deed } }: Disk, ownKey: string): void {
  const given = deed?.at(-1)
  if (!given || fingerprintOfKey(given.by) === ownKey) return
  throw new Refusal('key-gone', `${name} was given by another key than the one that this site has now`, {
    disk: name,
    safe: 'Nothing was changed, and its bytes are kept.',
    next: 'Restore the file identity.key that belongs to it, start vmstore again, and say disk reclaim then.',
  })
}

/** @throws Refusal */
function checkDetached({ name: disk, sessions }: Disk): void {
  if (sessions.count === 0) return
  throw new Refusal('disk-in-use', `${disk} has ${sessions.count} client(s) attached, of the time before it departed`, {
    disk,
    safe: 'Nothing was changed.',
    next: 'Detach them first: once the disk is taken back they would go on with it.',
  })
}

/** What the other site has of the disks of a move. */
function generationsOf(course: Course, theirs: readonly DiskAt[]): string {
  const each = course.inMove.map(({ id, name }) => {
    const generation = theirs.find(({ disk }) => disk === id)?.generation ?? 0
    return course.disks.length > 1 ? `generation ${generation} of ${name}` : `generation ${generation}`
  })
  return each.join(', ')
}
