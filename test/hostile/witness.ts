// What an attack must not change: a disk on which a guest works all the while. Its state, generation, owner and place stay, the
// guest is answered throughout on one connection, and every sector is as the guest left it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { Guest, makeGuestImage } from '../e2e/guest.ts'
import { afterwards, attach, folder, type Site, until } from '../e2e/sites.ts'

export const sizeBytes = 4 * 2 ** 20
/** So many more writes must be answered for a guest to go on. */
const furtherWrites = 20

/** A disk with the content that a guest expects. */
export async function createGuestDisk(site: Site, name = 'web01'): Promise<DiskView> {
  const from = join(folder(), 'image')
  await makeGuestImage(from, sizeBytes)
  for await (const event of site.control.createDisk({ name, from, format: 'raw' }))
    if (event.type === 'result') return event
  throw new Error(`${name} was not made`)
}

/** Of a disk's view, what nobody but its owner's operator changes. */
export function standing({ name, id, size, state, generation, owner, path, migration, trouble }: DiskView) {
  return { name, id, size, state, generation, owner, path, migration, trouble }
}

export class Witness {
  readonly site: Site
  readonly disk: string
  readonly #before: ReturnType<typeof standing>
  readonly #guest: Guest

  /** A guest has begun to work there. */
  static async of(site: Site, disk = 'web01'): Promise<Witness> {
    const witness = new Witness(site, disk, await site.control.showDisk(disk))
    await witness.goesOn()
    return witness
  }

  private constructor(site: Site, disk: string, view: DiskView) {
    this.site = site
    this.disk = disk
    this.#before = standing(view)
    const connect = () => NbdClient.connect(site.uri(disk), { requestTimeoutMs: 60_000 })
    this.#guest = new Guest({ seed: 1, sizeBytes: view.size, connect, requestsPerSecond: 200 })
    this.#guest.start()
    afterwards(() => this.#guest.stop().catch(() => {}))
  }

  get writes(): number {
    return this.#guest.counts.writes
  }

  /** Resolves when so many more writes were answered. */
  async goesOn(writes = furtherWrites): Promise<void> {
    const wanted = this.#guest.counts.writes + writes
    await until(`the guest of ${this.disk} at ${this.site.name} goes on`, () => {
      this.#guest.check()
      return this.#guest.counts.writes >= wanted ? true : undefined
    })
  }

  /** The attack is over: nothing has changed by it. */
  async unharmed(): Promise<void> {
    assert.deepEqual(standing(await this.site.control.showDisk(this.disk)), this.#before)
    await this.goesOn()
    await this.#guest.stop()
    assert.equal(this.#guest.counts.broken, 0, 'the guest kept its connection')
    const client = await attach(this.site, this.disk)
    await this.#guest.verify(client)
    await client.disconnect()
    assert.deepEqual(standing(await this.site.control.showDisk(this.disk)), this.#before)
  }
}
