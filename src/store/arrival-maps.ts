// What is known of an arriving disk, block by block and, where the guest wrote less, sector by sector; in memory.

import { BlockMap, blockSizeBytes } from '../block/block-map.ts'

export const sectorBytes = 512

/** A partial block is not present; its mask has a bit for each guest-written sector of 512 bytes. */
export class ArrivalMaps {
  readonly present: BlockMap
  readonly written: BlockMap
  readonly partial = new Map<number, number>()
  /**
   * The power was lost while the disk arrived: which present blocks the guest wrote is not known any more (bytes may have
   * reached the platter whose record did not), so that all count as written, and a comparison with the source says less.
   */
  lostPower = false

  constructor(sizeBytes: number, present?: BlockMap) {
    const blocks = Math.ceil(sizeBytes / blockSizeBytes)
    this.present = present ?? new BlockMap(blocks)
    this.written = new BlockMap(blocks)
  }
}
