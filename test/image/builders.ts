// Images as programs write them that a test cannot have at hand, after their public specifications: VHD ("Virtual Hard Disk
// Image Format Specification" 1.0, Microsoft) of any creator, the stream-optimized VMDK of ESX ("Virtual Disk Format 5.0",
// VMware), and a GPT (UEFI Specification, "GPT Disk Layout").

import { crc32, deflateSync } from 'node:zlib'

const sector = 512

export interface VhdOptions {
  readonly type: 'fixed' | 'dynamic' | 'differencing'
  /** Four letters: who made it. 'vbox' is VirtualBox, which QEMU does not know. */
  readonly creator: string
}

/** A VHD of `disk`, whose blocks of zeros are left out unless it is of fixed size. */
export function vhdOf(disk: Buffer, { type, creator }: VhdOptions): Buffer {
  const footer = vhdFooter(disk.length, { type, creator })
  if (type === 'fixed') return Buffer.concat([disk, footer])
  const blockBytes = 2 ** 21
  const count = Math.ceil(disk.length / blockBytes)
  const header = Buffer.alloc(1024)
  header.write('cxsparse')
  header.fill(0xff, 8, 16)
  header.writeBigUInt64BE(1536n, 16)
  header.writeUInt32BE(0x10000, 24)
  header.writeUInt32BE(count, 28)
  header.writeUInt32BE(blockBytes, 32)
  if (type === 'differencing') {
    header.fill(0x77, 40, 56)
    Buffer.from('parent.vhd', 'utf16le').swap16().copy(header, 64)
  }
  checksum(header, 36)
  const table = Buffer.alloc(Math.ceil((count * 4) / sector) * sector, 0xff)
  const parts = [footer, header, table]
  let at = 1536 + table.length
  for (let index = 0; index < count; index++) {
    const block = Buffer.alloc(blockBytes)
    disk.copy(block, 0, index * blockBytes, (index + 1) * blockBytes)
    if (block.equals(Buffer.alloc(blockBytes))) continue
    table.writeUInt32BE(at / sector, index * 4)
    parts.push(Buffer.alloc(sector, 0xff), block)
    at += sector + blockBytes
  }
  return Buffer.concat([...parts, footer])
}

function vhdFooter(sizeBytes: number, { type, creator }: VhdOptions): Buffer {
  const footer = Buffer.alloc(512)
  footer.write('conectix')
  footer.writeUInt32BE(2, 8)
  footer.writeUInt32BE(0x10000, 12)
  footer.writeBigUInt64BE(type === 'fixed' ? 0xffff_ffff_ffff_ffffn : 512n, 16)
  footer.write(creator, 28)
  footer.writeUInt32BE(0x60000, 32)
  footer.write('Wi2k', 36)
  footer.writeBigUInt64BE(BigInt(sizeBytes), 40)
  footer.writeBigUInt64BE(BigInt(sizeBytes), 48)
  // Cylinders, heads, sectors: rounded down, as always when a size is no multiple of a cylinder.
  const [heads, perTrack] = [4, 17]
  footer.writeUInt16BE(Math.floor(sizeBytes / sector / heads / perTrack), 56)
  footer.writeUInt8(heads, 58)
  footer.writeUInt8(perTrack, 59)
  footer.writeUInt32BE({ fixed: 2, dynamic: 3, differencing: 4 }[type], 60)
  footer.fill(0x55, 68, 84)
  checksum(footer, 64)
  return footer
}

function checksum(header: Buffer, at: number): void {
  header.writeUInt32BE(~header.reduce((sum, byte) => sum + byte, 0) >>> 0, at)
}

