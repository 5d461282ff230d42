// Migrations that have no course any more. What a peer that was away is told of them is in past-source.ts.

import type { MigrationRecord } from '../../store/records.ts'
import { endedStates } from '../course.ts'

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
    const wayOf = ({ diskId, peerId }: MigrationRecord) => `${diskId} ${peerId}`
    for (const record of this.all()) {
      if (record.state !== 'done') continue
      latest.set(wayOf(record), Math.max(latest.get(wayOf(record)) ?? 0, record.generation))
    }
    const mayGo = this.all().filter((record) => {
      const isAwaited = !endedStates.includes(record.state) || !record.sourceTold || record.reclaimedAs !== null
      const isLatest = record.state === 'done' && record.generation === latest.get(wayOf(record))
      return !isAwaited && !isLatest
    })
    return mayGo.sort((a, b) => (a.endedAt ?? '').localeCompare(b.endedAt ?? '')).slice(0, over)
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
