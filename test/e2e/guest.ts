// A guest that writes and verifies without pause, and knows for every sector what a read may return: the last acknowledged
// write, or one that was never answered because the connection broke. What a read has returned is the truth from then on.
// Its load is bounded: so many requests a second, at most so many at a time.

import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import type { NbdClient } from '../../src/nbd/client/client.ts'
import { type Random, seededRandom } from '../random.ts'

const sector = 512
const reconnectDeadlineMs = 60_000
const largestSectors = 96
/** Versions of a sector: 0 is the image's, others count writes. */
type Version = number

export interface GuestOptions {
  readonly seed: number
  readonly sizeBytes: number
  connect(): Promise<NbdClient>
  readonly requestsPerSecond?: number
  readonly workers?: number
}

/** Whether the image has bytes here: three mebibytes of four. */
function isData(index: number): boolean {
  return Math.floor((index * sector) / 2 ** 20) % 4 !== 3
}

function fillSector(target: Buffer, index: number, version: Version): void {
  for (let at = 0; at < sector; at += 8) {
    target.writeUInt32LE(index, at)
    target.writeUInt32LE(version, at + 4)
  }
}

/** What the image has at a place. */
export function bytesOfImage(offset: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  for (let at = 0; at < lengthBytes; at += sector) {
    const index = (offset + at) / sector
    if (isData(index)) fillSector(bytes.subarray(at, at + sector), index, 0)
  }
  return bytes
}

/** A raw image with the content that a guest finds at its start. */
export async function makeGuestImage(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.truncate(sizeBytes)
    const step = 2 ** 20
    for (let offset = 0; offset < sizeBytes; offset += step) {
      if (!isData(offset / sector)) continue
      const bytes = Buffer.alloc(Math.min(step, sizeBytes - offset))
      for (let at = 0; at < bytes.length; at += sector)
        fillSector(bytes.subarray(at, at + sector), (offset + at) / sector, 0)
      await file.write(bytes, 0, bytes.length, offset)
    }
  } finally {
    await file.close()
  }
}

export class Guest {
  readonly counts = { reads: 0, writes: 0, flushes: 0, broken: 0 }
  /** The longest time for which nothing was answered. */
  longestPauseMs = 0
  readonly #options: GuestOptions
  readonly #random: Random
  readonly #sectors: number
  readonly #acknowledged: Uint32Array
  /** Versions that were written and not answered, by sector. */
  readonly #unanswered = new Map<number, Set<Version>>()
  readonly #zeroes = new Set<Version>()
  readonly #busy = new Set<number>()
  #nextVersion = 1
  #client: Promise<NbdClient> | undefined
  #stopping = false
  #running: Promise<unknown> = Promise.resolve()
  #failure: Error | undefined
  #answeredMs = performance.now()

  constructor(options: GuestOptions) {
    this.#options = options
    this.#random = seededRandom(options.seed)
    this.#sectors = options.sizeBytes / sector
    this.#acknowledged = new Uint32Array(this.#sectors)
  }

  start(): void {
    const { workers = 4 } = this.#options
    this.#stopping = false
    this.#answeredMs = performance.now()
    this.#running = Promise.all(Array.from({ length: workers }, () => this.#work(workers)))
  }

