// The bytes that a disk had here before it left and came back: kept until it is owned again (disks.ts puts the new ones
// beside them), and of no use after that.

import type { Files } from '../store/files.ts'
import type { CommittedRecord } from './committed-record.ts'

/** The disk is owned again. A file that is not in our folder is the operator's, and stays. */
export async function dropOldBytes(record: CommittedRecord, files: Files): Promise<void> {
  const { before, folder } = record.now
  if (!before) return
  if (before.path.startsWith(`${folder}/`)) await files.remove(before.path)
  await record.commit((now) => ({ ...now, before: null }), [])
}
