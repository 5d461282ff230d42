// A disk over real files, driven by hand: the test decides when the source answers, and when the kernel has done a write or
// a sync. What always holds: nothing happens but what the test lets happen.

import { join } from 'node:path'
import type { Piece, Run, Urgency } from '../../src/block/units.ts'
import { signAdopted } from '../../src/deed/signing.ts'
import type { BlockSource } from '../../src/disk/block-source.ts'
import { Disk, type DiskServices } from '../../src/disk/disk.ts'
import { mapLogName } from '../../src/disk/disk-files.ts'
import type { Landed } from '../../src/disk/remote-part.ts'
import type { ExportHandle } from '../../src/guest/export.ts'
import { nbdErrorCodes } from '../../src/nbd/server/guest-errors.ts'
import { type BlockFile, FailedSync, type Files, type LogFile, type MaybePromise } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import type { Change, DiskRecord, Records } from '../../src/store/records.ts'
import { keyOf } from '../deed/sites.ts'
import { ampleRoom } from '../store/block-files.ts'
import { temporaryFolder } from '../store/folder.ts'
import { diskRecord } from '../store/samples.ts'

export const block = 4096
export const bootId = '11111111-1111-4111-8111-111111111111'

/** Lets everything happen that waits for nothing but its turn. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
}

/** Whether a promise has settled by now. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  promise.then(
    () => {
      done = true
    },
    () => {
      done = true
    },
  )
  for (let turn = 0; turn < 5; turn++) await settled()
  return done
}

/** As a guest. */
export async function read(session: ExportHandle, offset: number, lengthBytes: number): Promise<Buffer> {
  const target = Buffer.alloc(lengthBytes, 0xee)
  await session.read(offset, target)
  return target
}

export function write(session: ExportHandle, offset: number, lengthBytes: number, byte: number): MaybePromise<void> {
  return session.write(offset, Buffer.alloc(lengthBytes, byte), false)
}

interface HandFetch {
  readonly runs: readonly Run[]
  readonly urgency: Urgency
  /** Yields a piece to whoever fetches; resolves when that one has asked for the next. */
  yield(piece: Piece): Promise<void>
  /** The fetch is over: nothing more comes. */
  finish(): Promise<void>
  fail(error: Error): void
}

/** A source that answers nothing by itself. */
export class HandSource implements BlockSource {
  readonly fetches: HandFetch[] = []
  readonly #asked: (() => void)[] = []

