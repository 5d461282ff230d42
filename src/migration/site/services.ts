// What the migrations of a site need of that site. The crash model gives them all of it simulated.

import type { Disks } from '../../disk/disks.ts'
import type { Counterpart } from '../counterpart.ts'
import type { CourseServices } from '../course.ts'
import type { PeerRights } from '../peer-rights.ts'

/** Another site, as a migration needs to know it. */
export interface PeerFacts {
  /** Fingerprint. */
  readonly id: string
  readonly site: string
  readonly name: string
}

export interface MigrationsServices extends CourseServices {
  readonly disks: Disks
  readonly newId: () => string
  /** The site of a peer, as it is asked and told. */
  counterpart(peerId: string): Counterpart
  peer(peerId: string): PeerFacts
  /** What a peer may here. */
  rights(peerId: string): PeerRights
  /** All that this site is paired with. */
  peers(): readonly PeerFacts[]
  /** Keeps the link to a peer up; dispose when it is needed no more. */
  keep(peerId: string): Disposable
  /** `serve --read-only`. */
  readonly readOnly: boolean
  readonly transport: (peerId: string) => string
  /** Makes one attempt to reach a peer. @throws LinkError */
  probe(peerId: string, signal: AbortSignal): Promise<void>
}
