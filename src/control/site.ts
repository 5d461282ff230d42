// What the control server needs of a site. The daemon implements it; errors it throws carry the fields of ErrorView.

import type {
  AcceptRequest,
  CreateDiskRequest,
  CreateEvent,
  DiskView,
  InviteRequest,
  InviteView,
  JoinRequest,
  MigrateRequest,
  MigrationEvent,
  MigrationView,
  PeerView,
  ReclaimRequest,
  SiteView,
  StatusView,
  VerifyView,
} from './types.ts'

export interface Site {
  describe(): SiteView
  status(): Promise<StatusView>

  /** Ends with `result` or throws. Nothing is left behind when it throws or is aborted. */
  createDisk(request: CreateDiskRequest, signal: AbortSignal): AsyncIterable<CreateEvent>
  listDisks(): Promise<readonly DiskView[]>
  /** By name or id. */
  showDisk(name: string): Promise<DiskView>
  deleteDisk(name: string): Promise<DiskView>
  /** Compares an arriving disk with its source. What differs is missing again when this resolves. */
  verifyDisk(name: string, signal: AbortSignal): Promise<VerifyView>
  /** Takes a departed disk back; not confirmed, it is refused with what would be lost (`not-confirmed`). */
  reclaimDisk(name: string, request: ReclaimRequest): Promise<DiskView>
  /** Has a disk take writes again after a failed sync; not confirmed, it is refused with what may be lost (`not-confirmed`). */
  acceptDisk(name: string, request: AcceptRequest, signal: AbortSignal): Promise<DiskView>

  invite(request: InviteRequest): Promise<InviteView>
  join(request: JoinRequest, signal: AbortSignal): Promise<PeerView>
  listPeers(): readonly PeerView[]
  removePeer(name: string): Promise<PeerView>

  /** Resolves once the migration exists at both sites; what follows is told by `migrationEvents`. */
  migrate(request: MigrateRequest, signal: AbortSignal): Promise<MigrationView>
  listMigrations(): readonly MigrationView[]
  /** By id, or an unambiguous beginning of it. */
  showMigration(id: string): MigrationView
  switchover(id: string): Promise<MigrationView>
  /** Holds the background copy, or lets it go on. */
  setPaused(id: string, paused: boolean): Promise<MigrationView>
  cancel(id: string, options: { force: boolean }): Promise<MigrationView>
  /** Starts with the present step; ends with `result` or `error`, or when `signal` aborts. */
  migrationEvents(id: string, signal: AbortSignal): AsyncIterable<MigrationEvent>
}
