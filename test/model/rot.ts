// Rot of a map log at rest, while its machine is off: a bit flips in a record that was durable once, or the log is cut below
// it. The disk must be refused then, whatever else the log says (promise 4); the operator puts the log back from a copy.

import assert from 'node:assert/strict'
import { headerBytes, RecordType, recordAt, recordBytes } from '../../src/store/map-log-format.ts'
import type { Random } from '../random.ts'
import type { SimFile } from './sim-file.ts'
import type { SimSite } from './sim-site.ts'
import { oneOf } from './stage.ts'

export interface Rot {
  /** Of the disk. */
  readonly id: string
  /** A whole data folder that was put back has taken it away. */
  isThere(): boolean
  putBack(): void
}

/** Damages the map log of an arriving disk of the site. undefined: there is nothing to damage. */
export function rotMaps(site: SimSite, ids: readonly string[], random: Random): Rot | undefined {
  const id = oneOf(random, ids)
  const record = site.database.disk.get(id)
  const path = `${record?.folder}/maps.log`
  const file = record?.state === 'arriving' ? site.machine.files.get(path) : undefined
  if (!record || !file || file.bytes.length < headerBytes + recordBytes) return undefined
  const before = file.bytes
  const bytes = Buffer.from(before)
  const durable = Math.max(
    bytes.readUInt32LE(108),
    record.mapLog?.key === bytes.readUInt32LE(12) ? record.mapLog.records : 0,
  )
  if (random.chance(0.5)) {
    put(file, bytes.subarray(0, headerBytes + random.integer(durable) * recordBytes))
  } else {
    const broken = random.integer(Math.max(durable, withTwoCommitsBehind(bytes)))
    bytes[headerBytes + broken * recordBytes + random.integer(recordBytes)]! ^= 1 << random.integer(8)
    put(file, bytes)
  }
  return { id, isThere: () => site.machine.files.get(path) === file, putBack: () => put(file, before) }
}

/** The disk whose maps are damaged is served to nobody. */
export function checkRefused(site: SimSite, { id }: Rot): void {
  const disk = site.disks!.all().find(({ record }) => record.id === id)
  assert(disk?.isUnusable, `promise 4: ${site.name} believes a map that was damaged where it had been durable`)
}

/** Records from the first on that have two intact commits behind them. */
function withTwoCommitsBehind(bytes: Buffer): number {
  const key = bytes.readUInt32LE(12)
  const whole = Math.floor((bytes.length - headerBytes) / recordBytes)
  const isCommit = (index: number) => recordAt(bytes, key, index)?.type === RecordType.commit
  const commits = Array.from({ length: whole }, (_, index) => index).filter(isCommit)
  return commits.at(-2) ?? 0
}

/** On the platter, and as every process reads it. */
function put(file: SimFile, bytes: Uint8Array): void {
  file.bytes = Uint8Array.from(bytes)
  file.durable = Uint8Array.from(bytes)
}
