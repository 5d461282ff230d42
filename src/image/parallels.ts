// Parallels (docs/interop/parallels.txt of QEMU): whether it was closed, and has all the clusters of its table. That it is
// one link of a chain of snapshots is written nowhere in it: only DiskDescriptor.xml beside it knows.

import { type ImageBytes, mustHold, readWhole, u64le, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { damaged, ImageFault } from './image-fault.ts'

const headerBytes = 64
const sectorBytes = 512
/** "inuse" of an image that a program has open, or had when it died. */
const inUseMark = 0x746f_6e59

export async function examineParallels(bytes: ImageBytes): Promise<ImageFacts> {
  const head = await readWhole(bytes, 0, headerBytes, 'its header')
  if (head.readUInt32LE(44) === inUseMark) {
    const next = 'If no program has it open, mend it with qemu-img check -r all FILE, and take it then.'
    throw new ImageFault('image-unclosed', 'it was not closed by whoever wrote it last', next)
  }
  const isExtended = head.subarray(0, 16).toString('latin1') === 'WithouFreSpacExt'
  const clusterBytes = head.readUInt32LE(28) * sectorBytes
  if (clusterBytes === 0) throw damaged('its header speaks of clusters of no size')
  const count = head.readUInt32LE(32)
  // Of the old form, the upper half of the field means nothing.
  const sizeBytes = (isExtended ? u64le(head, 36) : head.readUInt32LE(36)) * sectorBytes
  const unitBytes = isExtended ? clusterBytes : sectorBytes
  if (count * clusterBytes < sizeBytes) throw damaged(`its table has ${count} clusters, fewer than its disk`)
  await walkTable(
    bytes,
    { at: headerBytes, count, entryBytes: 4, what: 'the table of its clusters' },
    (entries, first) => {
      for (let index = 0; index * 4 < entries.length; index++) {
        const entry = entries.readUInt32LE(index * 4)
        const neededBytes = withinDisk(sizeBytes, first + index, clusterBytes)
        if (entry !== 0 && neededBytes > 0) mustHold(bytes, entry * unitBytes, neededBytes, 'one of its clusters')
      }
    },
  )
  return facts(sizeBytes)
}
