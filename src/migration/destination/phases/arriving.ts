// The second phase of a destination's course, in which it owns: fetches what is missing, and has it compared with the source
// (arriving-disk.ts). Guests' fetches of any disk come at any time; the background copy takes one disk after the other.
//
// What always holds: `owned` is committed, with every byte durable and compared, for each disk when it has come, and before
// the source may be told that it is released (promise 8). Nothing of it is done for an old copy of this site: the source has
// heard it first.

import type { BackgroundCopy } from '../../copy/background-copy.ts'
import type { Comparison } from '../../copy/comparisons.ts'
import type { Pace } from '../../course.ts'
import { nothingToPause, pauseSentence } from '../../refusals.ts'
import type { ThisRun } from '../../signed-words.ts'
import { signMark } from '../../signed-words.ts'
import type { ComingDisk } from '../coming-disk.ts'
import { DestinationNotices } from '../destination-notices.ts'
import { type DestinationHost, recorded } from '../host.ts'
import type { Pacing } from '../pacing.ts'
import { ArrivingDisk } from './arriving-disk.ts'

const firstRoundPauseMs = 1000
const longestRoundPauseMs = 30_000

export class Arriving {
  readonly #host: DestinationHost
  readonly #coming: readonly ComingDisk[]
  readonly #pacing: Pacing
  readonly #notices: DestinationNotices
  /** What each disk waits for, and the move with all of them. */
  readonly #notes = new Map<ComingDisk | 'all', string>()
  /** In the order of the move. */
  readonly disks: readonly ArrivingDisk[]

