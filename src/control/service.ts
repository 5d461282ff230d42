// What the control server needs of a site. The daemon implements it; errors it throws carry the fields of ErrorView.

import type {
  AcceptRequest,
  CheckedMigrateRequest,
  CreateDiskRequest,
  CreateEvent,
  DiskView,
  InviteRequest,
  InviteView,
  JoinRequest,
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
  readonly disks: SiteDisks
  readonly peers: SitePeers
  readonly migrations: SiteMigrations
}

/** Disks are named by name or id. */
export interface SiteDisks {
  /** Ends with `result` or throws. Nothing is left behind when it throws or is aborted. */
  create(request: CreateDiskRequest, signal: AbortSignal): AsyncIterable<CreateEvent>
  list(): Promise<readonly DiskView[]>
  show(name: string): Promise<DiskView>
  delete(name: string): Promise<DiskView>
  /** Compares an arriving disk with its source. What differs is missing again when this resolves. */
  verify(name: string, signal: AbortSignal): Promise<VerifyView>
  /** Takes a departed disk back; not confirmed, it is refused with what would be lost (`not-confirmed`). */
  reclaim(name: string, request: ReclaimRequest): Promise<DiskView>
  /** Has a disk take writes again after a failed sync; not confirmed, it is refused with what may be lost (`not-confirmed`). */
  accept(name: string, request: AcceptRequest, signal: AbortSignal): Promise<DiskView>
}

export interface SitePeers {
  invite(request: InviteRequest): Promise<InviteView>
  join(request: JoinRequest, signal: AbortSignal): Promise<PeerView>
  list(): readonly PeerView[]
  remove(name: string): Promise<PeerView>
}

/** Migrations are named by id, or an unambiguous beginning of it. */
export interface SiteMigrations {
  /** Resolves once the migration exists at both sites; what follows is told by `events`. */
  begin(request: CheckedMigrateRequest, signal: AbortSignal): Promise<MigrationView>
  list(): readonly MigrationView[]
  show(id: string): MigrationView
  switchover(id: string, options: { force: boolean }): Promise<MigrationView>
  /** Holds the background copy, or lets it go on. */
  setPaused(id: string, paused: boolean): Promise<MigrationView>
  cancel(id: string, options: { force: boolean }): Promise<MigrationView>
  /** Starts with the present step; ends with `result` or `error`, or when `signal` aborts. */
  events(id: string, signal: AbortSignal): AsyncIterable<MigrationEvent>
}
