// What a move says that came of a disk: at least every block that the guest did not write at the destination, whoever had it fetched.
// Known only of a destination that lived from the first block that came, or from switchover, to the end: of what came since its last record a daemon that died
// told nobody.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import { blocks, type Stage, type StageDisk, sizeBytes } from './stage.ts'
import type { SimProcess } from './world.ts'

export class Tally {
  readonly #stage: Stage
  readonly #disk: StageDisk
  /** The destination's, in the first step in which the disk was arriving, or blocks of it were copied ahead. */
  #taker: SimProcess | undefined

  constructor(stage: Stage, disk: StageDisk) {
    this.#stage = stage
    this.#disk = disk
  }

  /** Another move begins. */
  begins(): void {
    this.#taker = undefined
  }

  /** To be called at every step. */
  check(): void {
    const { b } = this.#stage
    const record = b.database.disk.get(this.#disk.id)
    if (record?.state === 'arriving' || record?.tentativeEpoch) this.#taker ??= b.process
  }

  /** At the end of a move in which no commit could fail. */
  checkRecord(): void {
    const { b, facts } = this.#stage
    const { id, comparison } = this.#disk
    const generation = b.database.disk.get(this.#disk.id)?.generation
    if (this.#taker !== b.process || generation === undefined) return // Or the move was cancelled.
    const moved = [...b.database.migration.values()]
      .filter(({ role, state }) => role === 'destination' && state === 'done')
      .flatMap(({ disks }) => disks.filter((disk) => disk.id === id && disk.generation === generation))[0]
    if (!moved) return
    let least = 0
    for (let block = 0; block < blocks; block++) {
      if (!comparison.isTouched(block)) least += Math.min(blockSizeBytes, sizeBytes - block * blockSizeBytes)
    }
    const { data, skippedZero } = moved.counters
    assert(
      data + skippedZero >= least,
      `${facts}: ${data} and ${skippedZero} bytes of ${this.#disk.name} are said to have come, and at least ${least} have`,
    )
  }
}