/** As ESX exports a disk: compressed grains as a stream, the directory behind them, and a footer that says where. */
export function streamVmdkOf(disk: Buffer): Buffer {
  const grainBytes = 65_536
  const perTable = 512
  const descriptor = Buffer.alloc(20 * sector)
  descriptor.write(
    [
      '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="streamOptimized"\n',
      `RDONLY ${disk.length / sector} SPARSE "generated-stream.vmdk"\n`,
    ].join(''),
  )
  const head = vmdkHeader(disk.length / sector, grainBytes / sector, perTable, 0xffff_ffff_ffff_ffffn)
  const parts = [head, descriptor, Buffer.alloc(128 * sector - head.length - descriptor.length)]
  let at = 128
  const push = (bytes: Buffer): number => {
    const padded = Buffer.alloc(Math.ceil(bytes.length / sector) * sector)
    bytes.copy(padded)
    parts.push(padded)
    at += padded.length / sector
    return at - padded.length / sector
  }
  const marker = (type: number, sectors: number) => {
    const bytes = Buffer.alloc(sector)
    bytes.writeBigUInt64LE(BigInt(sectors), 0)
    bytes.writeUInt32LE(type, 12)
    return bytes
  }
  const tables: number[] = []
  const grains = Math.ceil(disk.length / grainBytes)
  for (let first = 0; first < grains; first += perTable) {
    const table = Buffer.alloc(perTable * 4)
    for (let index = 0; index < perTable && first + index < grains; index++) {
      const from = (first + index) * grainBytes
      const grain = disk.subarray(from, from + grainBytes)
      if (grain.equals(Buffer.alloc(grain.length))) continue
      const packed = deflateSync(grain)
      const bytes = Buffer.alloc(12 + packed.length)
      bytes.writeBigUInt64LE(BigInt(from / sector), 0)
      bytes.writeUInt32LE(packed.length, 8)
      packed.copy(bytes, 12)
      table.writeUInt32LE(push(bytes), index * 4)
    }
    push(marker(1, 4))
    tables.push(push(table))
  }
  const directory = Buffer.alloc(Math.ceil((tables.length * 4) / sector) * sector)
  for (const [index, table] of tables.entries()) directory.writeUInt32LE(table, index * 4)
  push(marker(2, 1))
  const directoryAt = push(directory)
  push(marker(3, 1))
  push(vmdkHeader(disk.length / sector, grainBytes / sector, perTable, BigInt(directoryAt)))
  push(marker(0, 0))
  return Buffer.concat(parts)
}

function vmdkHeader(sectors: number, grainSectors: number, perTable: number, directoryAt: bigint): Buffer {
  const head = Buffer.alloc(sector)
  head.write('KDMV')
  head.writeUInt32LE(3, 4)
  head.writeUInt32LE(0x30001, 8)
  head.writeBigUInt64LE(BigInt(sectors), 12)
  head.writeBigUInt64LE(BigInt(grainSectors), 20)
  head.writeBigUInt64LE(1n, 28)
  head.writeBigUInt64LE(20n, 36)
  head.writeUInt32LE(perTable, 44)
  head.writeBigUInt64LE(directoryAt, 56)
  head.writeBigUInt64LE(128n, 64)
  head.write('\n \r\n', 73, 'latin1')
  head.writeUInt16LE(1, 77)
  return head
}

/** Gives `disk` a protective MBR and both headers of an empty GPT, for sectors of `unitBytes`. */
export function writeGpt(disk: Buffer, unitBytes = 512): void {
  const last = disk.length / unitBytes - 1
  disk.writeUInt8(0xee, 450)
  disk.writeUInt32LE(1, 454)
  disk.writeUInt32LE(Math.min(last, 0xffff_ffff), 458)
  disk.writeUInt16LE(0xaa55, 510)
  for (const [own, other] of [
    [1, last],
    [last, 1],
  ] as const) {
    const header = Buffer.alloc(92)
    header.write('EFI PART')
    header.writeUInt32LE(0x10000, 8)
    header.writeUInt32LE(92, 12)
    header.writeBigUInt64LE(BigInt(own), 24)
    header.writeBigUInt64LE(BigInt(other), 32)
    header.writeBigUInt64LE(34n, 40)
    header.writeBigUInt64LE(BigInt(last - 33), 48)
    header.writeUInt32LE(crc32(header), 16)
    header.copy(disk, own * unitBytes)
  }
}

/** Gives `disk` an MBR of one partition of Linux, up to its end. */
export function writeMbr(disk: Buffer): void {
  disk.writeUInt8(0x80, 446)
  disk.writeUInt8(0x83, 450)
  disk.writeUInt32LE(2048, 454)
  disk.writeUInt32LE(disk.length / sector - 2048, 458)
  disk.writeUInt16LE(0xaa55, 510)
}
