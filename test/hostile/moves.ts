// Moves as a hostile peer speaks of them: the terms that any site would name, disks that it says it has, and the move that an
// operator has begun with it.

import { randomUUID } from 'node:crypto'
import type { MigrateRequest, MigrationView } from '../../src/control/types.ts'
import type { Terms } from '../../src/migration/terms.ts'
import { type Site, untilMigration } from '../e2e/sites.ts'
import type { HostileSite } from './hostile-site.ts'

export const usualTerms: Terms = {
  mode: 'post-copy',
  switchover: 'auto',
  switchoverWaitMs: 60_000,
  maxRate: null,
  stallTimeoutMs: null,
  sourcePolicy: 'keep',
  force: false,
}

export interface Offered {
  readonly id: string
  readonly name: string
  readonly sizeBytes: number
  readonly generation: number
  readonly allocatedBytes: number
  /** The hash of its deed's last entry. */
  readonly head: string
}

export function offered(changes: Partial<Offered> = {}): Offered {
  const usual = { name: 'offered', sizeBytes: 2 ** 20, generation: 1, allocatedBytes: 0, head: '0'.repeat(64) }
  return { id: randomUUID(), ...usual, ...changes }
}

/** What a source says of disks that it is about to move. */
export function preparation(disks: readonly Offered[], migration: string = randomUUID(), terms: Terms = usualTerms) {
  return { migration, disks, terms, boot: 'boot-1' }
}

/** The operator of the owner has given the disk to the hostile site, which says that it is prepared. */
export async function givenTo(
  hostile: HostileSite,
  owner: Site,
  disk: string,
  terms: Partial<MigrateRequest> = {},
): Promise<MigrationView> {
  hostile.replies['prepare'] = () => ({})
  const usual = { mode: 'post-copy', switchover: 'auto', switchoverWaitMs: 60_000, source: 'keep' } as const
  const { id } = await owner.control.migrate({ ...usual, disk, to: hostile.name, ...terms } as MigrateRequest)
  return untilMigration(owner, id, ({ state }) => state === 'ready')
}
