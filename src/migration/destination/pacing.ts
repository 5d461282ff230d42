// How fast a move copies at its destination, of all its disks together, before switchover and after: what is measured, what bounds
// it, and what holds it.

import type { Clock } from '../../block/clock.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { CopyTime } from '../copy/copy-time.ts'
import { Pause } from '../copy/pause.ts'
import { RateLimit } from '../copy/rate-limit.ts'
import { RateMeter } from '../copy/rate-meter.ts'
import { Window } from '../copy/window.ts'
import { termsOf } from '../terms.ts'

export class Pacing {
  /** Bytes that came (data, and zeros that stood there as data), over time. */
  readonly meter: RateMeter
  readonly limit: RateLimit
  readonly pause: Pause
  /** They come over the same path. */
  readonly window = new Window()
  /** After switchover. */
  readonly copyTime: CopyTime

  constructor(clock: Clock, record: MigrationRecord) {
    this.meter = new RateMeter(clock)
    this.limit = new RateLimit(clock, termsOf(record).maxRate)
    this.pause = new Pause(record.paused)
    this.copyTime = new CopyTime(clock, record.copyingMs)
    this.copyTime.set('pause', record.paused)
  }
}
