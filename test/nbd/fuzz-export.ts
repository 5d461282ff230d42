// An export for fuzzing: it answers at once, later, or with a planted error, as a seed says, and watches how it is called.
// What lies at an offset is known whoever wrote it: the export's pattern there, or zero. So any read, and any write that
// was answered with success, can be judged without knowing what went on meanwhile. Ranges that a broken request may zero,
// or fill with what does not belong there, are named by its sender before it is sent.

import { randomUUID } from 'node:crypto'
import {
  type Export,
  type ExportHandle,
  GuestError,
  type MaybePromise,
  type StatusExtent,
  type StatusKind,
  type StatusWord,
  type ZeroOptions,
} from '../../src/guest/export.ts'
import type { Random } from '../random.ts'

const pageBytes = 4096
/** Every byte of a pattern has its export's upper three bits; no text and no header has a run of such. */
const tagMask = 0xe0
export const tags = { alpha: 0x80, bravo: 0xa0, bystander: 0xc0 } as const

/** How calls are answered: probabilities, looked at in this order; all others at once. */
export interface Mood {
  readonly late: number
  /** Of all calls, late or not. */
  readonly fault: number
}

/** Takes a sentence about something that must not be. */
export type Found = (sentence: string) => void

export interface UnrulyOptions {
  readonly name: string
  readonly tag: number
  readonly sizeBytes: number
  readonly random: Random
  readonly mood: Mood
  readonly found: Found
}

/** Resolves after `count` turns of the event loop. */
export async function turns(count: number): Promise<void> {
  for (let left = count; left > 0; left--) await new Promise((resolve) => setImmediate(resolve))
}

export class UnrulyExport implements Export {
  readonly id = randomUUID()
  readonly name: string
  readonly description = 'answers as it likes'
  readonly sizeBytes: number
  readonly readOnly = false
  readonly statuses = ['allocation', 'dirty'] as const
  readonly tag: number
  readonly options: UnrulyOptions
  readonly bytes: Buffer
  /** What belongs at each offset. */
  readonly pattern: Buffer
  /** By byte: something may have zeroed it. */
  readonly mayBeZero: Uint8Array
  /** By byte: a broken request may have written there what belongs elsewhere. */
  readonly mayBeWrong: Uint8Array
  readonly written: Uint8Array
  opens = 0
  closes = 0

  constructor(options: UnrulyOptions) {
    const { name, tag, sizeBytes } = options
    this.options = options
    this.name = name
    this.tag = tag
    this.sizeBytes = sizeBytes
    this.pattern = Buffer.alloc(sizeBytes)
    for (let at = 0; at < sizeBytes; at++) {
      this.pattern[at] = tag | (Math.imul(at ^ (at >>> 11), 0x9e3779b1) >>> 27)
    }
    this.mayBeZero = new Uint8Array(sizeBytes)
    this.mayBeWrong = new Uint8Array(sizeBytes)
    this.written = new Uint8Array(Math.ceil(sizeBytes / pageBytes))
    this.bytes = Buffer.alloc(sizeBytes)
    // Data and holes in turn, in runs of several pages.
    for (let page = 0; page < this.written.length; page++) {
      if ((page >> 3) % 2 === 0) continue
      this.written[page] = 1
      const from = page * pageBytes
      this.pattern.copy(this.bytes, from, from, Math.min(from + pageBytes, sizeBytes))
    }
  }

  open(_client: string): ExportHandle {
    if (this.options.random.chance(this.options.mood.fault / 4)) throw planted(this.options.random)
    this.opens++
    return new UnrulyHandle(this)
  }

  /** Whether `bytes` may be what lies at `offset`; `isWritten`: as after a write that was acknowledged. */
  accepts(offset: number, bytes: Uint8Array, isWritten: boolean): boolean {
    if (this.pattern.compare(bytes, 0, bytes.length, offset, offset + bytes.length) === 0) return true
    for (let index = 0; index < bytes.length; index++) {
      const at = offset + index
      if (bytes[index] === this.pattern[at] || this.mayBeWrong[at] === 1) continue
      if (bytes[index] !== 0 || (isWritten && this.mayBeZero[at] === 0)) return false
    }
    return true
  }
}

/** One of the protocol's errors, or one that only the log may tell in full. */
function planted(random: Random): Error {
  return random.chance(0.5) ? new GuestError('io', 'planted') : new Error('planted, and not for clients')
}

class UnrulyHandle implements ExportHandle {
  readonly #export: UnrulyExport
  readonly #options: UnrulyOptions
  #outstanding = 0
  #isClosed = false
  #mustAnswerAtOnce = false

