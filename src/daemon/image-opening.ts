// Opens what a new disk's first bytes come from: a raw image, an image that QEMU reads, or an export of an NBD server. This
// changes nothing.
//
// It runs in the daemon, with the daemon's rights: the daemon reads the file, or connects to the address, that the operator
// named, and nothing else: an image that names other files is refused. Whoever may use the control socket may do so.
// Always: the disk has all the bytes of the image as it was when it was opened, or there is none.

import { Refusal } from '../disk/refusal.ts'
import type { ImageFormat } from '../image/image-formats.ts'
import { mustBeUnchanged } from './image-file.ts'
import { type InspectedImage, inspectImage } from './image-inspection.ts'
import type { CopyTarget, ImageSource } from './image-source.ts'
import { noSpace, openNbdImage, roomCheckBytes } from './nbd-image.ts'
import { openQemuImage, type QemuPlace } from './qemu-image.ts'
import { copyImage } from './raw-image.ts'

export interface ImageRequest {
  /** An absolute path or an NBD URI. */
  readonly from: string
  /** Said by the operator; undefined: told by the image. */
  readonly format: ImageFormat | undefined
}

/** @throws Refusal */
export async function openImageSource(
  { from, format }: ImageRequest,
  place: QemuPlace,
  signal: AbortSignal,
): Promise<ImageSource> {
  if (!from.startsWith('/')) {
    if (format !== undefined && format !== 'raw') throw exportIsRaw(from, format)
    return openNbdImage(from, signal)
  }
  const image = await inspectImage(from, format, signal)
  const opened = image.format === 'raw' ? rawSource(image) : await openQemuImage(image, place, signal)
  return {
    sizeBytes: image.sizeBytes,
    format: image.format,
    notes: image.notes,
    dataBytes: image.allocatedBytes,
    copyTo: (target) => copyUnchanged(image, opened, target),
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  }
}

type Opened = Pick<ImageSource, 'copyTo' | typeof Symbol.asyncDispose>

function rawSource({ path: from, isDevice }: InspectedImage): Opened {
  return {
    copyTo: (target) => (isDevice ? copyWithinRoom(from, target) : copyPlain(from, target)),
    [Symbol.asyncDispose]: async () => {},
  }
}

const copyPlain = (from: string, { files, path, progress, signal }: CopyTarget): Promise<void> =>
  copyImage(files, from, path, progress, signal)

/** What a block device will take is not known beforehand: the room is watched, so that the other disks keep theirs. */
async function copyWithinRoom(from: string, target: CopyTarget): Promise<void> {
  const full = new AbortController()
  let checkAtBytes = 0
  const progress = (doneBytes: number) => {
    target.progress(doneBytes)
    if (doneBytes < checkAtBytes) return
    checkAtBytes = doneBytes + roomCheckBytes
    const look = async () => {
      if ((await target.spareBytes()) < roomCheckBytes) full.abort(noSpace(from))
    }
    look().catch((error: unknown) => full.abort(error))
  }
  await copyPlain(from, { ...target, progress, signal: AbortSignal.any([target.signal, full.signal]) })
}

/** A file that grows, shrinks or is written to meanwhile has not given its bytes; that is why a copy of it fails, too. */
async function copyUnchanged({ path, stamp }: InspectedImage, opened: Opened, target: CopyTarget): Promise<void> {
  try {
    await opened.copyTo(target)
  } catch (error) {
    if (target.signal.aborted) throw error
    await mustBeUnchanged(path, stamp)
    throw unreadable(path, error)
  }
  await mustBeUnchanged(path, stamp)
}

/** Storage that does not give a file's bytes is no fault of ours; anything else goes through as it is. */
function unreadable(path: string, error: unknown): unknown {
  const { syscall, code } = error as NodeJS.ErrnoException
  if (syscall !== 'read' && syscall !== 'preadv2') return error
  return new Refusal('image-unreadable', `not all of ${path} can be read: ${code}`, {
    exit: 1,
    safe: 'No disk was made, and nothing of it was left.',
    next: 'See what the kernel says of its storage (dmesg), or take the image from where it comes from.',
    cause: error,
  })
}

function exportIsRaw(uri: string, format: ImageFormat): Refusal {
  const message = `${uri} is an export, which has the bytes of a disk: there is no format ${format} to read`
  return new Refusal('format-mismatch', message, {
    exit: 2,
    safe: 'Nothing was changed.',
    next: 'Leave --format out; if the server exports the file of an image, name that file, or serve it with its format: qemu-nbd --format.',
  })
}
