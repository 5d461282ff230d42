// What a service manager is told (sd_notify): that we are ready, reload, stop and live. Without NOTIFY_SOCKET nothing is
// sent. What always holds: the messages arrive in order; none is waited for by a guest; that one could not be sent stops
// nothing.

import { setTimeout as sleep } from 'node:timers/promises'
import { sendDatagram } from '../system/sockets.ts'

/** A manager whose queue is full is tried again, this often, this many times. */
const retryMs = 50
const maxAttempts = 100
/** A watchdog with more deadlines gets its signs of life as often as one with this: no timer reaches 25 days. */
const maxWatchdogMs = 120_000

export interface ManagerLog {
  warn(facts: object, message: string): void
}

export interface ManagerWords {
  /** A path, or '@' and an abstract name; undefined: nobody wants to be told. */
  readonly socket: string | undefined
  /** How often it wants a sign of life; undefined: never. */
  readonly watchdogMs: number | undefined
}

/** What the environment says; takes it out, so that no program that we start speaks in our name. */
export function takeManagerWords(environment: NodeJS.ProcessEnv, pid: number): ManagerWords {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: microseconds, WATCHDOG_PID: forPid } = environment
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[name]
  const isForUs = forPid === undefined || forPid === String(pid)
  const watchdogMs = Math.min(Number(microseconds) / 1000, maxWatchdogMs)
  return { socket: socket || undefined, watchdogMs: isForUs && watchdogMs >= 1 ? watchdogMs : undefined }
}

export class ServiceManager {
  readonly #words: ManagerWords
  readonly #log: ManagerLog
  readonly #send: typeof sendDatagram
  #last: Promise<void> = Promise.resolve()
  /** Messages that were not sent yet. */
  #waiting = 0
  #watchdog: NodeJS.Timeout | undefined

  constructor(words: ManagerWords, log: ManagerLog, send = sendDatagram) {
    this.#words = words
    this.#log = log
    this.#send = send
  }

  /** Every export is open and every listener is up. From here on it gets signs of life, if it wants any. */
  async ready(status: string): Promise<void> {
    const { watchdogMs } = this.#words
    // Twice as often as asked for, as sd_watchdog_enabled(3) advises; from the loop that serves the guests, as it is what
    // must be alive. One that was not sent yet is not joined by a second.
    if (watchdogMs !== undefined && this.#watchdog === undefined) {
      this.#watchdog = setInterval(() => this.#waiting === 0 && void this.#tell('WATCHDOG=1'), watchdogMs / 2)
      this.#watchdog.unref()
    }
    await this.#tell('READY=1', statusLine(status))
  }

  /** Tells that `work` reloads, and that we are ready after it, whatever came of it. */
  async reloading(work: () => Promise<void>, status: string): Promise<void> {
    const microseconds = process.hrtime.bigint() / 1000n // CLOCK_MONOTONIC, which the manager compares with its own.
    void this.#tell('RELOADING=1', `MONOTONIC_USEC=${microseconds}`, statusLine('reloading'))
    try {
      await work()
    } finally {
      await this.#tell('READY=1', statusLine(status))
    }
  }

  async stopping(status: string): Promise<void> {
    await this.#tell('STOPPING=1', statusLine(status))
  }

  /** Resolves when it is sent, or was given up. */
  #tell(...lines: readonly string[]): Promise<void> {
    const { socket } = this.#words
    if (socket === undefined) return Promise.resolve()
    this.#waiting++
    this.#last = this.#last.then(async () => {
      try {
        await this.#deliver(socket, Buffer.from(lines.join('\n')))
      } catch (error) {
        this.#log.warn({ socket, message: lines[0], err: error }, 'the service manager could not be told')
      } finally {
        this.#waiting--
      }
    })
    return this.#last
  }

  async #deliver(socket: string, bytes: Buffer): Promise<void> {
    for (let attempt = 1; !this.#send(socket, bytes); attempt++) {
      if (attempt === maxAttempts) throw new Error(`its queue stayed full for ${(maxAttempts * retryMs) / 1000} s`)
      await sleep(retryMs)
    }
  }
}

/** A line ends the status. */
function statusLine(status: string): string {
  return `STATUS=${status.replaceAll(/\s+/g, ' ')}`
}
