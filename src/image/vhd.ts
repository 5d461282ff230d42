// VHD ("Virtual Hard Disk Image Format Specification" of Microsoft, version 1.0): a footer at the end says what it is. One of
// fixed size is raw before that footer; one that grows has a copy of it at the beginning; one that differs has a parent.

import { type ImageBytes, mustHold, readWhole, u64be, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { cutOff, damaged, ImageFault } from './image-fault.ts'

const vhdFooterBytes = 512
const cookie = 'conectix'
const dynamicHeaderBytes = 1024
const checksumAt = 64
const dynamicChecksumAt = 36
const sectorBytes = 512
const unallocated = 0xffff_ffff
/** Read at once where nothing was written. */
const unwrittenMaxSectors = 2048
const zeros = Buffer.alloc(unwrittenMaxSectors * sectorBytes)
const DiskType = { fixed: 2, dynamic: 3, differencing: 4 }

export interface VhdFooter {
  readonly type: number
  readonly sizeBytes: number
  readonly dynamicHeaderAt: number
}

/** undefined: the bytes are no footer, or one whose checksum is wrong. */
export function vhdFooterOf(bytes: Buffer): VhdFooter | undefined {
  if (bytes.length < vhdFooterBytes || bytes.subarray(0, 8).toString('latin1') !== cookie) return undefined
  if (checksumOf(bytes, checksumAt) !== bytes.readUInt32BE(checksumAt)) return undefined
  return { type: bytes.readUInt32BE(60), sizeBytes: u64be(bytes, 48), dynamicHeaderAt: u64be(bytes, 16) }
}

/** Of fixed size, as its footer says: all the bytes before it are the disk's. */
export const isFixed = (footer: VhdFooter, fileBytes: number): boolean =>
  footer.type === DiskType.fixed && footer.sizeBytes + vhdFooterBytes === fileBytes

/** The one's complement of the sum of all bytes, its own field left out. */
function checksumOf(bytes: Buffer, fieldAt: number): number {
  const sum = bytes.reduce((total, byte, at) => (at >= fieldAt && at < fieldAt + 4 ? total : total + byte), 0)
  return ~sum >>> 0
}

export async function examineVhd(bytes: ImageBytes): Promise<ImageFacts> {
  const endAt = Math.max(0, bytes.sizeBytes - vhdFooterBytes)
  const start = await bytes.read(0, vhdFooterBytes)
  const copy = vhdFooterOf(start)
  const footer = vhdFooterOf(await bytes.read(endAt, vhdFooterBytes))
  if (copy?.type === DiskType.differencing || footer?.type === DiskType.differencing) throw differencing()
  if (footer === undefined) {
    throw cutOff('a VHD ends with a footer, and this file does not, or with one whose checksum is wrong')
  }
  if (footer.type === DiskType.fixed) {
    if (footer.sizeBytes > endAt) throw cutOff(`its footer says ${footer.sizeBytes} bytes, and ${endAt} lie before it`)
    if (footer.sizeBytes < endAt) throw damaged(`its footer says ${footer.sizeBytes} bytes, and ${endAt} lie before it`)
    return { ...facts(footer.sizeBytes), isPlain: true }
  }
  if (footer.type !== DiskType.dynamic) throw damaged(`its footer says type ${footer.type}, which is none`)
  if (copy === undefined) throw cutOff('the copy of its footer that a VHD which grows begins with is not there')
  if (copy.sizeBytes !== footer.sizeBytes || copy.dynamicHeaderAt !== footer.dynamicHeaderAt) {
    throw damaged('its footer and the copy of it at the beginning say different things')
  }
  await checkBlocks(bytes, footer)
  return facts(footer.sizeBytes)
}

/** QEMU does not know that there are parents, and would read zeros for what they have. */
function differencing(): ImageFault {
  const next =
    'Make a whole image of it where its parent is, by a program that reads both: Convert-VHD in Hyper-V, or an export of the whole disk in Xen Orchestra or XenServer.' +
    ' qemu-img convert is none: it leaves the bytes of the parent out.'
  return new ImageFault(
    'image-not-alone',
    'it has only what differs from another file, its parent (a differencing VHD)',
    next,
  )
}

/** "Block Allocation Table and Data Blocks": a block is a bitmap of its sectors, padded to a sector, and its bytes. */
async function checkBlocks(bytes: ImageBytes, { sizeBytes, dynamicHeaderAt }: VhdFooter): Promise<void> {
  const head = await readWhole(bytes, dynamicHeaderAt, dynamicHeaderBytes, 'its dynamic header')
  const isIntact = checksumOf(head, dynamicChecksumAt) === head.readUInt32BE(dynamicChecksumAt)
  if (head.subarray(0, 8).toString('latin1') !== 'cxsparse' || !isIntact) throw damaged('its dynamic header is damaged')
  const blockBytes = head.readUInt32BE(32)
  const count = head.readUInt32BE(28)
  if (blockBytes < sectorBytes || count * blockBytes < sizeBytes) {
    throw damaged(`its table has ${count} blocks of ${blockBytes} bytes, fewer than its disk`)
  }
  const bitmapBytes = Math.ceil(blockBytes / sectorBytes / 8 / sectorBytes) * sectorBytes
  const table = { at: u64be(head, 16), count, entryBytes: 4, what: 'the table of its blocks' }
  const headersEnd = dynamicHeaderAt + dynamicHeaderBytes
  const data = { ...bytes, sizeBytes: bytes.sizeBytes - vhdFooterBytes }
  await walkTable(bytes, table, async (entries, first) => {
    for (let index = 0; index * 4 < entries.length; index++) {
      const sector = entries.readUInt32BE(index * 4)
      const neededBytes = withinDisk(sizeBytes, first + index, blockBytes)
      if (sector === unallocated || neededBytes === 0) continue
      if (sector * sectorBytes < headersEnd) throw damaged('its table says that a block lies where its headers are')
      mustHold(data, sector * sectorBytes, bitmapBytes + neededBytes, 'one of its blocks')
      await checkBitmap(bytes, sector * sectorBytes, bitmapBytes, Math.ceil(neededBytes / sectorBytes))
    }
  })
}

/**
 * "Sector Bitmap": sectors whose bit is clear were never written, and are zeros, whatever lies there: on a volume of LVM it
 * may be what was deleted from another disk. QEMU gives that.
 */
async function checkBitmap(bytes: ImageBytes, at: number, bitmapBytes: number, sectors: number): Promise<void> {
  const bitmap = await bytes.read(at, bitmapBytes)
  if (bitmap.every((byte) => byte === 0xff)) return // As almost all are.
  const isWritten = (sector: number) => (bitmap[sector >> 3]! & (0x80 >> (sector & 7))) !== 0
  for (let from = 0; from < sectors; ) {
    let end = from + 1
    while (end < sectors && end - from < unwrittenMaxSectors && isWritten(end) === isWritten(from)) end++
    if (!isWritten(from)) {
      const found = await bytes.read(at + bitmapBytes + from * sectorBytes, (end - from) * sectorBytes)
      if (!found.equals(zeros.subarray(0, found.length))) throw neverWritten()
    }
    from = end
  }
}

function neverWritten(): ImageFault {
  const next =
    'Make a whole image of it by a program that heeds this: Convert-VHD in Hyper-V, or an export of the disk in Xen Orchestra or XenServer. qemu-img convert is none.'
  return damaged(
    'one of its blocks has bytes where its bitmap says that nothing was written, and QEMU would take them',
    next,
  )
}
