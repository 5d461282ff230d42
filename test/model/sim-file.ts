// One file of a simulated machine: what was written is seen at once; what was not synced may be lost with the power, in any
// combination of sectors. A sync that fails leaves some sectors on the platter, drops the others, and the next sync says
// nothing of them: so does the kernel.

import type { Random } from '../random.ts'

export const sectorBytes = 512
const blockBytes = 4096

/** What a sync that begins now will make durable. */
export interface SyncSnapshot {
  readonly bytes: Uint8Array
  readonly counts: ReadonlyMap<number, number>
}

export class SimFile {
  bytes: Uint8Array
  durable: Uint8Array
  /** Blocks that cannot be read any more; the whole block written anew can be. */
  readonly unreadable = new Set<number>()
  /** Sectors with versions that may or may not be on the platter, oldest first. */
  readonly #unsynced = new Map<number, Uint8Array[]>()

  constructor(bytes: Uint8Array) {
    this.bytes = bytes.slice()
    this.durable = bytes.slice()
  }

  write(offset: number, source: Uint8Array): void {
    const end = offset + source.length
    this.bytes = grown(this.bytes, end)
    for (const block of this.unreadable) {
      const isWhole = offset <= block * blockBytes && Math.min((block + 1) * blockBytes, this.bytes.length) <= end
      if (isWhole) this.unreadable.delete(block)
    }
    this.bytes.set(source, offset)
    for (let at = offset - (offset % sectorBytes); at < end; at += sectorBytes) {
      const versions = this.#unsynced.get(at) ?? []
      versions.push(this.bytes.slice(at, at + sectorBytes))
      this.#unsynced.set(at, versions)
    }
  }

  snapshot(): SyncSnapshot {
    const counts = new Map([...this.#unsynced].map(([at, versions]) => [at, versions.length]))
    return { bytes: this.bytes.slice(), counts }
  }

  synced({ bytes, counts }: SyncSnapshot): void {
    this.durable = grown(this.durable, bytes.length)
    for (const [at, count] of counts) {
      this.durable.set(bytes.subarray(at, at + sectorBytes), at)
      this.#forget(at, count)
    }
  }

  /** Some sectors reached the platter, the others never will unless they are written anew. */
  syncFailed({ bytes, counts }: SyncSnapshot, random: Random): void {
    this.durable = grown(this.durable, bytes.length)
    for (const [at, count] of counts) {
      if (random.chance(0.5)) this.durable.set(bytes.subarray(at, at + sectorBytes), at)
      this.#forget(at, count)
    }
  }

  /** `tearsSectors`: a sector may be half new, as one that is appended to. */
  losePower(random: Random, tearsSectors: boolean): void {
    let length = this.durable.length
    if (this.bytes.length > length) length += random.integer(this.bytes.length - length + 1)
    const left = new Uint8Array(length)
    left.set(this.durable.subarray(0, length))
    for (const [at, versions] of this.#unsynced) {
      const choice = random.integer(versions.length + 1)
      if (choice === 0 || at >= length) continue
      const version = versions[choice - 1]!
      const torn = tearsSectors && random.chance(0.3) ? random.integer(version.length) : version.length
      left.set(version.subarray(0, Math.max(0, Math.min(torn, length - at))), at)
    }
    this.bytes = left
    this.durable = left.slice()
    this.#unsynced.clear()
  }

  canRead(offset: number, lengthBytes: number): boolean {
    for (const block of this.unreadable)
      if (offset < (block + 1) * blockBytes && block * blockBytes < offset + lengthBytes) return false
    return true
  }

  /** Nothing but zeros. */
  isHole(block: number): boolean {
    return this.bytes.subarray(block * blockBytes, (block + 1) * blockBytes).every((byte) => byte === 0)
  }

  /** A bit of the sector at `at` flips at rest, whichever version of the sector is the one that stays. */
  flip(at: number, bit: number): void {
    for (const version of this.versionsOf(at)) version[bit >>> 3]! ^= 1 << (bit & 7)
  }

  /** What the sector at `at` may hold after a power loss, and what it holds. */
  versionsOf(at: number): Uint8Array[] {
    const whole = [this.bytes, this.durable].map((bytes) => bytes.subarray(at, at + sectorBytes))
    return [...whole, ...(this.#unsynced.get(at) ?? [])].filter((version) => version.length === sectorBytes)
  }

  copy(): SimFile {
    const copy = new SimFile(this.bytes)
    copy.durable = this.durable.slice()
    for (const [at, versions] of this.#unsynced) copy.#unsynced.set(at, versions.slice())
    return copy
  }

  #forget(at: number, count: number): void {
    const versions = this.#unsynced.get(at)
    versions?.splice(0, count)
    if (versions?.length === 0) this.#unsynced.delete(at)
  }
}

function grown(bytes: Uint8Array, length: number): Uint8Array {
  if (length <= bytes.length) return bytes
  const longer = new Uint8Array(length)
  longer.set(bytes)
  return longer
}