  /** Ends the load, after what is in flight. Throws what went wrong. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#running
    const client = await this.#client?.catch(() => undefined)
    await client?.disconnect()
    this.#client = undefined
    if (this.#failure) throw this.#failure
  }

  /** What went wrong so far. */
  check(): void {
    if (this.#failure) throw this.#failure
  }

  /** Reads the whole disk through `client` and compares every sector. */
  async verify(client: NbdClient): Promise<void> {
    const step = 2 ** 20
    for (let offset = 0; offset < this.#options.sizeBytes; offset += step) {
      const bytes = await client.read(offset, Math.min(step, this.#options.sizeBytes - offset))
      this.#compare(offset / sector, bytes)
    }
  }

  async #work(workers: number): Promise<void> {
    const { requestsPerSecond = 300 } = this.#options
    const everyMs = (1000 * workers) / requestsPerSecond
    for (let due = performance.now(); !this.#stopping && !this.#failure; due += everyMs) {
      const early = due - performance.now()
      if (early > 0) await pause(early)
      try {
        await this.#request()
      } catch (error) {
        this.#failure ??= new Error(`guest, seed ${this.#options.seed}: ${(error as Error).message}`, { cause: error })
      }
    }
  }

  async #request(): Promise<void> {
    const client = await this.#connected()
    const { first, count } = this.#pickRange()
    for (let index = first; index < first + count; index++) this.#busy.add(index)
    try {
      const chance = this.#random.next()
      if (chance < 0.45) await this.#write(client, first, count, false)
      else if (chance < 0.55) await this.#write(client, first, count, true)
      else if (chance < 0.93) await this.#read(client, first, count)
      else await this.#flush(client)
      this.longestPauseMs = Math.max(this.longestPauseMs, performance.now() - this.#answeredMs)
      this.#answeredMs = performance.now()
    } catch (error) {
      if ((error as Error).name !== 'NbdConnectionError') throw error
      this.counts.broken++
      client.destroy()
      this.#client = undefined
    } finally {
      for (let index = first; index < first + count; index++) this.#busy.delete(index)
    }
  }

  /** Connects, again and again while the site is away. */
  #connected(): Promise<NbdClient> {
    this.#client ??= this.#reconnect()
    return this.#client
  }

  async #reconnect(): Promise<NbdClient> {
    const end = performance.now() + reconnectDeadlineMs
    for (;;) {
      try {
        return await this.#options.connect()
      } catch (error) {
        const gone = (error as Error).name === 'NbdConnectionError'
        if (!gone || performance.now() > end) throw error
      }
      await pause(20)
    }
  }

  /** Sectors that nobody else works on now; many requests are small and not aligned to blocks. */
  #pickRange(): { first: number; count: number } {
    for (;;) {
      const random = this.#random
      let count = random.chance(0.5) ? 1 + random.integer(7) : 1 + random.integer(largestSectors)
      let first = random.integer(this.#sectors - count)
      if (random.chance(0.4)) {
        first -= first % 8
        count = Math.max(8, count - (count % 8))
      }
      let isFree = first + count <= this.#sectors
      for (let index = first; isFree && index < first + count; index++) isFree = !this.#busy.has(index)
      if (isFree) return { first, count }
    }
  }

  async #write(client: NbdClient, first: number, count: number, asZeroes: boolean): Promise<void> {
    const version = this.#nextVersion++
    const fua = this.#random.chance(0.1)
    if (asZeroes) this.#zeroes.add(version)
    try {
      if (asZeroes) {
        await client.writeZeroes(first * sector, count * sector, { fua, noHole: this.#random.chance(0.5) })
      } else {
        const bytes = Buffer.alloc(count * sector)
        for (let index = 0; index < count; index++)
          fillSector(bytes.subarray(index * sector, (index + 1) * sector), first + index, version)
        await client.write(first * sector, bytes, { fua })
      }
    } catch (error) {
      for (let index = first; index < first + count; index++) this.#leaveOpen(index, version)
      throw error
    }
    this.counts.writes++
    for (let index = first; index < first + count; index++) this.#settle(index, version)
  }

  async #read(client: NbdClient, first: number, count: number): Promise<void> {
    const bytes = await client.read(first * sector, count * sector)
    this.counts.reads++
    this.#compare(first, bytes)
  }

  async #flush(client: NbdClient): Promise<void> {
    await client.flush()
    this.counts.flushes++
  }

  #leaveOpen(index: number, version: Version): void {
    const open = this.#unanswered.get(index) ?? new Set()
    this.#unanswered.set(index, open.add(version))
  }

  #settle(index: number, version: Version): void {
    this.#acknowledged[index] = version
    this.#unanswered.delete(index)
  }

  #compare(first: number, bytes: Buffer): void {
    const expected = Buffer.alloc(sector)
    for (let at = 0; at < bytes.length; at += sector) {
      const index = first + at / sector
      const seen = bytes.subarray(at, at + sector)
      const allowed = [this.#acknowledged[index]!, ...(this.#unanswered.get(index) ?? [])]
      const version = allowed.find((each) => {
        const isZero = this.#zeroes.has(each) || (each === 0 && !isData(index))
        if (isZero) expected.fill(0)
        else fillSector(expected, index, each)
        return seen.equals(expected)
      })
      assert(
        version !== undefined,
        `sector ${index} must have a version of ${allowed}, and has ${seen.readUInt32LE(4)} of sector ${seen.readUInt32LE(0)}`,
      )
      this.#settle(index, version)
    }
  }
}
