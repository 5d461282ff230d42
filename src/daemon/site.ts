// The site as its operators see it: answers the control API from the disks, the migrations and the peers.

import { randomUUID } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import type { Site } from '../control/site.ts'
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
} from '../control/types.ts'
import type { Disk } from '../disk/disk.ts'
import type { Disks } from '../disk/disks.ts'
import { accept } from '../disk/failed-sync-acceptance.ts'
import { Refusal } from '../disk/refusal.ts'
import { deletion } from '../disk/reservation.ts'
import { LinkError } from '../link/channel.ts'
import type { Course, CourseEvent } from '../migration/course.ts'
import type { Terms } from '../migration/messages.ts'
import type { Migrations } from '../migration/migrations.ts'
import type { PeerFacts } from '../migration/services.ts'
import { PeerError } from '../peer/identity.ts'
import { passingPrefix } from '../store/data-folder.ts'
import type { Files } from '../store/files.ts'
import type { PeerRecord } from '../store/records.ts'
import { TransportError } from '../transport/index.ts'
import { EventQueue } from './event-queue.ts'
import { openImageSource } from './image-opening.ts'
import type { ImageSource } from './image-source.ts'
import type { Links } from './links.ts'
import type { PeerBook } from './peer-book.ts'
import { leaveFile } from './served-file.ts'
import { courseView, diskView, type Naming, recordView } from './views.ts'

/** Free space that a new disk must leave. */
const spareBytes = 64 * 2 ** 20

export interface SiteParts {
  readonly describe: () => SiteView
  readonly disks: Disks
  readonly disksFolder: string
  readonly files: Files
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly links: Links
}

export class LocalSite implements Site {
  readonly #parts: SiteParts
  readonly #naming: Naming
  readonly describe: () => SiteView

