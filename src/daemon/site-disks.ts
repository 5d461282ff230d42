// The disks of a site as its operators see them: made, shown, deleted, compared, taken back, accepted.

import { randomUUID } from 'node:crypto'
import type { EventBus } from '../control/event-bus.ts'
import type { ServiceOf } from '../control/service.ts'
import type {
  AcceptRequest,
  CreateDiskRequest,
  CreateEvent,
  DeedView,
  DiskView,
  ReclaimedDiskView,
  ReclaimRequest,
  VerifyView,
} from '../control/types.ts'
import { signMade } from '../deed/signing.ts'
import { accept as acceptFailedSync } from '../disk/acceptance.ts'
import type { Disk } from '../disk/disk.ts'
import type { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import { deletion } from '../disk/reservation.ts'
import { spareBytes } from '../disk/room.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import { passingPrefix } from '../store/data-folder.ts'
import type { Files } from '../store/files.ts'
import { announceDisk } from './announcing.ts'
import { deedView } from './deed-view.ts'
import { allocatedBytesOf, checkSpace, freeBytes } from './free-space.ts'
import { openImageSource } from './image-opening.ts'
import type { ImageSource } from './image-source.ts'
import type { KeyRenewal } from './key-renewal.ts'
import type { OwnIdentity } from './own-identity.ts'
import type { QemuPlace } from './qemu-image.ts'
import { leaveFile } from './served-file.ts'
import { diskView, type Naming } from './views.ts'

export interface LocalDisksParts {
  /** Who this site is. */
  readonly own: Pick<OwnIdentity, 'key'>
  readonly disks: Disks
  readonly disksFolder: string
  readonly files: Files
  readonly migrations: Migrations
  readonly naming: Naming
  readonly bus: EventBus
  /** No disk is made under a key that is being renewed. */
  readonly renewal: Pick<KeyRenewal, 'checkIdle'>
}

export class LocalDisks implements ServiceOf<'disks'> {
  readonly #parts: LocalDisksParts

  constructor(parts: LocalDisksParts) {
    this.#parts = parts
  }

  async *create(request: CreateDiskRequest, signal: AbortSignal): AsyncGenerator<CreateEvent> {
    const { disks, files, disksFolder, bus } = this.#parts
    const place = { folder: disksFolder, passingPrefix: `${passingPrefix}qemu-` }
    await using image = await openNamed(request, place, signal)
    const sizeBytes = sizeOfNew(request, image)
    if (image) await checkSpace(disksFolder, request.name, image.dataBytes)
    const id = randomUUID()
    this.#parts.renewal.checkIdle()
    using watcher = bus.watch({ kinds: ['creation'], concerning: id }, signal)
    const progress = (done: number) =>
      bus.publish('creation', [id], () => ({ type: 'progress', bytes: { done, total: image!.sizeBytes } }))
    const roomBytes = async () => (await freeBytes(disksFolder)) - spareBytes
    const fill = async (path: string) => image?.copyTo({ files, path, spareBytes: roomBytes, progress, signal })
    const madeAt = new Date().toISOString()
    const deed = signMade(this.#parts.own.key, id, madeAt)
    const made = disks.create({ id, name: request.name, sizeBytes, deed }, madeAt, fill)
    made.then(
      () => watcher.end(),
      () => watcher.end(),
    )
    for await (const { content } of watcher) yield content
    const { format = null, notes = [] } = image ?? {}
    const disk = await made
    announceDisk(id, disk.name, disk.state, bus)
    yield { type: 'result', ...(await this.#view(disk)), format, notes }
  }

  async list(): Promise<DiskView[]> {
    return Promise.all(this.#parts.disks.all().map((disk) => this.#view(disk)))
  }

  async show(name: string): Promise<DiskView> {
    return this.#view(this.#parts.disks.named(name))
  }

  deed(name: string): DeedView {
    const { disks, naming } = this.#parts
    return deedView(disks.named(name), naming)
  }

  async delete(name: string): Promise<DiskView> {
    const { disks, bus } = this.#parts
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
        `Wait for its end, or cancel it: vmstore migration cancel ${id}, with --force if the other site does not answer.`,
      )
    }
    // Without a migration: the peer that it was given to, or that it came from, was removed, and nobody waits for its bytes.
    if (disk.state === 'incoming') {
      refuse(
        'disk-moving',
        `${disk.name} is ${disk.state} here: its bytes may be needed`,
        'Wait until the move is over.',
      )
    }
    using _reservation = disk.reserve(deletion)
    const view = await this.#view(disk)
    await leaveFile(this.#parts.files, disk.record, this.#parts.naming.ownSite)
    await this.#parts.migrations.remove(disk)
    announceDisk(view.id, disk.name, 'removed', bus)
    return view
  }

  async verify(name: string, signal: AbortSignal): Promise<VerifyView> {
    const { course, disk, comparison } = await this.#parts.migrations.commands.verify(name, signal)
    return {
      disk: disk.name,
      migration: course.id,
      peer: this.#parts.naming.peerName(course.record.peerId),
      bytes: { compared: comparison.comparedBytes, missing: course.figures(disk).missingBytes },
      differing: comparison.differing,
    }
  }

  async reclaim(name: string, { confirmed }: ReclaimRequest): Promise<ReclaimedDiskView> {
    const { commands } = this.#parts.migrations
    const { disk, notAsked } = await commands.reclaim(name, confirmed, AbortSignal.timeout(30_000))
    return { ...(await this.#view(disk)), notAsked }
  }

  async accept(name: string, { confirmed }: AcceptRequest, signal: AbortSignal): Promise<DiskView> {
    const disk = this.#parts.disks.named(name)
    await acceptFailedSync(disk, confirmed, signal)
    return this.#view(disk)
  }

  async #view(disk: Disk): Promise<DiskView> {
    const allocatedBytes = disk.hasOpenFile ? disk.allocatedBytes() : await allocatedBytesOf(disk.record.path)
    const course = this.#parts.migrations
      .courses()
      .find((each) => each.disks.includes(disk) && !each.moved(disk).hasLeft)
    return diskView(disk, allocatedBytes, course, this.#parts.naming)
  }
}

async function openNamed({ from, format }: CreateDiskRequest, place: QemuPlace, signal: AbortSignal) {
  return from === undefined ? undefined : await openImageSource({ from, format }, place, signal)
}

/** Of a disk that is to be made. @throws Refusal `size-missing`, `wrong-size` */
function sizeOfNew({ name, sizeBytes, from }: CreateDiskRequest, image: ImageSource | undefined): number {
  const size = sizeBytes ?? image?.sizeBytes
  if (size === undefined) throw new Refusal('size-missing', 'a new disk needs a size, or an image to start from')
  if (image === undefined || size >= image.sizeBytes) return size
  throw new Refusal('wrong-size', `${from} has ${image.sizeBytes} bytes, more than the size of ${size} bytes`, {
    disk: name,
    safe: 'Nothing was changed.',
    next: 'Give a size that holds it, or none.',
  })
}
