// One simulated site: a machine and a database that survive, and the daemon's disks and migrations, made anew at each start
// exactly as the daemon makes them, and stopped in the daemon's order.

import { accept } from '../../src/disk/acceptance.ts'
import type { Disk } from '../../src/disk/disk.ts'
import { Disks } from '../../src/disk/disks.ts'
import type { ExportHandle } from '../../src/guest/export.ts'
import type { PeerHandlers } from '../../src/link/channel.ts'
import type { Course } from '../../src/migration/course.ts'
import { answersOverLink, overLink } from '../../src/migration/over-link.ts'
import { everyDisk, rightsOf } from '../../src/migration/peer-rights.ts'
import { Migrations } from '../../src/migration/site/migrations.ts'
import { nbdErrorCodes } from '../../src/nbd/server/guest-errors.ts'
import { direct } from './direct.ts'
import { keyOf, peerIdOf, siteOf } from './keys.ts'
import type { SimFile } from './sim-file.ts'
import { SimFiles, SimMachine } from './sim-files.ts'
import type { SimEnd, SimLink } from './sim-link.ts'
import { SimDatabase, SimRecords } from './sim-records.ts'
import { diskId, diskIds } from './stage.ts'
import { SimProcess, type World } from './world.ts'

/** Guests' requests in flight may take so long when a daemon stops. */
const drainLimitMs = 5000

/** A guest's connection, for as long as its process lives. */
export interface OpenSession {
  readonly site: SimSite
  readonly process: SimProcess
  readonly session: ExportHandle
  inFlight: number
  isOpen: boolean
}

export class SimSite {
  readonly name: string
  readonly machine: SimMachine
  database = new SimDatabase()
  readonly #world: World
  readonly #link: SimLink
  other!: SimSite
  /** Those of a ring, instead of the one other. */
  others: readonly SimSite[] | undefined
  /** Peers that are no such sites (liar.ts), by their ids. */
  readonly strangers = new Map<string, () => SimEnd>()
  #starts = 0
  process: SimProcess
  disks: Disks | undefined
  migrations: Migrations | undefined
  /** What comes over the link goes through these. */
  handlers: PeerHandlers = answersOverLink((peerId) => this.migrations!.desk(peerIdOf(peerId)))
  started = false
  /** As its daemon is started. */
  holdsAfterPowerLoss = false
  /** It speaks to the other by no link (direct.ts). */
  isDirect = false
  /** Clients find nobody while it stops. */
  #stopping = false
  readonly #sessions = new Set<OpenSession>()
  /** Of a copy ahead of switchover. */
  roundBytes: number | undefined

  /** Each course that begins here, or is taken up; each line of the log. */
  onCourse: (course: Course) => void = () => {}
  onLog: (message: string, facts: object) => void = () => {}
  onSyncFailed: () => void = () => {}

  constructor(world: World, name: string, link: SimLink) {
    this.#world = world
    this.name = name
    this.machine = new SimMachine(world, name)
    this.#link = link
    this.machine.onSyncFailed = (path) => {
      for (const id of diskIds) if (path.includes(id)) this.failedSyncs.add(id)
      this.onSyncFailed()
    }
    this.process = new SimProcess(name)
    this.process.alive = false
  }

