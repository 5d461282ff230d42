// Whether the writes of a disk's guests are tracked for the destination that copies it, and by which map (dirty-map.ts): from
// the first question to the end of the move, over restarts of the daemon.
//
// What always holds:
// - An epoch is told to the destination only when every write that is not over is tracked under it.
// - A daemon that starts goes on tracking before a guest is served, if the map that is there can be believed. Else the epoch is
//   over, and so it is when the disk's bytes may have gone back without a write (a sync that failed, a site put back to an old
//   copy): what the destination says that it was given was not given out here.
// - What guests write to a disk that is in no move, or in another, is not tracked: its map is nobody's.

import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { BlockMap, blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import { DirtyMapFile, dirtyMapName, type KeptMap, type Rounds } from '../../store/dirty-map-file.ts'
import type { Files } from '../../store/files.ts'
import type { DiskRecord } from '../../store/records.ts'
import { DirtyMap, EpochOver, type GivenOut, type Wanted } from './dirty-map.ts'

/** What a destination says that it has. */
export interface Had extends Rounds {
  readonly epoch: string
}

export interface TrackingParts {
  readonly record: { readonly now: DiskRecord }
  readonly storage: Files
  readonly clock: Clock
  /** Aborts when the disk closes. */
  readonly closed: AbortSignal
  readonly log: (level: 'warn', facts: Record<string, unknown>, message: string) => void
  /** The guests' I/O is to be chosen anew. */
  choose(): void
  /** Resolves when the guests' writes that are under way now are over. */
  writesOver(): Promise<void>
  /** A sync of the disk failed, and that is not accepted. */
  hasFailedSync(): boolean
}

export class Tracking {
  readonly #parts: TrackingParts
  #map: DirtyMap | undefined
  /** Of which migration it is. */
  #migrationId: string | null = null
  /** The map is frozen with its disk, and nothing is given out. */
  #isFrozen = false
  /** Resolves when it is to be frozen. */
  #freezing = Promise.withResolvers<void>()
  #mayHaveFile = false
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: TrackingParts) {
    this.#parts = parts
  }

  /** What the guests' writes are told to. */
  get watch(): DirtyMap | undefined {
    return this.#map?.isOver ? undefined : this.#map
  }

  /** The disk was opened, and serves no guest yet: goes on with what a daemon that ended left. */
  async resume(): Promise<void> {
    const { state, migrationId } = this.#record
    if (state !== 'owned' || migrationId === null) return
    const found = await this.#open().catch((error: unknown) => this.#unreadable(error))
    if (!found) return
    this.#mayHaveFile = true
    if (this.#parts.hasFailedSync()) return found.file.close()
    this.#begin(found.file, found.kept)
  }

  /**
   * Every write is tracked when it resolves. `had`: what the destination was given before; `isSame`: that stays good.
   * @throws EpochOver when the disk is not to be moved any more
   */
  track(had: Had | null): Promise<{ readonly epoch: string; readonly isSame: boolean; readonly round: number }> {
    return this.#alone(async () => {
      const map = this.watch
      this.#checkMay()
      const isSame = map !== undefined && had !== null && isKnown(map, had)
      if (isSame) await map.takeBack()
      // A question that is asked again, because its answer was lost, finds what it has begun.
      const isBegun = map !== undefined && had === null && map.rounds.round === 0
      const now = isSame || isBegun ? map : await this.#anew()
      // Writes that the disk's gate holds are over only when it opens: whoever freezes the disk does not wait for them here.
      await Promise.race([this.#parts.writesOver(), this.#freezing.promise])
      this.#checkMay()
      if (now !== this.watch) throw new EpochOver('its epoch is over already')
      return { epoch: now.epoch, isSame, round: now.rounds.round }
    })
  }

  /** See DirtyMap. @throws EpochOver */
  collect(epoch: string, { round, confirmed }: Rounds, wanted: Wanted): Promise<GivenOut> {
    return this.#alone(() => {
      this.#checkMay()
      return this.#of(epoch).collect(round, confirmed, wanted)
    })
  }

  /** The disk is about to be frozen: what its destination says that it has is clean, in the map that is granted. Never rejects. */
  confirm(had: Had): Promise<void> {
    return this.#alone(async () => {
      const map = this.watch
      if (!this.#isFrozen && map && isKnown(map, had)) await map.confirm(had.confirmed)
    }).catch(() => {}) // Then more is dirty than need be.
  }

  /** Little is left to be made durable when the disk is frozen after this. */
  async sync(): Promise<void> {
    await this.watch?.sync().catch(() => {})
  }

  /** The disk is frozen. Resolves to the epoch whose map is durable as it is now; null: there is none, and all is dirty. */
  freeze(): Promise<string | null> {
    this.#isFrozen = true
    this.#freezing.resolve()
    return this.#alone(async () => {
      const map = this.watch
      if (!map) return null
      try {
        await map.freeze()
        return map.epoch
      } catch (error) {
        const facts = { disk: this.#record.name, error: String(error) }
        this.#parts.log('warn', facts, 'what was copied of the disk is not known durably: it will be copied again')
        return null
      }
    })
  }

  /** The disk was not given up. */
  thaw(): void {
    this.#isFrozen = false
    this.#freezing = Promise.withResolvers()
  }

  /** Of a disk that has departed: what its destination does not have, if it was given what it says. Not to be changed. */
  async final(had: Had): Promise<BlockMap | undefined> {
    const { state, dirtyEpoch } = this.#record
    if (state !== 'departed' || dirtyEpoch === null || had.epoch !== dirtyEpoch) return undefined
    const map = this.#map ?? (await this.#frozen(dirtyEpoch))
    return map && isKnown(map, had) ? map.dirty : undefined
  }

  /** The record has changed: whether it is tracked still. */
  moved(): void {
    const { state, migrationId, dirtyEpoch, taken } = this.#record
    if (!this.#map) return
    const isOurs = migrationId === this.#migrationId
    const mayBeAsked = state === 'departed' && !taken && dirtyEpoch === this.#map.epoch
    if (isOurs && (state === 'owned' || mayBeAsked)) return
    this.#end()
  }

  /** Nothing of it is asked any more. Never rejects. */
  async discard(): Promise<void> {
    if (this.#map || !(this.#mayHaveFile || this.#record.dirtyEpoch)) return
    this.#mayHaveFile = false
    await this.#parts.storage.remove(this.#path).catch(() => {}) // Nobody believes it.
  }

  /** What was given out is not what the disk has any more. Durable when it resolves. */
  forget(): Promise<void> {
    return this.#alone(async () => {
      if (this.#map) this.#end()
      if (this.#mayHaveFile) await this.#parts.storage.remove(this.#path)
    })
  }

  async close(): Promise<void> {
    await this.#map?.close()
  }

  get #record(): DiskRecord {
    return this.#parts.record.now
  }

  get #path(): string {
    return join(this.#record.folder, dirtyMapName)
  }

  get #identity() {
    const { id: diskId, migrationId, sizeBytes } = this.#record
    return { diskId, migrationId: migrationId!, blocks: Math.ceil(sizeBytes / blockSizeBytes) }
  }

  #checkMay(): void {
    const { state, migrationId, name } = this.#record
    const { hasFailedSync, closed } = this.#parts
    if (state !== 'owned' || migrationId === null || this.#isFrozen || hasFailedSync() || closed.aborted)
      throw new EpochOver(`${name} is not to be copied now`)
  }

  #of(epoch: string): DirtyMap {
    const map = this.watch
    if (map?.epoch === epoch) return map
    throw new EpochOver(`epoch ${epoch} of ${this.#record.name} is over`)
  }

  #open(frozenEpoch?: string): ReturnType<typeof DirtyMapFile.open> {
    return DirtyMapFile.open(this.#parts.storage, this.#path, this.#identity, frozenEpoch)
  }

  async #frozen(epoch: string): Promise<DirtyMap | undefined> {
    const found = await this.#open(epoch).catch((error: unknown) => this.#unreadable(error))
    if (found) this.#begin(found.file, found.kept)
    return this.#map
  }

  #unreadable(error: unknown): undefined {
    const facts = { disk: this.#record.name, error: String(error) }
    this.#parts.log('warn', facts, 'what was copied of the disk cannot be read: it will be copied again')
  }

  /** A new epoch: all is to be copied. */
  async #anew(): Promise<DirtyMap> {
    const { storage } = this.#parts
    const [identity, epoch] = [this.#identity, randomUUID()]
    this.#mayHaveFile = true
    const file = await DirtyMapFile.create(storage, this.#path, identity, epoch)
    if (this.#record.migrationId !== identity.migrationId || this.#record.state !== 'owned') {
      await file.close()
      await storage.remove(this.#path).catch(() => {})
      throw new EpochOver(`${this.#record.name} is not to be copied any more`)
    }
    const dirty = new BlockMap(identity.blocks)
    dirty.add(0, identity.blocks)
    return this.#begin(file, { epoch, dirty, round: 0, confirmed: 0 })
  }

  #begin(file: DirtyMapFile, kept: KeptMap): DirtyMap {
    const { clock, log } = this.#parts
    const before = this.#map
    const map = new DirtyMap(file, kept, {
      now: () => clock.now(),
      turn: () => clock.turn(),
      lost: (error) => {
        const facts = { disk: this.#record.name, error: error.message }
        log('warn', facts, 'what guests write cannot be tracked: what was copied of the disk will be copied again')
        if (this.#map === map) this.#end()
      },
    })
    this.#map = map
    this.#migrationId = this.#record.migrationId
    this.#choose()
    before?.close().catch(() => {})
    return map
  }

  #end(): void {
    const map = this.#map
    this.#map = undefined
    this.#choose()
    map?.close().catch(() => {})
  }

  #choose(): void {
    if (!this.#parts.closed.aborted) this.#parts.choose()
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}

/** A destination that was given rounds which this site does not know, or does not remember what it confirmed: one of both is an old copy. */
function isKnown({ epoch, rounds }: DirtyMap, had: Had): boolean {
  return (
    had.epoch === epoch && had.confirmed >= rounds.confirmed && had.confirmed <= had.round && had.round <= rounds.round
  )
}
