// The demo's client, in place of a machine's disk driver: several requests always under way, each read checked against
// the last acknowledged writes.
//
// What always holds:
// - A request overlaps no write under way, and a write no request: so each read has exactly one right answer.
// - A pause is counted from the moment that a request is wanted, also when the guest is being moved, to its answer.
// - The first wrong byte and the first failed request end the work; `failed` says which.

import type { NbdClient } from '../nbd/client/client.ts'
import type { Area, Run } from './area.ts'
import { type Finding, findingText, type Model } from './model.ts'
import { fillStamp, sectorBytes } from './stamp.ts'

/** What the guest needs of its connection. */
export type GuestDisk = Pick<NbdClient, 'read' | 'write' | 'writeZeroes' | 'flush'>

export interface GuestParts {
  readonly model: Model
  /** Where it may write. */
  readonly area: Area
  /** 0 <= value < 1 */
  readonly random: () => number
  readonly nowMs: () => number
}

export interface GuestCounts {
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly longestPauseMs: number
  /** Of each kind of request the longest. */
  readonly longestPausesMs: Readonly<Record<RequestKind, number>>
}

type RequestKind = 'read' | 'write' | 'flush'

/** Bytes came back that must not have. */
export class WrongBytesError extends Error {
  readonly findings: readonly Finding[]
  constructor(findings: readonly Finding[], where: string) {
    super(`${where} came back wrong, ${findingText(findings[0]!)}`)
    this.name = 'WrongBytesError'
    this.findings = findings
  }
}

const workers = 4
const blockBytes = 4096
const largeBytes = 64 * 1024
const recentMax = 4096
const verifyBytes = 1024 * 1024

interface Claim extends Run {
  readonly kind: RequestKind
}

export class Guest {
  readonly #parts: GuestParts
  readonly #underWay = new Set<Claim>()
  /** Where it wrote last, to be read again soon. */
  readonly #recent: Run[] = []
  readonly #failed = Promise.withResolvers<never>()
  #disk: GuestDisk
  #held: PromiseWithResolvers<void> | undefined
  #drained: (() => void) | undefined
  #work: Promise<unknown> = Promise.resolve()
  #stopping = false
  #sequence = 0
  #counts = { reads: 0, writes: 0, flushes: 0 }
  readonly #longestPausesMs = { read: 0, write: 0, flush: 0 }

  constructor(disk: GuestDisk, parts: GuestParts) {
    this.#disk = disk
    this.#parts = parts
    this.#failed.promise.catch(() => {})
  }