  /** The fetch number `index`, once it was made. */
  async asked(index: number): Promise<HandFetch> {
    while (this.fetches.length <= index) await new Promise<void>((resolve) => this.#asked.push(resolve))
    return this.fetches[index]!
  }

  async *fetch(runs: readonly Run[], { urgency }: { urgency: Urgency }): AsyncGenerator<Piece> {
    type Step = { readonly piece?: Piece; readonly taken: () => void }
    let next = Promise.withResolvers<Step>()
    const push = (piece?: Piece) => {
      const taken = Promise.withResolvers<void>()
      next.resolve({ ...(piece && { piece }), taken: taken.resolve })
      return taken.promise
    }
    this.fetches.push({
      runs,
      urgency,
      yield: (piece) => push(piece),
      finish: () => push(),
      fail: (error) => next.reject(error),
    })
    for (const wake of this.#asked.splice(0)) wake()
    for (;;) {
      const { piece, taken } = await next.promise
      next = Promise.withResolvers()
      if (!piece) {
        taken()
        return
      }
      yield piece
      taken()
    }
  }
}

/** A source that answers at once with a byte per block. */
export class ReadySource implements BlockSource {
  readonly fetches: Run[][] = []
  readonly byteOf: (block: number) => number

  constructor(byteOf: (block: number) => number = (number) => (number % 250) + 1) {
    this.byteOf = byteOf
  }

  async *fetch(runs: readonly Run[]): AsyncGenerator<Piece> {
    this.fetches.push([...runs])
    for (const run of runs) yield this.piece(run.offset, run.length)
  }

  piece(offset: number, length: number): Piece {
    const bytes = Buffer.alloc(length)
    for (let at = 0; at < length; at++) bytes[at] = this.byteOf(Math.floor((offset + at) / block))
    return { offset, length, bytes }
  }
}

/** Records in memory that never fail. */
export class MemoryRecords implements Records {
  readonly commits: (readonly Change[])[] = []
  async load(): Promise<{ disks: []; migrations: []; peers: [] }> {
    return { disks: [], migrations: [], peers: [] }
  }
  async commit(changes: readonly Change[]): Promise<void> {
    this.commits.push(changes)
  }
  async close(): Promise<void> {}
}

type Operation = 'write' | 'zero' | 'sync' | 'append' | 'syncLog'

/** Real files that say what is done to them, and can be held or made to fail. */
export class WatchedFiles implements Files {
  readonly bootId: string
  readonly #files: Files
  /** Operations in the order in which they were done; a held one is here once it was let go. */
  readonly done: Operation[] = []
  readonly #gates = new Map<Operation, PromiseWithResolvers<void>>()
  readonly #errors = new Map<Operation, Error>()
  readonly #reached = new Map<Operation, () => void>()

  constructor(files: Files = new KernelFiles(bootId, ampleRoom())) {
    this.#files = files
    this.bootId = files.bootId
  }

  /** From now on operations of this kind wait. */
  hold(operation: Operation): void {
    this.#gates.set(operation, Promise.withResolvers())
  }

  release(operation: Operation): void {
    this.#gates.get(operation)?.resolve()
    this.#gates.delete(operation)
  }

  fail(operation: Operation, error: Error | undefined): void {
    if (error) this.#errors.set(operation, error)
    else this.#errors.delete(operation)
  }

  /** Resolves when somebody waits at the hold of this operation. */
  waiting(operation: Operation): Promise<void> {
    const reached = Promise.withResolvers<void>()
    this.#reached.set(operation, reached.resolve)
    return reached.promise
  }

  #enter<T>(operation: Operation, work: () => MaybePromise<T>): MaybePromise<T> {
    const gate = this.#gates.get(operation)
    if (!gate) return this.#act(operation, work)
    this.#reached.get(operation)?.()
    return gate.promise.then(() => this.#act(operation, work))
  }

  #act<T>(operation: Operation, work: () => MaybePromise<T>): MaybePromise<T> {
    const error = this.#errors.get(operation)
    if (error) throw operation === 'sync' || operation === 'syncLog' ? new FailedSync('web01.raw', error) : error
    const result = work()
    if (result instanceof Promise) {
      return result.then((value) => {
        this.done.push(operation)
        return value
      })
    }
    this.done.push(operation)
    return result
  }

  #watchBlocks(file: BlockFile): BlockFile {
    return {
      path: file.path,
      sizeBytes: file.sizeBytes,
      read: (offset, target) => file.read(offset, target),
      readPages: (offset, lengthBytes, pipe) => file.readPages?.(offset, lengthBytes, pipe) ?? false,
      write: (offset, source) => this.#enter('write', () => file.write(offset, source)),
      zero: async (offset, lengthBytes, allocated, fast) =>
        this.#enter('zero', () => file.zero(offset, lengthBytes, allocated, fast)),
      isHole: (offset, lengthBytes) => file.isHole?.(offset, lengthBytes) ?? false,
      sync: async () => this.#enter('sync', () => file.sync()),
      extents: (offset, lengthBytes, limit) => file.extents(offset, lengthBytes, limit),
      allocatedBytes: () => file.allocatedBytes(),
      close: () => file.close(),
    }
  }

  async createBlockFile(path: string, sizeBytes: number): Promise<BlockFile> {
    return this.#watchBlocks(await this.#files.createBlockFile(path, sizeBytes))
  }

  async openBlockFile(path: string, readOnly: boolean): Promise<BlockFile> {
    return this.#watchBlocks(await this.#files.openBlockFile(path, readOnly))
  }