  constructor(of: UnrulyExport) {
    this.#export = of
    this.#options = of.options
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    // Whoever sends it before it was read, or after it could not be, sends this.
    target.fill(0xff)
    return this.#run('read', offset, target.length, () => {
      target.set(this.#export.bytes.subarray(offset, offset + target.length))
    })
  }

  takesAtOnce(_offset: number, _lengthBytes: number): boolean {
    this.#mustAnswerAtOnce = this.#options.random.chance(0.5)
    return this.#mustAnswerAtOnce
  }

  write(offset: number, source: Uint8Array, _fua: boolean): MaybePromise<void> {
    const { bytes, written } = this.#export
    const given = Buffer.from(source)
    const end = offset + source.length
    return this.#run('write', offset, source.length, () => {
      if (!given.equals(source)) this.#found(`the bytes of a write at ${offset} changed under it`)
      if (!this.#export.accepts(offset, given, true)) {
        this.#found(`a write of ${given.length} bytes at ${offset} brought what does not belong there`)
      }
      bytes.set(source, offset)
      written.fill(1, Math.floor(offset / pageBytes), Math.ceil(end / pageBytes))
    })
  }

  trim(offset: number, lengthBytes: number, _fua: boolean): MaybePromise<void> {
    return this.#run('trim', offset, lengthBytes, () => this.#zero(offset, lengthBytes))
  }

  writeZeroes(offset: number, lengthBytes: number, _options: ZeroOptions): MaybePromise<void> {
    return this.#run('zero', offset, lengthBytes, () => this.#zero(offset, lengthBytes))
  }

  flush(): MaybePromise<void> {
    return this.#run('flush', 0, 1, () => {})
  }

  cache(offset: number, lengthBytes: number): MaybePromise<void> {
    return this.#run('cache', offset, lengthBytes, () => {})
  }

  blockStatus(
    kind: StatusKind,
    offset: number,
    lengthBytes: number,
    limit: number,
  ): MaybePromise<readonly StatusExtent[]> {
    return this.#run('status', offset, lengthBytes, () => this.#extents(kind, offset, lengthBytes, limit))
  }

  hangUp(): void {
    if (this.#isClosed) this.#found('hangUp() after close()')
  }

  close(): void {
    if (this.#isClosed) this.#found('a handle was closed twice')
    if (this.#outstanding > 0) this.#found(`a handle was closed with ${this.#outstanding} calls under way`)
    this.#isClosed = true
    this.#export.closes++
  }

  #found(sentence: string): void {
    this.#options.found(`${this.#export.name}: ${sentence}`)
  }

  #extents(kind: StatusKind, offset: number, lengthBytes: number, limit: number): StatusExtent[] {
    const [whereWritten, elsewhere] =
      kind === 'allocation' ? (['data', 'hole'] as const) : (['dirty', 'clean'] as const)
    const extents: { lengthBytes: number; readonly status: StatusWord }[] = []
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const page = Math.floor(at / pageBytes)
      const next = Math.min(end, (page + 1) * pageBytes)
      const status = this.#export.written[page] === 1 ? whereWritten : elsewhere
      const last = extents.at(-1)
      if (last?.status === status) last.lengthBytes += next - at
      else if (extents.length === limit) break
      else extents.push({ lengthBytes: next - at, status })
      at = next
    }
    return extents
  }

  #zero(offset: number, lengthBytes: number): void {
    const { bytes, written } = this.#export
    bytes.fill(0, offset, offset + lengthBytes)
    const first = Math.ceil(offset / pageBytes)
    const end = Math.floor((offset + lengthBytes) / pageBytes)
    if (first < end) written.fill(0, first, end)
  }

  #run<T>(name: string, offset: number, lengthBytes: number, act: () => T): MaybePromise<T> {
    const { random, mood } = this.#options
    if (this.#isClosed) this.#found(`${name} after close()`)
    const isWithin = Number.isSafeInteger(offset) && offset >= 0 && offset + lengthBytes <= this.#export.sizeBytes
    if (!isWithin || lengthBytes < 1) this.#found(`${name} of ${lengthBytes} bytes at ${offset}`)
    const isAtOnce = this.#mustAnswerAtOnce || !random.chance(mood.late)
    this.#mustAnswerAtOnce = false
    const fault = random.chance(mood.fault) ? planted(random) : undefined
    if (isAtOnce) {
      if (fault !== undefined) throw fault
      return act()
    }
    return this.#later(act, fault, 1 + random.integer(random.chance(0.1) ? 60 : 5))
  }

  async #later<T>(act: () => T, fault: Error | undefined, turnCount: number): Promise<T> {
    this.#outstanding++
    await turns(turnCount)
    this.#outstanding--
    if (this.#isClosed) this.#found('a handle was closed before it had answered')
    if (fault !== undefined) throw fault
    return act()
  }
}

/** The longest run of `bytes` that is of the pattern with `tag`. */
export function longestRun(bytes: Buffer, tag: number): number {
  let longest = 0
  let run = 0
  for (const byte of bytes) {
    run = (byte & tagMask) === tag ? run + 1 : 0
    if (run > longest) longest = run
  }
  return longest
}
