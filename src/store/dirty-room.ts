// How much may be written to the page cache before the kernel brakes writers. A write() of a process is put to sleep once
// the machine's dirty pages pass the middle between its two thresholds (Documentation/admin-guide/sysctl/vm.rst,
// dirty_background_ratio and dirty_ratio); a daemon with one loop must not be the one that sleeps. The kernel's own counts
// are read again after each share of the room that was used up. What they do not show (the limit of a control group, a
// slow file system's own) shows in a write that took long: then there is no room for a while.

import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

const pageBytes = 4096

/** The most that is written between two looks. */
const stepBytes = 64 * 2 ** 20

/** While there is no room: how long nobody looks again. */
const lookAgainMs = 20

/** The kernel's shortest brake is 10 ms. A write of a mebibyte takes less than one, and a busy machine adds a few. */
const slowWriteMs = 8

/** How long there is no room after a slow write. */
const restMs = 500

export interface DirtyCounts {
  /** Pages that are to be written back or are being written back. */
  readonly dirtyPages: number
  readonly backgroundThresholdPages: number
  readonly thresholdPages: number
}

export class DirtyRoom {
  readonly #counts: () => DirtyCounts | undefined
  readonly #nowMs: () => number
  #leftBytes = 0
  #closedUntilMs = Number.NEGATIVE_INFINITY

  constructor(counts: () => DirtyCounts | undefined = kernelCounts, nowMs: () => number = () => performance.now()) {
    this.#counts = counts
    this.#nowMs = nowMs
  }

  /** Whether a write of this length will not be put to sleep. */
  has(lengthBytes: number): boolean {
    if (this.#leftBytes >= lengthBytes) return true
    const nowMs = this.#nowMs()
    if (nowMs < this.#closedUntilMs) return false
    this.#leftBytes = roomBytes(this.#counts())
    if (this.#leftBytes >= lengthBytes) return true
    this.#closedUntilMs = nowMs + lookAgainMs
    return false
  }

  /** So much is being written, at once or not. */
  take(lengthBytes: number): void {
    this.#leftBytes -= lengthBytes
  }

  /** A write that there was room for took this long. */
  wrote(elapsedMs: number): void {
    if (elapsedMs <= slowWriteMs) return
    this.#leftBytes = 0
    this.#closedUntilMs = this.#nowMs() + restMs
  }
}

/** What may be written until the next look: a quarter of the way to where the kernel brakes, at most one step. */
export function roomBytes(counts: DirtyCounts | undefined): number {
  if (counts === undefined) return 0
  const brakePages = (counts.backgroundThresholdPages + counts.thresholdPages) / 2
  const leftBytes = (brakePages - counts.dirtyPages) * pageBytes
  return Math.max(0, Math.min(stepBytes, leftBytes / 4))
}

/** The machine's, from /proc/vmstat. */
export function kernelCounts(): DirtyCounts | undefined {
  let text: string
  try {
    text = readFileSync('/proc/vmstat', 'latin1')
  } catch {
    return undefined
  }
  const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
  const dirtyPages = count('nr_dirty') + count('nr_writeback')
  const thresholdPages = count('nr_dirty_threshold')
  const backgroundThresholdPages = count('nr_dirty_background_threshold')
  if (Number.isNaN(dirtyPages + thresholdPages + backgroundThresholdPages)) return undefined
  return { dirtyPages, backgroundThresholdPages, thresholdPages }
}
