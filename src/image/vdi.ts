// VDI, VirtualBox's format (block/vdi.c of QEMU describes it): whether it stands alone, and has all the blocks of its map.

import { type ImageBytes, mustHold, readWhole, u64le, walkTable } from './image-bytes.ts'
import { facts, type ImageFacts, withinDisk } from './image-facts.ts'
import { damaged, ImageFault } from './image-fault.ts'

const headerBytes = 0x1c8
const ImageType = { dynamic: 1, fixed: 2, undo: 3, differencing: 4 }
/** Entries of the map from this one on: zeros, and nothing there. */
const firstUnallocated = 0xffff_fffe

export async function examineVdi(bytes: ImageBytes): Promise<ImageFacts> {
  const head = await readWhole(bytes, 0, headerBytes, 'its header')
  const type = head.readUInt32LE(0x4c)
  const hasParent = [0x1a8, 0x1b8].some((at) => head.subarray(at, at + 16).some((byte) => byte !== 0))
  if (type === ImageType.differencing || type === ImageType.undo || hasParent) {
    const next = 'Make a whole image of it where VirtualBox has its parent: VBoxManage clonemedium disk FILE whole.vdi.'
    throw new ImageFault('image-not-alone', 'it has only what differs from another file, its parent', next)
  }
  if (type !== ImageType.dynamic && type !== ImageType.fixed)
    throw damaged(`its header says type ${type}, which is none`)
  const blockBytes = head.readUInt32LE(0x178)
  const extraBytes = head.readUInt32LE(0x17c)
  if (blockBytes === 0 || extraBytes !== 0) throw damaged('its blocks are laid out in a way that QEMU does not read')
  const sizeBytes = u64le(head, 0x170)
  const count = head.readUInt32LE(0x180)
  if (count * blockBytes < sizeBytes) throw damaged(`its map has ${count} blocks, fewer than its disk`)
  const dataAt = head.readUInt32LE(0x158)
  const map = { at: head.readUInt32LE(0x154), count, entryBytes: 4, what: 'the map of its blocks' }
  await walkTable(bytes, map, (entries, first) => {
    for (let index = 0; index * 4 < entries.length; index++) {
      const block = entries.readUInt32LE(index * 4)
      if (block >= firstUnallocated) continue
      const neededBytes = withinDisk(sizeBytes, first + index, blockBytes)
      mustHold(bytes, dataAt + block * blockBytes, neededBytes, 'one of its blocks')
    }
  })
  return facts(sizeBytes)
}
