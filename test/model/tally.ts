// What a move says that came: at least every block that the guest did not write at the destination, whoever had it fetched.
// Known only of a destination that lived from switchover to the end: of what came since its last record a daemon that died
// told nobody.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import { onlyDisk } from '../../src/migration/move.ts'
import { blocks, diskId, type Stage, sizeBytes } from './stage.ts'
import type { SimProcess } from './world.ts'

export class Tally {
  readonly #stage: Stage
  /** The destination's, in the first step in which the disk was arriving. */
  #taker: SimProcess | undefined

  constructor(stage: Stage) {
    this.#stage = stage
  }

  /** Another move begins. */
  begins(): void {
    this.#taker = undefined
  }

  /** To be called at every step. */
  check(): void {
    const { b } = this.#stage
    if (b.database.disk.get(diskId)?.state === 'arriving') this.#taker ??= b.process
  }

  /** At the end of a move in which no commit could fail. */
  checkRecord(): void {
    const { b, comparison, facts } = this.#stage
    if (this.#taker !== b.process) return
    const { generation } = b.database.disk.get(diskId)!
    const record = [...b.database.migration.values()].find(
      (each) => each.role === 'destination' && each.state === 'done' && onlyDisk(each).generation === generation,
    )
    if (!record) return
    let least = 0
    for (let block = 0; block < blocks; block++) {
      if (!comparison.isTouched(block)) least += Math.min(blockSizeBytes, sizeBytes - block * blockSizeBytes)
    }
    const { data, skippedZero } = onlyDisk(record).counters
    assert(
      data + skippedZero >= least,
      `${facts}: ${data} and ${skippedZero} bytes are said to have come, and at least ${least} have`,
    )
  }
}
