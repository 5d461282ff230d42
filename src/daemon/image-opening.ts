// Opens what a new disk's first bytes come from: a raw image, an image that QEMU reads, or an export of an NBD server. This
// changes nothing.
//
// It runs in the daemon, with the daemon's rights: the daemon reads the file, or connects to the address, that the operator
// named, and nothing else: an image that names other files is refused. Whoever may use the control socket may do so.

import type { Refusal } from '../disk/refusal.ts'
import type { ForeignFormat } from './image-format.ts'
import type { ImageSource } from './image-source.ts'
import { openNbdImage } from './nbd-image.ts'
import { openQemuImage, type QemuPlace } from './qemu-image.ts'
import { copyImage, inspectImage, notRaw } from './raw-image.ts'

/** `from` is an absolute path or an NBD URI. @throws Refusal */
export async function openImageSource(from: string, place: QemuPlace, signal: AbortSignal): Promise<ImageSource> {
  if (!from.startsWith('/')) return openNbdImage(from, signal)
  const { sizeBytes, allocatedBytes, foreign } = await inspectImage(from)
  if (foreign !== undefined) {
    if (/\.raw$/i.test(from)) throw disguised(from, foreign)
    const source = await openQemuImage(from, foreign, place, signal)
    return { ...source, dataBytes: allocatedBytes }
  }
  return {
    sizeBytes,
    dataBytes: allocatedBytes,
    copyTo: ({ files, path, progress, signal: stop }) => copyImage(files, from, path, progress, stop),
    [Symbol.asyncDispose]: async () => {},
  }
}

/** Either its name is wrong, or a guest has written that beginning into its own disk. */
function disguised(path: string, { name, driver = 'raw' }: ForeignFormat): Refusal {
  const served = `qemu-nbd --read-only -f raw -k /run/image.sock ${path}`
  const next = `If it is ${name}, give it a name that says so (.${driver}). If it is raw all the same, serve it (${served}) and name that server.`
  return notRaw(path, `it begins like a ${name} image`, next)
}
