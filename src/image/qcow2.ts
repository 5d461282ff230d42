// qcow2 (docs/interop/qcow2.txt of QEMU): whether it stands alone, was closed, and has all the bytes that its tables name.

import { inflateRawSync, zstdDecompressSync } from 'node:zlib'
import { type ImageBytes, mustHold, readWhole, u64be, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { cutShort, damaged, ImageFault } from './image-fault.ts'

/** Of version 2; of version 3, with the compression type's byte. */
const shortHeaderBytes = 72
const headerBytes = 112
const sectorBytes = 512
/** QEMU's own bounds. */
const clusterBitsMin = 9
const clusterBitsMax = 21
const l1BytesMax = 32 * 2 ** 20

/** "incompatible_features" of a header of version 3. */
const Incompatible = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalData: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
}

interface Layout {
  readonly sizeBytes: number
  readonly clusterBits: number
  readonly hasSubclusters: boolean
  readonly isZstd: boolean
}

export async function examineQcow2(bytes: ImageBytes): Promise<ImageFacts> {
  mustHold(bytes, 0, shortHeaderBytes, 'its header')
  const start = await bytes.read(0, headerBytes)
  const head = Buffer.concat([start, Buffer.alloc(headerBytes - start.length)])
  const isVersion3 = head.readUInt32BE(4) >= 3
  const features = isVersion3 ? head.readBigUInt64BE(72) : 0n
  checkStanding(head, features)
  const clusterBits = head.readUInt32BE(20)
  if (clusterBits < clusterBitsMin || clusterBits > clusterBitsMax) {
    throw damaged(`its header speaks of clusters of 2^${clusterBits} bytes`)
  }
  const layout = {
    sizeBytes: u64be(head, 24),
    clusterBits,
    hasSubclusters: (features & Incompatible.extendedL2) !== 0n,
    isZstd: (features & Incompatible.compression) !== 0n && head[104] === 1,
  }
  await checkClusters(bytes, layout, u64be(head, 40), head.readUInt32BE(36))
  const snapshots = head.readUInt32BE(60)
  if (snapshots === 0) return facts(layout.sizeBytes)
  const what = snapshots === 1 ? 'An internal snapshot' : `${snapshots} internal snapshots`
  return facts(layout.sizeBytes, [`${what} of the image stayed behind: the disk has its bytes as they are now.`])
}

function checkStanding(head: Buffer, features: bigint): void {
  if (head.readBigUInt64BE(8) !== 0n) throw notAlone('it has a backing file')
  if ((features & Incompatible.externalData) !== 0n) throw notAlone('its data lie in another file')
  if (head.readUInt32BE(32) !== 0) {
    throw new ImageFault(
      'image-encrypted',
      'it is encrypted, and vmstore has no key to it',
      'Decrypt it first, with its secret: qemu-img convert --object secret,… --image-opts … -O raw, as its manual says, and take the raw image.',
    )
  }
  if ((features & Incompatible.corrupt) !== 0n) {
    const next =
      'See what is lost with qemu-img check FILE; a copy of it can be repaired with qemu-img check -r all COPY, and taken then.'
    throw damaged('QEMU has marked it as corrupt', next)
  }
  if ((features & Incompatible.dirty) !== 0n) {
    const next = 'If no program has it open, mend it with qemu-img check -r all FILE, and take it then.'
    throw new ImageFault('image-unclosed', 'it was not closed by whoever wrote it last', next)
  }
}

function notAlone(why: string): ImageFault {
  return new ImageFault(
    'image-not-alone',
    why,
    'If you trust the image, make it one file: qemu-img convert -O raw FILE disk.raw.',
  )
}

async function checkClusters(bytes: ImageBytes, layout: Layout, l1At: number, l1Count: number): Promise<void> {
  if (l1Count * 8 > l1BytesMax) throw damaged(`its header speaks of an L1 table of ${l1Count} entries`)
  const clusterBytes = 2 ** layout.clusterBits
  const entryBytes = layout.hasSubclusters ? 16 : 8
  const perTable = clusterBytes / entryBytes
  const l1 = await readWhole(bytes, l1At, l1Count * 8, 'its L1 table')
  for (let table = 0; table < l1Count; table++) {
    const at = offsetOf(l1.readUInt32BE(table * 8), l1.readUInt32BE(table * 8 + 4))
    if (at === 0) continue
    await walkTable(
      bytes,
      { at, count: perTable, entryBytes, what: 'one of its L2 tables' },
      async (entries, first) => {
        for (let entry = 0; entry * entryBytes < entries.length; entry++) {
          const index = table * perTable + first + entry
          const neededBytes = withinDisk(layout.sizeBytes, index, clusterBytes)
          if (neededBytes === 0) return
          const looking = checkEntry(bytes, layout, entries, entry * entryBytes, neededBytes)
          if (looking) await looking // There are millions of entries, and a look at few of them.
        }
      },
    )
  }
}

/** Bits 9 to 55. */
const offsetOf = (high: number, low: number): number => (high & 0x00ffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0)

/** A promise only where a compressed cluster lies at the file's end. */
function checkEntry(
  bytes: ImageBytes,
  layout: Layout,
  entries: Buffer,
  at: number,
  neededBytes: number,
): Promise<void> | undefined {
  const high = entries.readUInt32BE(at)
  const low = entries.readUInt32BE(at + 4)
  if ((high & 0x40000000) !== 0) return checkCompressed(bytes, layout, entries.readBigUInt64BE(at))
  const hostAt = offsetOf(high, low)
  if (hostAt === 0) return
  if (layout.hasSubclusters) {
    const allocated = entries.readUInt32BE(at + 12)
    const subclusterBytes = 2 ** layout.clusterBits / 32
    const lengthBytes = (32 - Math.clz32(allocated)) * subclusterBytes
    mustHold(bytes, hostAt, Math.min(lengthBytes, neededBytes), 'one of its clusters')
  } else if ((low & 1) === 0) mustHold(bytes, hostAt, neededBytes, 'one of its clusters')
}

/** "Compressed Clusters Descriptor": it counts whole sectors, of which the last in the file may be short. */
function checkCompressed(bytes: ImageBytes, layout: Layout, entry: bigint): Promise<void> | undefined {
  const offsetBits = BigInt(62 - (layout.clusterBits - 8))
  const hostAt = Number(entry & ((1n << offsetBits) - 1n))
  const sectors = Number((entry & ((1n << 62n) - 1n)) >> offsetBits) + 1
  const end = hostAt - (hostAt % sectorBytes) + sectors * sectorBytes
  if (end <= bytes.sizeBytes) return
  const what = 'one of its compressed clusters'
  if (end - bytes.sizeBytes >= sectorBytes) throw cutShort(what, end, bytes.sizeBytes)
  return checkStream(bytes, layout, hostAt, end, what)
}

/** The stream ends in the file, though the sector in which it does is not whole. */
async function checkStream(bytes: ImageBytes, { isZstd, clusterBits }: Layout, at: number, end: number, what: string) {
  const stream = await bytes.read(at, end - at)
  const bounds = { maxOutputLength: 2 ** clusterBits }
  try {
    if (isZstd) zstdDecompressSync(stream, bounds)
    else inflateRawSync(stream, bounds)
  } catch (error) {
    throw Object.assign(cutShort(what, end, bytes.sizeBytes), { cause: error })
  }
}
