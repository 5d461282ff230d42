// How far the disks of a move are copied ahead of switchover, as one site tells the other, and both their operators.

/** How far the disks are copied ahead of switchover. */
export interface Ahead {
  /** Over the whole of each disk. */
  readonly passes: number
  /** Not at the destination, or written at the source since; null: not known yet. */
  readonly leftBytes: number | null
  /** The machine may move: it has been as far as it will come. */
  readonly isReady: boolean
}
