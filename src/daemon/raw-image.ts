// Raw images that come from outside: whether a file is one, and how it is copied, sparse as it is.

import { open, stat } from 'node:fs/promises'
import { Refusal } from '../disk/refusal.ts'
import type { BlockFile, Files } from '../store/files.ts'

/** First bytes of image formats that are not raw, and what is said of them. */
const otherFormats: readonly (readonly [string, number, Buffer])[] = [
  ['qcow2', 0, Buffer.from('QFI\xfb', 'latin1')],
  ['VMDK', 0, Buffer.from('KDMV')],
  ['VMDK', 0, Buffer.from('# Disk DescriptorFile')],
  ['VHDX', 0, Buffer.from('vhdxfile')],
  ['VHD', 0, Buffer.from('conectix')],
  ['QED', 0, Buffer.from('QED\0', 'latin1')],
  ['VDI', 0x40, Buffer.from([0x7f, 0x10, 0xda, 0xbe])],
  ['LUKS encrypted qcow', 0, Buffer.from('LUKS-qcow')],
]

const copyBytes = 2 ** 20

/** Its size in bytes. @throws Refusal `not-raw`, `image-unknown` */
export async function inspectRawImage(path: string): Promise<{ sizeBytes: number; allocatedBytes: number }> {
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new Refusal('image-unknown', `${path} cannot be read: ${error.code}`, {
      safe: 'Nothing was changed.',
      cause: error,
    })
  })
  if (!info.isFile()) throw notRaw(path, 'it is no regular file')
  if (info.size === 0) throw notRaw(path, 'it is empty')
  if (info.size % 512 !== 0)
    throw notRaw(path, `its size, ${info.size} bytes, is not a whole number of sectors of 512 bytes`)
  const format = await otherFormat(path)
  if (format)
    throw notRaw(path, `it is a ${format} image`, `Convert it first: qemu-img convert -O raw ${path} disk.raw`)
  return { sizeBytes: info.size, allocatedBytes: info.blocks * 512 }
}

async function otherFormat(path: string): Promise<string | undefined> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(512), 0, 512, 0)
    const head = buffer.subarray(0, bytesRead)
    return otherFormats.find(([, at, bytes]) => head.subarray(at, at + bytes.length).equals(bytes))?.[0]
  } finally {
    await file.close()
  }
}

function notRaw(
  path: string,
  why: string,
  next = 'vmstore takes raw images: bytes of the disk and nothing else.',
): Refusal {
  return new Refusal('not-raw', `${path} is not a raw disk image: ${why}`, { safe: 'Nothing was changed.', next })
}

/** Copies the data of an image into a block file of holes, and syncs it. `progress` gets bytes of the image walked so far. */
export async function copyImage(
  files: Files,
  from: string,
  to: string,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const source = await files.openBlockFile(from, true)
  try {
    const target = await files.openBlockFile(to, false)
    try {
      await copyExtents(source, target, progress, signal)
      await target.sync()
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

async function copyExtents(
  source: BlockFile,
  target: BlockFile,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const zeros = Buffer.alloc(copyBytes)
  for (let at = 0; at < source.sizeBytes; ) {
    const [extent] = source.extents(at, source.sizeBytes - at, 1)
    const end = extent!.offset + extent!.length
    for (; extent!.kind === 'data' && at < end; progress(at)) {
      signal.throwIfAborted()
      const bytes = Buffer.allocUnsafeSlow(Math.min(copyBytes, end - at))
      await source.read(at, bytes)
      if (!bytes.equals(zeros.subarray(0, bytes.length))) await target.write(at, bytes)
      at += bytes.length
    }
    at = end
    progress(at)
  }
}
