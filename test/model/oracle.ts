// What a guest may read: for each sector the values that are possible, and the bits that storage has flipped in it. Knows
// every acknowledged and every flushed write. One write at a time is under way on a sector; that is the guests' doing.

import assert from 'node:assert/strict'
import { sectorBytes } from './sim-file.ts'

export { sectorBytes }

/** Bits of a word that storage may flip. Values are smaller. */
export const flippable = { first: 16, count: 15 }
const valueMask = 2 ** flippable.first - 1

/** What a sector may hold. Two writes of the same value are two writes: one may survive what the other does not. */
interface Write {
  readonly value: number
  /** How many failed syncs were forgotten when it began: what was written before one may be lost for good. */
  readonly failures: number
  /** It was answered with success. */
  acknowledged: boolean
}

interface Sector {
  /** What a read may return now. More than one only while a write is under way, or after a crash. */
  possible: Write[]
  /** The last write that must survive a power loss, and all that came after it. */
  sinceFlush: Write[]
  /** What a forgotten sync dropped, once power was lost too: it may come and go until somebody writes again. */
  dropped: Write[]
  /** Writes under way; how many there have been. */
  underWay: number
  writes: number
  /** Flipped at rest, and perhaps to be read. */
  flipped: number
}

/** A write that has begun, for each sector of its range. */
export interface OpenWrite {
  readonly first: number
  readonly writes: readonly Write[]
}

/** A read of whole sectors that has begun. */
export interface OpenRead {
  readonly first: number
  /** Of each sector, the writes that it may return: those that were possible at any time since it began. */
  readonly possible: readonly Set<Write>[]
  /** Of each sector, how many writes there had been; -1: one was under way. */
  readonly writes: readonly number[]
}

export class Oracle {
  readonly #sectors: Sector[]
  #failures = 0
  #powerLosses = 0
  readonly #openReads = new Set<OpenRead>()

