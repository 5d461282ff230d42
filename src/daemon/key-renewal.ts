// `vmstore peer rekey`: this site gets another key. Its peers are told first, signed with the present key; then it is decided;
// then all that the old key had to sign is put on record, and the new key takes its place.
//
// What always holds:
// - Before the decision nothing has changed but what peers trust besides. After it there is no way back, and none is needed:
//   what fails is tried again, and a start goes on with it (renewed-disk.ts).
// - From the first word to peers until the new key is in place no move begins here, and no disk is made.

import type { Logger } from 'pino'
import type { Clock } from '../block/clock.ts'
import type { RekeyRequest, RekeyView } from '../control/types.ts'
import type { Disks } from '../disk/disks.ts'
import { commitTogether } from '../disk/plan.ts'
import { Refusal } from '../disk/refusal.ts'
import { LinkError, PeerRefusal } from '../link/channel.ts'
import { diskNames } from '../migration/move.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import { unlessAborted } from '../migration/unless-aborted.ts'
import { withinTime } from '../migration/within-time.ts'
import type { Identity } from '../peer/identity.ts'
import type { KeyFiles } from '../peer/key-renewal.ts'
import { stateRenewal } from '../peer/renewal-statement.ts'
import type { Change, DiskRecord, MigrationRecord, PeerRecord } from '../store/records.ts'
import { notConfirmed, notFinished, peerRefuses, peersAway } from './key-renewal-words.ts'
import type { Links } from './links.ts'
import type { OwnIdentity } from './own-identity.ts'
import type { PeerBook } from './peer-book.ts'
import { type Renaming, renamedMigration } from './renamed-records.ts'
import { movesUnderWay, movesUntold } from './renewal-moves.ts'
import { renewedDisk } from './renewed-disk.ts'

const reachTimeoutMs = 5000
const finishRetryMs = 5000
/** How long the operator waits for what is decided to be recorded. */
const finishTimeoutMs = 20_000
/** After each attempt to reach a peer under the new key. */
const relinkDelaysMs = [100, 500, 1000, 2000, 5000, 10_000]

export interface KeyRenewalParts {
  readonly own: OwnIdentity
  readonly keys: KeyFiles
  readonly disks: Disks
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly links: Links
  readonly clock: Clock
  readonly log: Logger
  commit(changes: readonly Change[]): Promise<void>
  /** What lies beside served images, and names this site. */
  renameNotes(records: readonly DiskRecord[], renaming: Renaming): Promise<void>
}

export class KeyRenewal {
  readonly #parts: KeyRenewalParts
  readonly #stopping = new AbortController()
  #isUnderWay = false
  #finishing: Promise<void> | undefined

  constructor(parts: KeyRenewalParts) {
    this.#parts = parts
  }

  /** @throws Refusal while the key is being renewed: no move begins, and no disk is made */
  checkIdle(): void {
    if (!this.#isUnderWay) return
    throw new Refusal('rekeying', 'the key of this site is being renewed', {
      toPeer: 'the key of that site is being renewed',
      safe: 'Nothing was changed.',
      next: 'Try again in a moment.',
    })
  }

  stop(): void {
    this.#stopping.abort(new Error('this site is stopping'))
  }

  async rekey({ confirmed, force }: RekeyRequest, signal: AbortSignal): Promise<RekeyView> {
    this.checkIdle()
    this.#checkNothingMoves()
    const away = await this.#away(signal)
    this.#checkAllTold(away)
    if (away.length > 0 && !force) throw peersAway(away)
    if (!confirmed)
      throw notConfirmed(
        this.#parts.book.all().filter((peer) => !away.includes(peer)),
        away,
      )
    this.checkIdle()
    this.#isUnderWay = true
    try {
      return await this.#renew(away, force, signal)
    } finally {
      if (!this.#finishing) this.#isUnderWay = false
    }
  }

  async #renew(away: readonly PeerRecord[], force: boolean, signal: AbortSignal): Promise<RekeyView> {
    const { own, keys, book } = this.#parts
    using claims = new DisposableStack()
    for (const disk of this.#parts.disks.all()) claims.use(disk.reserve('the key of this site is being renewed'))
    this.#checkNothingMoves()
    const before = own.now
    const next = await keys.prepare()
    const lost = new Set(away.map(({ fingerprint }) => fingerprint))
    try {
      await this.#tellAll(next, lost, signal)
      const nowAway = book.all().filter(({ fingerprint }) => lost.has(fingerprint))
      if (nowAway.length > away.length && !force) throw peersAway(nowAway)
      this.#checkNothingMoves()
    } catch (error) {
      await keys.forget()
      throw error
    }
    await keys.decide()
    const [stayed, told] = [book.all().filter((peer) => lost.has(peer.fingerprint)), [] as PeerRecord[]]
    for (const peer of book.all()) if (!lost.has(peer.fingerprint)) told.push(peer)
    await this.#finished(next, told, claims.move(), signal)
    return {
      before: { id: before.siteId, fingerprint: before.fingerprint },
      after: { id: next.siteId, fingerprint: next.fingerprint },
      told: told.map(({ name }) => name),
      away: stayed.map(({ name }) => name),
    }
  }

  /** Resolves when what was decided is done. Rejects when that takes too long; it goes on all the same. */
  async #finished(next: Identity, told: readonly PeerRecord[], claims: Disposable, signal: AbortSignal): Promise<void> {
    const finishing = this.#finish(next).finally(() => claims[Symbol.dispose]())
    this.#finishing = finishing
    const over = finishing.then(() => {
      this.#finishing = undefined
      this.#isUnderWay = false
      this.#linkAnew(told)
    })
    over.catch(() => {}) // This site stops: the next start goes on with it.
    await withinTime(this.#parts.clock, finishTimeoutMs, signal, (limited) => unlessAborted(over, limited)).catch(
      (error: unknown) => {
        throw notFinished(error)
      },
    )
  }

  /** What was decided, again and again until it is done. Rejects when this site stops. */
  async #finish(next: Identity): Promise<void> {
    const { own, keys, disks, clock, log, renameNotes } = this.#parts
    const present = own.now
    for (;;) {
      try {
        if (own.now !== next) await this.#record(next)
        await renameNotes(
          disks.all().map(({ record }) => record),
          { before: present, after: next },
        )
        await keys.replace()
        log.info({ site: next.siteId, fingerprint: next.fingerprint }, 'the key of this site is renewed')
        return
      } catch (error) {
        log.error(
          { error: String(error) },
          'the renewed key of this site cannot be put in place yet: it is tried again',
        )
        await clock.sleep(finishRetryMs, this.#stopping.signal)
      }
    }
  }

  /** In one transaction all that the old key has to sign; from then on this site is the next one. */
  async #record(next: Identity): Promise<void> {
    const { own, disks, migrations, clock, commit } = this.#parts
    const renaming: Renaming = { before: own.now, after: next }
    const at = clock.date().toISOString()
    const change = (now: DiskRecord) => renewedDisk(now, renaming, own.key, at)
    const isNamed = ({ owner, state }: DiskRecord) => owner === own.siteId || state === 'owned'
    const plans = disks.all().flatMap((disk) => (isNamed(disk.record) ? [disk.rewrite(change)] : []))
    const past = migrations.past().flatMap((each) => renamedMigration(each, renaming) ?? [])
    const changes = past.map((record) => ({ put: 'migration' as const, record }))
    const committed = () => {
      own.become(next)
      migrations.renamed(past)
    }
    if (plans.length > 0) await commitTogether(plans, changes, committed)
    else {
      await commit(changes)
      committed()
    }
  }

