// QEMU's programs, as an image is read through them: found, asked, started and ended, and what they say of their troubles.
//
// Always: qemu-nbd ends when the copy does; when the daemon dies it ends too, as its last client is gone then.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Connections to qemu-nbd, which takes no more than it was told. */
export const connections = 4
/** Kept of what it says of its troubles. */
const stderrMaxLength = 4096
/** qemu-img check has a line for every fault. */
const outputMaxBytes = 16 * 2 ** 20

export function findProgram(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter(Boolean)
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

export interface Answer {
  /** null: it was ended by a signal, or not started. */
  readonly exit: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Never throws but when `signal` aborts. */
export function ask(
  program: string,
  args: readonly string[],
  options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<Answer> {
  const { signal, timeoutMs = 0 } = options
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const bounds = { timeout: timeoutMs, signal, maxBuffer: outputMaxBytes }
  execFile(program, args, bounds, (error, stdout, stderr) => {
    if (signal.aborted) return reject(signal.reason)
    const exit = error === null ? 0 : typeof error.code === 'number' ? error.code : null
    resolve({ exit, stdout, stderr: stderr.trim() || (error?.message ?? '') })
  })
  return promise
}

/** The first line of what a program of QEMU says, without who says it and the options that it was given. */
export function sentenceOf(stderr: string): string {
  const [first = ''] = stderr.split('\n')
  return first
    .replace(/^qemu-(img|nbd|io): /, '')
    .replace(/^[A-Z][\w -]* '(json:|driver=).*': /, '')
    .replace(/^Disconnect client, due to: (Failed to send reply: )?/, '')
}

/** QEMU's own sentence about its lock on the file; "block", "unlocked" and the like are none. */
export const isLockSentence = (sentence: string): boolean =>
  /^Failed to (get (shared )?"[\w ]+" lock|lock byte \d+)/.test(sentence)

export class QemuNbd {
  readonly #program: string
  readonly #args: readonly string[]
  #child: ChildProcess | undefined
  #ended: Promise<void> = Promise.resolve()
  #how: string | undefined
  #stderr = ''

  constructor(program: string, image: string, socket: string) {
    this.#program = program
    // Not persistent: it ends with its last client.
    this.#args = ['--read-only', '--shared', String(connections), '--socket', socket, image]
  }

  /** What it said of its troubles, such as what it could not read; it goes on then, or ends with its last client. */
  get said(): string {
    return sentenceOf(this.#stderr.trim())
  }

  /** undefined: it runs. */
  get how(): string | undefined {
    return this.#how
  }

  start(): void {
    const child = spawn(this.#program, this.#args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk).slice(0, stderrMaxLength)
    })
    this.#ended = new Promise((resolve) => {
      const over = (how: string) => {
        this.#how ??= how
        resolve()
      }
      child.once('close', (code, signal) => over(signal === null ? `exit code ${code}` : `ended by ${signal}`))
      child.once('error', (error) => over(error.message))
    })
  }

  /** Resolves when it has ended, or after `limitMs`. */
  async untilEnded(limitMs: number): Promise<void> {
    const limit = AbortSignal.timeout(limitMs)
    await Promise.race([
      this.#ended,
      new Promise((resolve) => limit.addEventListener('abort', resolve, { once: true })),
    ])
  }

  /** It only reads: nothing is lost by killing it. */
  async end(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#ended
  }
}
