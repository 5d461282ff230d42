// Files of one simulated machine. What was written is seen at once by every reader and survives the death of the process;
// what was not synced may be lost with the power, sector by sector, in any combination.

import assert from 'node:assert/strict'
import type { BlockFile, FileExtent, Files, LogFile, MaybePromise } from '../../src/store/files.ts'
import type { SimProcess, World } from './world.ts'

const sector = 512

class SimFile {
  bytes: Uint8Array
  durable: Uint8Array
  /** Sectors with versions that may or may not be on the platter, oldest first. */
  readonly unsynced = new Map<number, Uint8Array[]>()

  constructor(bytes: Uint8Array) {
    this.bytes = bytes.slice()
    this.durable = bytes.slice()
  }

  write(offset: number, source: Uint8Array): void {
    const end = offset + source.length
    if (end > this.bytes.length) {
      const grown = new Uint8Array(end)
      grown.set(this.bytes)
      this.bytes = grown
    }
    this.bytes.set(source, offset)
    for (let at = offset - (offset % sector); at < end; at += sector) {
      const versions = this.unsynced.get(at) ?? []
      versions.push(this.bytes.slice(at, at + sector))
      this.unsynced.set(at, versions)
    }
  }

  /** What a sync that begins now will make durable. */
  snapshot(): { bytes: Uint8Array; counts: Map<number, number> } {
    const counts = new Map([...this.unsynced].map(([at, versions]) => [at, versions.length]))
    return { bytes: this.bytes.slice(), counts }
  }

  synced({ bytes, counts }: { bytes: Uint8Array; counts: Map<number, number> }): void {
    if (bytes.length > this.durable.length) {
      const grown = new Uint8Array(bytes.length)
      grown.set(this.durable)
      this.durable = grown
    }
    for (const [at, count] of counts) {
      this.durable.set(bytes.subarray(at, at + sector), at)
      const versions = this.unsynced.get(at)
      versions?.splice(0, count)
      if (versions?.length === 0) this.unsynced.delete(at)
    }
  }

  losePower(world: World): void {
    const { random } = world
    let length = this.durable.length
    if (this.bytes.length > length) length += random.integer(this.bytes.length - length + 1)
    const left = new Uint8Array(length)
    left.set(this.durable.subarray(0, length))
    for (const [at, versions] of this.unsynced) {
      const choice = random.integer(versions.length + 1)
      if (choice === 0 || at >= length) continue
      left.set(versions[choice - 1]!.subarray(0, Math.max(0, length - at)), at)
    }
    this.bytes = left
    this.durable = left.slice()
    this.unsynced.clear()
  }
}

/** The platter and page cache of one machine; outlives its processes. */
export class SimMachine {
  readonly name: string
  readonly world: World
  readonly files = new Map<string, SimFile>()
  boots = 1

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
  }

  losePower(): void {
    this.boots++
    for (const file of this.files.values()) file.losePower(this.world)
  }

  putFile(path: string, bytes: Uint8Array): void {
    this.files.set(path, new SimFile(bytes))
  }
}

/** The files as one process uses them. */
export class SimFiles implements Files {
  readonly bootId: string
  readonly #machine: SimMachine
  readonly #process: SimProcess

  constructor(machine: SimMachine, process: SimProcess) {
    this.#machine = machine
    this.#process = process
    this.bootId = `00000000-0000-4000-8000-${String(machine.boots).padStart(12, '0')}`
  }

  async createBlockFile(path: string, sizeBytes: number): Promise<BlockFile> {
    assert(!this.#machine.files.has(path), `${path} exists`)
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
    await this.#operation(`replace ${path}`, () => this.#machine.putFile(path, bytes))
    const file = this.#machine.files.get(path)!
    return {
      append: (more) => file.write(file.bytes.length, more),
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
    const snapshot = file.snapshot()
    await this.#machine.world.event(this.#process, `sync ${path}`)
    file.synced(snapshot)
  }

  #blockFile(path: string): BlockFile {
    const file = this.#machine.files.get(path)
    assert(file, `${path} is not there`)
    const { world } = this.#machine
    const late = async (label: string, happen: () => void, abandoned: () => void) => {
      await world.event(this.#process, label, { abandon: abandoned })
      happen()
    }
    const write = (offset: number, source: Uint8Array): MaybePromise<void> => {
      if (world.random.chance(0.4)) {
        file.write(offset, source)
        return
      }
      // The kernel takes the bytes at the end of the call; if the process dies, it may have taken some of them.
      return late(
        `write ${path} ${offset}+${source.length}`,
        () => file.write(offset, source),
        () => {
          const sectors = Math.floor((source.length / sector) * world.random.next())
          if (sectors > 0) file.write(offset, source.subarray(0, sectors * sector))
        },
      )
    }
    return {
      path,
      sizeBytes: file.bytes.length,
      read: (offset, target) => {
        if (world.random.chance(0.4)) {
          target.set(file.bytes.subarray(offset, offset + target.length))
          return
        }
        return late(
          `read ${path} ${offset}`,
          () => target.set(file.bytes.subarray(offset, offset + target.length)),
          () => {},
        )
      },
      write,
      zero: async (offset, lengthBytes) => {
        const zeros = new Uint8Array(lengthBytes)
        await late(
          `zero ${path} ${offset}+${lengthBytes}`,
          () => file.write(offset, zeros),
          () => {
            if (world.random.chance(0.5)) file.write(offset, zeros)
          },
        )
      },
      sync: () => this.#sync(file, path),
      extents: (offset, lengthBytes, limit) => extentsOf(file.bytes, offset, lengthBytes, limit),
      allocatedBytes: () => file.bytes.length,
      close: async () => {},
    }
  }
}

/** Blocks of zeros count as holes. */
function extentsOf(bytes: Uint8Array, offset: number, lengthBytes: number, limit: number): FileExtent[] {
  const extents: FileExtent[] = []
  const end = offset + lengthBytes
  for (let at = offset; at < end; ) {
    const next = Math.min(end, at - (at % 4096) + 4096)
    const kind = bytes.subarray(at, next).every((byte) => byte === 0) ? 'hole' : 'data'
    const last = extents.at(-1)
    if (last?.kind === kind) extents[extents.length - 1] = { ...last, length: next - last.offset }
    else if (extents.length === limit) break
    else extents.push({ offset: at, length: next - at, kind })
    at = next
  }
  return extents
}
