// Daemons of a real store, in a folder of their own: started in the foreground without a service manager, ended by their process
// and in the other order than they were started.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findTool } from '../tools.ts'

/** Making a store takes some ten seconds on a free machine. */
const patienceMs = 240_000
const stepMs = 100
/** Until one that was asked to end is ended. */
const graceMs = 20_000
const commandMs = 60_000

export class Processes {
  readonly folder: string
  readonly #running = new Map<string, ChildProcess>()

  constructor(name: string) {
    this.folder = mkdtempSync(join(tmpdir(), `vms-${name}-`))
    mkdirSync(join(this.folder, 'log'))
  }

  /** What it says goes into log/NAME.out. */
  start(name: string, program: string, args: readonly string[]): void {
    const log = openSync(join(this.folder, 'log', `${name}.out`), 'a')
    const child = spawn(pathOf(program), args, { stdio: ['ignore', log, log] })
    closeSync(log)
    this.#running.set(name, child)
    child.on('error', () => this.#running.delete(name))
    child.on('exit', () => this.#running.delete(name))
  }

  async run(program: string, args: readonly string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(pathOf(program), args, { timeout: commandMs })
    return stdout
  }

  /** Throws with what was said last when one of the daemons has ended. */
  async until(what: string, names: readonly string[], isSo: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + patienceMs
    while (!(await isSo().catch(() => false))) {
      const ended = names.find((name) => !this.#running.has(name))
      if (ended) throw new Error(`${ended} has ended: ${this.lastWords(ended)}`)
      if (Date.now() > end) throw new Error(`in vain: ${what}. ${names.map((name) => this.lastWords(name)).join('\n')}`)
      await delay(stepMs)
    }
  }

  async kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#running.get(name)
    if (!child) return
    const exited = once(child, 'exit')
    child.kill(signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
    await exited
    clearTimeout(timer)
  }

  /** Nothing is left of it. */
  async end(): Promise<void> {
    for (const name of [...this.#running.keys()].reverse()) await this.kill(name, 'SIGTERM')
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 })
  }

  lastWords(name: string): string {
    return readFileSync(join(this.folder, 'log', `${name}.out`), 'utf8').slice(-2000)
  }
}

const pathOf = (program: string): string => (isAbsolute(program) ? program : findTool(program)!)
