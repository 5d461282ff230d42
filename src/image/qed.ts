// QED (docs/interop/qed_spec.txt of QEMU): whether it stands alone, was closed, and has all the bytes that its tables name.

import { type ImageBytes, mustHold, readWhole, u64le, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { damaged, ImageFault } from './image-fault.ts'

const headerBytes = 64
/** Bits of "features". */
const Feature = { backingFile: 1n << 0n, needCheck: 1n << 1n }
/** An entry of a table: nothing there, and zeros. Others are offsets. */
const zeroCluster = 1

export async function examineQed(bytes: ImageBytes): Promise<ImageFacts> {
  const head = await readWhole(bytes, 0, headerBytes, 'its header')
  const features = head.readBigUInt64LE(16)
  if ((features & Feature.backingFile) !== 0n) {
    const next = 'If you trust the image, make it one file: qemu-img convert -O raw FILE disk.raw.'
    throw new ImageFault('image-not-alone', 'it has a backing file', next)
  }
  if ((features & Feature.needCheck) !== 0n) {
    const next = 'If no program has it open, mend it with qemu-img check -r all FILE, and take it then.'
    throw new ImageFault('image-unclosed', 'it was not closed by whoever wrote it last', next)
  }
  const clusterBytes = head.readUInt32LE(4)
  const tableClusters = head.readUInt32LE(8)
  if (clusterBytes < 2 ** 12 || clusterBytes > 2 ** 26 || tableClusters < 1 || tableClusters > 16) {
    throw damaged(`its header speaks of clusters of ${clusterBytes} bytes and tables of ${tableClusters} clusters`)
  }
  const sizeBytes = u64le(head, 48)
  const count = (clusterBytes * tableClusters) / 8
  const table = { count, entryBytes: 8 }
  await walkTable(bytes, { ...table, at: u64le(head, 40), what: 'its L1 table' }, async (l1, firstTable) => {
    for (let entry = 0; entry * 8 < l1.length; entry++) {
      const at = u64le(l1, entry * 8)
      if (at <= zeroCluster) continue
      await walkTable(bytes, { ...table, at, what: 'one of its L2 tables' }, (l2, first) => {
        for (let index = 0; index * 8 < l2.length; index++) {
          const hostAt = u64le(l2, index * 8)
          const cluster = (firstTable + entry) * count + first + index
          const neededBytes = withinDisk(sizeBytes, cluster, clusterBytes)
          if (hostAt > zeroCluster && neededBytes > 0) mustHold(bytes, hostAt, neededBytes, 'one of its clusters')
        }
      })
    }
  })
  return facts(sizeBytes)
}
