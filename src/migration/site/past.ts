// Migrations that have no course any more, and what a peer that was away is told of them.

import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord, MovedDisk } from '../../store/records.ts'
import { endedStates } from '../course.ts'
import { startingCode } from '../destination/remote-blocks.ts'
import { onlyDisk } from '../move.ts'
import { restoredRefusal, supersededRefusal } from '../supersession.ts'

export class PastMigrations {
  readonly #records = new Map<string, MigrationRecord>()
  readonly #siteId: string

  constructor(siteId: string) {
    this.#siteId = siteId
  }

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

  get(id: string): MigrationRecord | undefined {
    return this.#records.get(id)
  }

  forget(id: string): void {
    this.#records.delete(id)
  }

  all(): readonly MigrationRecord[] {
    return [...this.#records.values()]
  }

  /** A fetch under the generation that was given away, and taken back. @throws PeerRefusal */
  refuseSuperseded(peerId: string, migration: string, generation: number): void {
    const past = this.#records.get(migration)
    if (past?.peerId !== peerId || past.role !== 'source') return
    const { reclaimedAs, generation: given } = onlyDisk(past)
    if (reclaimedAs !== null && generation === given) throw supersededRefusal(past, reclaimedAs, this.#siteId)
  }

  /** @throws PeerRefusal */
  answer(peerId: string, migration: string, method: string): object {
    const past = this.#records.get(migration)
    const known = past && past.peerId === peerId && past.role === 'source' ? past : undefined
    // It could not be taken up, and is not over: nothing may be said of it.
    if (known && !endedStates.includes(known.state))
      throw new PeerRefusal(startingCode, `migration ${migration} is stopped there`)
    const isDone = known?.state === 'done'
    // No record: its beginning was refused, and what the peer may have made of it is not wanted.
    if (method === 'inquire') return { state: isDone ? 'released' : 'cancelled', writersAreGone: false, sessions: 0 }
    if (method === 'acquire') {
      const message = isDone ? 'it is complete' : `migration ${migration} is cancelled; the source owns the disk`
      return { answer: 'refused', code: isDone ? 'already-taken' : 'cancelled', message }
    }
    if (method === 'complete' && isDone) return {}
    // Whoever has everything says `complete`; who still says `taken` was restored to before.
    if (method === 'taken' && isDone) throw restoredRefusal(known)
    // Whoever took what was given away has to hear that it is void.
    const reclaimedAs = known ? onlyDisk(known).reclaimedAs : null
    if (known && reclaimedAs !== null && method !== 'cancel') throw supersededRefusal(known, reclaimedAs, this.#siteId)
    if (method === 'cancel') return { cancelled: !isDone, message: isDone ? 'it is complete' : '' }
    throw new PeerRefusal('migration-unknown', `there is no migration ${migration} there`)
  }
}

function isReclaimed({ disks }: MigrationRecord): boolean {
  return disks.some(({ reclaimedAs }) => reclaimedAs !== null)
}