  get counts(): GuestCounts {
    const pauses = this.#longestPausesMs
    return { ...this.#counts, longestPauseMs: Math.max(...Object.values(pauses)), longestPausesMs: { ...pauses } }
  }

  /** Rejects with the first thing that went wrong; never resolves. */
  get failed(): Promise<never> {
    return this.#failed.promise
  }

  start(): void {
    this.#work = Promise.all(Array.from({ length: workers }, () => this.#worker()))
  }

  /** Waits for the requests under way, flushes, and is silent then: what a hypervisor does before it moves. */
  async hold(): Promise<void> {
    this.#held ??= Promise.withResolvers()
    if (this.#underWay.size > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve
      })
    }
    await this.#disk.flush()
    this.#counts.flushes++
  }

  /** Goes on, over another connection if one is given. */
  resume(disk: GuestDisk = this.#disk): void {
    this.#disk = disk
    this.#held?.resolve()
    this.#held = undefined
  }

  /** Finishes what is under way and flushes. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#work
    await this.#disk.flush()
    this.#counts.flushes++
  }

  /** `count` checked reads over `disk` while the guest goes on with its own. */
  async readBeside(disk: GuestDisk, count: number): Promise<void> {
    for (let done = 0; done < count; ) {
      const place = this.#parts.random() < 0.5 ? this.#recentPlace() : this.#anyPlace()
      if (await this.#read(place, disk)) done++
    }
  }

  /** Reads the whole disk over `disk` and returns everything that is wrong. The guest has stopped. */
  async verify(disk: GuestDisk, told: (doneBytes: number) => void): Promise<Finding[]> {
    const { model } = this.#parts
    const findings: Finding[] = []
    let next = 0
    let doneBytes = 0
    const lane = async () => {
      while (next < model.sizeBytes) {
        const offset = next
        const length = Math.min(verifyBytes, model.sizeBytes - offset)
        next += length
        findings.push(...model.check(offset, await disk.read(offset, length)))
        doneBytes += length
        told(doneBytes)
      }
    }
    await Promise.all(Array.from({ length: workers }, lane))
    return findings
  }

  async #worker(): Promise<void> {
    try {
      while (!this.#stopping) await this.#step()
    } catch (error) {
      this.#stopping = true
      this.#failed.reject(error)
    }
  }

  #step(): Promise<unknown> {
    const { random } = this.#parts
    const choice = random()
    if (choice < 0.005) return this.#flush()
    if (choice < 0.02) return this.#write(this.#placeIn(blockBytes, 0.5), 'zeros')
    if (choice < 0.1) return this.#neighbours()
    if (choice < 0.5) return this.#write(this.#placeToWrite(), 'stamp')
    if (choice < 0.98) return this.#read(random() < 0.5 ? this.#recentPlace() : this.#placeToWrite())
    return this.#read(this.#anyPlace())
  }

  /** Reads a part of a block while it writes another: at the destination the block is fetched under the write. */
  async #neighbours(): Promise<void> {
    const { offset, length } = this.#placeIn(blockBytes, 0.3)
    const half = length / 2
    if (half % sectorBytes !== 0) return
    await Promise.all([
      this.#read({ offset, length: half }),
      this.#write({ offset: offset + half, length: sectorBytes }, 'stamp'),
    ])
  }

  #placeToWrite(): Run {
    const { random } = this.#parts
    const choice = random()
    if (choice < 0.2) return this.#placeIn(sectorBytes, 0.9)
    return this.#placeIn(choice < 0.92 ? blockBytes : largeBytes, 0.95)
  }

  /** A place in the area, with the given chance in its first quarter: like a machine, the guest has places it likes. */
  #placeIn(lengthBytes: number, hotChance: number): Run {
    const { area, random } = this.#parts
    const bytes = random() < hotChance ? area.bytes / 4 : area.bytes
    // One in four lies across the bounds of blocks.
    const unit = random() < 0.25 ? sectorBytes : lengthBytes
    return area.place(Math.floor((random() * bytes) / unit) * unit, lengthBytes)
  }

  #recentPlace(): Run {
    const { random } = this.#parts
    return this.#recent[Math.floor(random() * this.#recent.length)] ?? this.#anyPlace()
  }

  /** Anywhere on the disk, mostly where nobody ever writes. */
  #anyPlace(): Run {
    const { model, random } = this.#parts
    const length = random() < 0.8 ? blockBytes : largeBytes
    const offset = Math.floor((random() * model.sizeBytes) / blockBytes) * blockBytes
    return { offset, length: Math.min(length, model.sizeBytes - offset) }
  }

  async #flush(): Promise<void> {
    await this.#request({ offset: 0, length: 0, kind: 'flush' }, (disk) => disk.flush())
    this.#counts.flushes++
  }

  async #read({ offset, length }: Run, over?: GuestDisk): Promise<boolean> {
    const isDone = await this.#request({ offset, length, kind: 'read' }, async (own) => {
      const bytes = await (over ?? own).read(offset, length)
      const findings = this.#parts.model.check(offset, bytes)
      if (findings.length > 0) throw new WrongBytesError(findings, `a read of ${length} bytes at ${offset}`)
    })
    if (isDone) this.#counts.reads++
    return isDone
  }

  async #write(place: Run, content: 'stamp' | 'zeros'): Promise<void> {
    const { model, random } = this.#parts
    const isDone = await this.#request({ ...place, kind: 'write' }, async (disk) => {
      const sequence = ++this.#sequence
      const { offset, length } = place
      const fua = random() < 0.01
      if (content === 'zeros') {
        await disk.writeZeroes(offset, length, { fua })
      } else {
        const bytes = new Uint8Array(length)
        fillStamp(bytes, offset / sectorBytes, sequence)
        await disk.write(offset, bytes, { fua })
      }
      model.acknowledge(offset, length, sequence, content)
    })
    if (!isDone) return
    this.#counts.writes++
    if (this.#recent.length < recentMax) this.#recent.push(place)
    else this.#recent[this.#counts.writes % recentMax] = place
  }

  /** False: other requests are in the way, and nothing was sent. */
  async #request(claim: Claim, act: (disk: GuestDisk) => Promise<void>): Promise<boolean> {
    const { nowMs } = this.#parts
    const wantedMs = nowMs()
    while (this.#held !== undefined) await this.#held.promise
    for (const other of this.#underWay) if (collide(claim, other)) return false
    this.#underWay.add(claim)
    try {
      await act(this.#disk)
    } finally {
      this.#underWay.delete(claim)
      if (this.#underWay.size === 0) this.#drained?.()
    }
    const pauses = this.#longestPausesMs
    pauses[claim.kind] = Math.max(pauses[claim.kind], nowMs() - wantedMs)
    return true
  }
}

function collide(a: Claim, b: Claim): boolean {
  return (a.kind === 'write' || b.kind === 'write') && a.offset < b.offset + b.length && b.offset < a.offset + a.length
}
