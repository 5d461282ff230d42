// Files of one simulated machine, as Files. What was written survives the death of the process; what was not synced may be
// lost with the power. The machine's faults: the disk is full for a while, syncs fail, and blocks cannot be read.

import assert from 'node:assert/strict'
import type { Extent } from '../../src/block/units.ts'
import {
  type BlockFile,
  FailedSync,
  type Files,
  type LogFile,
  type MaybePromise,
  type PageFile,
} from '../../src/store/files.ts'
import { StoreError } from '../../src/store/store-error.ts'
import { SimFile, sectorBytes } from './sim-file.ts'
import type { SimProcess, World } from './world.ts'

/** In which a move may begin, copy a disk, and pass it on. */
const slowSteps = 150

/** The platter and page cache of one machine; outlives its processes. */
export class SimMachine {
  readonly name: string
  readonly world: World
  files = new Map<string, SimFile>()
  boots = 1
  /** No room: what needs some fails, every other time. */
  isFull = false
  /** Of a hundred syncs so many fail, as a fraction. */
  syncFaultRate = 0
  onSyncFailed: (path: string) => void = () => {}
  /** Of a hundred writes of a disk so many take long, as a fraction: much else happens meanwhile. */
  slowRate = 0

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
  }

  get bootId(): string {
    return `00000000-0000-4000-8000-${String(this.boots).padStart(12, '0')}`
  }

  losePower(): void {
    this.boots++
    for (const [path, file] of this.files) file.losePower(this.world.random, path.endsWith('.log'))
  }

  /** What could not be read can be: of all files, or of those of one disk. */
  mend(id = ''): void {
    for (const [path, file] of this.files) if (path.includes(id)) file.unreadable.clear()
  }

  putFile(path: string, bytes: Uint8Array): void {
    this.files.set(path, new SimFile(bytes))
  }

  lacksRoom(): boolean {
    return this.isFull && this.world.random.chance(0.5)
  }
}

function noSpace(path: string): Error {
  return Object.assign(new Error(`no space left for ${path}`), { code: 'ENOSPC' })
}

/** The files as one process uses them. */
export class SimFiles implements Files {
  readonly bootId: string
  readonly #machine: SimMachine
  readonly #process: SimProcess

  constructor(machine: SimMachine, process: SimProcess) {
    this.#machine = machine
    this.#process = process
    this.bootId = machine.bootId
  }

