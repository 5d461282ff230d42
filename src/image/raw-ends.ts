// What a raw disk says of its own end: a partition table, or a file system in all of the disk, whose parts lie beyond the end
// of the file show that the file was cut short. One that says nothing is taken as it is: of its bytes nobody knows better.

import { crc32 } from 'node:zlib'
import type { ImageBytes } from './image-bytes.ts'
import { u64le } from './image-bytes.ts'

/** Up to the end of what btrfs writes first. */
const headBytes = 69_632
const sectorBytes = 512
const gptHeaderBytes = 92
/** Types of MBR partitions: none, and "a GPT is here", whose size is often a fiction. */
const Mbr = { empty: 0, protective: 0xee }

export interface RawEnd {
  /** 'its GPT', 'its ext4 file system'. */
  readonly what: string
  readonly endBytes: number
}

/** What in it lies beyond its end, if anything does. */
export async function beyondEnd(bytes: ImageBytes): Promise<RawEnd | undefined> {
  const head = await bytes.read(0, headBytes)
  return endsOf(head).find(({ endBytes }) => endBytes > bytes.sizeBytes)
}

/** Where things end that the beginning of a raw disk names. */
function endsOf(head: Buffer): RawEnd[] {
  const system = systems.flatMap(({ at, magic, what, endOf }) => {
    const found = head.subarray(at, at + magic.length).toString('latin1') === magic
    return found && head.length >= at + 512 ? [{ what, endBytes: endOf(head) }] : []
  })
  const gpt = [512, 4096].flatMap((unitBytes) => gptEnd(head, unitBytes))
  // The first sector of a file system of DOS's kind has the mark of an MBR, and its code where partitions would be.
  const isDos = isFat(head) || system.some(({ what }) => /NTFS|exFAT/.test(what))
  const table = gpt.length > 0 ? gpt : isDos ? fatEnd(head) : mbrEnds(head)
  return [...table, ...system, ...lvmEnd(head)]
}

/** UEFI Specification, "GPT Header": its checksum keeps what only looks like one out. */
function gptEnd(head: Buffer, unitBytes: number): RawEnd[] {
  const header = head.subarray(unitBytes, unitBytes + gptHeaderBytes)
  if (header.length < gptHeaderBytes || header.subarray(0, 8).toString('latin1') !== 'EFI PART') return []
  if (header.readUInt32LE(12) !== gptHeaderBytes) return []
  const plain = Buffer.from(header)
  plain.writeUInt32LE(0, 16)
  if (crc32(plain) !== header.readUInt32LE(16)) return []
  const last = Math.max(u64le(header, 32), u64le(header, 48))
  return [{ what: 'its partition table (GPT)', endBytes: (last + 1) * unitBytes }]
}

function mbrEnds(head: Buffer): RawEnd[] {
  if (head.length < sectorBytes || head.readUInt16LE(510) !== 0xaa55) return []
  const entries = [446, 462, 478, 494].map((at) => ({
    status: head[at]!,
    type: head[at + 4]!,
    first: head.readUInt32LE(at + 8),
    count: head.readUInt32LE(at + 12),
  }))
  const isTable = entries.every(({ status, type, first, count }) => {
    return (status === 0 || status === 0x80) && (type === Mbr.empty || (first > 0 && count > 0))
  })
  if (!isTable) return []
  return entries.flatMap(({ type, first, count }, index) => {
    if (type === Mbr.empty || type === Mbr.protective) return []
    return [{ what: `partition ${index + 1} of its table (MBR)`, endBytes: (first + count) * sectorBytes }]
  })
}

const isFat = (head: Buffer): boolean =>
  [54, 82].some((at) => /^(FAT(12|16|32)? )/.test(head.subarray(at, at + 8).toString('latin1')))

/** "Microsoft FAT Specification", "BPB": the count has 16 bits, or is 0 there and has 32 further on. */
function fatEnd(head: Buffer): RawEnd[] {
  if (!isFat(head) || head.readUInt16LE(510) !== 0xaa55) return []
  const unitBytes = head.readUInt16LE(11)
  const isUnit = [512, 1024, 2048, 4096].includes(unitBytes)
  const endBytes = (head.readUInt16LE(19) || head.readUInt32LE(32)) * unitBytes
  return isUnit ? [{ what: 'its file system (FAT)', endBytes }] : []
}

/** A physical volume of LVM (lvm2's lib/format_text/layout.h): its label lies in one of the first four sectors. */
function lvmEnd(head: Buffer): RawEnd[] {
  return [0, 1, 2, 3].flatMap((sector) => {
    const label = head.subarray(sector * sectorBytes, (sector + 1) * sectorBytes)
    if (label.length < sectorBytes || label.subarray(0, 8).toString('latin1') !== 'LABELONE') return []
    if (u64le(label, 8) !== sector || label.subarray(24, 32).toString('latin1') !== 'LVM2 001') return []
    const sizeAt = label.readUInt32LE(20) + 32
    return sizeAt + 8 > sectorBytes ? [] : [{ what: 'its volume of LVM', endBytes: u64le(label, sizeAt) }]
  })
}

const systems: readonly {
  readonly at: number
  readonly magic: string
  readonly what: string
  readonly endOf: (head: Buffer) => number
}[] = [
  { at: 1024 + 56, magic: '\x53\xef', what: 'its file system (ext)', endOf: endOfExt },
  {
    at: 0,
    magic: 'XFSB',
    what: 'its file system (XFS)',
    endOf: (head) => Number(head.readBigUInt64BE(8)) * head.readUInt32BE(4),
  },
  {
    at: 3,
    magic: 'NTFS    ',
    what: 'its file system (NTFS)',
    endOf: (head) => u64le(head, 40) * head.readUInt16LE(11),
  },
  {
    at: 3,
    magic: 'EXFAT   ',
    what: 'its file system (exFAT)',
    endOf: (head) => u64le(head, 72) * 2 ** head[108]!,
  },
  {
    at: 65_536 + 64,
    magic: '_BHRfS_M',
    what: 'its file system (btrfs)',
    // "dev_item.total_bytes": of this device, where there are several.
    endOf: (head) => u64le(head, 65_536 + 209),
  },
  {
    at: 4086,
    magic: 'SWAPSPACE2',
    what: 'its room for swapping',
    endOf: (head) => (head.readUInt32LE(1028) + 1) * 4096,
  },
  { at: 0, magic: 'hsqs', what: 'its file system (squashfs)', endOf: (head) => u64le(head, 40) },
  {
    at: 32_768,
    magic: '\x01CD001',
    what: 'its volume (ISO 9660)',
    endOf: (head) => head.readUInt32LE(32_768 + 80) * head.readUInt16LE(32_768 + 128),
  },
]

/** "The Super Block" of the kernel's ext4 documentation. */
function endOfExt(head: Buffer): number {
  const block = head.subarray(1024)
  const has64Bits = (block.readUInt32LE(0x60) & 0x80) !== 0
  const blocks = block.readUInt32LE(4) + (has64Bits ? block.readUInt32LE(0x150) * 2 ** 32 : 0)
  return blocks * 2 ** (10 + (block.readUInt32LE(0x18) & 0xf))
}
