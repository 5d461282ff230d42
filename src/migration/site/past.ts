// Migrations that have no course any more. What a peer that was away is told of them is in past-source.ts.

import type { DiskRecord, MigrationRecord, MovedDisk } from '../../store/records.ts'
import { endedStates } from '../course.ts'
import { changed } from '../move.ts'

export class PastMigrations {
  readonly #records = new Map<string, MigrationRecord>()

  add(record: MigrationRecord): void {
    this.#records.set(record.id, record)
  }

  /**
   * What may be forgotten, so that the past does not grow for ever: the oldest over `kept`. Never one that a peer has yet
   * to hear of, nor one whose disk was taken back: whoever comes back under a void generation must be told. Of a disk that
   * went from or to a peer the latest stays, for by it the peer's old copies are known (generations.ts).
   */
  surplus(kept: number): MigrationRecord[] {
    const over = this.#records.size - kept
    if (over <= 0) return []
    const latest = new Map<string, number>()
    const wayOf = ({ peerId }: MigrationRecord, disk: MovedDisk) => `${disk.id} ${peerId}`
    for (const record of this.all().filter(({ state }) => state === 'done')) {
      for (const disk of record.disks) {
        const way = wayOf(record, disk)
        latest.set(way, Math.max(latest.get(way) ?? 0, disk.generation))
      }
    }
    const mayGo = this.all().filter((record) => {
      const { state, sourceTold, disks } = record
      const isAwaited = !endedStates.includes(state) || !sourceTold || isReclaimed(record)
      const isLatest = disks.some((disk) => disk.generation === latest.get(wayOf(record, disk)))
      return !isAwaited && !(state === 'done' && isLatest)
    })
    return mayGo.sort((a, b) => (a.endedAt ?? '').localeCompare(b.endedAt ?? '')).slice(0, over)
  }

  /** Of each peer the records that are kept longest, with the deed of a disk that is being deleted here. */
  withDeedOf({ id, deed }: Pick<DiskRecord, 'id' | 'deed'>): readonly MigrationRecord[] {
    const latest = new Map<string, MigrationRecord>()
    for (const record of this.all()) {
      const moved = record.disks.find((disk) => disk.id === id)
      const isKept = record.state === 'done' || isReclaimed(record)
      const before = latest.get(record.peerId)?.disks.find((disk) => disk.id === id)
      if (moved && isKept && moved.generation >= (before?.generation ?? 0)) latest.set(record.peerId, record)
    }
    if (deed === null) return []
    return [...latest.values()].map((record) => changed(record, { disks: { [id]: { deed } } }))
  }

  get(id: string): MigrationRecord | undefined {
    return this.#records.get(id)
  }

  forget(id: string): void {
    this.#records.delete(id)
  }

  all(): readonly MigrationRecord[] {
    return [...this.#records.values()]
  }
}

function isReclaimed({ disks }: MigrationRecord): boolean {
  return disks.some(({ reclaimedAs }) => reclaimedAs !== null)
}
