// A peer that lies: it is paired with every site, owns nothing, and has read every deed and record there is. At any time it claims
// deeds (of its own making, of others, cut, grown, forked, signed anew), returns disks under them, repeats the ids of moves, and
// speaks for moves that are others'. What it is asked it answers with another lie.
//
// What always holds: it has its own key and no other: what it shows of an honest site is what that site has signed.

import { headOf, standingOf } from '../../src/deed/deed.ts'
import { canonicalBytes, type Deed, hashOf, type Unsigned } from '../../src/deed/entries.ts'
import { signBytes } from '../../src/deed/keys.ts'
import { signAdopted, signGiven, signMade, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { AnswerWithBody, type PeerHandlers, PeerRefusal } from '../../src/link/channel.ts'
import { type Random, seededRandom } from '../random.ts'
import { keyOf, peerIdOf, siteOf } from './keys.ts'
import type { SimEnd } from './sim-link.ts'
import type { SimSite } from './sim-site.ts'
import { sizeBytes } from './stage.ts'
import { SimProcess, type World } from './world.ts'

export const liarName = 'M'
/** So many steps of the world between two lies. */
const longestWait = 15
/** Lies are bounded: each is dealt with. */
const mostLies = 400
/** A lie that is not answered is not waited for. */
const patience = 50
const at = '2026-01-01T00:00:00.000Z'
/** The last that there is. */
const farGeneration = 2 ** 48
const generationWords = [1, 2, 3, 4, farGeneration]
const run = '00000000-0000-4000-8000-00000000beef'

export interface LiarStage {
  readonly world: World
  readonly sites: readonly SimSite[]
  /** Those of the honest sites. */
  readonly diskIds: readonly string[]
}

export class Liar {
  readonly process = new SimProcess('liar')
  lies = 0
  /** Deeds that it was asked for. */
  shown = 0
  readonly #stage: LiarStage
  /** Its own, so that a run without it is the same as before. */
  readonly #random: Random
  readonly #key = keyOf(liarName)
  /** Every deed that was on record anywhere, by its last entry. */
  readonly #seen = new Map<string, Deed>()

  constructor(stage: LiarStage) {
    this.#stage = stage
    this.#random = seededRandom(stage.world.seed ^ 0x1a2b3c)
    for (const site of stage.sites) site.strangers.set(peerIdOf(liarName), () => this.#end)
  }

  /** Until the run is over. */
  async roam(isOver: () => boolean): Promise<void> {
    const { world } = this.#stage
    while (!isOver() && this.lies < mostLies) {
      for (let wait = this.#random.integer(longestWait); wait > 0 && !isOver(); wait--)
        await world.event(this.process, 'liar waits')
      if (!isOver()) await this.#lie()
    }
  }

  async #lie(): Promise<void> {
    const { sites, world } = this.#stage
    this.#learn()
    const site = this.#random.pick(sites)
    const { process } = site
    if (!site.end) return
    const [method, params] = this.#random.chance(0.5) ? this.#aboutDisks(site) : this.#aboutMoves()
    world.log(`liar: ${method} to ${site.name} ${JSON.stringify(params).slice(0, 200)}`)
    this.lies++
    let isOver = false
    const over = () => {
      isOver = true
    }
    site.end.handlers.call(liarName, method, params, new AbortController().signal).then(over, over)
    for (let steps = 0; steps < patience && !isOver && process.alive; steps++)
      await world.event(this.process, 'liar listens')
  }

  /** All that there is to know. */
  #learn(): void {
    for (const site of this.#stage.sites)
      for (const { deed, offered } of site.database.disk.values())
        for (const each of [deed, offered]) if (each) this.#seen.set(headOf(each), each)
  }

  /** A site that never had a disk takes any other of that id: nothing is known of it there. It is not offered that. */
  #aboutDisks(site: SimSite): readonly [string, object] {
    const disk = this.#random.pick(this.#stage.diskIds)
    const deed = this.#deedOf(disk)
    const isKnown = site.database.disk.get(disk)?.deed != null
    if (!isKnown || this.#random.chance(0.6)) {
      const claims = [{ disk, head: headOf(deed), length: deed.length }]
      return ['generations', { claims }]
    }
    const { generation } = standingOf(deed)
    const offer = { id: disk, name: 'web01', sizeBytes, generation, allocatedBytes: 0, head: headOf(deed) }
    const own = { ...offer, id: '00000000-0000-4000-8000-0000000000ff', name: 'theirs' }
    const isOwn = this.#random.chance(0.3)
    return ['prepare', { migration: this.#move(), disks: [isOwn ? own : offer], terms, boot: 'liar' }]
  }

  /** In the words of either side of a move. */
  #aboutMoves(): readonly [string, object] {
    const disk = this.#random.pick(this.#stage.diskIds)
    const generation = this.#random.pick(generationWords)
    const of = { migration: this.#move(), disks: [{ disk, generation }] }
    const { migration } = of
    const counters = { data: 0, sent: 0, skippedZero: 0, resent: 0 }
    const signed = { by: this.#key.publicKey, signature: signBytes(this.#key, Buffer.from('lie')) }
    const reason = this.#random.pick(['operator', 'resume', 'guest-write'])
    return this.#random.pick<readonly [string, object]>([
      ['request', { disks: ['web01'], terms: { ...terms, switchover: 'now', force: true } }],
      ['acquire', { ...of, reason, force: true }],
      ['taken', { ...of, mark: 2 ** 40, run, ...signed }],
      [
        'complete',
        {
          migration,
          disks: [{ disk, generation, ...counters, verified: true, differed: [] }],
          copyingMs: 0,
          ...signed,
        },
      ],
      ['cancel', { migration }],
      ['cancelled', { migration }],
      ['switchover', { migration, force: true }],
      ['pause', { migration, paused: true }],
      ['paused', { migration, paused: true }],
      ['writers-gone', { migration }],
      ['flush', { migration, disk, generation }],
      ['extents', { migration, disk, generation, offset: 0, length: 4096 }],
    ])
  }

  /** One that a site knows, mostly. */
  #move(): string {
    const known = this.#stage.sites.flatMap(({ database }) => [...database.migration.keys()])
    const fresh = `00000000-0000-4000-8000-${String(9_000_000 + this.lies).padStart(12, '0')}`
    return known.length > 0 && this.#random.chance(0.6) ? this.#random.pick(known) : fresh
  }

  /** Of whatever it has seen, something that nobody has signed so; or what somebody has, of another time or disk. */
  #deedOf(disk: string): Deed {
    const all = [...this.#seen.values()]
    const honest = all.filter((deed) => deed[0]!.disk === disk && !this.#isMine(deed))
    const base = honest.length > 0 ? this.#random.pick(honest) : signMade(this.#key, disk, at)
    const made = this.#random.pick<() => Deed>([
      () => signMade(this.#key, disk, at),
      () => base,
      () => (all.length > 0 ? this.#random.pick(all) : base),
      () => base.slice(0, 1 + this.#random.integer(base.length)),
      () => this.#grown(base),
      () => this.#forged(base),
      () => this.#signedAnew(base),
      () => this.#takenBack(disk, base, () => signMade(this.#key, disk, at)),
      () => this.#takenBack(disk, base, (before) => signAdopted(this.#key, disk, before, at)),
      () => base.map((entry, index) => (index === base.length - 1 ? { ...entry, generation: farGeneration } : entry)),
    ])()
    this.#seen.set(headOf(made), made)
    return made
  }

  #isMine(deed: Deed): boolean {
    return deed.some(({ by }) => by === this.#key.publicKey)
  }

  /** One more entry, signed by who never had it. */
  #grown(base: Deed): Deed {
    const { head, generation } = standingOf(base)
    const common = { disk: base[0]!.disk, at, by: this.#key.publicKey, previous: head }
    const gift = { to: this.#key.fingerprint, toSite: 'liar', move: run }
    const unsigned = this.#random.pick<Unsigned>([
      { kind: 'given', generation: generation + 1, ...common, ...gift },
      { kind: 'taken-back', generation: generation + 1, ...common, undoes: head, word: 'mine' },
      { kind: 'released', generation, ...common },
      { kind: 'rekeyed', generation, ...common, to: this.#key.fingerprint },
    ])
    return [...base, { ...unsigned, signature: signBytes(this.#key, canonicalBytes(unsigned)) } as Deed[number]]
  }

  /** One more entry, in the name of who holds it, and not signed by that key. */
  #forged(base: Deed): Deed {
    const { head, generation, holder } = standingOf(base)
    const { publicKey: by } = keyOf(siteOf(holder))
    const common = { disk: base[0]!.disk, at, by, previous: head, to: this.#key.fingerprint }
    const unsigned: Unsigned = { kind: 'given', generation: generation + 1, ...common, toSite: 'liar', move: run }
    return [...base, { ...unsigned, signature: signBytes(this.#key, canonicalBytes(unsigned)) }]
  }

  /** The whole of it, as if it had been the liar's from the beginning; and given on, at last. */
  #signedAnew(base: Deed): Deed {
    const entries: Deed[number][] = []
    for (const entry of base) {
      const before = entries.at(-1)
      const { signature: _, ...rest } = entry
      const unsigned = { ...rest, by: this.#key.publicKey, previous: before ? hashOf(before) : null } as Unsigned
      entries.push({ ...unsigned, signature: signBytes(this.#key, canonicalBytes(unsigned)) } as Deed[number])
    }
    return entries
  }

  /** It says that it had the disk, gave it to whoever holds it, and took it back, or let it go; every signature is right. */
  #takenBack(disk: string, base: Deed, root: (generation: number) => Deed): Deed {
    const { holder, generation } = standingOf(base)
    const begun = root(Math.min(Math.max(1, generation - 1), farGeneration - 3))
    const given = signGiven(this.#key, begun, { to: holder, toSite: 'victim', move: disk }, at)
    return this.#random.chance(0.8) ? signTakenBack(this.#key, given, 'mine', at) : signReleased(this.#key, given, at)
  }

  // ---- what it answers

  get #end(): SimEnd {
    const call: PeerHandlers['call'] = async (_peerId, method, params) => {
      const { disk, head } = params as { readonly disk: string; readonly head: string | null }
      if (method === 'deed') return this.#show(disk, head)
      if (method === 'generations') return { claims: [] }
      throw new PeerRefusal('superseded', 'a later generation is elsewhere', {
        generation: farGeneration,
        owner: 'liar',
      })
    }
    const handlers: PeerHandlers = {
      call,
      fetch: () => {
        throw new PeerRefusal('no-right', 'no')
      },
    }
    return { process: this.process, handlers, desk: () => this.#desk }
  }

  #show(disk: string, head: string | null): AnswerWithBody {
    const bytes = Buffer.from(JSON.stringify(this.#shown(disk, head)))
    return new AnswerWithBody({ bytes: bytes.length }, [bytes])
  }

  #shown(disk: string, head: string | null): Deed {
    this.shown++
    const asked = head === null ? undefined : this.#seen.get(head)
    return asked && this.#random.chance(0.8) ? asked : this.#deedOf(disk)
  }

  /** Where the sites speak by no link. */
  get #desk(): ReturnType<SimEnd['desk']> {
    const refuse = () => Promise.reject(new PeerRefusal('unknown-method', 'no'))
    return {
      generations: async () => [],
      deed: async (disk, head) => this.#shown(disk, head),
      request: refuse,
      estimate: refuse,
      prepare: refuse,
      standing: refuse,
      source: () => {
        throw new PeerRefusal('unknown-method', 'no')
      },
      destination: () => {
        throw new PeerRefusal('unknown-method', 'no')
      },
    }
  }
}

const terms = {
  mode: 'post-copy',
  switchover: 'auto',
  switchoverWaitMs: 10_000,
  maxRate: null,
  stallTimeoutMs: null,
  sourcePolicy: 'delete',
  force: false,
}
