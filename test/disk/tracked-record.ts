// The disk of tracked-guest.ts.

import { join } from 'node:path'
import type { DiskRecord } from '../../src/store/records.ts'
import { diskRecord } from '../store/samples.ts'

export function trackedRecord(folder: string): DiskRecord {
  const migrationId = '55555555-5555-4555-8555-555555555555'
  return diskRecord({ folder, path: join(folder, 'web01.raw'), sizeBytes: 8 * 2 ** 20, migrationId })
}
