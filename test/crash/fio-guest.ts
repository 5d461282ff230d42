// A guest as a hypervisor has it: fio, which verifies what it writes, works on the export of a qemu-nbd, which is to the
// site what a running QEMU is: a client that connects again when its server was gone, and repeats what was not answered.
// fio itself sees no break: that it ends with the exit code 0 says that no request failed and no byte was wrong.
//
// The disk has three areas: its upper half, written in sizes of 512 bytes to 64 KiB, and below it the even and the odd
// halves of each block, so that what a guest wrote and what a move brings meet within blocks. Each round of fio writes the
// upper half and one of the two others, and reads the third. Every 512 bytes carry fio's header with a checksum; where in
// them the header stands (the mark) differs from round to round, so that a sector of an older round is an error too.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { folder, type Site, until } from '../e2e/sites.ts'
import { Program } from '../program.ts'
import { findTool, needTool } from '../tools.ts'

const exportName = 'disk'
/** Longer than any site is dead. */
const reconnectSeconds = 60
const roundDeadlineSeconds = 90
const endDeadlineSeconds = reconnectSeconds + 10
const markCount = 4
/** More than the length of a header. */
const markStepBytes = 64
const halfBlockBytes = 2048

type Area = 'upper' | 'even' | 'odd'

export interface FioGuestOptions {
  readonly diskName: string
  readonly sizeBytes: number
  readonly seed: number
  /** How long a round takes at least, so that a site can die in it. */
  readonly roundSeconds?: number
  /** Writes between two flushes of a job; 0: it never flushes. */
  readonly flushEvery?: number
}

export function needFioAndProxy(context: Mocha.Context): void {
  needTool(context, 'fio', 'qemu-nbd')
}

export class FioGuest {
  rounds = 0
  readonly #options: Required<FioGuestOptions>
  /** Where fio's headers stand in each area; undefined: not written yet. */
  readonly #marks: Record<Area, number | undefined> = { upper: undefined, even: undefined, odd: undefined }
  #proxy: Program | undefined
  #socket = ''
  #fio: Program | undefined
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()
  #failure: Error | undefined

  constructor(options: FioGuestOptions) {
    this.#options = { roundSeconds: 0.6, flushEvery: 32, ...options }
  }

  /** Attaches to the disk at `site`, and works there round after round. */
  async start(site: Site): Promise<void> {
    await this.#attach(site)
    this.#isStopping = false
    this.#running = this.#work()
  }

  /** After the round that is under way it ends, and detaches. Throws what went wrong. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
    this.check()
    await this.#detach()
  }

  check(): void {
    if (this.#failure) throw this.#failure
  }

  /** Waits until this many more rounds have ended well. */
  async worked(rounds: number): Promise<void> {
    const goal = this.rounds + rounds
    const look = () => {
      this.check()
      return this.rounds >= goal ? true : undefined
    }
    await until(`fio has worked for ${rounds} rounds`, look, roundDeadlineSeconds * 1000 * rounds)
  }

  /** Reads the whole disk at `site`, and compares every sector with what was written there last. */
  async verify(site: Site): Promise<void> {
    await this.#attach(site)
    const areas = ['upper', 'even', 'odd'] as const
    await this.#runFio(areas.map((area) => this.#reading(area, '--bs=64k')))
    await this.#detach()
  }

  /** The test is over: whatever still runs is killed. */
  async kill(): Promise<void> {
    this.#isStopping = true
    await this.#fio?.kill()
    await this.#proxy?.kill()
    await this.#running
  }