  constructor(host: DestinationHost, coming: readonly ComingDisk[], pacing: Pacing) {
    this.#host = host
    this.#coming = coming
    this.#pacing = pacing
    const { course, services, source, stopping, update, tell } = host
    const { clock } = services
    this.#notices = new DestinationNotices({
      course,
      coming,
      clock,
      stopping,
      source,
      sign: (said) => signMark(services.key, course.record, said),
      update,
      mark: (mark) => update({ mark }, () => this.#lacking.map(({ coming: { disk } }) => disk.arriving.noteMapLog())),
      note: (sentence) => this.#note('all', sentence),
      isQuiet: () => course.ahead?.isReady ?? false,
      reported: (sent) => {
        for (const each of coming) each.tally.heard(sent, each.id)
      },
      progressed: () => tell({ kind: 'progress' }),
    })
    this.disks = coming.map(
      (each) =>
        new ArrivingDisk({
          host,
          coming: each,
          ...pacing,
          note: (sentence) => this.#note(each, sentence),
          troubled: (isTroubled) => pacing.copyTime.set('trouble', isTroubled),
        }),
    )
  }

  /** Of this daemon, as the source knows it. */
  get thisRun(): ThisRun {
    return this.#notices
  }

  get copyingMs(): number {
    return this.#pacing.copyTime.ms
  }

  get pace(): Pace {
    const rate = this.#pacing.meter.rate()
    const missing = this.disks.map((each) => each.missingDataBytes)
    if (rate === 0 || missing.includes(undefined)) return { rate, secondsLeft: null }
    return { rate, secondsLeft: missing.reduce((sum: number, bytes) => sum + bytes!, 0) / rate }
  }

  linkChanged(isUp: boolean): void {
    this.#pacing.copyTime.set('link', !isUp)
  }

  /** Holds the background copy, or lets it go on; durable before it is answered. Also before it begins. @throws Refusal */
  async setPaused(paused: boolean): Promise<void> {
    const { course, update, tell } = this.#host
    if (course.ended || course.record.state === 'finishing') throw nothingToPause(course.record, paused)
    if (paused === course.record.paused) return
    await update({ paused })
    this.#pacing.pause.set(paused)
    this.#pacing.copyTime.set('pause', paused)
    tell({ kind: 'step', message: pauseSentence(paused) })
    this.#notices.paused()
  }

  /** `disk verify`: compares what is here, and was not written here, with the source. @throws Refusal, LinkError, PeerRefusal */
  verify(diskId: string, signal: AbortSignal): Promise<Comparison> {
    return this.disks.find(({ coming }) => coming.id === diskId)!.comparisons.ask(signal)
  }

  /** Resolves once the source has confirmed that this is no old copy of the disks, or none of them is arriving any more. */
  get confirmed(): Promise<void> {
    return this.#lacking.length > 0 ? this.#notices.confirmed : Promise.resolve()
  }

  /** Tells the source how far it is, also before this phase begins. Resolves when `signal` aborts. */
  report(signal: AbortSignal): Promise<void> {
    return this.#notices.report(signal)
  }

  /** Whoever waits for the source's word waits no more. */
  settle(): void {
    this.#notices.settle()
  }

  /** A disk has left the move: what it waited for is waited for no more. */
  hasLeft(coming: ComingDisk): void {
    this.#note(coming, null)
  }

  /** Resolves when every block of every disk is here, compared, and owned on record. Rejects when `working` ends. */
  async run(working: AbortSignal): Promise<void> {
    const ended = new AbortController()
    const signal = AbortSignal.any([ended.signal, working])
    const reports = this.#notices.report(signal)
    try {
      void this.#notices.sayTaken(signal).catch(() => {}) // Given up when the copy ends.
      void this.#survey(signal).catch(() => {}) // So is this.
      await this.#bringAll(working)
    } finally {
      this.#pacing.copyTime.set('idle', true)
      ended.abort()
      await reports
      for (const each of this.disks) await each.closeSeeds()
    }
  }

  async #survey(signal: AbortSignal): Promise<void> {
    for (const each of this.disks) await each.survey(signal)
  }

  /** One disk after the other. One of which the source cannot read a range lets the next have its turn. */
  async #bringAll(working: AbortSignal): Promise<void> {
    const { clock } = this.#host.services
    const copies = new Map(this.#lacking.map((each) => [each, each.copy(this.#pacing.window, working)]))
    for (let pauseMs = firstRoundPauseMs; this.#lacking.length > 0; ) {
      let isOneOwned = false
      for (const each of this.#lacking) {
        if (!(await this.#bring(each, copies.get(each)!, working))) continue
        await this.#own(each, working)
        await each.closeSeeds()
        isOneOwned = true
      }
      if (isOneOwned) pauseMs = firstRoundPauseMs
      else {
        await clock.sleep(pauseMs, working)
        pauseMs = Math.min(longestRoundPauseMs, 2 * pauseMs)
      }
    }
  }

  /** Whether all of it is here, compared, and no old copy of this site has it; else others have their turn. */
  async #bring(each: ArrivingDisk, copy: BackgroundCopy, working: AbortSignal): Promise<boolean> {
    const { tell } = this.#host
    const othersWait = () => this.#lacking.length > 1
    this.#pacing.copyTime.set('trouble', false)
    for (;;) {
      this.#pacing.copyTime.set('idle', false)
      const isWhole = await copy.run(othersWait)
      this.#pacing.copyTime.set('idle', true)
      if (!isWhole) return false
      tell({ kind: 'step', message: this.#of(each, 'every block has come, and is being compared with the source') })
      if (await each.comparisons.isLast(working, othersWait)) break
      if (!each.isLacking && othersWait()) return false
    }
    await this.#notices.heard(working) // An old copy of this site must not have the source released.
    return true
  }

  /** The last one is owned together with the word that the move is finishing. */
  async #own({ coming }: ArrivingDisk, working: AbortSignal): Promise<void> {
    const { update, tell } = this.#host
    const { id, disk, tally, figures } = coming
    figures.missingBytes = 0
    const verified = disk.arriving.isComparable
    const isLast = this.#lacking.length === 1
    const own = () =>
      update(
        { ...(isLast && { state: 'finishing' }), disks: { [id]: { counters: tally.now, verified } } },
        async () => [await disk.arriving.finish()],
      )
    await recorded(this.#host, [disk], 'that every block has come', own, working)
    this.#note(coming, null)
    const message = isLast
      ? 'every block has come; the source is being released'
      : `${disk.name}: every block has come; the other disks follow`
    tell({ kind: 'step', message })
  }

  get #lacking(): readonly ArrivingDisk[] {
    return this.disks.filter(({ coming }) => coming.isArriving)
  }

  #of({ coming }: ArrivingDisk, sentence: string): string {
    return this.#coming.length > 1 ? `${coming.name}: ${sentence}` : sentence
  }

  /** What one disk waits for does not hide what another does. */
  #note(of: ComingDisk | 'all', sentence: string | null): void {
    if (sentence === null) this.#notes.delete(of)
    else this.#notes.set(of, of === 'all' || this.#coming.length === 1 ? sentence : `${of.name}: ${sentence}`)
    this.#host.note([...this.#notes.values()].join('; ') || null)
  }
}
