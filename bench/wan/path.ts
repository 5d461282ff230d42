// An emulated path between two network namespaces of its own, so that two sites and their clients run as at two providers:
// rate, round trip, loss and queue, changed while it runs. path.c carries the packets; here it is compiled, the namespaces are
// made, and all is taken away again.
//
// Needs root, gcc and iproute2. Files and Unix sockets are shared by both ends; addresses are `addressOf`'s.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { promisify } from 'node:util'

const run = promisify(execFile)

export type End = 'a' | 'b'

export interface PathShape {
  /** Bits a second, each way. */
  readonly rate: number
  readonly roundTripMs: number
  /** Packets lost of a million, each way. */
  readonly lossPerMillion?: number
  /** In front of each end's way; undefined: what the path holds in one round trip, and at least 64 KiB. */
  readonly queueBytes?: number
  readonly seed?: number
}

export interface WayStats {
  readonly packets: number
  /** With the headers of IP and TCP. */
  readonly bytes: number
  readonly lost: number
  readonly overflowed: number
  readonly mostQueuedBytes: number
}

const network = '10.78.0'
const smallestQueueBytes = 64 * 1024
/** How long a segment may be that passes as one: at low rates it would else hold up the packets behind it. */
const longestSegmentMs = 0.5
const packetBytes = 1500
const mostSegmentBytes = 65_536

export class EmulatedPath {
  readonly #folder: string
  readonly #names: Readonly<Record<End, string>>
  readonly #carrier: ChildProcess
  readonly #answers: AsyncIterator<string>
  readonly #lines: Interface
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(folder: string, names: Readonly<Record<End, string>>, carrier: ChildProcess) {
    this.#folder = folder
    this.#names = names
    this.#carrier = carrier
    this.#lines = createInterface({ input: carrier.stdout! })
    this.#answers = this.#lines[Symbol.asyncIterator]()
  }

  static async make(shape: PathShape): Promise<EmulatedPath> {
    const folder = await mkdtemp(join(tmpdir(), 'vmstore-path-'))
    const names = { a: `vmstore-${process.pid}-a`, b: `vmstore-${process.pid}-b` }
    const program = join(folder, 'path')
    await run('gcc', ['-O2', '-Wall', '-Werror', '-o', program, join(import.meta.dirname, 'path.c')])
    for (const name of Object.values(names)) await run('ip', ['netns', 'add', name])
    const carrier = spawn(program, [names.a, names.b], { stdio: ['pipe', 'pipe', 'inherit'] })
    const path = new EmulatedPath(folder, names, carrier)
    try {
      await path.#answer('up')
      for (const end of ['a', 'b'] as const) await path.#bringUp(end, shape)
      await path.set(shape)
    } catch (error) {
      await path.close()
      throw error
    }
    return path
  }

  addressOf(end: End): string {
    return `${network}.${end === 'a' ? 1 : 2}`
  }

  /** What stands before a command that runs at this end. */
  at(end: End): readonly string[] {
    return ['ip', 'netns', 'exec', this.#names[end]]
  }

  /** From now on, for what has not been queued yet. */
  async set({ rate, roundTripMs, lossPerMillion = 0, queueBytes, seed = 1 }: PathShape): Promise<void> {
    const product = (rate / 8) * (roundTripMs / 1000)
    const queue = Math.round(queueBytes ?? Math.max(smallestQueueBytes, product))
    await this.#say(`set ${rate} ${Math.round(roundTripMs * 500)} ${lossPerMillion} ${queue} ${seed}`)
  }

  cut(): Promise<void> {
    return this.#say('cut')
  }

  heal(): Promise<void> {
    return this.#say('heal')
  }

  async stats(): Promise<{ readonly ab: WayStats; readonly ba: WayStats }> {
    return JSON.parse(await this.#ask('stats'))
  }

  async close(): Promise<void> {
    if (this.#carrier.exitCode === null && this.#carrier.signalCode === null) {
      const gone = once(this.#carrier, 'exit')
      this.#carrier.stdin!.end()
      await gone
    }
    this.#lines.close()
    for (const name of Object.values(this.#names)) await run('ip', ['netns', 'del', name]).catch(() => {})
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #bringUp(end: End, { rate }: PathShape): Promise<void> {
    const inside = (...words: string[]) => run('ip', ['-n', this.#names[end], ...words])
    const segment = Math.min(mostSegmentBytes, Math.max(packetBytes, ((rate / 8) * longestSegmentMs) / 1000))
    await inside('link', 'set', 'lo', 'up')
    await inside('link', 'set', 'path0', 'mtu', String(packetBytes), 'gso_max_size', String(Math.round(segment)))
    await inside('addr', 'add', `${this.addressOf(end)}/24`, 'dev', 'path0')
    await inside('link', 'set', 'path0', 'up')
  }

  async #say(command: string): Promise<void> {
    const answer = await this.#ask(command)
    if (answer !== 'ok') throw new Error(`the emulated path answers ${answer}`)
  }

  #ask(command: string): Promise<string> {
    const asked = this.#turn.then(() => {
      this.#carrier.stdin!.write(`${command}\n`)
      return this.#answer()
    })
    this.#turn = asked.catch(() => {})
    return asked
  }

  async #answer(expected?: string): Promise<string> {
    const { value, done } = await this.#answers.next()
    if (done || (expected !== undefined && value !== expected)) throw new Error('the emulated path does not come up')
    return value
  }
}
