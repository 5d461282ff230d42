// The composition root: starts a site's parts in order, and stops them in the other.
//
// Order of start: lock, identity, records, disks, links (which accept nobody yet), migrations, listeners. When a listener
// is up everything behind it is ready. Order of stop: control, guests (requests in flight finish, connections are dropped
// without a word), migrations, links, disks, records, lock.

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import type { Logger } from 'pino'
import { type ControlServer, startControlServer } from '../control/server.ts'
import type { SiteView } from '../control/types.ts'
import type { DiskServices } from '../disk/disk.ts'
import { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import type { Course } from '../migration/course.ts'
import { Migrations } from '../migration/site/migrations.ts'
import type { MigrationsServices, PeerFacts } from '../migration/site/services.ts'
import { NbdServer } from '../nbd/server/server.ts'
import type { TlsServer, TlsServerOptions } from '../nbd/server/tls-server.ts'
import { formatNbdUri } from '../nbd/wire/uri.ts'
import { type Identity, loadIdentity, PeerError } from '../peer/identity.ts'
import { DataFolder } from '../store/data-folder.ts'
import type { Files } from '../store/files.ts'
import type { DiskRecord, Records } from '../store/records.ts'
import { systemClock } from './clock.ts'
import { Drivers } from './drivers.ts'
import { openDurable } from './durable.ts'
import { freeBytes } from './free-space.ts'
import { logLink } from './link-log.ts'
import { Links } from './links.ts'
import { checkAddresses, openTls, reloadTls } from './nbd-access.ts'
import type { PassedSocket } from './passed-sockets.ts'
import { PeerBook, peerFacts } from './peer-book.ts'
import { serveFile, stateFolderOf } from './served-file.ts'
import { LocalSite } from './site.ts'

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
  /** Of clients at other hosts, and a disk that may have lost what was answered to them: until the operator accepts it. */
  readonly afterPowerLoss: 'serve' | 'hold'
  /** Where guests' TLS has its files; `nbd://` over TCP demands TLS then. */
  readonly tls: TlsServerOptions | undefined
  /** Plain NBD over TCP may listen beyond loopback, with certificates too. */
  readonly insecure: boolean
  readonly version: string
  /** What transport plugins offered. */
  readonly drivers: readonly unknown[]
  readonly transportSettings: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly log: Logger
}

/** How long guests' requests in flight may take when the daemon stops; what waits for a peer may never end. */
const drainLimitMs = 5000

export class Daemon {
  readonly #options: DaemonOptions
  readonly #stops: (() => Promise<void> | void)[] = []
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
    const identity = await ownIdentity(folder.root)
    const { records, files } = await openDurable(folder, identity.siteId, log)
    this.#stops.push(() => records.close())
    const loaded = await records.load()
    const services: DiskServices = {
      files,
      records,
      siteId: identity.siteId,
      readOnly: this.#options.readOnly,
      holdsAfterPowerLoss: this.#options.afterPowerLoss === 'hold',
      clock: systemClock,
      log: (level, facts, message) => log[level](facts, message),
    }
    await tellUnrecorded(folder, loaded.disks, log)
    const disks = new Disks(services, folder)
    this.#stops.push(() => disks.close())
    await disks.takeUp(loaded.disks, (record, error) =>
      log.error({ disk: record.name, err: error }, 'a disk cannot be opened: it is not served'),
    )