  async createBlockFile(path: string, sizeBytes: number): Promise<BlockFile> {
    assert(!this.#machine.files.has(path), `${path} exists`)
    if (this.#machine.lacksRoom()) throw noSpace(path)
    await this.#operation(`create ${path}`, () => this.#machine.putFile(path, new Uint8Array(sizeBytes)))
    return this.#blockFile(path)
  }

  async openBlockFile(path: string): Promise<BlockFile> {
    await this.#operation(`open ${path}`, () => {})
    if (!this.#machine.files.has(path)) throw Object.assign(new Error(`${path} is not there`), { code: 'ENOENT' })
    return this.#blockFile(path)
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    await this.#operation(`read ${path}`, () => {})
    return this.#machine.files.get(path)?.bytes.slice()
  }

  async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    if (this.#machine.lacksRoom()) throw noSpace(path)
    await this.#operation(`replace ${path}`, () => this.#machine.putFile(path, bytes))
    const file = this.#machine.files.get(path)!
    return {
      append: (more) => {
        // Half a record never stays: the real file mends it.
        if (this.#machine.lacksRoom()) throw new StoreError('no-space', `no room for a record of ${path}`)
        file.write(file.bytes.length, more)
      },
      sync: () => this.#sync(file, path),
      close: async () => {},
    }
  }

  async openPages(path: string): Promise<PageFile> {
    await this.#operation(`open ${path}`, () => {})
    const file = this.#machine.files.get(path)
    assert(file, `${path} is not there`)
    return {
      write: (offset, bytes) => {
        if (this.#machine.lacksRoom()) throw noSpace(path)
        file.write(offset, bytes)
      },
      sync: () => this.#sync(file, path),
      close: async () => {},
    }
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#operation(`rename ${from} ${to}`, () => {
      for (const [name, file] of [...this.#machine.files]) {
        if (!name.startsWith(`${from}/`)) continue
        this.#machine.files.delete(name)
        this.#machine.files.set(`${to}${name.slice(from.length)}`, file)
      }
    })
  }

  async remove(path: string): Promise<void> {
    await this.#operation(`remove ${path}`, () => {
      for (const name of [...this.#machine.files.keys()]) {
        if (name === path || name.startsWith(`${path}/`)) this.#machine.files.delete(name)
      }
    })
  }

  /** Happens as a whole, or, if the process dies meanwhile, as a whole or not at all. */
  async #operation(label: string, happen: () => void): Promise<void> {
    const { world } = this.#machine
    await world.event(this.#process, label, { abandon: () => world.random.chance(0.5) && happen() })
    happen()
  }

  async #sync(file: SimFile, path: string): Promise<void> {
    const machine = this.#machine
    const snapshot = file.snapshot()
    await machine.world.event(this.#process, `sync ${path}`)
    if (!machine.world.random.chance(machine.syncFaultRate)) {
      file.synced(snapshot)
      return
    }
    machine.world.log(`${machine.name}: a sync of ${path} FAILS`)
    file.syncFailed(snapshot, machine.world.random)
    machine.onSyncFailed(path)
    throw new FailedSync(path, new Error('input/output error'))
  }

  #blockFile(path: string): BlockFile {
    const file = this.#machine.files.get(path)
    assert(file, `${path} is not there`)
    return {
      path,
      sizeBytes: file.bytes.length,
      read: (offset, target) => this.#read(file, path, offset, target),
      write: (offset, source) => this.#write(file, path, offset, source),
      zero: (offset, lengthBytes) => this.#zero(file, path, offset, lengthBytes),
      isHole: (offset, lengthBytes) => this.#isHole(file, offset, lengthBytes),
      sync: () => this.#sync(file, path),
      extents: (offset, lengthBytes, limit) => extentsOf(file.bytes, offset, lengthBytes, limit),
      allocatedBytes: () => file.bytes.length,
      close: async () => {},
    }
  }

  #read(file: SimFile, path: string, offset: number, target: Uint8Array): MaybePromise<void> {
    const { world } = this.#machine
    const happen = () => {
      if (!file.canRead(offset, target.length)) throw Object.assign(new Error(`${path} at ${offset}`), { code: 'EIO' })
      target.set(file.bytes.subarray(offset, offset + target.length))
    }
    if (world.random.chance(0.4)) return happen()
    return world.event(this.#process, `read ${path} ${offset}`).then(happen)
  }

  /** The kernel takes the bytes at the end of the call; if the process dies or there is no room, it may have taken some. */
  #write(file: SimFile, path: string, offset: number, source: Uint8Array): MaybePromise<void> {
    const { world } = this.#machine
    const inPart = () => {
      const end = offset + source.length * world.random.next()
      const wholeSectors = end - (end % sectorBytes) - offset // A page takes a sector, or the part of it that came, at once.
      if (wholeSectors > 0) file.write(offset, source.subarray(0, wholeSectors))
    }
    const happen = () => {
      if (!this.#machine.lacksRoom()) return file.write(offset, source)
      inPart()
      throw noSpace(path)
    }
    if (world.random.chance(0.4)) return happen()
    const label = `write ${path} ${offset}+${source.length}`
    const { slowRate } = this.#machine
    let stepsLeft = slowRate > 0 && world.random.chance(slowRate) ? slowSteps : 0
    return world.event(this.#process, label, { abandon: inPart, ready: () => stepsLeft-- <= 0 }).then(happen)
  }

  /** Told now and then only: nobody knows while the file is changed. */
  #isHole(file: SimFile, offset: number, lengthBytes: number): boolean {
    const [first] = extentsOf(file.bytes, offset, lengthBytes, 1)
    return this.#machine.world.random.chance(0.7) && !first!.data && first!.length === lengthBytes
  }

  async #zero(file: SimFile, path: string, offset: number, lengthBytes: number): Promise<void> {
    const { world } = this.#machine
    const zeros = new Uint8Array(lengthBytes)
    const happen = () => file.write(offset, zeros)
    await world.event(this.#process, `zero ${path} ${offset}+${lengthBytes}`, {
      abandon: () => world.random.chance(0.5) && happen(),
    })
    if (this.#machine.lacksRoom()) throw noSpace(path)
    happen()
  }
}

/** Blocks of zeros count as holes. */
function extentsOf(bytes: Uint8Array, offset: number, lengthBytes: number, limit: number): Extent[] {
  const extents: Extent[] = []
  const end = offset + lengthBytes
  for (let at = offset; at < end; ) {
    const next = Math.min(end, at - (at % 4096) + 4096)
    const data = bytes.subarray(at, next).some((byte) => byte !== 0)
    const last = extents.at(-1)
    if (last?.data === data) extents[extents.length - 1] = { ...last, length: next - last.offset }
    else if (extents.length === limit) break
    else extents.push({ offset: at, length: next - at, data })
    at = next
  }
  return extents
}
