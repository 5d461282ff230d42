// How much may be written to the page cache before the kernel brakes writers. A write() of a process is put to sleep once
// the machine's dirty pages pass the middle between its two thresholds (Documentation/admin-guide/sysctl/vm.rst,
// dirty_background_ratio and dirty_ratio); a daemon with one loop must not be the one that sleeps. The kernel's own counts
// are read again after each share of the room that was used up. What they do not show (the limit of a control group, a
// slow file system's own) shows in writes that took long: then there is no room for a while. On a busy machine a write takes
// long also because others have the processor. So one that took long has the next ones looked at more closely for a second; those that waited for something else than a processor were braked.

import { openSync, readFileSync, readSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

const pageBytes = 4096

/** The most that is written between two looks. */
const stepBytes = 64 * 2 ** 20

/** While there is no room: how long nobody looks again. */
const lookAgainMs = 20

/** The kernel's shortest brake is 10 ms. A write of a mebibyte takes less than one, and a busy machine adds a few. */
const slowWriteMs = 8

/** How long there is no room after a write that was braked. */
const restMs = 500

/** How long writes are looked at closely after one that took long. */
const suspectMs = 1000

/** To ask takes a microsecond, of the eight that a small write takes: so old may the answer be. Less than a brake is longer than `slowWriteMs`. */
const queuedAgeMs = 1

export interface DirtyCounts {
  /** Pages that are to be written back or are being written back. */
  readonly dirtyPages: number
  readonly backgroundThresholdPages: number
  readonly thresholdPages: number
}

export class DirtyRoom {
  readonly #counts: () => DirtyCounts | undefined
  readonly #nowMs: () => number
  readonly #queuedMs: () => number
  #leftBytes = 0
  #closedUntilMs = Number.NEGATIVE_INFINITY
  #suspectUntilMs = Number.NEGATIVE_INFINITY
  /** Of the write under way, if it is looked at closely: what `queuedMs` said when it began, or less than `queuedAgeMs` before. */
  #queuedBeforeMs: number | undefined
  #queuedAtMs = 0

  /** `queuedMs`: how long this thread has waited for a processor so far. */
  constructor(
    counts: () => DirtyCounts | undefined = kernelCounts,
    nowMs: () => number = () => performance.now(),
    queuedMs: () => number = threadQueuedMs,
  ) {
    this.#counts = counts
    this.#nowMs = nowMs
    this.#queuedMs = queuedMs
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

  /** A write that there was room for begins now, at `nowMs`. */
  begins(nowMs: number): void {
    if (nowMs >= this.#suspectUntilMs) this.#queuedBeforeMs = undefined
    else if (this.#queuedBeforeMs === undefined || nowMs - this.#queuedAtMs >= queuedAgeMs) {
      this.#queuedBeforeMs = this.#queuedMs()
      this.#queuedAtMs = nowMs
    }
  }

  /** It took this long. */
  wrote(elapsedMs: number): void {
    if (elapsedMs <= slowWriteMs) return
    this.#leftBytes = 0 // The counts are looked at before the next.
    const nowMs = this.#nowMs()
    const before = this.#queuedBeforeMs
    if (before !== undefined && elapsedMs - (this.#queuedMs() - before) > slowWriteMs)
      this.#closedUntilMs = nowMs + restMs
    this.#suspectUntilMs = Math.max(nowMs, this.#closedUntilMs) + suspectMs
  }
}

/** What may be written until the next look: a quarter of the way to where the kernel brakes, at most one step. */
export function roomBytes(counts: DirtyCounts | undefined): number {
  if (counts === undefined) return 0
  const brakePages = (counts.backgroundThresholdPages + counts.thresholdPages) / 2
  const leftBytes = (brakePages - counts.dirtyPages) * pageBytes
  return Math.max(0, Math.min(stepBytes, leftBytes / 4))
}

let schedule: number | undefined
const scheduleText = Buffer.alloc(96)

/**
 * How long this thread was ready and had no processor, from /proc/thread-self/schedstat (Documentation/scheduler/sched-stats.rst).
 * 0 where the kernel does not count it: then all of a write's time counts.
 */
export function threadQueuedMs(): number {
  try {
    schedule ??= openSync('/proc/thread-self/schedstat', 'r')
    const length = readSync(schedule, scheduleText, 0, scheduleText.length, 0)
    return Number(scheduleText.toString('latin1', 0, length).split(' ')[1]) / 1e6 || 0
  } catch {
    return 0
  }
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
