// The composition root: starts a site's parts in order, and stops them in the other.
//
// Order of start: lock, identity, records, disks, links (which accept nobody yet), migrations, listeners. When a listener
// is up everything behind it is ready. Order of stop: control, guests (requests in flight finish, connections are dropped
// without a word), migrations, links, disks, records, lock.

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import type { Logger } from 'pino'
import { EventBus } from '../control/event-bus.ts'
import { type ControlServer, startControlServer } from '../control/server.ts'
import type { SiteView } from '../control/types.ts'
import type { DiskServices } from '../disk/disk.ts'
import { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import type { NewcomerLimits } from '../entrance/newcomers.ts'
import { answersOverLink, overLink } from '../migration/over-link.ts'
import { rightsOf } from '../migration/peer-rights.ts'
import { Migrations } from '../migration/site/migrations.ts'
import type { MigrationsServices } from '../migration/site/services.ts'
import { nbdErrorCodes } from '../nbd/server/guest-errors.ts'
import { NbdServer } from '../nbd/server/server.ts'
import type { TlsServer, TlsServerOptions } from '../nbd/server/tls-server.ts'
import { formatNbdUri } from '../nbd/wire/uri.ts'
import { siteIdOf } from '../peer/identity.ts'
import { DataFolder } from '../store/data-folder.ts'
import type { Files } from '../store/files.ts'
import type { Change, DiskRecord, Records } from '../store/records.ts'
import { announceCourse, announceLink } from './announcing.ts'
import { systemClock } from './clock.ts'
import { logCourse } from './course-log.ts'
import { Drivers } from './drivers.ts'
import { loadedWithDeeds, openDurable, tellUnrecorded } from './durable.ts'
import { freeBytes } from './free-space.ts'
import { KeyRenewal, type KeyRenewalParts } from './key-renewal.ts'
import { logLink } from './link-log.ts'
import { Links } from './links.ts'
import { namingOf, peerOf } from './naming.ts'
import { checkAddresses, openTls, reloadTls } from './nbd-access.ts'
import { OwnIdentity, ownIdentity, siteNameOf } from './own-identity.ts'
import type { PassedSocket } from './passed-sockets.ts'
import { PeerBook, peerFacts } from './peer-book.ts'
import { PeerGuard } from './peer-guard.ts'
import { followAtBreaks, PeerRenewals, withRenewals } from './peer-renewals.ts'
import { finishLeft } from './renewed-disk.ts'
import { LentSeeds } from './seeds.ts'
import { renameNotes, serveFile, stateFolderOf } from './served-file.ts'
import { LocalSite } from './site.ts'
import { drainLimitMs } from './site-sessions.ts'
import type { Naming } from './views.ts'

export interface DaemonOptions {
  readonly root: string
  readonly files: readonly string[]
  /** NBD URIs; none, and no sockets: the Unix socket in the root. */
  readonly nbd: readonly string[]
  /** Those that systemd passed, to serve NBD on. */
  readonly sockets: readonly PassedSocket[]
  readonly peer: string | undefined
  readonly control: string | undefined
  readonly readOnly: boolean
  /** What peers may have used as seeds: absolute folders of images, and disks by their names. */
  readonly seedFolders?: readonly string[]
  readonly seedDisks?: readonly string[]
  /** Of clients at other hosts, and a disk that may have lost what was answered to them: until the operator accepts it. */
  readonly afterPowerLoss: 'serve' | 'hold'
  /** Where guests' TLS has its files; `nbd://` over TCP demands TLS then. */
  readonly tls: TlsServerOptions | undefined
  /** Plain NBD over TCP may listen beyond loopback, with certificates too. */
  readonly insecure: boolean
  readonly limits: DaemonLimits
  readonly version: string
  /** What transport plugins offered. */
  readonly drivers: readonly unknown[]
  readonly transportSettings: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly log: Logger
}

/** Against those whom nobody knows yet, and hosts that are gone. */
export interface DaemonLimits extends NewcomerLimits {
  /** NBD clients that use a disk, at one listener. */
  readonly sessions: number
  /** How long a host may take to acknowledge what was sent. 0: as long as the system lets it. */
  readonly deadHostMs: number
}

export class Daemon {
  readonly #options: DaemonOptions
  readonly #stops: (() => Promise<void> | void)[] = []
  readonly #bus = new EventBus()
  #nbdUris: string[] = []
  #view: SiteView | undefined
  #tls: TlsServer | undefined
  #reloaded: Promise<void> = Promise.resolve()

  private constructor(options: DaemonOptions) {
    this.#options = options
  }

  /** The data folder of `serve FILE` without --root. */
  static folderBeside(file: string): string {
    return stateFolderOf(resolve(file))
  }

  /** Resolves when every listener is up. Rejects, with everything stopped again. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(options)
    try {
      await daemon.#start()
    } catch (error) {
      await daemon.stop()
      throw error
    }
    return daemon
  }

  get view(): SiteView {
    return this.#view!
  }

  /** Reads certificates again. Never rejects: a daemon that serves goes on with what it has. */
  reload(): Promise<void> {
    // One after the other, so that the last one sees the newest files.
    this.#reloaded = this.#reloaded.then(() => reloadTls(this.#tls, this.#options.log))
    return this.#reloaded
  }

  /** Stops everything, in the order opposite to the start. */
  async stop(): Promise<void> {
    for (let stop = this.#stops.pop(); stop; stop = this.#stops.pop()) await stop()
  }

  async #start(): Promise<void> {
    const { log } = this.#options
    checkAddresses(this.#options)
    if (this.#options.tls) this.#tls = await openTls(this.#options.tls, log)
    const folder = await DataFolder.open(this.#options.root)
    this.#stops.push(() => folder.release())
    const own = new OwnIdentity(await ownIdentity(folder.root))
    const { records, files, keys } = await openDurable(folder, own.siteId, log)
    this.#stops.push(() => records.close())
    const notes: KeyRenewalParts['renameNotes'] = (of, { before, after }) =>
      renameNotes(files, of, before.siteId, after.siteId)
    await finishLeft({ own, keys, records, log, renameNotes: notes })
    const loaded = await loadedWithDeeds(records, own.key, log)
    const services: DiskServices = {
      files,
      records,
      get siteId() {
        return own.siteId
      },
      readOnly: this.#options.readOnly,
      holdsAfterPowerLoss: this.#options.afterPowerLoss === 'hold',
      errorNames: nbdErrorCodes,
      clock: systemClock,
      log: (level, facts, message) => log[level](facts, message),
    }
    await tellUnrecorded(folder, loaded.disks, log)
    const disks = new Disks(services, folder)
    this.#stops.push(() => disks.close())
    const report = (record: DiskRecord, error: unknown) =>
      log.error({ disk: record.name, err: error }, 'a disk cannot be opened: it is not served')
    await disks.takeUp(loaded.disks, report, own.fingerprint)

    const book = new PeerBook(records, loaded.peers)
    const siteName = siteNameOf(hostname())
    const guard = new PeerGuard((peerId) => rightsOf(book.get(peerId)).limits)
    let migrations: Migrations | undefined
    let renewal: KeyRenewal | undefined
    const commit = (changes: readonly Change[]) => records.commit(changes)
    const renewals = new PeerRenewals({
      ...{ book, disks, log, commit },
      migrations: () => migrations!,
      drop: (peerId) => links.hub.drop(peerId, 'the peer has renewed its key'),
    })
    const links = new Links({
      identity: () => own.now,
      siteName,
      book,
      drivers: new Drivers(this.#options.drivers),
      guard,
      handlers: withRenewals(
        guard.guarding(answersOverLink((peerId) => migrations!.desk(peerId))),
        renewals,
        () => renewal,
      ),
      log,
      settings: this.#options.transportSettings,
      newcomers: this.#options.limits,
      deadHostMs: this.#options.limits.deadHostMs,
      follow: (next) => renewals.follow(next),
    })
    this.#stops.push(() => links.close())
    const naming = namingOf(own, book, links, disks)
    migrations = this.#makeMigrations({ records, disks, own, book, links, naming, folder, files, guard })
    this.#stops.push(() => migrations.stop())
    renewal = new KeyRenewal({
      ...{ own, keys, disks, migrations, book, links, log, commit },
      clock: systemClock,
      renameNotes: notes,
    })
    this.#stops.push(() => renewal.stop())
    followAtBreaks(links.hub, book)
    links.hub.onEvent((peerId, event) => {
      logLink(event, peerOf(book, peerId).name, log)
      if (event.kind !== 'retry') migrations.linkChanged(peerId, event.kind === 'up')
      if (event.kind === 'up' || event.kind === 'down') announceLink(peerId, event.kind, this.#bus, naming)
    })
    await migrations.takeUp(loaded.migrations, loaded.disks)
    // Before guests are served: a peer may know that this is an old copy of the data folder.
    links.hub.onUp((peerId) => void migrations.generations.ask(peerId).catch(() => {})) // Asked again when it is up again.
    await migrations.generations.askAll(book.all().map(({ fingerprint }) => fingerprint))
    // Now every disk that the last daemon left is known: a file that is one of them is not taken for a new one.
    for (const file of this.#options.files) await serveFile(disks, files, own.siteId, own.key, file)
    await this.#listen({ disks, folder, files, migrations, book, links, naming, own, renewal, siteName, guard })
  }

  #makeMigrations(parts: {
    records: Records
    disks: Disks
    own: OwnIdentity
    book: PeerBook
    links: Links
    naming: Naming
    folder: DataFolder
    files: Files
    guard: PeerGuard
  }): Migrations {
    const { records, disks, own, book, links, naming, folder, files, guard } = parts
    const { log, seedFolders = [], seedDisks = [] } = this.#options
    const seeds = new LentSeeds({
      disks,
      files,
      folders: seedFolders,
      diskNames: seedDisks,
      migrations: () => [...made.past(), ...made.courses().map(({ record }) => record)],
    })
    const services: MigrationsServices = {
      seeds,
      records,
      disks,
      clock: systemClock,
      get siteId() {
        return own.siteId
      },
      get key() {
        return own.key
      },
      siteOf: siteIdOf,
      bootId: files.bootId,
      readOnly: this.#options.readOnly,
      log: (level, facts, message) => log[level](facts, message),
      newId: randomUUID,
      counterpart: (peerId) => overLink(links.hub.channel(peerId)),
      peer: (peerId) => peerOf(book, peerId),
      rights: (peerId) => rightsOf(book.get(peerId), guard.reached(peerId)),
      peers: () => book.all().map(peerFacts),
      keep: (peerId) => links.hub.keep(peerId),
      freeBytes: () => freeBytes(folder.disksFolder),
      transport: (peerId) => book.get(peerId)?.address?.split(':')[0] ?? 'tcp',
      probe: (peerId, signal) => links.hub.probe(peerId, { signal }),
    }
    const made = new Migrations(services, (course) => {
      logCourse(course, log)
      announceCourse(course, this.#bus, naming)
      if (links.hub.facts(course.record.peerId)?.state === 'down') course.linkChanged(false)
    })
    return made
  }

  async #listen(parts: {
    disks: Disks
    folder: DataFolder
    files: Files
    migrations: Migrations
    book: PeerBook
    links: Links
    naming: Naming
    own: OwnIdentity
    renewal: KeyRenewal
    siteName: string
    guard: PeerGuard
  }): Promise<void> {
    const { disks, folder, files, migrations, book, links, naming, own, renewal, siteName, guard } = parts
    const { log, peer, version, limits } = this.#options
    const { sessions: connections, deadHostMs: deadClientMs, ...newcomers } = limits
    const nbd = new NbdServer({
      catalog: disks,
      log,
      limits: { ...newcomers, connections, deadClientMs },
      tls: this.#tls,
      plainIsAllowed: this.#options.insecure,
    })
    this.#stops.push(() => stopGuests(nbd))
    const { nbd: wanted, sockets } = this.#options
    const uris = wanted.length + sockets.length > 0 ? wanted : [formatUnixUri(folder.nbdPath)]
    for (const { fd, address } of sockets) {
      this.#nbdUris.push((await listening('the passed socket', () => nbd.adopt(fd, address))).uri)
    }
    for (const uri of uris) this.#nbdUris.push((await listening(uri, () => nbd.listen(uri))).uri)
    if (peer !== undefined) await listening(peer, () => links.listen(peer))
    const control = resolve(this.#options.control ?? folder.controlPath)
    const view = (): SiteView => ({
      id: own.siteId,
      name: siteName,
      version,
      fingerprint: own.fingerprint,
      nbd: this.#nbdUris,
      peer: links.address ?? null,
      control,
      root: folder.root,
    })
    const service = new LocalSite({
      view,
      own,
      disks,
      disksFolder: folder.disksFolder,
      files,
      migrations,
      book,
      links,
      guard,
      naming,
      bus: this.#bus,
      nbd,
      deadlines: {
        firstByteSeconds: limits.firstByteMs / 1000,
        negotiationSeconds: limits.negotiationMs / 1000,
        deadHostSeconds: limits.deadHostMs === 0 ? null : limits.deadHostMs / 1000,
      },
      renewal,
    })
    const server: ControlServer = await startControlServer({
      service,
      path: control,
      log,
      serveNbd: (socket) => nbd.attach(socket),
    })
    this.#stops.push(() => server.close())
    this.#view = view()
  }
}

/** Requests in flight finish, then connections are dropped; those that wait for a peer are dropped when the limit is over. */
async function stopGuests(nbd: NbdServer): Promise<void> {
  const limit = new AbortController()
  const late = systemClock.sleep(drainLimitMs, limit.signal).then(
    () => void nbd.stop({ drain: false }),
    () => {},
  )
  await Promise.race([nbd.stop({ drain: true }), late])
  limit.abort()
}

/** What keeps a listener from being there, as a refusal. */
async function listening<T>(where: string, listen: () => Promise<T>): Promise<T> {
  try {
    return await listen()
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw new Refusal('cannot-listen', (error as Error).message, {
      safe: 'No disk was touched.',
      next: `See what else uses ${where}, or listen elsewhere.`,
      cause: error,
    })
  }
}

function formatUnixUri(path: string): string {
  return formatNbdUri({ tls: false, address: { transport: 'unix', path }, exportName: '' })
}