    const book = new PeerBook(records, loaded.peers)
    const siteName = siteNameOf(hostname())
    let migrations: Migrations | undefined
    const links = new Links({
      identity,
      siteName,
      book,
      drivers: new Drivers(this.#options.drivers),
      handlers: {
        call: (peerId, method, params, signal) => migrations!.call(peerId, method, params, signal),
        fetch: (peerId, request, urgency, signal) => migrations!.fetch(peerId, request, urgency, signal),
      },
      log,
      settings: this.#options.transportSettings,
    })
    this.#stops.push(() => links.close())
    migrations = this.#makeMigrations({ records, disks, identity, book, links, folder, files })
    this.#stops.push(() => migrations.stop())
    links.hub.onEvent((peerId, event) => {
      logLink(event, peerOf(book, peerId).name, log)
      if (event.kind !== 'retry') migrations.linkChanged(peerId, event.kind === 'up')
    })
    await migrations.takeUp(loaded.migrations, loaded.disks)
    // Before guests are served: a peer may know that this is an old copy of the data folder.
    links.hub.onUp((peerId) => void migrations.generations.ask(peerId).catch(() => {})) // Asked again when it is up again.
    await migrations.generations.askAll(book.all().map(({ fingerprint }) => fingerprint))
    // Now every disk that the last daemon left is known: a file that is one of them is not taken for a new one.
    for (const file of this.#options.files) await serveFile(disks, files, identity.siteId, file)
    await this.#listen({ disks, folder, files, migrations, book, links, identity, siteName })
  }

  #makeMigrations(parts: {
    records: Records
    disks: Disks
    identity: Identity
    book: PeerBook
    links: Links
    folder: DataFolder
    files: Files
  }): Migrations {
    const { records, disks, identity, book, links, folder, files } = parts
    const { log } = this.#options
    const services: MigrationsServices = {
      records,
      disks,
      clock: systemClock,
      siteId: identity.siteId,
      bootId: files.bootId,
      readOnly: this.#options.readOnly,
      log: (level, facts, message) => log[level](facts, message),
      newId: randomUUID,
      channel: (peerId) => links.hub.channel(peerId),
      peer: (peerId) => peerOf(book, peerId),
      keep: (peerId) => links.hub.keep(peerId),
      freeBytes: () => freeBytes(folder.disksFolder),
      transport: (peerId) => book.get(peerId)?.address?.split(':')[0] ?? 'tcp',
      probe: (peerId, signal) => links.hub.probe(peerId, { signal }),
    }
    return new Migrations(services, (course) => {
      logCourse(course, log)
      if (links.hub.facts(course.record.peerId)?.state === 'down') course.linkChanged(false)
    })
  }

  async #listen(parts: {
    disks: Disks
    folder: DataFolder
    files: Files
    migrations: Migrations
    book: PeerBook
    links: Links
    identity: Identity
    siteName: string
  }): Promise<void> {
    const { disks, folder, files, migrations, book, links, identity, siteName } = parts
    const { log, peer, version } = this.#options
    const nbd = new NbdServer({ catalog: disks, log, tls: this.#tls, plainIsAllowed: this.#options.insecure })
    this.#stops.push(() => stopGuests(nbd))
    const { nbd: wanted, sockets } = this.#options
    const uris = wanted.length + sockets.length > 0 ? wanted : [formatUnixUri(folder.nbdPath)]
    for (const { fd, address } of sockets) {
      this.#nbdUris.push((await listening('the passed socket', () => nbd.adopt(fd, address))).uri)
    }
    for (const uri of uris) this.#nbdUris.push((await listening(uri, () => nbd.listen(uri))).uri)
    if (peer !== undefined) await listening(peer, () => links.listen(peer))
    const control = resolve(this.#options.control ?? folder.controlPath)
    const view: SiteView = {
      id: identity.siteId,
      name: siteName,
      version,
      fingerprint: identity.fingerprint,
      nbd: this.#nbdUris,
      peer: links.address ?? null,
      control,
      root: folder.root,
    }
    const site = new LocalSite({
      view,
      disks,
      disksFolder: folder.disksFolder,
      files,
      migrations,
      book,
      links,
      refusedConnections: () => nbd.refused,
    })
    const server: ControlServer = await startControlServer({
      site,
      path: control,
      log,
      serveNbd: (socket) => nbd.attach(socket),
    })
    this.#stops.push(() => server.close())
    this.#view = view
  }
}

/** @throws Refusal */
async function ownIdentity(root: string): Promise<Identity> {
  try {
    return await loadIdentity(root)
  } catch (error) {
    if (!(error instanceof PeerError)) throw error
    const { code, message, next } = error
    throw new Refusal(code, message, { safe: 'No disk was touched.', ...(next && { next }), cause: error })
  }
}

/** What a daemon left that died while it made or removed a disk. It may be bytes of worth: it is told, and stays. */
async function tellUnrecorded(folder: DataFolder, disks: readonly DiskRecord[], log: Logger): Promise<void> {
  const recorded = new Set(disks.map(({ id }) => id))
  for (const id of await folder.diskIds()) {
    if (recorded.has(id)) continue
    const path = folder.diskFolder(id)
    log.warn(
      { path },
      'a folder among the disks belongs to no disk on record: look at it, and remove it if it is of no use',
    )
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

/** A peer that was removed is known by its id. */
function peerOf(book: PeerBook, id: string): PeerFacts {
  const peer = book.get(id)
  return peer ? peerFacts(peer) : { id, site: 'unknown', name: id }
}

function formatUnixUri(path: string): string {
  return formatNbdUri({ tls: false, address: { transport: 'unix', path }, exportName: '' })
}

/** A host's name as a site's name. */
function siteNameOf(host: string): string {
  const name = host
    .split('.')[0]!
    .replace(/[^A-Za-z0-9_-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
  return name.slice(0, 127) || 'site'
}

function logCourse(course: Course, log: Logger): void {
  const facts = () => ({
    migration: course.id,
    disk: course.moved.name,
    role: course.record.role,
    generation: course.moved.generation,
  })
  course.listen((event) => {
    if (event.kind === 'progress') return
    const message = 'message' in event ? event.message : event.kind
    log.info({ ...facts(), state: course.record.state }, message)
  })
}
