// One simulated site: a machine and a database that survive, and the daemon's disks and migrations, made anew at each start
// exactly as the daemon makes them.

import assert from 'node:assert/strict'
import type { Disk } from '../../src/disk/disk.ts'
import { Disks } from '../../src/disk/disks.ts'
import { Migrations } from '../../src/migration/migrations.ts'
import { SimFiles, SimMachine } from './sim-files.ts'
import type { SimEnd, SimLink } from './sim-link.ts'
import { SimDatabase, SimRecords } from './sim-records.ts'
import { SimProcess, type World } from './world.ts'

export class SimSite {
  readonly name: string
  readonly machine: SimMachine
  readonly database = new SimDatabase()
  readonly #world: World
  readonly #link: SimLink
  other!: SimSite
  #starts = 0
  process: SimProcess
  disks: Disks | undefined
  migrations: Migrations | undefined
  started = false
  /** Commits of these changes fail now and then. */
  commitFaultRate = 0

  constructor(world: World, name: string, link: SimLink) {
    this.#world = world
    this.name = name
    this.machine = new SimMachine(world, name)
    this.#link = link
    this.process = new SimProcess(name)
    this.process.alive = false
  }

  get up(): boolean {
    return this.process.alive && this.started
  }

  /** What peers reach. */
  get end(): SimEnd | undefined {
    return this.process.alive && this.migrations
      ? { process: this.process, peerId: this.name, handlers: this.migrations }
      : undefined
  }

  disk(name: string): Disk | undefined {
    return this.up ? this.disks!.find(name) : undefined
  }

  async start(): Promise<void> {
    const process = new SimProcess(`${this.name}${++this.#starts}`)
    this.process = process
    this.migrations = undefined
    this.started = false
    const { random } = this.#world
    const mayFail = (what: string) => /disk=(departed|arriving)/.test(what) && random.chance(this.commitFaultRate)
    const records = new SimRecords(this.#world, process, this.database, mayFail)
    const files = new SimFiles(this.machine, process)
    const disks = new Disks(
      { files, records, siteId: this.name, readOnly: false },
      { diskFolder: (id) => `${this.name}/${id}`, passingFolder: (id) => `${this.name}/.passing-${id}` },
    )
    this.disks = disks
    const loaded = await records.load()
    await disks.takeUp(loaded.disks, (record, error) => assert.fail(`${record.name} cannot be opened: ${error}`))
    let ids = this.#starts * 100
    const migrations = new Migrations({
      records,
      disks,
      clock: this.#world.clock(process),
      siteId: this.name,
      readOnly: false,
      log: (level, facts, message) => this.#world.log(`${process.name} ${level}: ${message} ${JSON.stringify(facts)}`),
      newId: () => `00000000-0000-4000-8000-${String(++ids).padStart(12, '0')}`,
      channel: (peerId) => this.#link.channel(process, this.name, peerId, () => this.other.end),
      peer: (id) => ({ id, site: id, name: id }),
      keep: () => ({ [Symbol.dispose]: () => {} }),
      freeBytes: async () => 2 ** 40,
      transport: () => 'sim',
      probe: async () => {},
    })
    this.migrations = migrations // Peers may ask while it takes up what it left.
    await migrations.takeUp(loaded.migrations, loaded.disks)
    this.started = true
  }

  kill(): void {
    this.#world.log(`${this.name}: KILLED`)
    this.#world.kill(this.process)
    this.#link.cut()
  }

  losePower(): void {
    this.#world.log(`${this.name}: POWER LOST`)
    this.#world.kill(this.process)
    this.machine.losePower()
    this.#link.cut()
  }
}
