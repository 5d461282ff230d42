// What the old key has to sign when the key of a site is renewed, and a renewal that the last daemon had decided and not finished.

import type { Logger } from 'pino'
import { holderOf } from '../deed/deed.ts'
import type { SigningKey } from '../deed/keys.ts'
import { signRekeyed } from '../deed/signing.ts'
import type { KeyFiles } from '../peer/key-renewal.ts'
import type { Change, DiskRecord, Records, SiteRecords } from '../store/records.ts'
import { type OwnIdentity, refusing } from './own-identity.ts'
import { type Renaming, renamedMigration, renamedOwner } from './renamed-records.ts'

/** What becomes of a disk's record: its owner's name, and its deed, if the old key holds it here. */
export function renewedDisk(
  now: DiskRecord,
  renaming: Renaming,
  key: SigningKey,
  at: string,
): Partial<Pick<DiskRecord, 'owner' | 'deed'>> {
  const owner = renamedOwner(now.owner, renaming)
  const { deed, state } = now
  const isOurs = state === 'owned' && deed !== null && holderOf(deed) === key.fingerprint
  return {
    ...(owner !== now.owner && { owner }),
    ...(isOurs && { deed: signRekeyed(key, deed, renaming.after.fingerprint, at) }),
  }
}

export interface LeftParts {
  readonly own: OwnIdentity
  readonly keys: KeyFiles
  readonly records: Records
  readonly log: Logger
  renameNotes(records: readonly DiskRecord[], renaming: Renaming): Promise<void>
}

/**
 * At a start, before anything else: what the last daemon had decided is put on record, and the key in its place. Done twice it
 * changes nothing more. @throws Refusal when a file of the key cannot be used
 */
export async function finishLeft({ own, keys, records, log, renameNotes }: LeftParts): Promise<void> {
  const next = await refusing(() => keys.left())
  if (!next) return
  log.warn(
    { site: next.siteId },
    'the key of this site was being renewed when the last daemon ended: that is finished now',
  )
  const renaming: Renaming = { before: own.now, after: next }
  const loaded = await records.load()
  const changes = changesLeft(loaded, renaming, own.key)
  if (changes.length > 0) await records.commit(changes)
  await renameNotes(loaded.disks, renaming)
  await keys.replace()
  own.become(next)
}

function changesLeft(loaded: SiteRecords, renaming: Renaming, key: SigningKey): Change[] {
  const at = new Date().toISOString()
  const disks = loaded.disks.flatMap((now): Change[] => {
    const facts = renewedDisk(now, renaming, key, at)
    return Object.keys(facts).length > 0 ? [{ put: 'disk', record: { ...now, ...facts } }] : []
  })
  const migrations = loaded.migrations.flatMap((each): Change[] => {
    const record = renamedMigration(each, renaming)
    return record ? [{ put: 'migration', record }] : []
  })
  return [...disks, ...migrations]
}
