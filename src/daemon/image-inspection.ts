// Whether a file is an image whose bytes can be given, all of them, before anything is copied or served: its format, by its
// bytes and its name or by the operator's word, and what it says of its own end.

import { access } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Refusal } from '../disk/refusal.ts'
import { decideFormat } from '../image/decision.ts'
import { examine } from '../image/examination.ts'
import { promisedBy } from '../image/file-names.ts'
import type { ImageBytes } from '../image/image-bytes.ts'
import { cutShort, ImageFault } from '../image/image-fault.ts'
import { type ImageFormat, titled } from '../image/image-formats.ts'
import { beyondEnd } from '../image/raw-ends.ts'
import { headBytes, tailBytes } from '../image/recognition.ts'
import { type FileStamp, withImageFile } from './image-file.ts'
import { imageRefusal, notRaw } from './image-refusals.ts'

const sectorBytes = 512

export interface InspectedImage {
  readonly path: string
  readonly format: ImageFormat
  /** Of the disk in it. */
  readonly sizeBytes: number
  /** It is the bytes of the disk from its beginning on, for `sizeBytes`: raw, or a VHD of fixed size. */
  readonly isPlain: boolean
  readonly allocatedBytes: number
  readonly isDevice: boolean
  readonly stamp: FileStamp
  readonly notes: readonly string[]
}

/** `said`: the format, by the operator. @throws Refusal */
export function inspectImage(
  path: string,
  said: ImageFormat | undefined,
  signal: AbortSignal,
): Promise<InspectedImage> {
  return withImageFile(path, signal, async ({ bytes, allocatedBytes, isDevice, stamp }) => {
    let format: ImageFormat | undefined
    try {
      const decided = decideFormat(path, await endsOf(bytes), said)
      format = decided.format
      if (said === undefined) await checkNeighbours(path, format)
      const facts = format === 'raw' ? await rawFacts(path, bytes, said) : await examine(format, bytes)
      const notes = [...decided.notes, ...facts.notes]
      return { path, format, allocatedBytes, isDevice, stamp, ...facts, notes }
    } catch (error) {
      const mayBeRaw = said === undefined && (format === 'raw' || promisedBy(path).kind === 'nothing')
      throw imageRefusal(path, format, mayBeRaw, error)
    }
  })
}

/** Of an image that is served where it lies. @throws Refusal */
export async function inspectRawImage(path: string): Promise<InspectedImage> {
  const inspected = await inspectImage(path, undefined, new AbortController().signal)
  if (inspected.isDevice) throw notRaw(path, 'it is a block device', `Make a disk of it: ${asDisk(path)}.`)
  if (inspected.format !== 'raw') {
    throw notRaw(path, `it is ${titled(inspected.format)}`, `Make a disk of it, which has its bytes: ${asDisk(path)}.`)
  }
  return inspected
}

const asDisk = (path: string): string => `vmstore disk create NAME --from ${path}`

async function endsOf(bytes: ImageBytes) {
  const { sizeBytes } = bytes
  const tail = await bytes.read(Math.max(0, sizeBytes - tailBytes), tailBytes)
  return { head: await bytes.read(0, headBytes), tail, sizeBytes }
}

async function rawFacts(path: string, bytes: ImageBytes, said: ImageFormat | undefined) {
  const { sizeBytes } = bytes
  if (sizeBytes % sectorBytes !== 0) throw oddSize(path, sizeBytes)
  const beyond = said === undefined ? await beyondEnd(bytes) : undefined
  if (beyond) throw cutShort(beyond.what, beyond.endBytes, sizeBytes)
  return { sizeBytes, isPlain: true, notes: [] }
}

function oddSize(path: string, sizeBytes: number): Refusal {
  const next = `See whether it is whole: its size where it comes from, or a checksum. If it is, let zeros fill the last sector: truncate --size=%512 ${path}.`
  return notRaw(path, `its size, ${sizeBytes} bytes, is not a whole number of sectors of 512 bytes`, next)
}

/** What only lies beside an image says that it is not whole. */
async function checkNeighbours(path: string, format: ImageFormat): Promise<void> {
  if (await exists(`${path}.aria2`)) {
    const next = 'Wait until the download is over, or remove FILE.aria2 if it is.'
    throw new ImageFault('image-cut', 'it is a download under way, as FILE.aria2 beside it says', next)
  }
  if (format === 'parallels' && (await exists(join(dirname(path), 'DiskDescriptor.xml')))) {
    const next =
      'See in DiskDescriptor.xml whether it has snapshots. If this is its only image: vmstore disk create NAME --from FILE --format parallels.'
    throw new ImageFault(
      'image-not-alone',
      'it may be one of a chain, which DiskDescriptor.xml beside it describes',
      next,
    )
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