  async #work(): Promise<void> {
    try {
      while (!this.#isStopping) {
        await this.#round()
        this.rounds++
      }
    } catch (error) {
      this.#failure ??= new Error(`fio, round ${this.rounds}: ${(error as Error).message}`, { cause: error })
    }
  }

  async #round(): Promise<void> {
    const { rounds } = this
    const mark = (rounds + 1) % markCount
    const [written, read] = rounds % 2 === 0 ? (['even', 'odd'] as const) : (['odd', 'even'] as const)
    const jobs = [this.#writing('upper', mark), this.#writing(written, mark)]
    const isFirst = this.#marks[read] === undefined
    jobs.push(isFirst ? this.#writing(read, mark) : this.#reading(read, this.#rate(read, '')))
    await this.#runFio(jobs)
    for (const area of isFirst ? (['upper', written, read] as const) : (['upper', written] as const))
      this.#marks[area] = mark
  }

  #writing(area: Area, mark: number): string[] {
    const { flushEvery } = this.#options
    const how =
      area === 'upper'
        ? ['--rw=randwrite', '--bsrange=512-64k', '--blockalign=512', '--verify_backlog=64']
        : [`--rw=write:${halfBlockBytes}`, `--bs=${halfBlockBytes}`]
    return [...this.#place(area, mark), ...how, this.#rate(area, ','), `--fsync=${flushEvery}`]
  }

  #reading(area: Area, how: string): string[] {
    const mark = this.#marks[area]
    assert(mark !== undefined, 'read before it was written')
    const way = area === 'upper' ? ['--rw=read', how] : [`--rw=read:${halfBlockBytes}`, how, `--bs=${halfBlockBytes}`]
    return [...this.#place(area, mark), ...way]
  }

  #place(area: Area, mark: number): string[] {
    const half = this.#options.sizeBytes / 2
    const place = {
      upper: [`--offset=${half}`, `--size=${half}`],
      even: ['--offset=0', `--size=${half}`],
      odd: [`--offset=${halfBlockBytes}`, `--size=${half - halfBlockBytes}`],
    }
    const verifying = ['--verify=crc32c', '--verify_interval=512', `--verify_offset=${(1 + mark) * markStepBytes}`]
    return [`--name=${area}`, ...place[area], ...verifying]
  }

  /** Bytes a second; `ways` is ',' when it is for writes alone: comparing goes as fast as it can. */
  #rate(area: Area, ways: '' | ','): string {
    const { sizeBytes, roundSeconds } = this.#options
    const areaBytes = area === 'upper' ? sizeBytes / 2 : sizeBytes / 4
    return `--rate=${ways}${Math.ceil(areaBytes / roundSeconds)}`
  }

  async #runFio(jobs: readonly string[][]): Promise<void> {
    const { seed } = this.#options
    const engine = ['--ioengine=nbd', `--uri=nbd+unix:///${exportName}?socket=${this.#socket}`, '--iodepth=8']
    const strict = [
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--exitall_on_error=1',
      `--randseed=${seed + this.rounds}`,
    ]
    const words = jobs.flatMap((job) => [...job, ...engine, ...strict])
    this.#fio = new Program('fio', findTool('fio')!, ['--output-format=terse', ...words])
    await this.#fio.succeed(roundDeadlineSeconds)
  }

  async #attach(site: Site): Promise<void> {
    this.#socket = join(folder(), 'qemu.sock')
    const server = `server.type=unix,server.path=${site.nbdSocket},export=${this.#options.diskName}`
    const deadlines = `reconnect-delay=${reconnectSeconds},open-timeout=${reconnectSeconds}`
    const proxy = new Program('qemu-nbd', findTool('qemu-nbd')!, [
      ...['--persistent', '--shared=8', `--export-name=${exportName}`, `--socket=${this.#socket}`],
      ...['--image-opts', `driver=nbd,${server},${deadlines}`],
    ])
    this.#proxy = proxy
    const ended = proxy.ended(endDeadlineSeconds).then((code) => {
      throw new Error(`qemu-nbd ended with ${code} before it listened`)
    })
    ended.catch(() => {}) // It ends some day.
    const listens = until('qemu-nbd listens', () => existsSync(this.#socket) || undefined, endDeadlineSeconds * 1000)
    await Promise.race([listens, ended])
  }

  async #detach(): Promise<void> {
    this.#proxy?.signal('SIGTERM')
    await this.#proxy?.succeed(endDeadlineSeconds)
    this.#proxy = undefined
  }
}
