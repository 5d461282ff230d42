// One of the demo's two sites: a real `vmstore serve` in a process of its own, with its own folder and log.
// Always: it ends with this process, whatever the way.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { ControlClient } from '../control/client.ts'

const stopMaxMs = 15_000
const startMaxMs = 20_000

interface Listening {
  readonly nbd: readonly string[]
  readonly peer: string | null
  readonly control: string
}

export interface SiteOptions {
  readonly name: string
  /** The demo's folder; the site's own lies in it. */
  readonly folder: string
  /** bin/run.js */
  readonly program: string
}

export class DemoSite {
  readonly name: string
  readonly root: string
  readonly logPath: string
  readonly client: ControlClient
  readonly #child: ChildProcess
  readonly #listening: Listening
  #isLeaving = false
  readonly #died = Promise.withResolvers<never>()

  private constructor(options: SiteOptions, child: ChildProcess, listening: Listening) {
    this.name = options.name
    this.root = rootOf(options)
    this.logPath = logOf(options)
    this.client = new ControlClient(listening.control)
    this.#child = child
    this.#listening = listening
    this.#died.promise.catch(() => {})
    const onExit = () => {
      if (!this.#isLeaving) this.#died.reject(new Error(`the site ${this.name} ended by itself (${howItEnded(child)})`))
    }
    if (hasEnded(child)) onExit()
    else child.once('exit', onExit)
  }

  /** Resolves when every listener is up. `started` is told of the process at once, so that it can be ended in any case. */
  static async start(options: SiteOptions, started: (child: ChildProcess) => void): Promise<DemoSite> {
    const log = openSync(logOf(options), 'a')
    const child = spawn(
      process.execPath,
      [options.program, 'serve', '--json', '--root', rootOf(options), '--peer', 'tcp://127.0.0.1:0'],
      { stdio: ['ignore', 'pipe', log], env: environmentOf(options) },
    )
    closeSync(log)
    started(child)
    return new DemoSite(options, child, await listeningOf(child, options.name))
  }

  /** Rejects when the process ends without having been asked to. */
  get died(): Promise<never> {
    return this.#died.promise
  }

  /** The NBD URI of one of its disks. */
  uriOf(disk: string): string {
    return this.#listening.nbd[0]!.replace(':///', `:///${disk}`)
  }

  get peerAddress(): string {
    return this.#listening.peer!
  }

  /** As an operator would: SIGTERM. */
  async stop(): Promise<void> {
    this.#isLeaving = true
    await this.client.close()
    if (hasEnded(this.#child)) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const timer = new AbortController()
    const late = sleep(stopMaxMs, 'late' as const, { signal: timer.signal }).catch(() => 'stopped' as const)
    const outcome = await Promise.race([exited, late])
    timer.abort()
    if (outcome !== 'late') return
    this.#child.kill('SIGKILL')
    throw new Error(`the site ${this.name} did not stop within ${stopMaxMs / 1000} s`)
  }
}

const rootOf = ({ folder, name }: SiteOptions): string => join(folder, name)
const logOf = ({ folder, name }: SiteOptions): string => join(folder, `${name}.log`)

/** Nothing of the operator's own site, configuration or service manager reaches the demo's. */
function environmentOf({ folder }: SiteOptions): NodeJS.ProcessEnv {
  const others = Object.entries(process.env).filter(
    ([name]) => !/^(VMSTORE_|LISTEN_|NOTIFY_SOCKET$|WATCHDOG_)/.test(name),
  )
  return { ...Object.fromEntries(others), VMSTORE_CONFIG_DIR: join(folder, 'config') }
}

/** What the site says on stdout when it is ready. */
async function listeningOf(child: ChildProcess, name: string): Promise<Listening> {
  const said = Promise.withResolvers<Listening>()
  const lines = createInterface({ input: child.stdout! })
  lines.on('line', (line) => {
    const event = JSON.parse(line) as { type: string; error?: { message: string } } & Listening
    if (event.type === 'listening') said.resolve(event)
    else if (event.type === 'error') said.reject(new Error(`the site ${name} did not start: ${event.error?.message}`))
  })
  child.once('error', (error) => said.reject(error))
  child.once('exit', () => said.reject(new Error(`the site ${name} ended before it was ready (${howItEnded(child)})`)))
  const slow = new Error(`the site ${name} was not ready within ${startMaxMs / 1000} s`)
  const timer = setTimeout(() => said.reject(slow), startMaxMs)
  try {
    return await said.promise
  } finally {
    clearTimeout(timer)
  }
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

const howItEnded = ({ exitCode, signalCode }: ChildProcess): string => signalCode ?? `exit code ${exitCode}`
