// What records say of a site whose key was renewed: it has another fingerprint and another id from then on. Pure.

import type { MigrationRecord } from '../store/records.ts'

/** One site, before and after. */
export interface Renaming {
  readonly before: SiteNames
  readonly after: SiteNames
}

export interface SiteNames {
  readonly fingerprint: string
  readonly siteId: string
}

/** The site as owner. */
export function renamedOwner(owner: string, { before, after }: Renaming): string {
  return owner === before.siteId ? after.siteId : owner
}

/** undefined: the record does not name the site. */
export function renamedMigration(record: MigrationRecord, renaming: Renaming): MigrationRecord | undefined {
  const { before, after } = renaming
  const isPeer = record.peerId === before.fingerprint
  const isOwner = record.disks.some(({ owner }) => owner === before.siteId)
  if (!isPeer && !isOwner) return undefined
  return {
    ...record,
    ...(isPeer && { peerId: after.fingerprint, peerSite: after.siteId }),
    disks: record.disks.map((disk) => ({ ...disk, owner: renamedOwner(disk.owner, renaming) })),
  }
}
