// What a grant has to show before it counts: of each disk the entry of the deed that follows what was offered, and makes the
// disk this site's in this move.
//
// What always holds: a disk that is not granted with the others is let go only if the source's deed of it shows that it is void
// for this site.

import { DeedError, holderOf } from '../../deed/deed.ts'
import type { Deed } from '../../deed/entries.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord } from '../../store/records.ts'
import type { Granted } from '../counterpart.ts'
import { askDeed, beforeGrant, checkOffered, deedOfGrant } from '../deeds.ts'
import { otherDisks } from '../entry.ts'
import { type Supersession, supersessionBy } from '../supersession.ts'
import type { ComingDisk } from './coming-disk.ts'
import type { DestinationHost } from './host.ts'

export interface Taken {
  readonly coming: ComingDisk
  readonly deed: Deed
  readonly powerLoss: DiskRecord['powerLoss']
}

export interface Let {
  readonly coming: ComingDisk
  readonly by: Supersession
}

/** What a grant makes of the disks that it was asked for. */
export interface Taking {
  readonly taken: readonly Taken[]
  /** They left the move at the source after it had granted all of them, and the answer was lost. */
  readonly left: readonly Let[]
}

export class Grants {
  readonly #host: DestinationHost

  constructor(host: DestinationHost) {
    this.#host = host
  }

  /** A move that began before disks had deeds has not been offered any. @throws LinkError, PeerRefusal, what the commit throws */
  async ensureOffered(coming: readonly ComingDisk[], signal: AbortSignal): Promise<void> {
    const { course, services, update } = this.#host
    for (const each of coming.filter(({ disk }) => disk.record.offered === null)) {
      const { key } = services
      const offered = beforeGrant(await this.#ask(each, signal), key.fingerprint, course.id)
      const { generation } = each.before
      checkOffered(offered, { name: each.name, peerId: course.record.peerId, generation, known: each.disk.record.deed })
      await update({}, () => [each.disk.arriving.noteOffered(offered)])
    }
  }

  /** @throws PeerRefusal when it does not count; LinkError when that cannot be said yet */
  async check(coming: readonly ComingDisk[], { disks }: Granted, signal: AbortSignal): Promise<Taking> {
    const { course, services } = this.#host
    const isAsked = ({ disk, generation }: Granted['disks'][number]) =>
      coming.some(({ frozen }) => frozen.disk === disk && frozen.generation === generation)
    if (!disks.every(isAsked) || disks.length === 0)
      throw otherDisks(
        coming.map(({ id }) => id),
        disks,
      )
    const taken: Taken[] = []
    const left: Let[] = []
    for (const each of coming) {
      const granted = disks.find(({ disk }) => disk === each.id)
      if (!granted) {
        left.push({ coming: each, by: await this.#whyLeft(each, signal) })
        continue
      }
      const { name, frozen } = each
      const { offered } = each.disk.record
      if (!offered) throw new PeerRefusal('deed-not-given', `${name} was not offered with a deed`)
      const to = { name, key: services.key.fingerprint, migration: course.id, generation: frozen.generation }
      taken.push({ coming: each, deed: deedOfGrant(offered, granted.given, to), powerLoss: granted.powerLoss })
    }
    return { taken, left }
  }

  /** @throws PeerRefusal when the source's deed does not say that the disk went elsewhere */
  async #whyLeft(coming: ComingDisk, signal: AbortSignal): Promise<Supersession> {
    const { services } = this.#host
    const { offered } = coming.disk.record
    const deed = await this.#ask(coming, signal)
    const by = offered && supersessionBy(offered, deed, services.siteOf)
    if (by && holderOf(deed) !== services.key.fingerprint) return by
    throw new PeerRefusal(
      'not-granted',
      `${coming.name} was not granted with the others, and its deed does not say why`,
    )
  }

  async #ask(coming: ComingDisk, signal: AbortSignal): Promise<Deed> {
    const { course, services } = this.#host
    try {
      return await askDeed(course.counterpart, coming.id, { clock: services.clock, signal })
    } catch (error) {
      if (error instanceof DeedError)
        throw new PeerRefusal(
          'deed-invalid',
          `the deed of ${coming.name} that the source has is none: ${error.message}`,
        )
      throw error
    }
  }
}