  get #others(): readonly SimSite[] {
    return this.others ?? [this.other]
  }

  #endOf(peerId: string): SimEnd | undefined {
    const stranger = this.strangers.get(peerId)
    return stranger ? stranger() : this.#others.find(({ name }) => peerIdOf(name) === peerId)?.end
  }

  get up(): boolean {
    return this.process.alive && this.started && !this.#stopping
  }

  /** What peers reach. */
  get end(): SimEnd | undefined {
    return this.process.alive && this.migrations
      ? { process: this.process, handlers: this.handlers, desk: (peerId) => this.migrations!.desk(peerIdOf(peerId)) }
      : undefined
  }

  /** As a client finds it by name. */
  disk(name: string): Disk | undefined {
    return this.up ? this.disks!.find(name) : undefined
  }

  /** The log of its maps is damaged at rest (rot.ts). */
  hasRottenMaps = false

  /** Disks of which a sync failed since the last start, and what it dropped was not written anew. */
  readonly failedSyncs = new Set<string>()

  /** The kernel may have dropped bytes, and the next start will not know: it died before the failure was on record. */
  hasForgottenSync(id: string): boolean {
    const record = this.database.disk.get(id)
    const isOurs = record?.state === 'owned' || record?.state === 'arriving'
    return this.failedSyncs.has(id) && isOurs && record.failedSync === null
  }

  /** A disk that waits for its operator: what is wrong with it ends with a start of the daemon, or when it is accepted. */
  get isTroubled(): boolean {
    return this.up && this.disks!.all().some((disk) => disk.trouble !== undefined)
  }

  /** Of these, one whose sync failed, or that cannot be opened. */
  get hasFailedDisk(): boolean {
    return this.up && this.disks!.all().some((disk) => disk.isFailed)
  }

  /** A disk's bytes on this machine. */
  blockFile(id = diskId): SimFile | undefined {
    const record = this.database.disk.get(id)
    return record && this.machine.files.get(record.path)
  }

  open(name: string, client: string): OpenSession | undefined {
    const disk = this.disk(name)
    if (!disk) return undefined
    const open = { site: this, process: this.process, session: disk.open(client, true), inFlight: 0, isOpen: true }
    this.#sessions.add(open)
    return open
  }

  /** The operator has checked the disks whose sync failed, or whose power was lost. Resolves to how many there were. */
  async acceptAll(): Promise<number> {
    let accepted = 0
    for (const disk of this.disks!.all().filter(({ hasFailedSync, lostPower }) => hasFailedSync || lostPower)) {
      const { hasFailedSync } = disk
      await accept(disk, true, new AbortController().signal)
      if (hasFailedSync) this.failedSyncs.delete(disk.record.id)
      accepted++
    }
    return accepted
  }

  /** The client says DISC, or its connection breaks. */
  close(open: OpenSession, end: 'disconnected' | 'broken'): void {
    open.isOpen = false
    if (!this.#sessions.delete(open) || !open.process.alive) return
    open.session.hangUp?.()
    open.session.close(end)
  }

  /** All clients leave. */
  closeAll(): void {
    for (const open of [...this.#sessions]) this.close(open, 'disconnected')
  }

  async start(): Promise<void> {
    const process = new SimProcess(`${this.name}${++this.#starts}`)
    this.process = process
    this.migrations = undefined
    this.started = false
    this.#stopping = false
    this.#sessions.clear()
    const records = new SimRecords(this.machine, process, this.database)
    const files = new SimFiles(this.machine, process)
    const log = (level: string, facts: object, message: string) => {
      this.#world.log(`${process.name} ${level}: ${message} ${JSON.stringify(facts)}`)
      if (process.alive) this.onLog(message, facts)
    }
    const disks = new Disks(
      {
        files,
        records,
        siteId: this.name,
        readOnly: false,
        holdsAfterPowerLoss: this.holdsAfterPowerLoss,
        errorNames: nbdErrorCodes,
        clock: this.#world.clock(process),
        log,
      },
      { diskFolder: (id) => `${this.name}/${id}`, passingFolder: (id) => `${this.name}/.passing-${id}` },
    )
    this.disks = disks
    const loaded = await records.load()
    const report = (record: { readonly name: string }, error: unknown) =>
      log('error', { disk: record.name, error: String(error) }, 'a disk cannot be opened')
    await disks.takeUp(loaded.disks, report, keyOf(this.name).fingerprint)
    const peer = (id: string) => ({ id, site: siteOf(id), name: siteOf(id) })
    let ids = ('ABC'.indexOf(this.name) + 1) * 1_000_000 + this.#starts * 100
    const services = {
      records,
      disks,
      clock: this.#world.clock(process),
      siteId: this.name,
      key: keyOf(this.name),
      siteOf,
      bootId: files.bootId,
      readOnly: false,
      log,
      newId: () => `00000000-0000-4000-8000-${String(++ids).padStart(12, '0')}`,
      counterpart: (peerId: string) => {
        const way = { from: process, fromPeerId: this.name, to: () => this.#endOf(peerId) }
        if (this.isDirect) return direct(this.#link, way, peerId)
        return overLink(this.#link.channel(way, peerId))
      },
      peer,
      peers: () => [peer(peerIdOf(this.other.name))],
      // The operator of the model speaks at either site. By force at the source alone.
      rights: () => rightsOf({ mayTake: [{ disk: everyDisk, give: true }], limits: {} }),
      keep: () => ({ [Symbol.dispose]: () => {} }),
      freeBytes: async () => 2 ** 40,
      // A disk is copied ahead in several rounds here too.
      ...(this.roundBytes !== undefined && { roundBytes: this.roundBytes }),
      transport: () => 'sim',
      probe: (peerId: string) => this.#link.probe(process, () => this.#endOf(peerId)),
    }
    const migrations = new Migrations(services, (course) => this.onCourse(course))
    this.migrations = migrations // Peers may ask while it takes up what it left.
    await migrations.takeUp(loaded.migrations, loaded.disks)
    await migrations.generations.askAll(this.#others.map(({ name }) => peerIdOf(name)))
    this.started = true
  }

  /** The data folder as it is now; call the result, while the site is dead, to put it in the place of what it became. */
  copyFolder(): () => void {
    const database = this.database.copy()
    const files = new Map([...this.machine.files].map(([path, file]) => [path, file.copy()]))
    return () => {
      this.database = database.copy()
      this.machine.files = new Map([...files].map(([path, file]) => [path, file.copy()]))
    }
  }

  /** SIGTERM: requests in flight finish, or are dropped; then migrations and disks stop. The process may die meanwhile. */
  async stop(): Promise<void> {
    this.#world.log(`${this.name}: STOPS`)
    const { process } = this
    this.#stopping = true
    const isIdle = () => [...this.#sessions].every((open) => open.inFlight === 0)
    await Promise.race([
      this.#world.event(process, 'guests are done', { ready: isIdle }),
      this.#world.event(process, 'guests are dropped', { atMs: this.#world.nowMs + drainLimitMs }),
    ])
    for (const open of [...this.#sessions]) this.close(open, 'broken')
    await this.migrations!.stop()
    await this.disks!.close()
    await this.#world.event(process, 'is stopped')
    this.#die(process)
  }

  kill(): void {
    this.#world.log(`${this.name}: KILLED`)
    this.#die(this.process)
  }

  losePower(): void {
    this.#world.log(`${this.name}: POWER LOST`)
    this.#die(this.process)
    this.machine.losePower()
  }

  #die(process: SimProcess): void {
    this.#world.kill(process)
    this.database.recover(this.#world.random.chance(0.5))
    this.#link.cut()
  }
}
