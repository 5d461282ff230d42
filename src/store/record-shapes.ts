// What a row of the records must look like to be believed: a checksum over the row, and a shape. Pure.
//
// A bit that flipped in a generation, an owner or a state would have this site take, or give, what is not its own: a row that
// does not fit is damage, and nothing is served from it.

import { crc32 } from 'node:zlib'
import { z } from 'zod'
import { entryShape } from '../deed/entries.ts'
import type { DiskRecord, MigrationRecord, PeerRecord } from './records.ts'

/** Of a row: its table, its key and its text, so that no row passes for another. */
export function rowChecksum(table: string, id: string, body: string): number {
  return crc32(`${table}\0${id}\0${body}`)
}

const count = z.number().int().nonnegative()
/** Told to people, and partly by a peer's word: nothing depends on it, so that nothing is refused for it. */
const figure = z.number()
const text = z.string().min(1)
const ranges = z.array(z.object({ offset: count, length: count }))

/** Its signatures are not looked at anew: the row's checksum says that it is as it was when they were. */
const deed = z.array(entryShape).min(1).nullable()

/** Loose: a field that a newer vmstore of the same format added is kept. */
const disk = z.looseObject({
  id: text,
  name: text,
  path: text,
  folder: text,
  sizeBytes: count.min(1),
  state: text,
  generation: count.min(1),
  owner: text,
  migrationId: text.nullable(),
  servedFile: text.nullable(),
  before: z.object({ state: text, path: text }).nullable(),
  taken: z.boolean(),
  failedSync: z.object({ at: text, message: z.string() }).nullable(),
  mapLog: z.object({ key: count, records: count }).nullable(),
  tentativeEpoch: text.nullable(),
  unsynced: z.looseObject({}).nullable(),
  powerLoss: z.looseObject({}).nullable(),
  deed,
  offered: deed,
  rival: deed,
  dirtyEpoch: text.nullable(),
  createdAt: text,
})

const movedDisk = z.looseObject({
  id: text,
  name: text,
  sizeBytes: count,
  generation: count.min(1),
  owner: text,
  counters: z.object({ data: figure, sent: figure, skippedZero: figure, resent: figure, spared: figure.optional() }),
  verified: z.boolean(),
  differed: ranges,
  reclaimedAs: count.nullable(),
  hasLeft: z.boolean(),
  deed,
})

const migration = z.looseObject({
  id: text,
  role: z.enum(['source', 'destination']),
  peerId: text,
  peerSite: text,
  transport: text,
  disks: z.array(movedDisk).min(1),
  terms: z.looseObject({}),
  state: text,
  cutOff: z.array(z.string()),
  note: z.string().nullable(),
  startedAt: text,
  readyAt: text.nullable(),
  switchedAt: text.nullable(),
  endedAt: text.nullable(),
  switchoverMs: figure,
  paused: z.boolean(),
  sourceTold: z.boolean(),
  mark: count,
  markRun: text.nullable(),
  markSigned: text.nullable(),
  completeSigned: text.nullable(),
  ordered: z.object({ force: z.boolean() }).nullable(),
  peerDecides: z.boolean(),
})

const peer = z.looseObject({
  fingerprint: text,
  site: text,
  name: text,
  address: text.nullable(),
  pairedAt: text,
  mayTake: z.array(z.looseObject({ disk: text, give: z.boolean() })),
  limits: z.partialRecord(z.enum(['disks', 'bytes', 'sizeBytes', 'calls', 'digests', 'junkBytes']), count),
  next: text.nullable().default(null),
})

const shapes = { disk, migration, peer } as const
export type TableName = keyof typeof shapes

/** The record, if it is one of that table and its key is its own. Else a sentence's end that says what is wrong. */
export function shaped(table: TableName, id: string, value: unknown): { record: ShapedRecord } | { wrong: string } {
  const result = shapes[table].safeParse(value)
  if (!result.success) {
    const [issue] = result.error.issues
    return { wrong: `${issue?.path.join('.') || 'the record'}: ${issue?.message ?? 'not as it should be'}` }
  }
  const record = result.data as unknown as ShapedRecord
  const key = table === 'peer' ? (record as PeerRecord).fingerprint : (record as DiskRecord | MigrationRecord).id
  return key === id ? { record } : { wrong: 'it has the key of another' }
}

export type ShapedRecord = DiskRecord | MigrationRecord | PeerRecord
