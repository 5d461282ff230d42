// An export in memory, and a catalog of such, for tests. Every call is recorded; a gate makes a handle answer later, when
// the test says so; a fault makes it fail. Blocks that were never written, or were trimmed, are holes.

import { randomUUID } from 'node:crypto'
import {
  type Export,
  type ExportCatalog,
  type ExportHandle,
  type MaybePromise,
  type SessionEnd,
  type StatusExtent,
  type StatusKind,
  type StatusWord,
  statusWords,
  type ZeroOptions,
} from '../../src/guest/export.ts'

const blockBytes = 4096

export interface MemoryExportOptions {
  readonly name?: string
  readonly sizeBytes?: number
  readonly readOnly?: boolean
  readonly description?: string
  readonly statuses?: readonly StatusKind[]
}

export class MemoryExport implements Export {
  readonly id = randomUUID()
  readonly name: string
  readonly description: string
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly statuses: readonly StatusKind[]
  readonly bytes: Buffer
  readonly written: Uint8Array
  /** "write 0 512 fua", in order. */
  readonly calls: string[] = []
  readonly closes: SessionEnd[] = []
  /** For each hangUp(): how many sessions had been closed before. */
  readonly hangUps: number[] = []
  opens = 0
  /** Awaited before each call is carried out; undefined answers at once. */
  gate: ((call: string) => Promise<void> | undefined) | undefined
  /** Says which writes are taken at once; a gate must not hold these. */
  takesAtOnce: ((offset: number, lengthBytes: number) => boolean) | undefined
  openFault: Error | undefined
  /** Told instead of the truth. */
  blockStatusFault: readonly StatusExtent[] | undefined
  #closeWaiters: (() => void)[] = []

  constructor(options: MemoryExportOptions = {}) {
    this.name = options.name ?? 'disk'
    this.description = options.description ?? 'a disk in memory'
    this.sizeBytes = options.sizeBytes ?? 1024 * 1024
    this.readOnly = options.readOnly ?? false
    this.statuses = options.statuses ?? ['allocation']
    this.bytes = Buffer.alloc(this.sizeBytes)
    this.written = new Uint8Array(Math.ceil(this.sizeBytes / blockBytes))
  }

  open(_client: string): ExportHandle {
    if (this.openFault !== undefined) throw this.openFault
    this.opens++
    return new MemoryHandle(this)
  }

  /** Resolves once `count` sessions have been closed. */
  async closed(count: number): Promise<void> {
    while (this.closes.length < count) await new Promise<void>((resolve) => this.#closeWaiters.push(resolve))
  }

  noteClose(end: SessionEnd): void {
    this.closes.push(end)
    for (const resolve of this.#closeWaiters.splice(0)) resolve()
  }
}

class MemoryHandle implements ExportHandle {
  readonly #export: MemoryExport

  constructor(of: MemoryExport) {
    this.#export = of
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    return this.#run(`read ${offset} ${target.length}`, () => {
      target.set(this.#export.bytes.subarray(offset, offset + target.length))
    })
  }

  takesAtOnce(offset: number, lengthBytes: number): boolean {
    return this.#export.takesAtOnce?.(offset, lengthBytes) ?? false
  }

  write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void> {
    return this.#run(`write ${offset} ${source.length}${fua ? ' fua' : ''}`, () => {
      this.#export.bytes.set(source, offset)
      this.#export.written.fill(1, Math.floor(offset / blockBytes), Math.ceil((offset + source.length) / blockBytes))
    })
  }

  trim(offset: number, lengthBytes: number, fua: boolean): MaybePromise<void> {
    return this.#run(`trim ${offset} ${lengthBytes}${fua ? ' fua' : ''}`, () => this.#punch(offset, lengthBytes))
  }

  writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): MaybePromise<void> {
    const words = [
      options.mayPunch ? 'punch' : 'keep',
      ...(options.fast ? ['fast'] : []),
      ...(options.fua ? ['fua'] : []),
    ]
    return this.#run(`zero ${offset} ${lengthBytes} ${words.join(' ')}`, () => {
      if (options.mayPunch) this.#punch(offset, lengthBytes)
      else this.#export.bytes.fill(0, offset, offset + lengthBytes)
    })
  }

  flush(): MaybePromise<void> {
    return this.#run('flush', () => {})
  }

  cache(offset: number, lengthBytes: number): MaybePromise<void> {
    return this.#run(`cache ${offset} ${lengthBytes}`, () => {})
  }

  blockStatus(
    kind: StatusKind,
    offset: number,
    lengthBytes: number,
    limit: number,
  ): MaybePromise<readonly StatusExtent[]> {
    if (this.#export.blockStatusFault !== undefined) return this.#export.blockStatusFault
    const [elsewhere, whereWritten] = kind === 'allocation' ? (['hole', 'data'] as const) : statusWords[kind]
    const extents: { lengthBytes: number; readonly status: StatusWord }[] = []
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const next = Math.min(end, (Math.floor(at / blockBytes) + 1) * blockBytes)
      const isWritten = this.#export.written[Math.floor(at / blockBytes)] === 1
      const status = isWritten ? whereWritten : elsewhere
      const last = extents.at(-1)
      if (last?.status === status) last.lengthBytes += next - at
      else if (extents.length === limit) break
      else extents.push({ lengthBytes: next - at, status })
      at = next
    }
    const waiting = this.#enter(`status ${kind} ${offset} ${lengthBytes} ${limit}`)
    return waiting === undefined ? extents : waiting.then(() => extents)
  }

  hangUp(): void {
    this.#export.hangUps.push(this.#export.closes.length)
  }

  close(end: SessionEnd): void {
    this.#export.noteClose(end)
  }

  /** Only whole blocks become holes; all of the range becomes zero. */
  #punch(offset: number, lengthBytes: number): void {
    this.#export.bytes.fill(0, offset, offset + lengthBytes)
    const first = Math.ceil(offset / blockBytes)
    const end = Math.floor((offset + lengthBytes) / blockBytes)
    if (first < end) this.#export.written.fill(0, first, end)
  }

  #run(call: string, act: () => void): MaybePromise<void> {
    const waiting = this.#enter(call)
    return waiting === undefined ? act() : waiting.then(act)
  }

  #enter(call: string): Promise<void> | undefined {
    this.#export.calls.push(call)
    return this.#export.gate?.(call)
  }
}

/** The first export is also the default one. */
export function catalogOf(...exports: readonly Export[]): ExportCatalog {
  return {
    list: () => exports.map(({ name }) => name),
    find: (name) => (name === '' ? exports[0] : exports.find((candidate) => candidate.name === name)),
  }
}