  constructor(parts: SiteParts) {
    this.#parts = parts
    this.describe = parts.describe
    const { book } = parts
    this.#naming = {
      siteName: (site) => (site === this.describe().id ? 'this site' : (book.bySite(site)?.name ?? site)),
      peerName: (id) => book.get(id)?.name ?? id,
      isConnected: (id) => parts.links.hub.connected(id),
    }
  }

  async status(): Promise<StatusView> {
    const disks = await this.listDisks()
    return { site: this.describe(), disks, peers: this.listPeers(), migrations: this.listMigrations() }
  }

  // ---- disks

  async *createDisk(request: CreateDiskRequest, signal: AbortSignal): AsyncGenerator<CreateEvent> {
    const { disks, files, disksFolder } = this.#parts
    const place = { folder: disksFolder, passingPrefix: `${passingPrefix}qemu-` }
    await using image = request.from === undefined ? undefined : await openImageSource(request.from, place, signal)
    const sizeBytes = sizeOfNew(request, image)
    if (image) await this.#checkSpace(request.name, image.dataBytes)
    const queue = new EventQueue<CreateEvent>((event) => event.type === 'progress')
    const progress = (done: number) => queue.push({ type: 'progress', bytes: { done, total: image!.sizeBytes } })
    const roomBytes = async () => (await freeBytes(disksFolder)) - spareBytes
    const fill = async (path: string) => image?.copyTo({ files, path, spareBytes: roomBytes, progress, signal })
    const made = disks.create({ id: randomUUID(), name: request.name, sizeBytes }, new Date().toISOString(), fill)
    made.then(
      () => queue.end(),
      () => queue.end(),
    )
    yield* queue.drain(signal)
    yield { type: 'result', ...this.#view(await made) }
  }

  async listDisks(): Promise<readonly DiskView[]> {
    return this.#parts.disks.all().map((disk) => this.#view(disk))
  }

  async showDisk(name: string): Promise<DiskView> {
    return this.#view(this.#parts.disks.named(name))
  }

  async deleteDisk(name: string): Promise<DiskView> {
    const { disks } = this.#parts
    const disk = disks.named(name)
    const refuse = (code: string, message: string, next: string) => {
      throw new Refusal(code, message, { disk: disk.name, safe: 'Nothing was deleted.', next })
    }
    if (disk.sessions.count > 0) {
      refuse('disk-in-use', `${disk.name} has ${disk.sessions.count} client(s) attached`, 'Detach them first.')
    }
    if (disk.record.migrationId !== null) {
      const id = disk.record.migrationId
      refuse(
        'migrating',
        `${disk.name} is in migration ${id}`,
        `Wait for its end, or cancel it: vmstore migration cancel ${id}.`,
      )
    }
    if (disk.state === 'departed' || disk.state === 'arriving' || disk.state === 'incoming') {
      refuse(
        'disk-moving',
        `${disk.name} is ${disk.state} here: its bytes may be needed`,
        'Wait until the move is over.',
      )
    }
    using _reservation = disk.reserve(deletion)
    const view = this.#view(disk)
    await leaveFile(this.#parts.files, disk.record, this.describe().id)
    await disks.remove(disk)
    return view
  }

  async verifyDisk(name: string, signal: AbortSignal): Promise<VerifyView> {
    const { course, comparison } = await this.#parts.migrations.commands.verify(name, signal)
    return {
      disk: course.record.diskName,
      migration: course.id,
      peer: this.#naming.peerName(course.record.peerId),
      bytes: { compared: comparison.comparedBytes, missing: course.missingBytes },
      differing: comparison.differing,
    }
  }

  async reclaimDisk(name: string, { confirmed }: ReclaimRequest): Promise<DiskView> {
    return this.#view(await this.#parts.migrations.commands.reclaim(name, confirmed, AbortSignal.timeout(30_000)))
  }

  async acceptDisk(name: string, { confirmed }: AcceptRequest, signal: AbortSignal): Promise<DiskView> {
    const disk = this.#parts.disks.named(name)
    await accept(disk, confirmed, signal)
    return this.#view(disk)
  }

  // ---- peers

  async invite(request: InviteRequest): Promise<InviteView> {
    const { token, address, expiresAt } = await told(async () => this.#parts.links.invite(request))
    return { token, address, expiresAt: new Date(expiresAt).toISOString() }
  }

  async join(request: JoinRequest, signal: AbortSignal): Promise<PeerView> {
    return this.#peerView(await told(() => this.#parts.links.join(request.token, request.name, signal)))
  }

  listPeers(): readonly PeerView[] {
    return this.#parts.book.all().map((peer) => this.#peerView(peer))
  }

  async removePeer(name: string): Promise<PeerView> {
    const { book, migrations, links } = this.#parts
    const peer = book.named(name)
    const busy = migrations.courses().find((course) => course.record.peerId === peer.fingerprint)
    if (busy) {
      throw new Refusal(
        'peer-in-use',
        `migration ${busy.id} of ${busy.record.diskName} is under way with ${peer.name}`,
        {
          safe: 'Nothing was changed.',
          next: 'Wait for its end, or cancel it.',
        },
      )
    }
    const view = this.#peerView(peer)
    await book.remove(peer)
    links.hub.drop(peer.fingerprint)
    return view
  }

  // ---- migrations

  async migrate(request: MigrateRequest, signal: AbortSignal): Promise<MigrationView> {
    const { book, migrations } = this.#parts
    if (request.mode !== 'post-copy') {
      throw new Refusal(
        'mode-unknown',
        `this vmstore moves disks in mode post-copy; ${request.mode} is not there yet`,
        {
          disk: request.disk,
          safe: 'Nothing was changed.',
        },
      )
    }
    const terms: Terms = {
      mode: request.mode,
      switchover: request.switchover,
      switchoverWaitMs: request.switchoverWaitMs,
      maxRate: request.maxRate ?? null,
      stallTimeoutMs: request.stallTimeoutMs ?? null,
      sourcePolicy: request.source,
    }
    const peer = peerFacts(book.named(request.to ?? request.from ?? ''))
    const course =
      request.to === undefined
        ? await migrations.commands.request(request.disk, peer, terms, signal)
        : await migrations.commands.start(request.disk, peer, terms, signal)
    return courseView(course, this.#naming)
  }

  listMigrations(): readonly MigrationView[] {
    const { migrations } = this.#parts
    const own = this.describe().id
    const past = migrations.past().map((record) => recordView(record, this.#naming, own))
    return [...past, ...migrations.courses().map((course) => courseView(course, this.#naming))]
  }

  showMigration(id: string): MigrationView {
    const found = id === '' ? [] : this.listMigrations().filter((migration) => migration.id.startsWith(id))
    if (found.length === 1) return found[0]!
    const message =
      found.length === 0 ? `there is no migration ${id} here` : `${id} begins the ids of ${found.length} migrations`
    throw new Refusal('migration-unknown', message, {
      next: 'vmstore migration list shows the migrations of this site.',
    })
  }

  async switchover(id: string): Promise<MigrationView> {
    this.#refuseIfOver(id, 'switched over')
    const course = await this.#parts.migrations.commands.switchover(id, AbortSignal.timeout(10_000))
    return courseView(course, this.#naming)
  }

  async setPaused(id: string, paused: boolean): Promise<MigrationView> {
    this.#refuseIfOver(id, paused ? 'paused' : 'resumed')
    const course = await this.#parts.migrations.commands.setPaused(id, paused, AbortSignal.timeout(15_000))
    return courseView(course, this.#naming)
  }

  async cancel(id: string, options: { force: boolean }): Promise<MigrationView> {
    this.#refuseIfOver(id, 'cancelled')
    const course = await this.#parts.migrations.commands.cancel(id, options.force, AbortSignal.timeout(15_000))
    return this.showMigration(course.id)
  }

  async *migrationEvents(id: string, signal: AbortSignal): AsyncGenerator<MigrationEvent> {
    const shown = this.showMigration(id)
    const course = this.#parts.migrations.courses().find((each) => each.id === shown.id)
    if (!course) {
      yield { type: 'result', ...shown }
      return
    }
    const queue = new EventQueue<MigrationEvent>((event) => event.type === 'progress')
    const stop = course.listen((event) => {
      queue.push(this.#migrationEvent(course, event))
      if (event.kind === 'ended') queue.end()
    })
    try {
      yield* this.#present(course)
      yield* queue.drain(signal)
    } finally {
      stop()
    }
  }

  /** Where the migration stands, for whoever begins to watch. */
  *#present(course: Course): Generator<MigrationEvent> {
    const migration = courseView(course, this.#naming)
    yield { type: 'step', step: migration.state, message: stepMessages[migration.state] ?? migration.state, migration }
    if (migration.state === 'ready') yield { type: 'ready', message: course.readyMessage, migration }
    if (migration.state === 'copying' || migration.state === 'finishing')
      yield this.#migrationEvent(course, { kind: 'switchover' })
  }

  #migrationEvent(course: Course, event: CourseEvent): MigrationEvent {
    const migration = courseView(course, this.#naming)
    switch (event.kind) {
      case 'step':
        return { type: 'step', step: migration.state, message: event.message, migration }
      case 'ready':
        return { type: 'ready', message: event.message, migration }
      case 'switchover':
        return {
          type: 'switchover',
          generation: migration.generation,
          seconds: migration.seconds.switchover,
          migration,
        }
      case 'progress':
        return { type: 'progress', migration }
      case 'ended':
        return { type: 'result', ...migration }
    }
  }

  #refuseIfOver(id: string, what: string): void {
    const { state, disk, id: whole } = this.showMigration(id)
    if (!['done', 'cancelled', 'failed'].includes(state)) return
    throw new Refusal('migration-over', `migration ${whole} of ${disk} is ${state}: it cannot be ${what}`, {
      disk,
      safe: 'Nothing was changed.',
    })
  }

  async #checkSpace(name: string, neededBytes: number): Promise<void> {
    const free = await freeBytes(this.#parts.disksFolder)
    if (free >= neededBytes + spareBytes) return
    const message = `the data folder has ${free} bytes free; ${name} needs ${neededBytes}, and ${spareBytes} to spare`
    throw new Refusal('no-space', message, {
      disk: name,
      safe: 'Nothing was changed.',
      next: 'Make room, or use a data folder elsewhere.',
    })
  }

  #view(disk: Disk): DiskView {
    const course = this.#parts.migrations.courses().find((each) => each.disk === disk)
    return diskView(disk, course, this.#naming)
  }

  #peerView(peer: PeerRecord): PeerView {
    const { name, site, fingerprint, address } = peer
    return { name, id: site, fingerprint, address, connected: this.#parts.links.hub.connected(fingerprint) }
  }
}

const stepMessages: Readonly<Record<string, string>> = {
  preparing: 'the destination makes room',
  ready: 'the destination serves the disk, the source owns it',
  switching: 'the destination asks for the disk',
  copying: 'the destination owns the disk and fetches it',
  finishing: 'every block is here; the source is being released',
}

/** Of a disk that is to be made. @throws Refusal `size-missing`, `wrong-size` */
function sizeOfNew({ name, sizeBytes, from }: CreateDiskRequest, image: ImageSource | undefined): number {
  const size = sizeBytes ?? image?.sizeBytes
  if (size === undefined) throw new Refusal('size-missing', 'a new disk needs a size, or an image to start from')
  if (image === undefined || size >= image.sizeBytes) return size
  throw new Refusal('wrong-size', `${from} has ${image.sizeBytes} bytes, more than the size of ${size}`, {
    disk: name,
    safe: 'Nothing was changed.',
    next: 'Give a size that holds it, or none.',
  })
}

export function peerFacts(peer: PeerRecord): PeerFacts {
  return { id: peer.fingerprint, site: peer.site, name: peer.name }
}

export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/** Gives what went wrong with a peer to the operator as a refusal. */
async function told<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const known = error instanceof PeerError || error instanceof LinkError || error instanceof TransportError
    const named = (error as Error).name === 'TransportError'
    if (!known && !named) throw error
    const { code, message } = error as PeerError
    throw new Refusal(code === 'unavailable' ? 'peer-unreachable' : code, message, {
      safe: 'Nothing was changed.',
      cause: error,
    })
  }
}