  async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    const log = await this.#files.replaceLog(path, bytes)
    return {
      append: (more) => void this.#act('append', () => log.append(more)),
      sync: async () => this.#enter('syncLog', () => log.sync()),
      close: () => log.close(),
    }
  }

  readFile(path: string): Promise<Uint8Array | undefined> {
    return this.#files.readFile(path)
  }

  rename(from: string, to: string): Promise<void> {
    return this.#files.rename(from, to)
  }

  remove(path: string): Promise<void> {
    return this.#files.remove(path)
  }
}

export interface HandDisk<Source> {
  readonly disk: Disk
  readonly files: WatchedFiles
  readonly records: MemoryRecords
  readonly source: Source
  readonly services: DiskServices
  readonly record: DiskRecord
  /** What has landed, in order. */
  readonly landed: readonly Landed[]
}

const open: Disk[] = []

/** With a deed as its state has one: this site's, or of the one from which it comes. */
function deeded(record: DiskRecord): DiskRecord {
  if (record.deed || record.offered) return record
  const { id, state, generation, createdAt } = record
  if (state === 'incoming') return { ...record, offered: signAdopted(keyOf('there'), id, generation, createdAt) }
  return { ...record, deed: signAdopted(keyOf('here'), id, generation, createdAt) }
}

export function closeDisksAfterEach(): void {
  afterEach(async () => {
    for (const disk of open.splice(0)) await disk.close()
  })
}

/** A disk in `state`, in a temporary folder. Arriving: nothing is here yet. */
export async function openDisk<Source extends BlockSource>(
  source: Source,
  facts: Partial<DiskRecord> = {},
  askSwitchover: (signal: AbortSignal) => Promise<void> = () => new Promise(() => {}),
  flushSource: (signal: AbortSignal) => Promise<void> = () => new Promise(() => {}),
  parts: Partial<DiskServices> = {},
): Promise<HandDisk<Source>> {
  const folder = temporaryFolder()
  const record = deeded(
    diskRecord({
      state: 'arriving',
      folder,
      path: join(folder, 'web01.raw'),
      sizeBytes: 64 * block,
      generation: 2,
      ...facts,
    }),
  )
  const files = new WatchedFiles()
  const records = new MemoryRecords()
  const services = diskServices(files, records, parts)
  const file = await files.createBlockFile(record.path, record.sizeBytes)
  await file.close()
  if (record.state === 'arriving') {
    const { id: diskId, generation, sizeBytes } = record
    const { log } = await MapLog.create(files, join(record.folder, mapLogName), { diskId, generation, sizeBytes })
    await log.close()
  }
  const landed: Landed[] = []
  const remote = {
    source,
    frozen: source,
    askSwitchover,
    flushSource,
    landed: (what: Landed) => void landed.push(what),
  }
  const disk = await Disk.open(services, record, remote)
  open.push(disk)
  files.done.length = 0 // Opening syncs.
  return { disk, files, records, source, services, record, landed }
}

/** The same disk after its process died: opened again from its files. */
export async function reopenDisk<Source extends BlockSource>(
  { disk, record, source, records }: HandDisk<Source>,
  boot = bootId,
  parts: Partial<DiskServices> = {},
): Promise<HandDisk<Source>> {
  await disk.close()
  const files = new WatchedFiles(new KernelFiles(boot, ampleRoom()))
  const services = diskServices(files, records, parts)
  const landed: Landed[] = []
  const again = await Disk.open(services, record, {
    source,
    landed: (what) => void landed.push(what),
    frozen: source,
    askSwitchover: () => new Promise(() => {}),
    flushSource: () => new Promise(() => {}),
  })
  open.push(again)
  return { disk: again, files, records, source, services, record, landed }
}

export function diskServices(files: Files, records: Records, facts: Partial<DiskServices> = {}): DiskServices {
  const clock = {
    now: () => 0,
    date: () => new Date('2026-03-01T10:00:00.000Z'),
    sleep: () => new Promise<void>(() => {}),
    turn: async () => {},
  }
  return {
    files,
    records,
    siteId: 'here',
    readOnly: false,
    holdsAfterPowerLoss: false,
    errorNames: nbdErrorCodes,
    clock,
    log: () => {},
    ...facts,
  }
}
