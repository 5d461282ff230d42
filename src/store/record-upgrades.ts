// The steps by which the records of an earlier vmstore become those of today, one format at a time.
//
// What always holds: a step is one transaction, so that a start which is cut short leaves the format before. What is damaged
// is not rewritten: a row is looked at before it gets a new checksum, as far as its format lets see.

import { dirname } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { withPathsOfFormat1 } from './record-paths.ts'
import { rowChecksum, shaped } from './record-shapes.ts'
import {
  type DiskRecord,
  type MigrationCounters,
  type MigrationRecord,
  type MovedDisk,
  untouchedDisk,
  untouchedMigration,
  untouchedMovedDisk,
  untouchedPeer,
} from './records.ts'
import { damagedRow, parsedRow } from './records-problem.ts'

export function countCommits(database: DatabaseSync): void {
  database.exec('CREATE TABLE site (commits INTEGER NOT NULL) STRICT; INSERT INTO site (commits) VALUES (1)')
}

/** Paths become relative, rows get a checksum, and transactions are counted. @throws when a row is none */
export function upgradeFrom1(database: DatabaseSync, path: string): void {
  database.exec('BEGIN IMMEDIATE')
  for (const table of ['disk', 'migration', 'peer']) {
    database.exec(`ALTER TABLE ${table} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0`)
    const put = database.prepare(`UPDATE ${table} SET body = ?, checksum = ? WHERE id = ?`)
    for (const row of database.prepare(`SELECT id, body FROM ${table}`).all()) {
      const [id, before] = [String(row['id']), String(row['body'])]
      const record = parsedRow(path, table, id, before)
      const body = table === 'disk' ? diskOfFormat1(record as DiskRecord, dirname(path)) : before
      put.run(body, rowChecksum(table, id, body), id)
    }
  }
  countCommits(database)
  database.exec('PRAGMA user_version = 2')
  database.exec('COMMIT')
}

const diskOfFormat1 = (record: DiskRecord, root: string): string =>
  JSON.stringify(withPathsOfFormat1({ ...untouchedDisk, ...record }, root))

/** Migrations get a list of disks, each with its owner, and their terms by themselves. @throws when a row is damaged */
export function upgradeFrom2(database: DatabaseSync, path: string, siteId: string): void {
  database.exec('BEGIN IMMEDIATE')
  const disks = new Map(rowsOf(database, path, 'disk').map(({ id, body }) => [id, body as Partial<DiskRecord>]))
  const put = database.prepare('UPDATE migration SET body = ?, checksum = ? WHERE id = ?')
  for (const { id, body } of rowsOf(database, path, 'migration')) {
    const before = body as MigrationOfFormat2
    const record = migrationOfFormat2(before, disks.get(before.diskId), siteId)
    const found = shaped('migration', id, JSON.parse(JSON.stringify(record)))
    if ('wrong' in found) throw damagedRow(path, 'migration', id, found.wrong)
    const text = JSON.stringify(record)
    put.run(text, rowChecksum('migration', id, text), id)
  }
  database.exec('PRAGMA user_version = 3')
  database.exec('COMMIT')
}

/**
 * What was not on record before is: a disk's deed, what a peer may, whose word a switchover has, what was copied ahead
 * (untouchedDisk and its like say what a record of before means). A deed is signed with the key of this site, which is not known
 * here: the daemon signs what was before deeds when it starts, before anybody is served (migration/adoption.ts). Until then a
 * record without a deed says just that.
 */
export function upgradeFrom3(database: DatabaseSync, path: string): void {
  database.exec('BEGIN IMMEDIATE')
  upgradeRows(database, path, 'disk', (body) => ({ ...untouchedDisk, ...body }))
  upgradeRows(database, path, 'peer', (body) => ({ ...untouchedPeer, ...body }))
  upgradeRows(database, path, 'migration', (body) => {
    const before = body as Partial<MigrationRecord>
    return {
      ...untouchedMigration,
      ...before,
      disks: before.disks?.map((disk) => ({ ...untouchedMovedDisk, ...disk })),
    }
  })
  database.exec('PRAGMA user_version = 4')
  database.exec('COMMIT')
}

/** @throws when a row is damaged, before and after */
function upgradeRows(
  database: DatabaseSync,
  path: string,
  table: 'disk' | 'migration' | 'peer',
  upgraded: (body: object) => object,
): void {
  const put = database.prepare(`UPDATE ${table} SET body = ?, checksum = ? WHERE id = ?`)
  for (const { id, body } of rowsOf(database, path, table)) {
    const text = JSON.stringify(upgraded(body))
    const found = shaped(table, id, JSON.parse(text))
    if ('wrong' in found) throw damagedRow(path, table, id, found.wrong)
    put.run(text, rowChecksum(table, id, text), id)
  }
}

function rowsOf(database: DatabaseSync, path: string, table: string): { id: string; body: object }[] {
  return database
    .prepare(`SELECT id, body, checksum FROM ${table}`)
    .all()
    .map((row) => {
      const [id, body] = [String(row['id']), String(row['body'])]
      if (Number(row['checksum']) !== rowChecksum(table, id, body))
        throw damagedRow(path, table, id, 'its checksum is wrong')
      return { id, body: parsedRow(path, table, id, body) }
    })
}

/** Optional are fields that were added while format 2 was in use: older rows lack them. */
interface MigrationOfFormat2 extends Omit<MigrationRecord, 'disks' | 'terms'> {
  readonly diskId: string
  readonly diskName: string
  readonly sizeBytes: number
  readonly generation: number
  readonly counters?: MigrationCounters
  readonly verified?: boolean
  readonly differed?: MovedDisk['differed']
  readonly reclaimedAs?: number | null
  readonly endOwner?: string | null
  readonly mode: string
  readonly switchover: string
  readonly switchoverWaitMs: number
  readonly maxRate: number | null
  readonly stallTimeoutMs?: number | null
  readonly sourcePolicy: string
  readonly force?: boolean
}

function migrationOfFormat2(
  record: MigrationOfFormat2,
  disk: Partial<DiskRecord> | undefined,
  siteId: string,
): MigrationRecord {
  const { diskId, diskName, sizeBytes, generation, counters, verified, differed, reclaimedAs, endOwner, ...rest } =
    record
  const {
    mode,
    switchover,
    switchoverWaitMs,
    maxRate,
    stallTimeoutMs = null,
    sourcePolicy,
    force = false,
    ...move
  } = rest
  const moved: MovedDisk = {
    id: diskId,
    name: diskName,
    sizeBytes,
    generation,
    owner: endOwner ?? ownerOfFormat2(record, disk, siteId),
    counters: counters ?? untouchedMovedDisk.counters,
    verified: verified ?? untouchedMovedDisk.verified,
    differed: differed ?? untouchedMovedDisk.differed,
    reclaimedAs: reclaimedAs ?? untouchedMovedDisk.reclaimedAs,
    hasLeft: false,
    deed: null,
  }
  const terms = { mode, switchover, switchoverWaitMs, maxRate, stallTimeoutMs, sourcePolicy, force }
  return { ...untouchedMigration, ...move, disks: [moved], terms }
}

/**
 * Of a migration that goes on, its disk's record says it. Of one that was over before the owner at the end was kept
 * (`endOwner`), its state says it, but for disks that were superseded or taken back.
 */
function ownerOfFormat2(record: MigrationOfFormat2, disk: Partial<DiskRecord> | undefined, siteId: string): string {
  const { id, role, state, peerSite } = record
  if (disk?.migrationId === id && disk.owner !== undefined) return disk.owner
  return (role === 'destination') === (state === 'done') ? siteId : peerSite
}
