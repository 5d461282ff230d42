// What a guest may read: for each sector the values that are possible. Knows every acknowledged and every flushed write.
// One write at a time is under way on a sector; that is the guest's doing.

import assert from 'node:assert/strict'

export const sectorBytes = 512

interface Sector {
  /** Values that a read may return now. More than one only while a write is under way, or after a crash. */
  possible: number[]
  /** The last value that must survive a power loss, and all that came after it. */
  sinceFlush: number[]
}

export class Oracle {
  readonly #sectors: Sector[]

  constructor(initial: readonly number[]) {
    this.#sectors = initial.map((value) => ({ possible: [value], sinceFlush: [value] }))
  }

  writeBegins(first: number, count: number, value: number): void {
    for (const sector of this.#range(first, count)) {
      sector.possible.push(value)
      sector.sinceFlush.push(value)
    }
  }

  writeAcknowledged(first: number, count: number, value: number): void {
    for (const sector of this.#range(first, count)) sector.possible = [value]
  }

  /** Takes note of what a flush that begins now must make durable; call the result when it is acknowledged. */
  flushBegins(): () => void {
    const covered = this.#sectors.map((sector) => (sector.possible.length === 1 ? sector.possible[0]! : undefined))
    return () => {
      this.#sectors.forEach((sector, index) => {
        const value = covered[index]
        const at = value === undefined ? -1 : sector.sinceFlush.lastIndexOf(value)
        if (at > 0) sector.sinceFlush = sector.sinceFlush.slice(at)
      })
    }
  }

  /** Of what was not flushed, anything may be lost. */
  powerLost(): void {
    for (const sector of this.#sectors) sector.possible = [...new Set([...sector.possible, ...sector.sinceFlush])]
  }

  /** The values that a read which begins now may return, together with those that become possible until it is answered. */
  readBegins(first: number, count: number): Set<number>[] {
    return this.#range(first, count).map((sector) => new Set(sector.possible))
  }

  readAnswered(first: number, before: readonly Set<number>[], values: readonly number[], facts: string): void {
    values.forEach((value, index) => {
      const sector = this.#sectors[first + index]!
      const fits = before[index]!.has(value) || sector.possible.includes(value)
      assert(
        fits,
        `${facts}: sector ${first + index} reads ${value}, possible are ${[...before[index]!, ...sector.possible].join(', ')}`,
      )
    })
  }

  /** A write with FUA was acknowledged. */
  madeDurable(first: number, count: number, value: number): void {
    for (const sector of this.#range(first, count)) {
      const at = sector.sinceFlush.lastIndexOf(value)
      if (at > 0) sector.sinceFlush = sector.sinceFlush.slice(at)
    }
  }

  /** The source has given the disk up: it synced everything before. */
  allDurable(): void {
    for (const sector of this.#sectors) sector.sinceFlush = sector.possible.slice()
  }

  /** A read with nothing under way settles what a crash left open: from now on the sector has this value. */
  settle(first: number, values: readonly number[]): void {
    values.forEach((value, index) => {
      this.#sectors[first + index]!.possible = [value]
    })
  }

  #range(first: number, count: number): Sector[] {
    return this.#sectors.slice(first, first + count)
  }
}

/** A sector's content for a value: its number in every word. */
export function fill(target: Uint8Array, value: number): void {
  new Uint32Array(target.buffer, target.byteOffset, target.byteLength / 4).fill(value)
}

/** The values of whole sectors. @throws when a sector is torn */
export function valuesOf(bytes: Uint8Array, facts: string): number[] {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const values: number[] = []
  for (let at = 0; at < words.length; at += sectorBytes / 4) {
    const value = words[at]!
    assert(
      words.subarray(at, at + sectorBytes / 4).every((word) => word === value),
      `${facts}: a sector is torn`,
    )
    values.push(value)
  }
  return values
}
