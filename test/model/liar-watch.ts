// What no lie may bring about: looked at after every step, in the records of every honest site. Whatever they have of a disk, each
// entry of its deed was signed by a site that may have had it; no move with the liar has to do with such a disk, or goes by the id
// of another move. So nobody fences, serves, deletes or accepts a byte on the liar's word.

import assert from 'node:assert/strict'
import type { Deed } from '../../src/deed/entries.ts'
import type { DiskRecord, MigrationRecord } from '../../src/store/records.ts'
import { keyOf, peerIdOf } from './keys.ts'
import { liarName } from './liar.ts'
import type { SimSite } from './sim-site.ts'

export interface LiarWatchStage {
  readonly sites: readonly SimSite[]
  readonly diskIds: readonly string[]
  readonly facts: string
}

export class LiarWatch {
  readonly #stage: LiarWatchStage
  /** Public keys. */
  readonly #honest: ReadonlySet<string>
  /** Records that were looked at. */
  readonly #seen = new WeakSet<object>()
  /** By the ids of moves: with whom each is, at each site. */
  readonly #peers = new Map<string, string>()

  constructor(stage: LiarWatchStage) {
    this.#stage = stage
    this.#honest = new Set(stage.sites.map(({ name }) => keyOf(name).publicKey))
  }

  check(): void {
    for (const site of this.#stage.sites) {
      for (const record of site.database.disk.values()) if (this.#isNew(record)) this.#checkDisk(site, record)
      for (const record of site.database.migration.values()) if (this.#isNew(record)) this.#checkMove(site, record)
    }
  }

  #isNew(record: object): boolean {
    if (this.#seen.has(record)) return false
    this.#seen.add(record)
    return true
  }

  #checkDisk(site: SimSite, { id, name, deed, offered, rival }: DiskRecord): void {
    const { facts, diskIds } = this.#stage
    if (!diskIds.includes(id)) return
    for (const each of [deed, offered, rival])
      assert(!each || this.#isHonest(each), `${facts}: promise 10: ${site.name} believes a deed of ${name} by a liar`)
  }

  #isHonest(deed: Deed): boolean {
    return deed.every(({ by }) => this.#honest.has(by))
  }

  #checkMove(site: SimSite, { id, peerId, disks }: MigrationRecord): void {
    const { facts, diskIds } = this.#stage
    const key = `${site.name} ${id}`
    const known = this.#peers.get(key) ?? peerId
    this.#peers.set(key, known)
    assert.equal(peerId, known, `${facts}: promise 10: at ${site.name} a liar repeats the id of move ${id}`)
    const isTheirs = peerId === peerIdOf(liarName)
    const moved = disks.find((disk) => diskIds.includes(disk.id))
    assert(!isTheirs || !moved, `${facts}: promise 10: ${site.name} moves ${moved?.name} with a liar`)
  }
}
