// The durable half of the map of what a destination does not have of a disk that is copied while its guest writes: which
// blocks are known to be there. A header and, for each segment of the disk, a page with a bit a block, written in place: whole, or
// of few blocks the bytes with their bits. What no bit calls clean is dirty: a page that was never written, or is gone, says that
// everything has to be copied.
//
// What always holds:
// - A bit is taken off before the guest's write begins, and set after its block was said to be durable elsewhere. So under the
//   same boot id (the process died, the kernel did not) the file is true.
// - Under another boot id (the power went) it is believed only where it was frozen, and the disk's record names its epoch: it
//   was durable before that record was. A checksum is then of all of it.
// - A header is of one migration: what an older one left is not believed, for the disk was written since.

import { crc32 } from 'node:zlib'
import { BlockMap, segmentBlocks, segmentBytes } from '../block/block-map.ts'
import type { Files, PageFile } from './files.ts'

export const dirtyMapName = 'dirty.map'

const pageBytes = segmentBytes
const magic = Buffer.from('VMSTDIRT')
const formatVersion = 1
const frozenFlag = 1
/** Segments looked at in one step: half a megabyte of bits. */
const segmentsAtOnce = 128

export interface DirtyMapIdentity {
  readonly diskId: string
  readonly migrationId: string
  readonly blocks: number
}

/** Of the rounds that were given out: the highest, and the highest that was confirmed. */
export interface Rounds {
  readonly round: number
  readonly confirmed: number
}

/** What is believed of a file that was left. */
export interface KeptMap extends Rounds {
  readonly epoch: string
  /** Blocks that are not known to be at the destination. */
  readonly dirty: BlockMap
}

interface Header extends DirtyMapIdentity, Rounds {
  readonly epoch: string
  readonly bootId: string
  /** Of the whole map, once it is frozen. */
  readonly checksum: number | undefined
}

// Header, little-endian: magic 8 | version u32 | flags u32 | blocks u64 | round u64 | confirmed u64 | checksum of the map u32 |
// zero u32 | disk id, migration id, epoch and boot id, 36 ASCII each | … zero … | crc32 u32 of the bytes before.
const idsAt = 48
const idBytes = 36

function encodeHeader(header: Header): Buffer {
  const page = Buffer.alloc(pageBytes)
  magic.copy(page)
  page.writeUInt32LE(formatVersion, 8)
  page.writeUInt32LE(header.checksum === undefined ? 0 : frozenFlag, 12)
  page.writeBigUInt64LE(BigInt(header.blocks), 16)
  page.writeBigUInt64LE(BigInt(header.round), 24)
  page.writeBigUInt64LE(BigInt(header.confirmed), 32)
  page.writeUInt32LE(header.checksum ?? 0, 40)
  const ids = [header.diskId, header.migrationId, header.epoch, header.bootId]
  for (const [index, id] of ids.entries()) page.write(id, idsAt + index * idBytes, idBytes, 'ascii')
  page.writeUInt32LE(crc32(page.subarray(0, pageBytes - 4)), pageBytes - 4)
  return page
}

/** undefined: there is none that can be understood. */
function decodeHeader(page: Buffer): Header | undefined {
  if (page.length < pageBytes || !page.subarray(0, 8).equals(magic)) return undefined
  if (page.readUInt32LE(8) !== formatVersion) return undefined // Whoever wrote it may begin anew as well.
  if (page.readUInt32LE(pageBytes - 4) !== crc32(page.subarray(0, pageBytes - 4))) return undefined
  const id = (index: number) => {
    const at = idsAt + index * idBytes
    return page.toString('ascii', at, at + idBytes).replace(/\0+$/, '')
  }
  return {
    blocks: Number(page.readBigUInt64LE(16)),
    round: Number(page.readBigUInt64LE(24)),
    confirmed: Number(page.readBigUInt64LE(32)),
    checksum: (page.readUInt32LE(12) & frozenFlag) === 0 ? undefined : page.readUInt32LE(40),
    diskId: id(0),
    migrationId: id(1),
    epoch: id(2),
    bootId: id(3),
  }
}

/** Of all segments, also those of which nothing is clean. `turn` begins each step. */
async function checksumOf(dirty: BlockMap, turn: () => Promise<void>): Promise<number> {
  let checksum = 0
  for (let index = 0; index < dirty.segmentCount; index++) {
    if (index % segmentsAtOnce === 0) await turn()
    checksum = crc32(pageOf(dirty, index), checksum)
  }
  return checksum
}

/** Of which a guest's write may be, and the bits of so many. */
const fewBlocks = 1024
const few = Buffer.alloc(fewBlocks / 8 + 1)

const allClean = Buffer.alloc(pageBytes, 0xff)
const nothingClean = Buffer.alloc(pageBytes)

/** A bit for each block that is clean, and for each that lies behind the end. */
function pageOf(dirty: BlockMap, index: number): Uint8Array {
  const bits = dirty.segmentAt(index)
  if (bits === 'empty') return allClean
  if (bits !== 'full') return inverted(bits)
  const page = Buffer.from(nothingClean)
  for (let bit = dirty.blocks - index * segmentBlocks; bit < segmentBlocks; bit++) page[bit >>> 3]! |= 1 << (bit & 7)
  return page
}