  constructor(initial: readonly number[]) {
    this.#sectors = initial.map((value) => {
      const write = { value, failures: 0, acknowledged: true }
      return { possible: [write], sinceFlush: [write], dropped: [], underWay: 0, writes: 0, flipped: 0 }
    })
  }

  writeBegins(first: number, count: number, value: number): OpenWrite {
    const writes = this.#range(first, count).map((sector, index) => {
      const write = { value, failures: this.#failures, acknowledged: false }
      sector.possible.push(write)
      this.#mayBeRead(first + index, [write])
      sector.sinceFlush.push(write)
      sector.underWay++
      sector.writes++
      return write
    })
    return { first, writes }
  }

  /** Nothing of the write happens any more. What it left is open, unless it was acknowledged. */
  writeEnds({ first, writes }: OpenWrite): void {
    for (const sector of this.#range(first, writes.length)) sector.underWay--
  }

  writeAcknowledged({ first, writes }: OpenWrite): void {
    for (const [index, write] of writes.entries()) {
      const sector = this.#sectors[first + index]!
      write.acknowledged = true
      sector.possible = [write]
      sector.dropped = []
    }
  }

  /** The write was refused, so that nobody may ever read it. */
  writeRefused({ first, writes }: OpenWrite): void {
    for (const [index, write] of writes.entries()) {
      const sector = this.#sectors[first + index]!
      sector.possible = sector.possible.filter((each) => each !== write)
      sector.sinceFlush = sector.sinceFlush.filter((each) => each !== write)
      for (const read of this.#openReads) read.possible[first + index - read.first]?.delete(write)
    }
  }

  /** Takes note of what a flush that begins now must make durable; call the result when it is acknowledged. */
  flushBegins(): () => void {
    const covered = this.#sectors.map(onlyPossible)
    return () => {
      for (const [index, sector] of this.#sectors.entries()) this.#isDurable(sector, covered[index])
    }
  }

  /** A write with FUA was acknowledged. */
  madeDurable({ first, writes }: OpenWrite): void {
    for (const [index, write] of writes.entries()) this.#isDurable(this.#sectors[first + index]!, write)
  }

  /** No mark says that what was answered may be lost with the power: so nothing of it may. */
  answeredIsDurable(): void {
    for (const sector of this.#sectors) {
      const write = onlyPossible(sector)
      if (write?.acknowledged) this.#isDurable(sector, write)
    }
  }

  /** The source has given the disk up: it synced everything before. */
  allDurable(): void {
    for (const sector of this.#sectors) this.#isDurable(sector, onlyPossible(sector))
  }

  /**
   * What is possible now; call the result to go back to it, when all that was written since is void. What a forgotten sync
   * dropped is lost with the first power loss all the same.
   */
  remember(): () => void {
    const losses = this.#powerLosses
    const before = this.#sectors.map(({ possible, sinceFlush, dropped }) => ({
      possible: [...possible],
      sinceFlush: [...sinceFlush],
      dropped: [...dropped],
    }))
    return () => {
      for (const [index, sector] of this.#sectors.entries()) {
        Object.assign(sector, before[index])
        if (this.#powerLosses > losses) this.#drop(sector)
        this.#mayBeRead(index, readable(sector))
      }
    }
  }

  /** A site died between a sync that failed and the record of it: of what was written before, nothing is sure to survive. */
  syncForgotten(): void {
    this.#failures++
  }

  /** Of what was not flushed, anything may be lost. `owner`: where the newest writes are; elsewhere only what a forgotten sync dropped. */
  powerLost(owner: boolean): void {
    this.#powerLosses++
    for (const [index, sector] of this.#sectors.entries()) {
      if (sector.sinceFlush.length === 1) continue
      this.#drop(sector)
      if (owner) sector.possible = [...new Set([...sector.possible, ...sector.sinceFlush])]
      this.#mayBeRead(index, readable(sector))
    }
  }

  /** The values that a read which begins now may return, together with those that become possible until it is answered. */
  readBegins(first: number, count: number): OpenRead {
    const sectors = this.#range(first, count)
    const read = {
      first,
      possible: sectors.map((sector) => new Set(readable(sector))),
      writes: sectors.map((sector) => (sector.underWay > 0 ? -1 : sector.writes)),
    }
    this.#openReads.add(read)
    return read
  }

  /** What a sector holds, if there is no doubt of it, nor can come up while nobody writes it. */
  certain(sector: number): number | undefined {
    const { possible, dropped, underWay, flipped } = this.#sectors[sector]!
    const isSure = possible.length === 1 && dropped.length === 0 && underWay === 0 && flipped === 0
    return isSure && this.#failures === 0 ? possible[0]!.value : undefined
  }

  /** A bit of a sector flipped on a platter. */
  flipped(sector: number, bit: number): void {
    this.#sectors[sector]!.flipped |= bit
  }

  /** Of what flipped in a sector, only `bits` are left. */
  standing(sector: number, bits: number): void {
    this.#sectors[sector]!.flipped &= bits
  }

  /** undefined: nothing was said of that sector. */
  readAnswered(read: OpenRead, values: readonly (number | undefined)[], facts: string): void {
    this.#openReads.delete(read)
    for (const [index, value] of values.entries()) {
      if (value === undefined) continue
      const sector = this.#sectors[read.first + index]!
      const possible = [...read.possible[index]!, ...readable(sector)].map((write) => write.value)
      assert(
        possible.includes(value & ~sector.flipped),
        `${facts}: sector ${read.first + index} reads ${value}, possible are ${possible.join(', ')}`,
      )
    }
  }

  /** A read with no write under way settles what a crash left open: from now on the sector has this value. */
  settle({ first, writes }: OpenRead, values: readonly number[]): void {
    for (const [index, value] of values.entries()) {
      const sector = this.#sectors[first + index]!
      // Of writes of one value the oldest: the others may never have happened.
      const write = readable(sector).find((each) => each.value === (value & ~sector.flipped))
      if (write && sector.writes === writes[index]) sector.possible = [write]
    }
  }

  #drop(sector: Sector): void {
    const dropped = sector.sinceFlush.length > 1 ? sector.sinceFlush : []
    sector.dropped = [...new Set([...sector.dropped, ...dropped.filter(({ failures }) => failures < this.#failures)])]
  }

  /** A read under way may be answered with these, though it began before: it can wait for a site that is down. */
  #mayBeRead(sector: number, writes: readonly Write[]): void {
    for (const read of this.#openReads) for (const write of writes) read.possible[sector - read.first]?.add(write)
  }

  #isDurable(sector: Sector, write: Write | undefined): void {
    const at = write && write.failures === this.#failures ? sector.sinceFlush.indexOf(write) : -1
    if (at > 0) sector.sinceFlush = sector.sinceFlush.slice(at)
  }

  #range(first: number, count: number): Sector[] {
    return this.#sectors.slice(first, first + count)
  }
}

function readable(sector: Sector): Write[] {
  return [...sector.possible, ...sector.dropped]
}

function onlyPossible(sector: Sector): Write | undefined {
  return sector.possible.length + sector.dropped.length === 1 ? sector.possible[0] : undefined
}

/** A sector's content for a value: its number in every word. */
export function fill(target: Uint8Array, value: number): void {
  new Uint32Array(target.buffer, target.byteOffset, target.byteLength / 4).fill(value)
}

/** The values of whole sectors, with what flipped in any of their words. @throws when a sector is torn */
export function valuesOf(bytes: Uint8Array, facts: string): number[] {
  const values: number[] = []
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  for (let at = 0; at < words.length; ) {
    const value = words[at]! & valueMask
    let bits = 0
    for (const end = at + sectorBytes / 4; at < end; at++) {
      const difference = words[at]! ^ value
      assert((difference & valueMask) === 0, `${facts}: a sector is torn`)
      bits |= difference
    }
    values.push(value | bits)
  }
  return values
}

/** What flipped in any word of a sector. */
export function flippedBits(sector: Uint8Array): number {
  return valuesOf(sector.slice(), 'a sector at rest')[0]! & ~valueMask
}
