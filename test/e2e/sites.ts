// Sites as an operator has them: processes of their own, reached by the vmstore command, by NBD clients and by signals.
// What always holds: when a test is over its sites are dead and its folders are gone; a test that failed shows their logs.

import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { ControlClient } from '../../src/control/client.ts'
import type { DiskView, ErrorView, MigrateRequest, MigrationView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import type { NbdConnectOptions } from '../../src/nbd/client/connection.ts'
import { freePort, releasePorts } from '../ports.ts'
import { findTool } from '../tools.ts'

export { freePort } from '../ports.ts'

const runFile = join(import.meta.dirname, '../../bin/run.js')
/** The same code starts hundreds of times: a third of each start is saved. */
const compileCache = join(import.meta.dirname, '../../node_modules/.cache/vmstore-e2e')
/** No bound that anything promises: for how long a busy machine may take. */
const startDeadlineMs = 60_000
const stopDeadlineMs = 60_000
const commandDeadlineMs = 180_000
const logLinesShown = 80

/** What the tests of the present file have open; emptied after each of them. */
const sites = new Set<Site>()
const folders: string[] = []
const disposals: (() => unknown)[] = []

/** Programs are given no colours, no settings of the user who runs the tests, and no socket of another daemon. */
function environment(): NodeJS.ProcessEnv {
  const { VMSTORE_ROOT: _root, VMSTORE_CONTROL: _control, ...rest } = process.env
  return { ...rest, XDG_CONFIG_HOME: '/nonexistent', NO_COLOR: '1', NODE_COMPILE_CACHE: compileCache }
}

/** To be called in a describe: ends what its tests have opened. */
export function endSitesAfterEach(): void {
  afterEach(async function (this: Mocha.Context) {
    if (this.currentTest?.state === 'failed') for (const site of sites) console.error(site.report())
    for (const dispose of disposals.splice(0).reverse()) await dispose()
    await Promise.all([...sites].map((site) => site.kill()))
    for (const site of sites) await site.control.close()
    sites.clear()
    await releasePorts()
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
}

/** Done after the test, before its sites are killed; the latest first. */
export function afterwards(work: () => unknown): void {
  disposals.push(work)
}

/** A folder that is gone after the test. Short: Unix sockets lie in it. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'vms-'))
  folders.push(path)
  return path
}

export interface SiteOptions {
  readonly root?: string
  /** Raw images to serve where they lie; without `root` the first one's folder is the root. */
  readonly files?: readonly string[]
  readonly flags?: readonly string[]
  /** For its daemon, beside the usual. */
  readonly env?: NodeJS.ProcessEnv
  /** Where guests connect; a Unix socket and a TCP port unless given. */
  readonly nbd?: readonly string[]
  /** Where peers dial it; a TCP port of its own unless given. */
  readonly peer?: string
  /** The file of the network namespace in which it runs (test/e2e/network.ts). */
  readonly namespace?: string
}

/** A daemon that may be killed and started again with the same command. */
export class Site {
  readonly name: string
  /** The folder of its state. */
  readonly root: string
  readonly control: ControlClient
  readonly #command: readonly string[]
  readonly #options: Pick<SiteOptions, 'env' | 'namespace'>
  #process: ChildProcess | undefined
  #log: string[] = []
  #listening: { nbd: string[]; peer: string | null; control: string } | undefined

  private constructor(name: string, root: string, command: readonly string[], options: SiteOptions) {
    this.name = name
    this.root = root
    this.#command = command
    this.#options = options
    this.control = new ControlClient(join(root, 'control.sock'))
  }

  static async start(name: string, options: SiteOptions = {}): Promise<Site> {
    const { files = [], flags = [] } = options
    const beside = files[0] !== undefined && options.root === undefined
    const root = beside ? `${files[0]}.vmstore` : (options.root ?? folder())
    const listeners = options.nbd ?? [
      `nbd+unix:///?socket=${join(root, 'nbd.sock')}`,
      `nbd://127.0.0.1:${await freePort()}`,
    ]
    const command = [
      ...['serve', ...files, ...(beside ? [] : ['--root', root])],
      ...listeners.flatMap((uri) => ['--nbd', uri]),
      ...['--peer', options.peer ?? `tcp://127.0.0.1:${await freePort()}`, '--json', ...flags],
    ]
    const site = new Site(name, root, command, options)
    sites.add(site)
    await site.restart()
    return site
  }

  get pid(): number {
    assert(this.#process?.pid)
    return this.#process.pid
  }

  get isRunning(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
  }

  get peerPort(): number {
    return Number(new URL(this.#listening!.peer!).port)
  }

  get nbdPort(): number {
    return Number(new URL(this.#listening!.nbd.find((uri) => /^nbds?:\/\//.test(uri))!).port)
  }

  get nbdSocket(): string {
    return join(this.root, 'nbd.sock')
  }

  get controlSocket(): string {
    return join(this.root, 'control.sock')
  }

  /** Where clients find a disk of this site. */
  uri(disk: string): string {
    return `nbd+unix:///${disk}?socket=${this.nbdSocket}`
  }

  /**
   * Starts the daemon that was stopped or killed, with the command that it was started with. With a crash point
   * (src/daemon/crash-points.ts) it kills itself when it comes there.
   */
  async restart(crashPoint?: string): Promise<void> {
    assert(!this.isRunning, `${this.name} is running`)
    const armed = crashPoint === undefined ? {} : { VMSTORE_TEST_CRASH_POINT: crashPoint }
    const program = [process.execPath, runFile, ...this.#command]
    const { namespace, env } = this.#options
    if (namespace !== undefined) program.unshift(findTool('nsenter')!, `--net=${namespace}`)
    const child = spawn(program[0]!, program.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...environment(), ...env, ...armed },
    })
    this.#process = child
    createInterface(child.stderr).on('line', (line) => this.#log.push(line))
    const lines = createInterface(child.stdout)
    const signal = AbortSignal.timeout(startDeadlineMs)
    const exited = once(child, 'exit', { signal }).then(([code]) => {
      throw new Error(`${this.name} ended with ${code} before it listened\n${this.report()}`)
    })
    const [line] = (await Promise.race([once(lines, 'line', { signal }), exited])) as [string]
    exited.catch(() => {})
    const event = JSON.parse(line)
    if (event.type !== 'listening') throw new Error(`${this.name} did not start: ${line}`)
    this.#listening = event
  }

  /** SIGKILL, and waits for the end of the process. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** Resolves when the daemon has killed itself at the crash point with which it was started. */
  async crashed(deadlineMs = startDeadlineMs): Promise<void> {
    const child = this.#process
    assert(child)
    if (this.isRunning) await once(child, 'exit', { signal: AbortSignal.timeout(deadlineMs) })
    assert.equal(child.signalCode, 'SIGKILL', this.report())
  }

  /** SIGTERM. Resolves to the exit code. */
  async stop(): Promise<number | null> {
    return this.#end('SIGTERM')
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process
    if (!child) return null
    if (!this.isRunning) return child.exitCode
    const exited = once(child, 'exit', { signal: AbortSignal.timeout(stopDeadlineMs) })
    child.kill(signal)
    const [code] = await exited
    return code as number | null
  }

  /** The log's last lines, for people. */
  report(): string {
    return [`---- ${this.name} (${this.root})`, ...this.#log.slice(-logLinesShown)].join('\n')
  }

  /** Lines of the log that have `text`. */
  logged(text: string): string[] {
    return this.#log.filter((line) => line.includes(text))
  }
}

/** Runs `vmstore serve` that is expected to refuse. */
export function serveRefused(...args: string[]): Promise<Ran> {
  return run(['serve', ...args, '--json'])
}

export interface Ran {
  readonly exit: number | null
  /** The document, or the last event. */
  // biome-ignore lint/suspicious/noExplicitAny: what a script sees is looked into freely here.
  readonly json: any
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  readonly events: any[]
  readonly stderr: string
}

/** Runs the command at a site, as an operator's script would. */
export function vmstore(site: Site, ...args: string[]): Promise<Ran> {
  return run([...args, '--json', '--control', site.controlSocket])
}

/** As `vmstore`, and it must succeed. Returns its JSON. */
// biome-ignore lint/suspicious/noExplicitAny: what a script sees is looked into freely here.
export async function must(site: Site, ...args: string[]): Promise<any> {
  const { exit, json, stderr } = await vmstore(site, ...args)
  assert.equal(exit, 0, `vmstore ${args.join(' ')} at ${site.name}: ${JSON.stringify(json)}\n${stderr}`)
  return json
}

/** A refusal's view: what the command printed, which must be whole sentences and carry the exit code. */
export function refusalOf(ran: Ran, exit: number, code?: string | RegExp): ErrorView {
  const view = ran.json?.error as ErrorView | undefined
  assert.equal(ran.exit, exit, `exit code: ${JSON.stringify(ran.json)}\n${ran.stderr}`)
  assert(view, `no error in ${JSON.stringify(ran.json)}`)
  assert.equal(view.exit, exit)
  assert.match(view.message, /\S+ \S+ \S+/, 'a sentence')
  assert.doesNotMatch(view.message, /nobody foresaw/, 'an expected mistake is foreseen')
  if (typeof code === 'string') assert.equal(view.code, code, view.message)
  else if (code) assert.match(view.code, code, view.message)
  return view
}

async function run(args: readonly string[]): Promise<Ran> {
  const { code, stdout, stderr } = await program(process.execPath, [runFile, ...args])
  const events = jsonOf(stdout)
  return { exit: code, json: events.at(-1), events, stderr }
}

// biome-ignore lint/suspicious/noExplicitAny: what a script sees is looked into freely here.
function jsonOf(stdout: string): any[] {
  if (stdout.trim() === '') return []
  try {
    return [JSON.parse(stdout)]
  } catch {
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  }
}

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end, which must come. */
export function program(path: string, args: readonly string[]): Promise<Finished> {
  return new Promise((resolve) => {
    const options = { env: environment(), timeout: commandDeadlineMs, maxBuffer: 64 * 2 ** 20 }
    const child = execFile(path, args, options, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    )
  })
}

/** As `program`, for a system program that must succeed. Returns what it printed. */
export async function tool(name: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await program(findTool(name)!, args)
  assert.equal(code, 0, `${name} ${args.join(' ')}\n${stdout}\n${stderr}`)
  return stdout
}

/**
 * Makes both sites trust each other, under their test names, as sites of one operator do: each lets the other take its disks,
 * and say when. Asks the daemons directly: many tests begin with it.
 */
export async function pair(a: Site, b: Site): Promise<void> {
  await pairOnly(a, b)
  await letTake(a, b)
  await letTake(b, a)
}

/** As `pair`; neither may take anything of the other. */
export async function pairOnly(a: Site, b: Site): Promise<void> {
  const { token } = await a.control.invite({ name: b.name })
  await b.control.join({ token, name: a.name })
}

/** The operator at `owner` lets `peer` take every disk, and say when. */
export async function letTake(owner: Site, peer: Site): Promise<void> {
  await owner.control.allowPeer(peer.name, { take: '*', give: true })
}

/** Makes a disk of holes, as `disk create` does. */
export async function createDisk(site: Site, name: string, sizeBytes: number): Promise<DiskView> {
  for await (const event of site.control.createDisk({ name, sizeBytes })) if (event.type === 'result') return event
  throw new Error(`${name} was not made`)
}

/** Two sites that trust each other. */
export async function twoSites(): Promise<{ a: Site; b: Site }> {
  const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo')])
  await pair(a, b)
  return { a, b }
}

/** Starts a migration from `a` to `b`, as `migrate --detach` does (now: by force), and returns as soon as both know it. */
export async function begin(
  a: Site,
  b: Site,
  disk: string,
  switchover: MigrateRequest['switchover'],
  terms: Partial<Pick<MigrateRequest, 'switchoverWaitMs' | 'maxRate' | 'stallTimeoutMs' | 'source' | 'force'>> = {},
): Promise<MigrationView> {
  const usual = { mode: 'post-copy', switchoverWaitMs: 60_000, source: 'keep' } as const
  const force = switchover === 'now'
  return a.control.migrate({ ...usual, disk, to: b.name, switchover, force, ...terms })
}

/** Asks again and again until the answer is not undefined; fails with the last sight when time is up. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 60_000,
): Promise<T> {
  const end = performance.now() + deadlineMs
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 1.5, 100)) {
    const seen = await probe()
    if (seen !== undefined) return seen
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await pause(pauseMs)
  }
}

/** Waits until the disk at a site is as `wanted` says, and returns its view. */
export async function untilDisk(
  site: Site,
  disk: string,
  wanted: (view: DiskView) => boolean,
  deadlineMs?: number,
): Promise<DiskView> {
  let last: DiskView | undefined
  const look = async () => {
    last = await site.control.showDisk(disk)
    return wanted(last) ? last : undefined
  }
  return withSight(until(`${disk} at ${site.name}: ${wanted}`, look, deadlineMs), () => last)
}

/** Waits until the migration, as a site sees it, is as `wanted` says. */
export async function untilMigration(
  site: Site,
  id: string,
  wanted: (view: MigrationView) => boolean,
  deadlineMs?: number,
): Promise<MigrationView> {
  let last: MigrationView | undefined
  const look = async () => {
    last = await site.control.showMigration(id)
    return wanted(last) ? last : undefined
  }
  return withSight(until(`migration ${id} at ${site.name}: ${wanted}`, look, deadlineMs), () => last)
}

async function withSight<T>(waiting: Promise<T>, sight: () => unknown): Promise<T> {
  try {
    return await waiting
  } catch (error) {
    throw new Error(`${(error as Error).message}; last seen: ${JSON.stringify(sight())}`, { cause: error })
  }
}

/** A client of ours; its connection is broken off after the test if it still is open. */
export async function attach(site: Site, disk: string, options: NbdConnectOptions = {}): Promise<NbdClient> {
  const client = await NbdClient.connect(site.uri(disk), { requestTimeoutMs: 60_000, ...options })
  afterwards(() => client.destroy())
  return client
}

/** A read or write that is refused with this NBD error. */
export async function refusedWith(code: string | RegExp, request: Promise<unknown>): Promise<void> {
  await assert.rejects(request, (error: Error & { code?: string }) => {
    assert.equal(error.name, 'NbdRequestError', `an answer, not ${error.name}: ${error.message}`)
    assert.match(error.code ?? '', typeof code === 'string' ? new RegExp(`^${code}$`) : code)
    return true
  })
}

/** The whole disk, through NBD. */
export async function readAll(client: NbdClient): Promise<Buffer> {
  const { sizeBytes } = client.info()
  const stepBytes = 4 * 2 ** 20
  const parts: Buffer[] = []
  for (let at = 0; at < sizeBytes; at += stepBytes)
    parts.push(await client.read(at, Math.min(stepBytes, sizeBytes - at)))
  return Buffer.concat(parts)
}

/** Has all that is missing at the destination come now, whatever the rate of the copy: what a guest reads is fetched at once. */
export async function fetchRest(destination: Site, disk: string): Promise<void> {
  const client = await attach(destination, disk)
  await readAll(client)
  await client.disconnect()
}

/** Opens an image in QEMU until the end of the test. Resolves once qemu-io has taken its locks. */
export async function openInQemu(image: string): Promise<ChildProcess> {
  const child = spawn(findTool('qemu-io')!, ['-f', 'raw', image], { stdio: ['pipe', 'pipe', 'inherit'] })
  afterwards(async () => {
    const exited = once(child, 'exit')
    child.stdin!.end('quit\n')
    await exited
  })
  child.stdin!.write('length\n')
  await once(child.stdout!, 'data')
  return child
}
