// The source's course of one migration: prepare the destination, serve its reads, give the disk up when it acquires, serve
// what it fetches, and be released.
//
// What always holds:
// - `departed` is committed before the grant leaves (promise 2). The same acquire is answered the same, until `taken`.
// - Whether it is quiet is looked at in the same synchronous step in which the disk freezes.
// - Cancel and grant exclude each other: both run in `#alone`, one after the other, and look again when their turn comes.

import type { Run } from '../disk/block-source.ts'
import { Refusal } from '../disk/refusal.ts'
import { unknownOwner } from '../disk/states.ts'
import { type FetchRequest, LinkError, PeerRefusal, type Piece } from '../link/channel.ts'
import type { MigrationCounters } from '../store/records.ts'
import { Course } from './course.ts'
import { alignedExtents, readFrozen, readPieces } from './frozen-reader.ts'
import {
  type AcquireAnswer,
  type AcquireMessage,
  acquireMessage,
  completeMessage,
  digestsMessage,
  extentsMessage,
  type InquireAnswer,
  migrationMessage,
  type PrepareMessage,
  pauseMessage,
  progressMessage,
  takenMessage,
} from './messages.ts'
import { notReclaimable, notReclaimed, pauseSentence } from './refusals.ts'
import { startingCode } from './remote-blocks.ts'
import { SentCount } from './sent-count.ts'
import { restoredRefusal, type Supersession, supersededNote } from './superseded.ts'
import { digestOf } from './verification.ts'

const commitRetryMs = 1000
const extentsInAnswer = 1024
/** How long a call that only informs the peer may take; it asks anyway when it comes back. */
const informTimeoutMs = 5000
/** A hypervisor with reconnect-delay is back within this time, if its guest has anything to do. Less than --switchover-wait. */
const returnGraceMs = 5000

export class SourceCourse extends Course {
  #turn: Promise<unknown> = Promise.resolve()
  #granting = false
  #frozen = false
  #tellingWritersGone = false
  #returnsUntilMs = 0
  /** A commit that takes the disk back was tried: nothing is granted, served or released under the generation given away. */
  #reclaiming = false
  /** What the destination last told. */
  #reported: MigrationCounters | undefined
  #sentCount: SentCount | undefined

  get counters(): MigrationCounters {
    const counters = this.#reported ?? this.record.counters
    return this.#sentCount && !this.ended ? { ...counters, ...this.#sentCount.now } : counters
  }

  get liveState(): string {
    return this.#granting ? 'switching' : this.record.state
  }

  /** A source always knows: its own durable record decides. */
  get owner(): string {
    return this.#frozen ? unknownOwner : this.disk.record.owner
  }

  /** Has the destination make an incoming disk. Throws, and then nothing has changed at the source. */
  async prepare(signal: AbortSignal): Promise<void> {
    this.tell({ kind: 'step', message: 'the destination makes room' })
    await this.channel.call('prepare', this.#prepareMessage(), { signal })
    await this.update({ state: 'ready' })
    this.watch()
    this.tell({ kind: 'ready', message: this.readyMessage })
  }

  /** Watches the sessions of the disk for the end of its writers. */
  watch(): void {
    this.disk.onSessions = () => this.#sessionsChanged()
    this.#sessionsChanged() // They may have said goodbye before.
  }

  /** Takes up what a daemon that ended left. Its sessions are forgotten: a guest that runs is given the time to come back. */
  takeUp(): void {
    this.#returnsUntilMs = this.services.clock.now() + returnGraceMs
    this.watch()
  }

  /** What the destination says. @throws PeerRefusal */
  async answer(method: string, params: unknown): Promise<object> {
    switch (method) {
      case 'inquire':
        return this.#alone(async () => this.#inquire()) // Not while a grant is being made: then nobody knows yet.
      case 'acquire':
        return this.#alone(() => this.#acquire(acquireMessage.parse(params)))
      case 'taken':
        return this.#alone(() => this.#taken(takenMessage.parse(params)))
      case 'extents':
        return this.#extents(extentsMessage.parse(params))
      case 'digests':
        return this.#digests(digestsMessage.parse(params))
      case 'progress':
        return this.#progress(progressMessage.parse(params))
      case 'paused':
        return this.#pausedThere(pauseMessage.parse(params).paused)
      case 'complete':
        return this.#alone(() => this.#complete(completeMessage.parse(params)))
      case 'cancel':
        migrationMessage.parse(params)
        return this.#cancelForPeer()
      default:
        throw new PeerRefusal('unknown-method', `a source does not know ${method}`)
    }
  }

  /** Bytes for the destination: the newest before switchover, the frozen ones after. */
  async *fetch(request: FetchRequest, signal: AbortSignal): AsyncGenerator<Piece> {
    for (const run of request.runs) this.#checkRun(run)
    for await (const piece of readPieces(this.disk, request.runs, signal)) {
      // Looked at for every piece: what was read under a right that has ended does not leave.
      this.#checkRight(request.generation)
      if (this.disk.state === 'departed') this.#count.add(piece)
      yield piece
    }
  }

  /** Of the frozen disk: what was forwarded before switchover is not copied. */
  get #count(): SentCount {
    this.#sentCount ??= new SentCount(this.disk.sizeBytes)
    return this.#sentCount
  }

