// VHDX ([MS-VHDX] of Microsoft): whether it stands alone, was closed, and has all the blocks of its table.

import { type ImageBytes, mustHold, readWhole, u64le, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { cutOff, damaged, ImageFault } from './image-fault.ts'

const kibibyte = 2 ** 10
const mebibyte = 2 ** 20
const headersAt = [64 * kibibyte, 128 * kibibyte]
const regionTablesAt = [192 * kibibyte, 256 * kibibyte]
const tableBytes = 64 * kibibyte
/** What a header has before its reserved bytes. */
const headerBytes = 80
/** "Region Table" and "Metadata Table": at most so many entries of 32 bytes. */
const entryBytes = 32
const entriesMax = 2047

/** GUIDs as they lie in the file. */
const Guid = {
  bat: guid('2dc27766-f623-4200-9d64-115e9bfd4a08'),
  metadata: guid('8b7ca206-4790-4b9a-b8fe-575f050f886e'),
  fileParameters: guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b'),
  diskSize: guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8'),
  sectorSize: guid('8141bf1d-a96f-4709-ba47-f233a8faab5f'),
}
/** "Payload BAT Entry States" whose bytes are in the file. */
const inFile = [6, 7]

export async function examineVhdx(bytes: ImageBytes): Promise<ImageFacts> {
  const head = await newestHeader(bytes)
  const regions = await tableOf(bytes, regionTablesAt, 'regi')
  const metadataAt = u64le(entryOf(regions, 16, 8, Guid.metadata, 'metadata'), 16)
  const metadata = await readWhole(bytes, metadataAt, tableBytes, 'its metadata')
  const itemOf = async (id: Buffer, lengthBytes: number, what: string) => {
    const entry = entryOf(metadata, 32, 10, id, what)
    return readWhole(bytes, metadataAt + entry.readUInt32LE(16), lengthBytes, what)
  }
  const parameters = await itemOf(Guid.fileParameters, 8, 'file parameters')
  const hasParent = (parameters.readUInt32LE(4) & 2) !== 0
  if (hasParent) {
    const next = 'Make a whole image of it where Hyper-V has its parent: Convert-VHD.'
    const why = 'it has only what differs from another file, its parent (a differencing VHDX)'
    throw new ImageFault('image-not-alone', why, next)
  }
  // "LogGuid": other than zero, changes of the tables are in the log still.
  if (head.subarray(48, 64).some((byte) => byte !== 0)) {
    const next = 'If no program has it open, mend it with qemu-img check -r all FILE, and take it then.'
    throw new ImageFault(
      'image-unclosed',
      'it was not closed by whoever wrote it last: its log is to be replayed',
      next,
    )
  }
  const blockBytes = parameters.readUInt32LE(0)
  if (blockBytes < mebibyte || blockBytes > 256 * mebibyte) throw damaged(`it speaks of blocks of ${blockBytes} bytes`)
  const sizeBytes = u64le(await itemOf(Guid.diskSize, 8, 'disk size'), 0)
  const sectorBytes = (await itemOf(Guid.sectorSize, 4, 'sector size')).readUInt32LE(0)
  if (sectorBytes !== 512 && sectorBytes !== 4096) throw damaged(`it speaks of sectors of ${sectorBytes} bytes`)
  await checkBlocks(bytes, entryOf(regions, 16, 8, Guid.bat, 'block table'), { sizeBytes, blockBytes, sectorBytes })
  return facts(sizeBytes)
}

/** Of two, the one that was written last; a program that dies writes one of them in part at most. */
async function newestHeader(bytes: ImageBytes): Promise<Buffer> {
  const both = await Promise.all(headersAt.map((at) => bytes.read(at, headerBytes)))
  const [newest] = both
    .filter((head) => head.length === headerBytes && head.subarray(0, 4).toString('latin1') === 'head')
    .sort((a, b) => u64le(b, 8) - u64le(a, 8))
  if (newest === undefined) throw cutOff('its header is not there')
  return newest
}

async function tableOf(bytes: ImageBytes, places: readonly number[], signature: string): Promise<Buffer> {
  for (const at of places) {
    const table = await bytes.read(at, tableBytes)
    if (table.length === tableBytes && table.subarray(0, 4).toString('latin1') === signature) return table
  }
  throw cutOff('its region table is not there')
}

function entryOf(table: Buffer, firstAt: number, countAt: number, id: Buffer, what: string): Buffer {
  const count = Math.min(countAt === 10 ? table.readUInt16LE(countAt) : table.readUInt32LE(countAt), entriesMax - 1)
  for (let index = 0; index < count; index++) {
    const entry = table.subarray(firstAt + index * entryBytes, firstAt + (index + 1) * entryBytes)
    if (entry.length === entryBytes && entry.subarray(0, 16).equals(id)) return entry
  }
  throw damaged(`it has no ${what}`)
}

interface Layout {
  readonly sizeBytes: number
  readonly blockBytes: number
  readonly sectorBytes: number
}

/** "BAT": after each chunk of payload blocks comes an entry for a bitmap, which only an image with a parent has. */
async function checkBlocks(bytes: ImageBytes, region: Buffer, layout: Layout): Promise<void> {
  const { sizeBytes, blockBytes, sectorBytes } = layout
  const perChunk = (2 ** 23 * sectorBytes) / blockBytes
  const blocks = Math.ceil(sizeBytes / blockBytes)
  const count = blocks + Math.floor((blocks - 1) / perChunk)
  if (count * 8 > region.readUInt32LE(24)) throw damaged(`its table is too short for ${blocks} blocks`)
  await walkTable(
    bytes,
    { at: u64le(region, 16), count, entryBytes: 8, what: 'the table of its blocks' },
    (bat, first) => {
      for (let index = 0; index * 8 < bat.length; index++) {
        const place = first + index
        if (place % (perChunk + 1) === perChunk) continue
        const block = place - Math.floor(place / (perChunk + 1))
        const low = bat.readUInt32LE(index * 8)
        if (!inFile.includes(low & 7)) continue
        const at = (bat.readUInt32LE(index * 8 + 4) * 2 ** 12 + (low >>> 20)) * mebibyte
        mustHold(bytes, at, withinDisk(sizeBytes, block, blockBytes), 'one of its blocks')
      }
    },
  )
}

/** The first three fields are little-endian. */
function guid(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex')
  bytes.subarray(0, 4).reverse()
  bytes.subarray(4, 6).reverse()
  bytes.subarray(6, 8).reverse()
  return bytes
}
