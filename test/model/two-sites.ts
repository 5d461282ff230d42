// Two simulated sites for tests of single cases: no faults but those that the test makes; time passes as the test lets it.

import assert from 'node:assert/strict'
import type { Terms } from '../../src/migration/terms.ts'
import type { DiskRecord } from '../../src/store/records.ts'
import { putDisk } from './image.ts'
import { peerIdOf } from './keys.ts'
import { sectorBytes } from './sim-file.ts'
import { SimLink } from './sim-link.ts'
import { type OpenSession, SimSite } from './sim-site.ts'
import { diskId, diskName, diskNames } from './stage.ts'
import { World } from './world.ts'

const stepLimit = 20_000

export class TwoSites {
  readonly world: World
  readonly link: SimLink
  readonly a: SimSite
  readonly b: SimSite

  private constructor(seed: number, disks: number) {
    this.world = new World(seed)
    this.world.haste = 0
    this.link = new SimLink(this.world)
    this.a = new SimSite(this.world, 'A', this.link)
    this.b = new SimSite(this.world, 'B', this.link)
    this.a.other = this.b
    this.b.other = this.a
    for (let index = 0; index < disks; index++) putDisk(this.a, this.world.random, index)
  }

  /** Both up, A owns the disk, or the first `disks` of them. */
  static async start(seed = 1, disks = 1): Promise<TwoSites> {
    const sites = new TwoSites(seed, disks)
    await sites.drive(Promise.all([sites.a.start(), sites.b.start()]))
    return sites
  }

  /** Lets the world go on until the promise is settled. */
  async drive<T>(work: Promise<T>): Promise<T> {
    let isSettled = false
    const settled = () => {
      isSettled = true
    }
    work.then(settled, settled)
    for (let steps = 0; !isSettled; steps++) {
      assert(steps < stepLimit, `nothing settles it; pending: ${this.world.pending}`)
      await this.world.step()
    }
    return work
  }

  async until(what: string, isSo: () => boolean): Promise<void> {
    for (let steps = 0; !isSo(); steps++) {
      assert(steps < stepLimit, `never: ${what}; pending: ${this.world.pending}`)
      await this.world.step()
    }
  }

  /** Lets so much time pass, whatever happens. */
  async pass(durationMs: number): Promise<void> {
    const end = this.world.nowMs + durationMs
    const rung = this.world.event(undefined, 'time is over', { atMs: end })
    await this.drive(rung)
  }

  record(site: SimSite, id = diskId): DiskRecord | undefined {
    return site.database.disk.get(id)
  }

  standing(site: SimSite, id = diskId): (string | number | undefined)[] {
    const record = this.record(site, id)
    return [record?.state, record?.generation, record?.owner]
  }

  /** Begins a move of the first so many disks from A to B. Resolves to the migration's id. */
  async migrate(
    switchover: Terms['switchover'],
    from = this.a,
    to = this.b,
    force = false,
    disks = 1,
  ): Promise<string> {
    const terms: Terms = {
      mode: 'post-copy',
      switchover,
      switchoverWaitMs: 10_000,
      maxRate: null,
      stallTimeoutMs: null,
      sourcePolicy: 'keep',
      force,
    }
    const peer = { id: peerIdOf(to.name), site: to.name, name: to.name }
    return (
      await this.drive(
        from.migrations!.beginnings.start(diskNames.slice(0, disks), peer, terms, new AbortController().signal),
      )
    ).id
  }

  /** What `from` hears when it says this to `to`, over the link. */
  say(from: string, to: SimSite, method: string, params: object): Promise<object> {
    return this.drive(to.handlers.call(from, method, params, new AbortController().signal))
  }

  open(site: SimSite, client = 'guest', name: string = diskName): OpenSession {
    const open = site.open(name, client)
    assert(open, `${name} is not served at ${site.name}`)
    return open
  }

  async write({ session }: OpenSession, sector: number, value: number): Promise<void> {
    const bytes = new Uint8Array(sectorBytes).fill(value)
    await this.drive((async () => session.write(sector * sectorBytes, bytes, false))())
  }

  /** The first byte of a sector. */
  async read({ session }: OpenSession, sector: number): Promise<number> {
    const bytes = new Uint8Array(sectorBytes)
    await this.drive((async () => session.read(sector * sectorBytes, bytes))())
    return bytes[0]!
  }

  async flush({ session }: OpenSession): Promise<void> {
    await this.drive((async () => session.flush())())
  }

  /** The site's power goes, its data folder is replaced by the copy, and it starts again. */
  async restore(site: SimSite, copy: () => void): Promise<void> {
    site.losePower()
    copy()
    await this.drive(site.start())
  }
}