  /** Whoever was told knows the new key when it shows: it is shown to those who can be dialled, and the others dial. */
  #linkAnew(told: readonly PeerRecord[]): void {
    const { links, book } = this.#parts
    for (const { fingerprint } of book.all()) links.hub.drop(fingerprint, 'the key of this site was renewed')
    for (const { fingerprint, address } of told) if (address !== null) void this.#reach(fingerprint)
  }

  async #reach(peerId: string): Promise<void> {
    const { links, clock, book } = this.#parts
    for (const delayMs of relinkDelaysMs) {
      try {
        if (book.has(peerId)) await links.hub.probe(peerId, { signal: this.#stopping.signal })
        return
      } catch {
        if (this.#stopping.signal.aborted) return
        await clock.sleep(delayMs, this.#stopping.signal).catch(() => {})
      }
    }
  }

  /** @throws Refusal */
  #checkNothingMoves(): void {
    const { migrations, disks } = this.#parts
    const facts = { safe: 'Nothing was changed.', next: 'Wait for its end, or cancel it; then renew the key.' }
    const [move] = movesUnderWay(migrations)
    if (move)
      throw new Refusal(
        'migrating',
        `migration ${move.id} of ${diskNames(move)} is under way under the present key`,
        facts,
      )
    const [name] = disks.namesInMaking
    if (name === undefined) return
    throw new Refusal('disk-busy', `${name} is being made under the present key`, { ...facts, disk: name })
  }

  /** Who is there is told in a moment. @throws Refusal */
  #checkAllTold(away: readonly PeerRecord[]): void {
    const isAway = ({ peerId }: MigrationRecord) => away.some(({ fingerprint }) => fingerprint === peerId)
    const untold = movesUntold(this.#parts.migrations).find(
      (each) => !isAway(each) && this.#parts.book.has(each.peerId),
    )
    if (!untold) return
    const message = `the source of migration ${untold.id}, of ${diskNames(untold)}, is still to be told that it is over`
    throw new Refusal('migrating', message, { safe: 'Nothing was changed.', next: 'Try again in a moment.' })
  }

  async #away(signal: AbortSignal): Promise<readonly PeerRecord[]> {
    const { book, links, clock } = this.#parts
    const peers = await Promise.all(
      book.all().map((peer) =>
        withinTime(clock, reachTimeoutMs, signal, (limited) =>
          links.hub.probe(peer.fingerprint, { signal: limited }),
        ).then(
          () => [],
          () => [peer],
        ),
      ),
    )
    signal.throwIfAborted()
    return peers.flat()
  }

  /** Tells everybody but those in `lost`, to which it adds who cannot be reached. @throws Refusal when a peer says no */
  async #tellAll(next: Identity, lost: Set<string>, signal: AbortSignal): Promise<void> {
    const { own, book, clock, links } = this.#parts
    const statement = stateRenewal(own.now, next.fingerprint, clock.date())
    const tell = async (peer: PeerRecord) => {
      const channel = links.hub.channel(peer.fingerprint)
      try {
        await withinTime(clock, reachTimeoutMs, signal, (limited) =>
          channel.call('rekey', statement, { signal: limited }),
        )
      } catch (error) {
        if (error instanceof PeerRefusal) throw peerRefuses(peer, error)
        if (!(error instanceof LinkError)) throw error
        lost.add(peer.fingerprint)
      }
    }
    const asked = book.all().filter(({ fingerprint }) => !lost.has(fingerprint))
    const answers = await Promise.allSettled(asked.map(tell))
    for (const answer of answers) if (answer.status === 'rejected') throw answer.reason
  }
}
