// What the disks of the kept data folders hold.

export const block = 4096
export const diskBlocks = 8
/** Of the arriving disk. */
export const presentBlocks = 3

/** Block `index` of a disk: a byte that says which. */
export function blockOf(disk: string, index: number): Buffer {
  return Buffer.alloc(block, 1 + (disk.length * 16 + index))
}
