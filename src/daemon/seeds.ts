// What this site lends as seeds (`migrate --seed`): which names mean what, and to whom.
//
// What always holds: a peer has nothing used that its operator was not given: a disk that moved between the two sites, a disk
// or a folder of images that this daemon was started with (`serve --seed-disk`, `--seed-folder`), or what the operator of
// this site named himself (`migrate --from`). Whether something else exists here, it does not learn: one sentence for all.

import { realpath, stat } from 'node:fs/promises'
import { basename, join, sep } from 'node:path'
import type { Disk } from '../disk/disk.ts'
import type { Disks } from '../disk/disks.ts'
import { type Seed, type SeedShelf, seedOf } from '../migration/copy/seed.ts'
import type { Files } from '../store/files.ts'
import type { MigrationRecord } from '../store/records.ts'

export interface LentSeedsParts {
  readonly disks: Disks
  readonly files: Files
  /** Raw images in these may be used by every peer. */
  readonly folders: readonly string[]
  /** So may these disks, by their names. */
  readonly diskNames: readonly string[]
  /** All that this site knows. */
  migrations(): readonly MigrationRecord[]
}

/** A disk whose bytes are all here, be they old. */
const readableStates: readonly string[] = ['owned', 'departed', 'released', 'superseded']

export class LentSeeds implements SeedShelf {
  readonly #parts: LentSeedsParts
  /** 'peer name', of what the operator here named. */
  readonly #allowed = new Set<string>()

  constructor(parts: LentSeedsParts) {
    this.#parts = parts
  }

  allow(name: string, peerId: string): void {
    this.#allowed.add(`${peerId} ${name}`)
  }

  async refusal(name: string, peerId: string): Promise<string | undefined> {
    const disk = this.#disk(name)
    const isLent = disk ? this.#isLent(disk, name, peerId) : true // An image is looked for where images are lent.
    const seed =
      isLent || this.#isAllowed(name, peerId) ? await this.#opened(name, this.#isAllowed(name, peerId)) : undefined
    await seed?.close()
    if (seed) return undefined
    return `there is no seed ${basename(name)} there that this site may use: its operator lends images with vmstore serve --seed-folder DIR, and disks with --seed-disk NAME`
  }

  async open(name: string, except: string): Promise<Seed | undefined> {
    if (this.#disk(name)?.id === except) return undefined
    return this.#opened(name, true) // It was allowed when the move was admitted.
  }

  async kept(diskId: string, peerId: string): Promise<Seed | undefined> {
    const disk = this.#parts.disks.get(diskId)
    if (!disk || (disk.state !== 'released' && disk.state !== 'superseded')) return undefined
    const isTheirs = (record: MigrationRecord) =>
      record.peerId === peerId && record.disks.some(({ id }) => id === diskId)
    if (!this.#parts.migrations().some(isTheirs)) return undefined
    return this.#openedDisk(disk).catch(() => undefined) // Its bytes may have been deleted.
  }

  #isAllowed(name: string, peerId: string): boolean {
    return this.#allowed.has(`${peerId} ${name}`)
  }

  #isLent({ id }: Disk, name: string, peerId: string): boolean {
    const { diskNames, migrations } = this.#parts
    const hasMoved = migrations().some(
      (record) => record.peerId === peerId && record.state === 'done' && record.disks.some((each) => each.id === id),
    )
    return hasMoved || diskNames.includes(name)
  }

  #disk(name: string): Disk | undefined {
    return this.#parts.disks.all().find((disk) => disk.name === name)
  }

  /** `isAnywhere`: an image outside of the folders too. */
  async #opened(name: string, isAnywhere: boolean): Promise<Seed | undefined> {
    const disk = this.#disk(name)
    try {
      return disk ? await this.#openedDisk(disk) : await this.#openedImage(name, isAnywhere)
    } catch {
      return undefined
    }
  }

  async #openedDisk(disk: Disk): Promise<Seed | undefined> {
    if (!readableStates.includes(disk.state) || disk.isUnusable) return undefined
    if (!disk.hasOpenFile) return seedOf(await this.#parts.files.openBlockFile(disk.record.path, true), disk.name, true)
    const { departing, sizeBytes } = disk
    return {
      name: disk.name,
      isNamed: true,
      sizeBytes,
      read: (offset, target) => departing.read(offset, target),
      extents: (offset, lengthBytes, limit) => departing.extents(offset, lengthBytes, limit),
      close: async () => {}, // It is the disk's.
    }
  }

  async #openedImage(name: string, isAnywhere: boolean): Promise<Seed | undefined> {
    for (const path of await this.#pathsOf(name, isAnywhere)) {
      if (!(await stat(path)).isFile()) continue
      return seedOf(await this.#parts.files.openBlockFile(path, true), basename(path), true)
    }
    return undefined
  }

  /** Where an image of that name lies, and may be used. A link that leads out of a folder leads nowhere. */
  async #pathsOf(name: string, isAnywhere: boolean): Promise<readonly string[]> {
    const paths: string[] = []
    for (const each of this.#parts.folders) {
      const folder = await realpath(each).catch(() => undefined)
      const path = folder && (await realpath(name.startsWith(sep) ? name : join(folder, name)).catch(() => undefined))
      if (path?.startsWith(`${folder}${sep}`)) paths.push(path)
    }
    const itself = isAnywhere && name.startsWith(sep) ? await realpath(name).catch(() => undefined) : undefined
    return itself ? [...paths, itself] : paths
  }
}
