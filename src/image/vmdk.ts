// VMDK as one file ("Virtual Disk Format 5.0" of VMware: hosted sparse and stream-optimized extents): whether it stands
// alone, and has all the grains that its tables name.

import { type ImageBytes, mustHold, readWhole, u64le, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { cutOff, damaged, ImageFault } from './image-fault.ts'

const sectorBytes = 512
const headerBytes = 512
const Flag = { newlineTest: 1 << 0, zeroGrains: 1 << 2, compressed: 1 << 16 }
/** "gdOffset": the grain directory is where the footer says. */
const directoryAtEnd = 0xffff_ffff_ffff_ffffn
/** The footer, its marker before it, and the end-of-stream marker after it. */
const footerFromEndBytes = 1024
const markerBytes = 12
const descriptorBytesMax = 2 ** 20
const zeroGrain = 1

interface Extent {
  readonly sizeBytes: number
  readonly grainBytes: number
  readonly perTable: number
  readonly hasZeroGrains: boolean
  readonly isCompressed: boolean
}

export async function examineVmdk(bytes: ImageBytes): Promise<ImageFacts> {
  let head = await readWhole(bytes, 0, headerBytes, 'its header')
  const flags = head.readUInt32LE(8)
  if ((flags & Flag.newlineTest) !== 0 && head.subarray(73, 77).toString('latin1') !== '\n \r\n') {
    throw damaged('its line ends were changed on the way, as by FTP in text mode')
  }
  await checkDescriptor(bytes, head)
  if (head.readBigUInt64LE(56) === directoryAtEnd) head = await readFooter(bytes)
  const extent = extentOf(head, flags)
  await checkGrains(bytes, extent, u64le(head, 56) * sectorBytes)
  return facts(extent.sizeBytes)
}

function extentOf(head: Buffer, flags: number): Extent {
  const grainBytes = u64le(head, 20) * sectorBytes
  const perTable = head.readUInt32LE(44)
  if (grainBytes < sectorBytes || grainBytes > 2 ** 30 || perTable < 1 || perTable > 2 ** 16) {
    throw damaged(`its header speaks of grains of ${grainBytes} bytes, ${perTable} to a table`)
  }
  return {
    sizeBytes: u64le(head, 12) * sectorBytes,
    grainBytes,
    perTable,
    hasZeroGrains: (flags & Flag.zeroGrains) !== 0,
    isCompressed: (flags & Flag.compressed) !== 0,
  }
}

/** One that belongs to a set has no descriptor in it, and so has one whose extents are files that the descriptor names. */
async function checkDescriptor(bytes: ImageBytes, head: Buffer): Promise<void> {
  const at = u64le(head, 28) * sectorBytes
  if (head.readBigUInt64LE(12) === 0n) throw namesExtents()
  if (at === 0) throw oneOfSet()
  const lengthBytes = Math.min(u64le(head, 36) * sectorBytes, descriptorBytesMax)
  const text = (await readWhole(bytes, at, lengthBytes, 'its descriptor')).toString('latin1')
  // Patterns that stay in their line: one that runs on over blank lines takes an hour for a descriptor of these.
  if (!/^[ \t]*createType[ \t]*=/im.test(text)) throw oneOfSet()
  const [, parent] = /^[ \t]*parentCID[ \t]*=[ \t]*(\w+)/im.exec(text) ?? []
  if (parent !== undefined && parent.toLowerCase() !== 'ffffffff') {
    const next =
      'Make a whole image of it where its parent is: qemu-img convert -O raw FILE disk.raw, if you trust both.'
    throw new ImageFault('image-not-alone', 'it has a backing file, its parent', next)
  }
  const extents = text.match(/^[ \t]*(RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]/gim) ?? []
  if (extents.length > 1) throw namesExtents()
}

/** VMware leaves the descriptor out of it, QEMU leaves it empty. */
function oneOfSet(): ImageFault {
  const next =
    'Name the set as a whole: qemu-img convert -O raw DESCRIPTOR.vmdk disk.raw, where all its files are, if you trust them.'
  return new ImageFault('image-not-alone', 'it is one extent of a set, whose descriptor is another file', next)
}

function namesExtents(): ImageFault {
  const next = 'If you trust the image, make it one file: qemu-img convert -O raw FILE disk.raw.'
  return new ImageFault('image-not-alone', 'a descriptor in it names the files of its extents', next)
}

async function readFooter(bytes: ImageBytes): Promise<Buffer> {
  const at = bytes.sizeBytes - footerFromEndBytes
  const footer = at < headerBytes ? undefined : await bytes.read(at, headerBytes)
  if (footer?.subarray(0, 4).toString('latin1') !== 'KDMV') {
    throw cutOff('its directory is named by a footer, and the file does not end with one')
  }
  return footer
}

async function checkGrains(bytes: ImageBytes, extent: Extent, directoryAt: number): Promise<void> {
  const { sizeBytes, grainBytes, perTable } = extent
  const tables = Math.ceil(sizeBytes / (grainBytes * perTable))
  const directory = { at: directoryAt, count: tables, entryBytes: 4, what: 'its grain directory' }
  await walkTable(bytes, directory, async (entries, firstTable) => {
    for (let entry = 0; entry * 4 < entries.length; entry++) {
      const sector = entries.readUInt32LE(entry * 4)
      if (sector === 0) continue
      const table = await readWhole(bytes, sector * sectorBytes, perTable * 4, 'one of its grain tables')
      for (let index = 0; index < perTable; index++) {
        const grain = (firstTable + entry) * perTable + index
        const neededBytes = withinDisk(sizeBytes, grain, grainBytes)
        const looking = checkGrain(bytes, extent, table.readUInt32LE(index * 4), neededBytes)
        if (looking) await looking // There are millions of grains, and a look at few of them.
      }
    }
  })
}

/** A promise only where the end of a compressed grain has to be looked up: near the end of the file. */
function checkGrain(bytes: ImageBytes, extent: Extent, sector: number, neededBytes: number): Promise<void> | undefined {
  if (sector === 0 || neededBytes === 0 || (extent.hasZeroGrains && sector === zeroGrain)) return
  const at = sector * sectorBytes
  if (!extent.isCompressed) mustHold(bytes, at, neededBytes, 'one of its grains')
  // Compressed, a grain may be somewhat longer than it is.
  else if (at + 2 * extent.grainBytes + sectorBytes > bytes.sizeBytes) return checkCompressed(bytes, at)
}

async function checkCompressed(bytes: ImageBytes, at: number): Promise<void> {
  const what = 'one of its compressed grains'
  const marker = await readWhole(bytes, at, markerBytes, what)
  mustHold(bytes, at + markerBytes, marker.readUInt32LE(8), what)
}
