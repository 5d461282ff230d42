// qcow, version 1 (block/qcow.c of QEMU describes it): whether it stands alone, and has all the bytes that its tables name.

import { type ImageBytes, mustHold, readWhole, u64be, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { damaged, ImageFault } from './image-fault.ts'

const headerBytes = 48

export async function examineQcow(bytes: ImageBytes): Promise<ImageFacts> {
  const head = await readWhole(bytes, 0, headerBytes, 'its header')
  const next = 'If you trust the image, make it one file: qemu-img convert -O raw FILE disk.raw.'
  if (head.readBigUInt64BE(8) !== 0n) throw new ImageFault('image-not-alone', 'it has a backing file', next)
  if (head.readUInt32BE(36) !== 0) {
    throw new ImageFault(
      'image-encrypted',
      'it is encrypted, and vmstore has no key to it',
      'Decrypt it first, with its secret: qemu-img convert --object secret,… --image-opts … -O raw, as its manual says, and take the raw image.',
    )
  }
  const sizeBytes = u64be(head, 24)
  const clusterBits = head[32]!
  const l2Bits = head[33]!
  if (clusterBits < 9 || clusterBits > 16 || l2Bits < 6 || l2Bits > 13) {
    throw damaged(`its header speaks of clusters of 2^${clusterBits} bytes and tables of 2^${l2Bits} entries`)
  }
  const clusterBytes = 2 ** clusterBits
  const perTable = 2 ** l2Bits
  const l1Count = Math.ceil(sizeBytes / (clusterBytes * perTable))
  await walkTable(
    bytes,
    { at: u64be(head, 40), count: l1Count, entryBytes: 8, what: 'its L1 table' },
    async (l1, first) => {
      for (let entry = 0; entry * 8 < l1.length; entry++) {
        const at = u64be(l1, entry * 8)
        if (at === 0) continue
        const l2 = await readWhole(bytes, at, perTable * 8, 'one of its L2 tables')
        for (let index = 0; index < perTable; index++) {
          const cluster = (first + entry) * perTable + index
          checkEntry(bytes, l2.readBigUInt64BE(index * 8), clusterBits, withinDisk(sizeBytes, cluster, clusterBytes))
        }
      }
    },
  )
  return facts(sizeBytes)
}

/** Bit 63: compressed, then the length lies above the offset. */
function checkEntry(bytes: ImageBytes, entry: bigint, clusterBits: number, neededBytes: number): void {
  if (entry === 0n || neededBytes === 0) return
  if (entry >> 63n === 0n) {
    mustHold(bytes, Number(entry), neededBytes, 'one of its clusters')
  } else {
    const offsetBits = BigInt(63 - clusterBits)
    const lengthBytes = Number((entry >> offsetBits) & BigInt(2 ** clusterBits - 1))
    mustHold(bytes, Number(entry & ((1n << offsetBits) - 1n)), lengthBytes, 'one of its compressed clusters')
  }
}