  /** The operator here: now. The destination asks for the grant, as always. */
  async switchover(signal: AbortSignal): Promise<void> {
    if (this.record.state !== 'ready') throw this.#tooLate('switched over')
    await this.channel.call('switchover', { migration: this.id }, { signal })
  }

  /** Has the destination hold the background copy, or let it go on. @throws Refusal, LinkError, PeerRefusal */
  async setPaused(paused: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'preparing') throw this.#tooLate(paused ? 'paused' : 'resumed')
    await this.channel.call('pause', { migration: this.id, paused }, { signal })
    await this.#pausedThere(paused)
  }

  async #pausedThere(paused: boolean): Promise<object> {
    if (this.ended || paused === this.record.paused) return {}
    await this.update({ paused })
    this.tell({ kind: 'step', message: pauseSentence(paused) })
    return {}
  }

  /** Decides, durably, that this migration will not be. @throws Refusal once a grant was made */
  async cancel(): Promise<void> {
    await this.#alone(async () => {
      if (this.record.state === 'cancelled') return
      if (this.disk.state !== 'owned' || this.#frozen) throw this.#tooLate('cancelled')
      await this.update({ state: 'cancelled', endedAt: this.now() }, (change) =>
        this.disk.note({ migrationId: null }, [change]),
      )
      this.disk.onSessions = () => {}
      this.tell({ kind: 'ended' })
    })
    void this.#inform('cancelled') // The destination asks too, when it comes back.
  }

  /**
   * Takes the disk back, above the generation that was given away. Whoever calls has seen that the destination does not
   * answer, and the operator that its guest is off. @throws Refusal
   */
  async reclaim(): Promise<void> {
    await this.#alone(async () => {
      if (this.disk.state !== 'departed' || !this.#isCurrent) throw notReclaimable(this.disk)
      const generation = this.record.generation + 1
      const note = `taken back as generation ${generation} by disk reclaim; what was written as generation ${this.record.generation} is void`
      this.#reclaiming = true
      try {
        await this.update({ state: 'failed', endedAt: this.now(), reclaimedAs: generation, note }, (change) =>
          this.disk.reclaim(generation, [change]),
        )
      } catch (error) {
        throw notReclaimed(this.disk, error)
      }
      this.disk.onSessions = () => {}
      this.tell({ kind: 'ended' })
    })
  }

  /** A later generation exists elsewhere: whatever this migration was at, the disk is served to nobody any more. */
  async supersede(by: Supersession): Promise<void> {
    await this.#alone(async () => {
      const { disk } = this
      if (by.generation <= disk.record.generation) return
      const { generation, owner } = by
      if (!disk.gate.frozen) await disk.gate.freeze()
      await this.update({ state: 'failed', endedAt: this.now(), note: supersededNote(by) }, (change) =>
        disk.move('superseded', { generation, owner, migrationId: null }, [change]),
      )
      this.#frozen = false
      disk.gate.thaw()
      disk.onSessions = () => {}
      this.tell({ kind: 'ended' })
    })
  }

  #prepareMessage(): PrepareMessage {
    const { record, disk } = this
    return {
      migration: record.id,
      disk: {
        id: disk.record.id,
        name: disk.name,
        sizeBytes: disk.sizeBytes,
        generation: disk.record.generation,
        allocatedBytes: disk.allocatedBytes(),
      },
      terms: {
        mode: 'post-copy',
        switchover: record.switchover as PrepareMessage['terms']['switchover'],
        switchoverWaitMs: record.switchoverWaitMs,
        maxRate: record.maxRate,
        stallTimeoutMs: record.stallTimeoutMs,
        sourcePolicy: record.sourcePolicy,
      },
    }
  }

  get readyMessage(): string {
    const { switchover, diskName } = this.record
    const byHand = `vmstore migration switchover ${this.id}`
    if (switchover === 'now') return `the destination serves ${diskName} and takes it over now`
    const open = `the destination serves ${diskName}: move the machine now`
    if (switchover === 'manual') return `${open}, and then: ${byHand}`
    const first = `${open}; its first write there switches over`
    const broken = this.disk.sessions.brokenReason()
    if (broken)
      return `${first}, once all is flushed here. But ${broken}: when the machine is off or has moved, ${byHand}`
    if (this.disk.sessions.count > 0) return first
    return `${first}. No client is attached here: if the machine is off, ${byHand}`
  }

  #inquire(): InquireAnswer {
    const { state } = this.record
    const answer = (word: InquireAnswer['state']): InquireAnswer => ({
      state: word,
      writersAreGone: this.disk.sessions.writersAreGone,
      sessions: this.disk.sessions.count,
    })
    if (state === 'cancelled' || state === 'failed') return answer('cancelled')
    if (state === 'done') return answer('released')
    if (this.disk.state === 'departed') return answer(this.disk.record.taken ? 'taken' : 'departed')
    if (this.#frozen) return answer('unknown')
    return answer(state === 'preparing' ? 'preparing' : 'ready')
  }

  /** Whether the disk is in this migration, and no other. */
  get #isCurrent(): boolean {
    return this.disk.record.migrationId === this.id
  }

  async #acquire(message: AcquireMessage): Promise<AcquireAnswer> {
    const { disk, record } = this
    if (record.state === 'cancelled' || record.state === 'failed') {
      return {
        answer: 'refused',
        code: 'cancelled',
        message: `migration ${this.id} is cancelled; the source owns ${disk.name}`,
      }
    }
    if (message.generation !== record.generation || !this.#isCurrent) {
      return {
        answer: 'refused',
        code: 'stale',
        message: `migration ${this.id} leads to generation ${record.generation}`,
      }
    }
    if (this.#reclaiming) return { answer: 'busy', why: 'the disk is being taken back there' }
    if (disk.state !== 'owned') return this.#grantAgain()
    if (record.state === 'preparing')
      return { answer: 'busy', why: 'the source has not recorded yet that all is prepared' }
    const mustBeQuiet = message.reason === 'guest-write' || message.reason === 'reader-only'
    this.#granting = true
    try {
      return await this.#grant(mustBeQuiet, message.reason === 'reader-only')
    } finally {
      this.#granting = false
    }
  }

  async #grant(mustBeQuiet: boolean, writersMustBeGone: boolean): Promise<AcquireAnswer> {
    const { disk } = this
    const startedMs = this.services.clock.now()
    const busy = () => {
      if (writersMustBeGone && !disk.sessions.writersAreGone) return 'a session that has written is open, or broke'
      if (!mustBeQuiet || this.#frozen) return undefined
      if (this.services.clock.now() < this.#returnsUntilMs)
        return 'this site has just started, and clients may be coming back'
      return disk.sessions.busyReason()
    }
    const busyBefore = busy()
    if (busyBefore) return { answer: 'busy', why: busyBefore }
    if (!this.#frozen) {
      try {
        await disk.flush() // The guest goes on meanwhile; what the freeze has to sync is then little.
      } catch (error) {
        return this.#syncFailed(error)
      }
      const busyAfter = busy()
      if (busyAfter) return { answer: 'busy', why: busyAfter }
      await disk.gate.freeze()
      this.#frozen = true
      try {
        await disk.flush()
      } catch (error) {
        this.#frozen = false
        disk.gate.thaw()
        return this.#syncFailed(error)
      }
      // A write that came while it froze is held, and nothing is on record yet: its guest runs, and goes on here.
      // So does one that has come and reads only.
      const came = writersMustBeGone && !disk.sessions.writersAreGone ? 'somebody has come back' : undefined
      const awoke = mustBeQuiet ? (disk.sessions.busyReason() ?? came) : undefined
      if (awoke) {
        this.#frozen = false
        disk.gate.thaw()
        return { answer: 'busy', why: awoke }
      }
    }
    await this.#commitDeparted(startedMs)
    this.#frozen = false
    disk.gate.thaw()
    this.tell({ kind: 'switchover' })
    return { answer: 'granted', generation: this.record.generation }
  }

  /** From the first attempt on there is no way back: the disk stays frozen until a record is durable. */
  async #commitDeparted(startedMs: number): Promise<void> {
    for (;;) {
      const { generation, peerSite } = this.record
      const switchoverMs = this.services.clock.now() - startedMs
      try {
        await this.update({ state: 'copying', switchedAt: this.now(), switchoverMs }, (change) =>
          this.disk.move('departed', { generation, owner: peerSite, taken: false }, [change]),
        )
        this.setNote(null)
        return
      } catch (error) {
        this.setNote(
          `the grant of ${this.disk.name} cannot be recorded (${(error as Error).message}); the disk stays frozen until it can`,
        )
        await this.services.clock.sleep(commitRetryMs, this.stopping.signal)
      }
    }
  }

  #grantAgain(): AcquireAnswer {
    const { disk, record } = this
    const ours =
      disk.state === 'departed' && disk.record.generation === record.generation && disk.record.owner === record.peerSite
    if (ours && !disk.record.taken) return { answer: 'granted', generation: record.generation }
    const message = `generation ${record.generation} of ${disk.name} was taken already; the site that asks was restored from an old copy`
    return { answer: 'refused', code: 'already-taken', message }
  }

  #syncFailed(error: unknown): AcquireAnswer {
    const message = `the source could not sync ${this.disk.name} (${(error as Error).message}) and goes on owning it`
    return { answer: 'refused', code: 'sync-failed', message }
  }

  /** Durable before it is answered: a destination that is restored to an earlier mark is known by it. */
  async #taken({ generation, mark, run }: ReturnType<typeof takenMessage.parse>): Promise<object> {
    this.#checkGeneration(generation)
    if (this.disk.state !== 'departed') return {}
    const { record } = this
    if (mark <= record.mark) {
      if (run !== record.markRun) throw restoredRefusal(record)
      return {} // Said again, or late.
    }
    await this.update({ mark, markRun: run }, (change) => this.disk.note({ taken: true }, [change]))
    return {}
  }

  async #complete(message: ReturnType<typeof completeMessage.parse>): Promise<object> {
    if (this.record.state === 'done') return this.#sentAnswer // Said again: the answer was lost.
    this.#checkGeneration(message.generation)
    if (this.disk.state === 'departed') {
      const { verified, differed } = message
      this.#hear(message)
      const ended = { state: 'done', endedAt: this.now(), counters: this.counters, verified, differed }
      await this.update(ended, (change) => this.disk.move('released', { migrationId: null, taken: true }, [change]))
      this.missingBytes = 0
      this.disk.onSessions = () => {}
    }
    this.tell({ kind: 'ended' })
    if (this.record.sourcePolicy === 'delete') {
      await this.disk.discardBytes().catch((error: unknown) => {
        this.services.log(
          'error',
          { disk: this.disk.name, error: String(error) },
          'the bytes of a released disk stay: delete the disk',
        )
      })
    }
    return this.#sentAnswer
  }

  async #digests({ generation, runs }: ReturnType<typeof digestsMessage.parse>): Promise<object> {
    const digests: string[] = []
    for (const run of runs) {
      this.#checkRight(generation)
      this.#checkRun(run)
      digests.push(digestOf(await readFrozen(this.disk, run)))
    }
    return { digests }
  }

  #progress(message: ReturnType<typeof progressMessage.parse>): object {
    const { missing, unreadable, paused, note } = message
    if (this.record.state !== 'copying') return this.#sentAnswer
    void this.#pausedThere(paused).catch(() => {}) // The next report says it again.
    this.meter.add(Math.max(this.missingBytes - missing, 0))
    this.missingBytes = missing
    this.#hear(message)
    this.unreadable = unreadable
    this.setNote(note)
    this.tell({ kind: 'progress' })
    return this.#sentAnswer
  }

  /** What landed is the destination's to say, what was sent is ours. */
  #hear({ data, sent, skippedZero, resent }: MigrationCounters): void {
    this.#count.atLeast({ sent, resent })
    this.#reported = { data, skippedZero, ...this.#count.now }
  }

  get #sentAnswer(): object {
    return { sent: this.counters.sent, resent: this.counters.resent }
  }

  async #cancelForPeer(): Promise<object> {
    try {
      await this.cancel()
      return { cancelled: true, message: '' }
    } catch (error) {
      if (error instanceof Refusal) return { cancelled: false, message: error.message }
      throw error
    }
  }

  #extents({ generation, offset, length }: { generation: number; offset: number; length: number }): object {
    this.#checkRight(generation)
    this.#checkRun({ offset, length })
    const extents = alignedExtents(this.disk, offset, length, extentsInAnswer)
    return { extents: extents.map((extent) => ({ length: extent.length, data: extent.data })) }
  }

  /** Before switchover the destination reads under the old generation, after it under the new one; never otherwise. */
  #checkRight(generation: number): void {
    const { disk, record } = this
    const before =
      generation === record.generation - 1 && disk.state === 'owned' && ['preparing', 'ready'].includes(record.state)
    const after =
      generation === record.generation && disk.state === 'departed' && record.state === 'copying' && !this.#reclaiming
    if (before || after) return
    throw new PeerRefusal(
      'no-right',
      `${disk.name} is ${disk.state} in generation ${disk.record.generation}; asked under ${generation}`,
    )
  }

  #checkRun(run: Run): void {
    const aligned =
      run.offset % 4096 === 0 && (run.length % 4096 === 0 || run.offset + run.length === this.disk.sizeBytes)
    if (aligned && run.length > 0 && run.offset + run.length <= this.disk.sizeBytes) return
    throw new PeerRefusal('bad-range', `${run.length} bytes at ${run.offset} are not whole blocks of ${this.disk.name}`)
  }

  #checkGeneration(generation: number): void {
    if (this.#reclaiming) throw new PeerRefusal(startingCode, `${this.disk.name} is being taken back`)
    if (this.#isCurrent && generation === this.record.generation && this.disk.state !== 'owned') return
    throw new PeerRefusal(
      'stale',
      `migration ${this.id} leads to generation ${this.record.generation}, not ${generation}`,
    )
  }

  #tooLate(what: string): Refusal {
    const { disk, record } = this
    if (record.state === 'preparing') {
      return new Refusal('not-ready', `migration ${this.id} of ${disk.name} is still being prepared`, {
        disk: disk.name,
        next: 'Try again in a moment.',
      })
    }
    return new Refusal('too-late', `migration ${this.id} of ${disk.name} cannot be ${what}: it is ${record.state}`, {
      disk: disk.name,
      safe: `Generation ${disk.record.generation} is owned by ${disk.record.owner}; nothing was changed.`,
      next: 'After switchover there is no cancel, only a move back once it is done.',
    })
  }

  #sessionsChanged(): void {
    if (this.record.switchover !== 'auto' || this.record.state !== 'ready') return
    if (this.disk.sessions.writersAreGone && !this.#tellingWritersGone) void this.#tellWritersGone()
  }

  /** Until the destination has heard it, or it is not so any more. */
  async #tellWritersGone(): Promise<void> {
    this.#tellingWritersGone = true
    const { signal } = this.stopping
    try {
      while (this.record.state === 'ready' && this.disk.sessions.writersAreGone) {
        if (await this.#inform('writers-gone')) return
        await this.services.clock.sleep(informTimeoutMs, signal)
      }
    } catch {
      // This site is stopping.
    } finally {
      this.#tellingWritersGone = false
    }
  }

  /** Tells the destination something, within a time. Resolves to whether it has heard it. */
  async #inform(method: string): Promise<boolean> {
    const timeout = new AbortController()
    const { clock, log } = this.services
    const late = clock.sleep(informTimeoutMs, timeout.signal).then(
      () => timeout.abort(),
      () => {},
    )
    try {
      const signal = AbortSignal.any([timeout.signal, this.stopping.signal])
      await this.channel.call(method, { migration: this.id }, { signal })
      return true
    } catch (error) {
      if (!(error instanceof LinkError)) {
        log('warn', { migration: this.id, method, error: String(error) }, 'the destination did not take a message')
      }
      return false
    } finally {
      timeout.abort()
      await late
    }
  }

  /** Runs what may change state one after the other. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}
