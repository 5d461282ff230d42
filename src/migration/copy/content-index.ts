// Where in the seeds a content is: cells of 64 KiB by their digests. A place is a hint, and no more: whoever uses it reads the cell
// and hashes it again.
//
// What always holds: bounded memory (16 MiB a million cells, and never more of them), whatever the size of the seeds; one cell
// is read and hashed in a turn of the loop.

import type { Clock } from '../../block/clock.ts'
import { shortDigest } from '../../block/digest.ts'
import { cellBytes, readSeed, type Seed } from './seed.ts'

/** 64 GiB of data. */
const maximumCells = 2 ** 20
const firstSlots = 2 ** 12
/** Seeds that an index can tell apart. */
export const maximumSeeds = 8

export interface Place {
  /** Its number. */
  readonly seed: number
  readonly offset: number
}

export class ContentIndex {
  /** Open addressing: a key of 48 bits of the digest (0: free), and the place. */
  #keys = new Float64Array(firstSlots)
  #places = new Float64Array(firstSlots)
  #count = 0

  get size(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count >= maximumCells
  }

  /** The first place of a content stays. */
  add(digest: string, { seed, offset }: Place): void {
    if (this.isFull) return
    if (2 * this.#count >= this.#keys.length) this.#grow()
    const key = keyOf(digest)
    const slot = this.#slotOf(key)
    if (this.#keys[slot] === key) return
    this.#keys[slot] = key
    this.#places[slot] = (offset / cellBytes) * maximumSeeds + seed
    this.#count++
  }

  find(digest: string): Place | undefined {
    const key = keyOf(digest)
    const slot = this.#slotOf(key)
    if (this.#keys[slot] !== key) return undefined
    const place = this.#places[slot]!
    return { seed: place % maximumSeeds, offset: Math.floor(place / maximumSeeds) * cellBytes }
  }

  /** Adds the whole cells of a seed that have data. Rejects only when `signal` aborts. */
  async addSeed(seed: Seed, number: number, clock: Pick<Clock, 'turn'>, signal: AbortSignal): Promise<void> {
    const end = seed.sizeBytes - (seed.sizeBytes % cellBytes)
    for (let at = 0; at < end && !this.isFull; ) {
      await clock.turn()
      signal.throwIfAborted()
      const [extent] = seed.extents(at, end - at, 1)
      const extentEnd = floorToCell(extent!.offset + extent!.length)
      const isHole = !extent!.data && extentEnd > at
      // A cell of which a part is data is data.
      const dataEnd = isHole ? at : Math.max(at + cellBytes, extent!.data ? extentEnd : 0)
      for (; at < dataEnd && !this.isFull; at += cellBytes) {
        await clock.turn()
        signal.throwIfAborted()
        const bytes = await readSeed(seed, at, cellBytes)
        if (bytes) this.add(shortDigest(bytes), { seed: number, offset: at })
      }
      if (isHole) at = extentEnd
    }
  }

  #slotOf(key: number): number {
    const mask = this.#keys.length - 1
    for (let slot = key & mask; ; slot = (slot + 1) & mask) {
      const there = this.#keys[slot]
      if (there === 0 || there === key) return slot
    }
  }

  #grow(): void {
    const [keys, places] = [this.#keys, this.#places]
    this.#keys = new Float64Array(2 * keys.length)
    this.#places = new Float64Array(2 * keys.length)
    for (const [at, key] of keys.entries()) {
      if (key === 0) continue
      const slot = this.#slotOf(key)
      this.#keys[slot] = key
      this.#places[slot] = places[at]!
    }
  }
}

/** 48 bits of it; never 0. */
function keyOf(digest: string): number {
  return Buffer.from(digest.slice(0, 8), 'base64').readUIntBE(0, 6) || 1
}

const floorToCell = (bytes: number): number => bytes - (bytes % cellBytes)
