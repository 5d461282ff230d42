// Programs that a test starts, and what it waits for from them: lines, events, their end. No wait is without a deadline and
// a sentence that says what did not come; a program that ends early fails all that wait for it.

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

const killDeadlineSeconds = 60
const stderrLinesShown = 20

/** What was seen of something, in order. */
export class Sightings<T> {
  readonly seen: T[] = []
  #failure: Error | undefined
  readonly #waiters = new Set<() => void>()

  add(sight: T): void {
    this.seen.push(sight)
    this.#wake()
  }

  /** Nothing more will be seen. */
  end(reason: Error): void {
    this.#failure ??= reason
    this.#wake()
  }

  /** The first sight that `match` makes something of, past ones included. `what`, as in "no … within 5 s". */
  find<Found>(what: string, deadlineSeconds: number, match: (sight: T) => Found | undefined): Promise<Found> {
    let next = 0
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer)
        this.#waiters.delete(look)
        act()
      }
      const look = () => {
        while (next < this.seen.length) {
          const found = match(this.seen[next++]!)
          if (found !== undefined) return settle(() => resolve(found))
        }
        const reason = this.#failure
        if (reason) settle(() => reject(new Error(`no ${what}: ${reason.message}`, { cause: reason })))
      }
      const late = () => reject(new Error(`no ${what} within ${deadlineSeconds} s; the last seen: ${this.#last()}`))
      const timer = setTimeout(() => settle(late), deadlineSeconds * 1000)
      this.#waiters.add(look)
      look()
    })
  }

  #last(): string {
    return JSON.stringify(this.seen.slice(-5))
  }

  #wake(): void {
    for (const look of [...this.#waiters]) look()
  }
}

export interface ProgramOptions {
  readonly env?: NodeJS.ProcessEnv
  /** A descriptor that gets its standard error, which is then not seen here. */
  readonly stderr?: number
  /** Told of its end. */
  readonly ended?: (reason: Error) => void
}

type Child = ChildProcessByStdio<null, Readable, Readable | null>

/** A child process. */
export class Program {
  readonly stdout = new Sightings<string>()
  readonly stderr = new Sightings<string>()
  readonly #name: string
  readonly #child: Child
  readonly #ends = new Sightings<{ readonly code: number | null }>()

  constructor(name: string, path: string, args: readonly string[], options: ProgramOptions = {}) {
    this.#name = name
    const { env, stderr = 'pipe', ended } = options
    this.#child = spawn(path, args, { stdio: ['ignore', 'pipe', stderr], ...(env && { env }) }) as Child
    createInterface(this.#child.stdout).on('line', (line) => this.stdout.add(line))
    if (this.#child.stderr) createInterface(this.#child.stderr).on('line', (line) => this.stderr.add(line))
    this.#child.on('error', (error) => this.#end(error))
    this.#child.on('close', (code, signal) => {
      this.#ends.add({ code })
      const reason = new Error(`${name} ended with ${code ?? signal}${this.#errors()}`)
      this.#end(reason)
      ended?.(reason)
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Waits for its end. Resolves to the exit code. */
  async ended(deadlineSeconds: number): Promise<number | null> {
    const { code } = await this.#ends.find(`end of ${this.#name}`, deadlineSeconds, (end) => end)
    return code
  }

  /** Waits for its end, and throws unless that was the exit code 0. */
  async succeed(deadlineSeconds: number): Promise<void> {
    const code = await this.ended(deadlineSeconds)
    if (code !== 0) throw new Error(`${this.#name} ended with ${code}${this.#errors()}`)
  }

  async kill(): Promise<void> {
    if (this.#child.pid === undefined) return
    this.#child.kill('SIGKILL')
    await this.#ends.find(`end of ${this.#name}, which was killed`, killDeadlineSeconds, (end) => end)
  }

  #end(reason: Error): void {
    this.stdout.end(reason)
    this.stderr.end(reason)
  }

  #errors(): string {
    const lines = this.stderr.seen.slice(-stderrLinesShown)
    return lines.length > 0 ? `:\n${lines.join('\n')}` : ''
  }
}
