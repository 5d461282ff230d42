// Map logs for tests: made, and read back as whoever starts would believe them.

import assert from 'node:assert/strict'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import type { ArrivalMaps } from '../../src/store/arrival-maps.ts'
import type { Files, LogFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import type { MapIdentity, MapLogMark } from '../../src/store/map-log-format.ts'
import { temporaryFolder } from './folder.ts'

export const firstBoot = '11111111-1111-4111-8111-111111111111'
export const secondBoot = '22222222-2222-4222-8222-222222222222'
export const identity: MapIdentity = {
  diskId: '33333333-3333-4333-8333-333333333333',
  generation: 2,
  sizeBytes: 1000 * blockSizeBytes,
}
export const nothing = async () => {}

/** What a log said, by replaying the calls that made it; records as they stand after each. */
export interface Said {
  readonly present: Set<number>
  readonly written: Set<number>
  readonly partial: Map<number, number>
}

export const saidNothing: Said = { present: new Set(), written: new Set(), partial: new Map() }

export function saidBy(maps: ArrivalMaps, blocks = 1000): Said {
  const all = Array.from({ length: blocks }, (_, block) => block)
  return {
    present: new Set(all.filter((block) => maps.present.has(block))),
    written: new Set(all.filter((block) => maps.written.has(block))),
    partial: new Map([...maps.partial].sort(([a], [b]) => a - b)),
  }
}

/** What a start under `bootId` believes of the log at `path`, which stays as it is. */
export async function believed(path: string, bootId: string, of = identity): Promise<Said> {
  const copy = join(temporaryFolder(), 'maps.log')
  copyFileSync(path, copy)
  const { log, maps } = await MapLog.open(new KernelFiles(bootId), copy, of, nothing)
  await log.close()
  return saidBy(maps)
}

export async function believedBytes(bytes: Uint8Array, bootId: string, mark: MapLogMark | null = null): Promise<Said> {
  const { log, maps } = await MapLog.open(new BytesFiles(bootId, bytes), 'maps.log', identity, nothing, mark)
  await log.close()
  return saidBy(maps)
}

/** Bytes may have reached the platter whose record did not: every present block counts as written. */
export const afterPowerLoss = (said: Said): Said => ({ ...said, written: new Set(said.present) })

/** One file, in memory: thousands of logs are opened in these tests. */
export class BytesFiles implements Files {
  readonly bootId: string
  #parts: Uint8Array[] | undefined

  constructor(bootId: string, bytes: Uint8Array | undefined) {
    this.bootId = bootId
    this.#parts = bytes && [bytes]
  }

  async readFile(): Promise<Uint8Array | undefined> {
    return this.#parts && Buffer.concat(this.#parts)
  }

  async replaceLog(_path: string, bytes: Uint8Array): Promise<LogFile> {
    const parts = [bytes]
    this.#parts = parts
    return { append: (more) => void parts.push(more), sync: nothing, close: nothing }
  }

  rename = () => assert.fail('a map log renames nothing')
  createBlockFile = () => assert.fail('a map log makes no block file')
  openPages = () => assert.fail('a map log has no pages')
  openBlockFile = () => assert.fail('a map log opens no block file')
  remove = nothing
}
