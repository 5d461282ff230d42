// The demo from beginning to end: a disk, two sites, a client that works without pause, the move, and the proof.
// Every wait ends when the client sees a wrong byte, when a site dies, or when the operator interrupts.

import type { ChildProcess } from 'node:child_process'
import { openSync, readSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { aheadOf, progressOf } from '../cli/migration-text.ts'
import { formatSeconds, formatSize } from '../cli/sizes.ts'
import type { ToldMigrationEvent } from '../control/client.ts'
import type { MigrationView } from '../control/types.ts'
import { NbdClient, NbdRequestError } from '../nbd/client/client.ts'
import { Guest } from './guest.ts'
import { type Image, makeImage } from './image.ts'
import { Model } from './model.ts'
import { findProgram, runProgram } from './programs.ts'
import { type DemoResult, workText, wrongText } from './report.ts'
import { type DemoStep, demoSteps, type Screen } from './screen.ts'
import { DemoSite } from './site.ts'

export interface DemoOptions {
  /** Empty, and there until the demo is over. */
  readonly folder: string
  readonly sizeBytes: number
  /** Of this project. */
  readonly projectFolder: string
  readonly screen: Screen
  readonly signal: AbortSignal
  /** For scripts. */
  event(event: { readonly type: string }): void
  /** Told of each process at once. */
  spawned(child: ChildProcess): void
}

const diskName = 'web01'
const sourceName = 'osaka'
const destinationName = 'tokyo'
/** The copy is held back so that there is something to see, and something to fetch on demand. */
const copySeconds = 12
const rateMinBytes = 3 * 2 ** 20
const workBeforeMs = 2500
const readsBeside = 200
const workAfterMs = 1000
const tickMs = 500
/** When a connection breaks, its site may be about to be seen dead. */
const deathMaxMs = 500

export class Demo {
  readonly #options: DemoOptions
  readonly #startedMs = performance.now()
  readonly #dangers: Promise<never>[] = []
  readonly #sites: DemoSite[] = []
  /** Where the client is. */
  #place = sourceName
  #guest: Guest | undefined
  #working = false
  #migration: MigrationView | undefined

  constructor(options: DemoOptions) {
    this.#options = options
    const interrupted = Promise.withResolvers<never>()
    const { signal } = options
    const onAbort = () => interrupted.reject(signal.reason)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
    this.#endangeredBy(interrupted.promise)
  }

  async run(): Promise<DemoResult> {
    const ticker = setInterval(() => this.#tick(), tickMs)
    try {
      return await this.#run()
    } catch (error) {
      await Promise.race([
        ...this.#sites.map((site) => site.died),
        sleep(deathMaxMs, undefined, { signal: this.#options.signal }),
      ])
      throw error
    } finally {
      clearInterval(ticker)
    }
  }

  async #run(): Promise<DemoResult> {
    const { folder, sizeBytes, projectFolder, signal } = this.#options
    this.#step('disk')
    const image = await makeImage({ folder, sizeBytes, tree: projectFolder, signal })
    this.#tell(`${formatSize(image.sizeBytes)}, ${formatSize(image.dataBytes)} of it data: ${image.text}`)

    this.#step('sites')
    const [source, destination] = await this.#startSites(image)
    const here = await this.#safely(connect(source))
    const guest = new Guest(here, this.#guestParts(image))
    this.#guest = guest
    this.#endangeredBy(guest.failed.catch((error: Error) => this.#failAsClient(error)))

    this.#step('work')
    guest.start()
    this.#working = true
    await this.#safely(sleep(workBeforeMs))
    this.#tell(workText(guest.counts))

    this.#step('move')
    const before = guest.counts
    const { moved, there } = await this.#move({ source, destination, guest, image, here })
    const { counts } = guest
    const duringMove = { reads: counts.reads - before.reads, writes: counts.writes - before.writes }
    this.#tell(`${formatSize(moved.bytes.sent)} in ${formatSeconds(moved.seconds.total)}; ${workText(counts)}`)

    this.#step('stop')
    await this.#safely(this.#checkSource(source, destination))
    await this.#safely(source.stop())
    await this.#safely(sleep(workAfterMs))
    await this.#safely(guest.stop())
    await this.#safely(there.disconnect())
    this.#working = false

    this.#step('verify')
    const clean = await this.#verify(destination, guest, image)
    const { generation } = await this.#checkOwner(destination)
    await this.#safely(destination.stop())
    const { reads, writes, flushes, longestPauseMs, longestPausesMs } = guest.counts
    return {
      disk: { size: image.sizeBytes, data: image.dataBytes, content: image.text },
      reads,
      writes,
      flushes,
      duringMove,
      lost: 0,
      stale: 0,
      damaged: 0,
      longestPauseMs: tenths(longestPauseMs),
      longestPausesMs: {
        read: tenths(longestPausesMs.read),
        write: tenths(longestPausesMs.write),
        flush: tenths(longestPausesMs.flush),
      },
      bytesMoved: moved.bytes.sent,
      bytesVerified: image.sizeBytes,
      fileSystemClean: clean,
      owner: destination.name,
      generation,
      transport: moved.transport,
      seconds: {
        total: tenths((performance.now() - this.#startedMs) / 1000),
        switchover: moved.seconds.switchover,
        copy: moved.seconds.postcopy,
      },
    }
  }

  /** Both sites, paired, and the disk at the source. */
  async #startSites(image: Image): Promise<[DemoSite, DemoSite]> {
    const { folder, projectFolder, spawned } = this.#options
    const program = join(projectFolder, 'bin', 'run.js')
    const start = (name: string) => DemoSite.start({ name, folder, program }, spawned)
    const [source, destination] = await this.#safely(Promise.all([start(sourceName), start(destinationName)]))
    for (const site of [source, destination]) {
      this.#sites.push(site)
      this.#endangeredBy(site.died)
    }
    const { token } = await this.#safely(source.client.invite({ name: destination.name }))
    await this.#safely(destination.client.join({ token, name: source.name }))
    for await (const event of source.client.createDisk({ name: diskName, from: image.path }, this.#options.signal)) {
      if (event.type === 'progress') this.#options.screen.progress(`${formatSize(event.bytes.done)} copied`)
    }
    this.#tell(
      `${source.name} at ${source.peerAddress} and ${destination.name} at ${destination.peerAddress} trust each other`,
    )
    return [source, destination]
  }

  #guestParts(image: Image) {
    const original = openSync(image.path, 'r')
    const readOriginal = (offset: number, target: Uint8Array) => {
      const length = readSync(original, target, 0, target.length, offset)
      if (length !== target.length) throw new Error(`the image ${image.path} is shorter than it was`)
    }
    return {
      model: new Model(image.sizeBytes, readOriginal),
      area: image.area,
      random: Math.random,
      nowMs: () => performance.now(),
    }
  }

  /** Resolves when the source is released. */
  async #move(parts: {
    source: DemoSite
    destination: DemoSite
    guest: Guest
    image: Image
    here: NbdClient
  }): Promise<{ moved: MigrationView; there: NbdClient }> {
    const { source, destination, guest, image, here } = parts
    const { id } = await this.#safely(
      source.client.migrate({
        disk: diskName,
        to: destination.name,
        mode: 'hybrid',
        switchover: 'auto',
        switchoverWaitMs: 10_000,
        maxRate: Math.max(rateMinBytes, Math.round(image.dataBytes / copySeconds)),
        source: 'keep',
      }),
    )
    const ready = Promise.withResolvers<void>()
    const switched = Promise.withResolvers<void>()
    const over = this.#watch(source, id, (event) => {
      if (event.type === 'ready') ready.resolve()
      if (event.type === 'switchover') switched.resolve()
    })
    this.#endangeredBy(over.then(() => new Promise<never>(() => {})))
    this.#tell(`${destination.name} serves the disk and copies it ahead, while the client works at ${source.name}`)
    await this.#safely(ready.promise)
    this.#tell(
      `${destination.name} has all but what was written last, ${source.name} owns the disk; the client reads at both`,
    )
    const there = await this.#safely(connect(destination))
    await this.#safely(guest.readBeside(there, readsBeside))
    await this.#safely(guest.hold())
    guest.resume(there)
    this.#place = destination.name
    await this.#safely(switched.promise)
    this.#tell(
      `the client's first write at ${destination.name} has switched over; what is not there yet is fetched when it asks`,
    )
    await this.#safely(checkFence(here, source.name))
    return { moved: await this.#safely(over), there }
  }

  async #watch(source: DemoSite, id: string, told: (event: ToldMigrationEvent) => void): Promise<MigrationView> {
    for await (const event of source.client.migrationEvents(id, this.#options.signal)) {
      if (event.type === 'result') {
        this.#migration = event
        if (event.state === 'done') return event
        throw new Error(`the migration ended as "${event.state}": ${event.note ?? 'no reason was given'}`)
      }
      this.#migration = event.migration
      if (event.type === 'ready' || event.type === 'switchover') this.#options.event(event)
      told(event)
    }
    throw new Error(`the site ${source.name} fell silent about the migration`)
  }

  /** Before it is stopped, the source must know that it is not the owner any more. */
  async #checkSource(source: DemoSite, destination: DemoSite): Promise<void> {
    const [there, { id }] = await Promise.all([source.client.showDisk(diskName), destination.client.describe()])
    if (there.state !== 'released' || there.owner !== id) {
      throw new Error(
        `${source.name} has the disk on record as ${there.state}, owned by ${there.ownerName}, after the move`,
      )
    }
    this.#tell(`${source.name} has the disk on record as ${there.state}, owned by ${there.ownerName}`)
  }

  /** Every byte of the disk, over a connection of its own, and the file system. @returns whether it is clean; null: none */
  async #verify(destination: DemoSite, guest: Guest, image: Image): Promise<boolean | null> {
    const connection = await this.#safely(connect(destination))
    const told = (doneBytes: number) =>
      this.#options.screen.progress(`${formatSize(doneBytes)} of ${formatSize(image.sizeBytes)}`)
    const findings = await this.#safely(guest.verify(connection, told))
    await connection.disconnect()
    if (findings.length > 0) throw new Error(wrongText(findings, destination.name))
    this.#tell(`${formatSize(image.sizeBytes)} are as the client wrote them, or as they were made`)
    if (!image.hasFileSystem) return null
    const { path } = await this.#safely(destination.client.showDisk(diskName))
    await this.#safely(this.#checkFileSystem(path))
    return true
  }

  async #checkFileSystem(path: string): Promise<void> {
    try {
      await runProgram(findProgram('e2fsck')!, ['-fn', path], this.#options.signal)
    } catch (error) {
      const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
      await writeFile(join(this.#options.folder, 'e2fsck.log'), `${stdout}${stderr}`)
      throw new Error('e2fsck finds faults in the file system (e2fsck.log)', { cause: error })
    }
  }

  async #checkOwner(destination: DemoSite): Promise<{ generation: number }> {
    const { client } = destination
    const [disk, { id }] = await this.#safely(Promise.all([client.showDisk(diskName), client.describe()]))
    if (disk.state !== 'owned' || disk.owner !== id || disk.generation !== 2 || disk.present.bytes !== disk.size) {
      throw new Error(
        `${destination.name} has the disk on record as ${disk.state}, owned by ${disk.ownerName} as generation ${disk.generation}, with ${disk.present.bytes} of ${disk.size} bytes`,
      )
    }
    return disk
  }

  #step(step: DemoStep): void {
    this.#options.screen.step(step)
    this.#options.event({ type: 'step', step, message: demoSteps[step] } as { type: string })
  }

  #tell(message: string): void {
    this.#options.screen.tell(message)
    this.#options.event({ type: 'note', message } as { type: string })
  }

  #tick(): void {
    if (this.#guest === undefined || !this.#working) return
    const { counts } = this.#guest
    const copying = this.#migration?.state === 'copying' || this.#migration?.state === 'pre-copying'
    const text = copying
      ? `${aheadOf(this.#migration!) ?? progressOf(this.#migration!)}; ${workText(counts)}`
      : workText(counts)
    this.#options.screen.progress(text)
    this.#options.event({ type: 'progress', ...counts, ...(copying && { migration: this.#migration }) } as {
      type: string
    })
  }

  #failAsClient(cause: Error): never {
    throw new Error(`the client at ${this.#place} stopped: ${cause.message}`, { cause })
  }

  #endangeredBy(danger: Promise<never>): void {
    danger.catch(() => {}) // Seen by whatever waits safely.
    this.#dangers.push(danger)
  }

  /** What `work` resolves to, unless something goes wrong before. */
  #safely<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, ...this.#dangers])
  }
}

const connect = (site: DemoSite): Promise<NbdClient> => NbdClient.connect(site.uriOf(diskName))

/** The connection at the source is open still, as a hypervisor's would be; the source must refuse it. */
async function checkFence(connection: NbdClient, site: string): Promise<void> {
  for (const act of [() => connection.read(0, 512), () => connection.write(0, new Uint8Array(512))]) {
    try {
      await act()
    } catch (error) {
      if (error instanceof NbdRequestError && error.code === 'ESHUTDOWN') continue
      throw error
    }
    throw new Error(`${site} still serves the disk after it has given it up`)
  }
  await connection.disconnect()
}

const tenths = (value: number): number => Math.round(value * 10) / 10
