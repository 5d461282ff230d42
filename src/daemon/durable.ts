// What of a site survives its daemon: records, files, and its key. For tests alone, both may have a crash point (crash-points.ts).

import type { Logger } from 'pino'
import type { SigningKey } from '../deed/keys.ts'
import { adopted } from '../migration/adoption.ts'
import { wrongTerms } from '../migration/terms.ts'
import { FolderKeyFiles } from '../peer/key-renewal.ts'
import type { DataFolder } from '../store/data-folder.ts'
import { KernelFiles } from '../store/kernel-files.ts'
import type { DiskRecord, Records, SiteRecords } from '../store/records.ts'
import { SqliteRecords } from '../store/sqlite-records.ts'
import type { Durable } from './crash-points.ts'
import { isBesideServedFile } from './served-file.ts'

export async function openDurable(folder: DataFolder, siteId: string, log: Logger): Promise<Durable> {
  const hasDisks = (await folder.diskIds()).length > 0 || (await isBesideServedFile(folder, siteId))
  const records = await SqliteRecords.open(folder.databasePath, { hasDisks, siteId, wrongTerms })
  const durable = { records, files: new KernelFiles(), keys: new FolderKeyFiles(folder.root) }
  const point = process.env['VMSTORE_TEST_CRASH_POINT']
  if (point === undefined) return durable
  try {
    const { withCrashPoint } = await import('./crash-points.ts')
    return withCrashPoint(point, durable, log)
  } catch (error) {
    await durable.records.close()
    throw error
  }
}

/** What is on record, with a deed of each disk from before deeds: signed in one transaction, before anybody is served. */
export async function loadedWithDeeds(records: Records, key: SigningKey, log: Logger): Promise<SiteRecords> {
  const loaded = await records.load()
  const changes = adopted(loaded, key, new Date().toISOString())
  if (changes.length === 0) return loaded
  await records.commit(changes)
  log.info({ disks: changes.map(({ record }) => record.name) }, 'these disks have a deed from now on')
  const now = new Map(changes.map(({ record }) => [record.id, record]))
  return { ...loaded, disks: loaded.disks.map((record) => now.get(record.id) ?? record) }
}

/** What a daemon left that died while it made or removed a disk. It may be bytes of worth: it is told, and stays. */
export async function tellUnrecorded(folder: DataFolder, disks: readonly DiskRecord[], log: Logger): Promise<void> {
  const recorded = new Set(disks.map(({ id }) => id))
  for (const id of await folder.diskIds()) {
    if (recorded.has(id)) continue
    const path = folder.diskFolder(id)
    log.warn(
      { path },
      'a folder among the disks belongs to no disk on record: look at it, and remove it if it is of no use',
    )
  }
}
