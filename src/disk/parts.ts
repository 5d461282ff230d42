// What makes up one disk, put together: its record and files, its syncs and landings, its guests, the I/O of its state, and
// the faces that a migration gets of it. Only disk.ts sees them all.

import assert from 'node:assert/strict'
import type { GuestErrorCode } from '../guest/export.ts'
import type { BlockFile, Files } from '../store/files.ts'
import type { DiskRecord, Records } from '../store/records.ts'
import { Ahead } from './ahead.ts'
import { Landing, type LandingPlace } from './arrival/landing.ts'
import { Arriving } from './arriving.ts'
import { CommittedRecord } from './committed-record.ts'
import { Departing } from './departing.ts'
import { Tracking } from './departure/tracking.ts'
import { DiskFiles } from './disk-files.ts'
import { Gate } from './gate.ts'
import { GuestErrors } from './guest-errors.ts'
import { IoOfState } from './io/of-state.ts'
import { Moves } from './moves.ts'
import type { Landed, RemotePart } from './remote-part.ts'
import { Reservation } from './reservation.ts'
import type { SessionHost } from './session.ts'
import { Sessions } from './sessions.ts'
import { DiskSyncs, type SyncServices } from './sync/disk-syncs.ts'
import { UnsyncedWrites } from './sync/unsynced.ts'
import { DiskTrouble } from './trouble.ts'

export interface DiskServices extends SyncServices {
  readonly files: Files
  readonly records: Records
  readonly siteId: string
  /** `serve --read-only`. */
  readonly readOnly: boolean
  /** `serve --after-power-loss hold`. */
  readonly holdsAfterPowerLoss: boolean
  /** What operators read of an error that a guest was told: the name that it has for guests. */
  readonly errorNames: Readonly<Record<GuestErrorCode, string>>
}

export interface DiskFacts {
  readonly record: DiskRecord
  /** Of a disk that is incoming or arriving. */
  readonly remote?: RemotePart | undefined
  /** Why its file or maps could not be opened. */
  readonly trouble?: string
  /** A session has ended. */
  sessionEnded(): void
}

export class DiskParts {
  readonly record: CommittedRecord
  readonly reservation: Reservation
  readonly files: DiskFiles
  readonly syncs: DiskSyncs
  readonly unsynced: UnsyncedWrites
  readonly tracking: Tracking
  readonly moves: Moves
  readonly trouble: DiskTrouble
  readonly gate = new Gate()
  readonly sessions = new Sessions()
  readonly guestErrors: GuestErrors
  readonly io: IoOfState
  /** What each of its sessions needs of it. */
  readonly sessionHost: SessionHost
  readonly departing: Departing
  readonly arriving: Arriving
  readonly closed = new AbortController()

  constructor(services: DiskServices, { record, remote, trouble, sessionEnded }: DiskFacts) {
    const { name, sizeBytes } = record
    const { log, clock, errorNames, readOnly, files: storage } = services
    const closed = this.closed.signal
    const flush = () => this.syncs.group.flush()
    this.reservation = new Reservation(name)
    this.guestErrors = new GuestErrors({ diskName: name, errorNames, log, date: () => clock.date() })
    this.record = new CommittedRecord(record, services.records, () => this.io.choose())
    this.files = new DiskFiles(storage, name)
    const kept = { record: this.record, files: this.files }
    const place = { name, sizeBytes, file: () => this.files.block, landed: (what: Landed) => remote?.landed(what) }
    const landing = new Landing({ ...place, flush, place: () => this.#arrival })
    const ahead = new Ahead({ ...kept, name, sizeBytes, landed: place.landed })
    this.syncs = new DiskSyncs(services, this.record, () =>
      this.unsynced.saving(() => landing.saving(() => this.files.sync())),
    )
    const { bootId } = storage
    this.unsynced = new UnsyncedWrites({ ...services, ...kept, sessions: this.sessions, bootId, closed, flush })
    this.tracking = new Tracking({
      ...services,
      record: this.record,
      storage,
      closed,
      choose: () => this.io.choose(),
      writesOver: () => this.sessions.writesBegunAreOver(),
      hasFailedSync: () => this.syncs.failure !== undefined,
    })
    const { tracking } = this
    this.moves = new Moves({ ...kept, unsynced: this.unsynced, tracking, log })
    this.trouble = new DiskTrouble({ ...services, ...kept, syncs: this.syncs, unsynced: this.unsynced }, trouble)
    this.io = new IoOfState({
      ...kept,
      syncs: this.syncs.group,
      remote,
      tracking,
      closed,
      land: (piece) => landing.land(piece, 'demand'),
    })
    const face = { ...kept, storage, moves: this.moves, unsynced: this.unsynced, bytes: () => this.bytes }
    this.departing = new Departing(withSite({ ...face, readOnly, tracking }, services))
    this.arriving = new Arriving(withSite({ ...face, landing, ahead, flush }, services))
    this.sessionHost = this.#hostOf(name, sessionEnded)
  }

  #hostOf(name: string, sessionEnded: () => void): SessionHost {
    const { gate, sessions, guestErrors, unsynced, io } = this
    return {
      name,
      gate,
      sessions,
      guestErrors,
      unsynced,
      sessionEnded,
      get io() {
        return io.now
      },
    }
  }

  get #arrival(): LandingPlace {
    const { arrival } = this.files
    assert(arrival)
    return arrival
  }

  /** Past the gate, and whatever the state. @throws when the file is not open */
  get bytes(): BlockFile {
    if (this.files.block) return this.files.block
    const { name, state } = this.record.now
    throw new Error(`the bytes of ${name} are not open: ${this.trouble.sentence ?? state}`)
  }
}

/** Who this site is they ask anew each time: its key, and so its id, may be renewed while the disk is open. */
function withSite<Parts extends object>(parts: Parts, services: Pick<DiskServices, 'siteId'>) {
  return Object.defineProperty(parts, 'siteId', { get: () => services.siteId }) as Parts & { readonly siteId: string }
}