/** The same page with each bit turned round, in a memory of its own: a word at a time, for guests wait for it. */
function inverted(page: Uint8Array): Uint8Array {
  const words = new Uint32Array(pageBytes / 4)
  const bytes = Buffer.from(words.buffer).fill(page)
  for (let at = 0; at < words.length; at++) words[at]! ^= 0xffffffff
  return bytes
}

export class DirtyMapFile {
  readonly #file: PageFile
  #header: Header

  private constructor(file: PageFile, header: Header) {
    this.#file = file
    this.#header = header
  }

  /** Takes the place of whatever was there: nothing is clean. Its name is durable when it resolves. */
  static async create(files: Files, path: string, identity: DirtyMapIdentity, epoch: string): Promise<DirtyMapFile> {
    const header = { ...identity, epoch, bootId: files.bootId, round: 0, confirmed: 0, checksum: undefined }
    await (await files.replaceLog(path, encodeHeader(header))).close()
    return new DirtyMapFile(await files.openPages(path), header)
  }

  /**
   * What a daemon that ended left, to go on with. undefined: nothing that can be believed. `frozenEpoch`: the disk has departed,
   * and its record names this epoch.
   */
  static async open(
    files: Files,
    path: string,
    identity: DirtyMapIdentity,
    frozenEpoch?: string,
  ): Promise<{ readonly file: DirtyMapFile; readonly kept: KeptMap } | undefined> {
    const bytes = await files.readFile(path)
    if (!bytes) return undefined
    const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    const header = decodeHeader(all)
    const { diskId, migrationId, blocks } = identity
    if (header?.diskId !== diskId || header.migrationId !== migrationId || header.blocks !== blocks) return undefined
    if (frozenEpoch === undefined ? header.bootId !== files.bootId : header.epoch !== frozenEpoch) return undefined
    const dirty = dirtyIn(all, blocks)
    if (frozenEpoch !== undefined && header.checksum !== (await checksumOf(dirty, async () => {}))) return undefined
    const file = new DirtyMapFile(await files.openPages(path), header)
    return { file, kept: { epoch: header.epoch, dirty, round: header.round, confirmed: header.confirmed } }
  }

  /** Writes the pages of these blocks, as they stand in `dirty`. Throws, and each stands so or as before. */
  put(dirty: BlockMap, first: number, end: number): void {
    for (let index = Math.floor(first / segmentBlocks); index * segmentBlocks < end; index++)
      this.#file.write((index + 1) * pageBytes, pageOf(dirty, index))
  }

  /** The same of few blocks, whose bits are written alone: a guest's write waits for it, many times a second. */
  putFew(dirty: BlockMap, first: number, end: number): void {
    const index = Math.floor(first / segmentBlocks)
    const base = index * segmentBlocks
    if (end > base + segmentBlocks || end - first > fewBlocks) {
      this.put(dirty, first, end)
      return
    }
    const from = (first - base) >>> 3
    const bytes = few.subarray(0, ((end - 1 - base) >>> 3) + 1 - from)
    dirty.segmentPart(index, from, bytes)
    for (let at = 0; at < bytes.length; at++) bytes[at]! ^= 0xff
    this.#file.write((index + 1) * pageBytes + from, bytes)
  }

  /** Before what is given out, or was confirmed, is told. */
  putRounds({ round, confirmed }: Rounds): void {
    const header = { ...this.#header, round, confirmed, checksum: undefined }
    this.#file.write(0, encodeHeader(header))
    this.#header = header
  }

  /** The file is none any more: nobody believes it. Throws when that cannot be said. */
  void(): void {
    this.#file.write(0, nothingClean)
  }

  /** Everything that was put before the call is durable. */
  sync(): Promise<void> {
    return this.#file.sync()
  }

  /** The map as it is now is durable, and can be known for it. Nothing is put meanwhile. */
  async freeze(dirty: BlockMap, turn: () => Promise<void>): Promise<void> {
    const header = { ...this.#header, checksum: await checksumOf(dirty, turn) }
    this.#file.write(0, encodeHeader(header))
    this.#header = header
    await this.#file.sync()
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

function dirtyIn(bytes: Buffer, blocks: number): BlockMap {
  const dirty = new BlockMap(blocks)
  dirty.add(0, blocks)
  for (let index = 0; index < dirty.segmentCount; index++) {
    const page = bytes.subarray((index + 1) * pageBytes, (index + 2) * pageBytes)
    if (page.length < pageBytes) break
    if (nothingClean.equals(page)) continue
    const bits = inverted(page)
    const rest = blocks - index * segmentBlocks
    for (let bit = rest; bit < segmentBlocks; bit++) bits[bit >>> 3]! &= ~(1 << (bit & 7))
    dirty.putSegment(index, bits)
  }
  return dirty
}
