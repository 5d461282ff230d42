// The other site over a link, both ways: what this site asks and tells goes out as calls and fetches of a channel, and what
// comes in goes to this site's desk. The only place that knows the names of the calls, their shapes, and the channel.
//
// What always holds: what comes is checked before anybody here sees it. An answer that cannot be understood is none: what
// that site has done is not known.

import type { z } from 'zod'
import { BlockMap } from '../block/block-map.ts'
import { shortDigestBytes } from '../block/digest.ts'
import { encodeMap, encodeMaps, longestMapBytes, MapReader } from '../block/map-codec.ts'
import { spanOf } from '../block/span.ts'
import {
  AnswerWithBody,
  LinkError,
  type LongAnswer,
  type PeerChannel,
  type PeerHandlers,
  PeerRefusal,
  wholeBody,
} from '../link/channel.ts'
import type { AcquireAnswer, Acquisition, Counterpart, DestinationDesk, SiteDesk, SourceDesk } from './counterpart.ts'
import * as shapes from './over-link-messages.ts'

/** The site at the other end of a channel. What it says is had from it alone: nothing of it outlives it. */
export function overLink(channel: PeerChannel): Counterpart {
  const ask: Ask = async (method, params, shape, signal) => {
    const answer = shape.safeParse(await channel.call(method, params, { signal }))
    if (answer.success) return answer.data
    throw notUnderstood(method)
  }
  return {
    peerId: channel.peerId,
    generations: async (claims, signal) => (await ask('generations', { claims }, shapes.claimsMessage, signal)).claims,
    async deed(disk, head, signal) {
      const maximumBytes = shapes.deedBytes
      const { answer, body } = await channel.callForBody('deed', { disk, head }, { maximumBytes, signal })
      const found = shapes.deedAnswer.safeParse(answer)
      if (!found.success) {
        await body.return?.() // As of digests.
        throw notUnderstood('deed')
      }
      const text = (await wholeBody(body, found.data.bytes)).toString()
      try {
        return JSON.parse(text) as unknown
      } catch {
        throw notUnderstood('deed')
      }
    },
    request: async (disks, terms, signal) =>
      (await ask('request', { disks, terms }, shapes.requestAnswer, signal)).migration,
    estimate: (disks, terms, signal) => ask('estimate', { disks, terms }, shapes.estimateAnswer, signal),
    prepare: async (preparation, signal) => void (await ask('prepare', preparation, shapes.nothing, signal)),
    standing: (migration, signal) => ask('standing', { migration }, shapes.standingAnswer, signal),
    source: (migration) => sourceOverLink(channel, ask, migration),
    destination: (migration) => destinationOverLink(ask, migration),
  }
}

function notUnderstood(method: string): LinkError {
  return new LinkError('protocol', `its answer to ${method} cannot be understood`)
}

type Ask = <Answer>(method: Method, params: object, shape: z.ZodType<Answer>, signal: AbortSignal) => Promise<Answer>

function sourceOverLink(channel: PeerChannel, ask: Ask, migration: string): SourceDesk {
  const tell = async (method: Method, params: object, signal: AbortSignal) =>
    void (await ask(method, { migration, ...params }, shapes.nothing, signal))
  return {
    inquire: (signal) => ask('inquire', { migration }, shapes.inquireAnswer, signal),
    acquire: (asked, signal) => acquireOverLink(channel, migration, asked, signal),
    track: (disk, copied, signal) => ask('track', { migration, ...disk, copied }, shapes.trackAnswer, signal),
    async collect(asked, signal) {
      const blocks = spanOf(asked.run.offset, asked.run.length).end
      const options = { maximumBytes: longestMapBytes(blocks), signal }
      const { answer, body } = await channel.callForBody('collect', { migration, ...asked }, options)
      const { left } = await understood('collect', shapes.collectAnswer, answer, body)
      const [map] = await mapsIn(body, 'collect', [blocks])
      return { spans: [...map!.runs(0, blocks, true)], left }
    },
    flush: (disk, signal) => ask('flush', { migration, ...disk }, shapes.flushAnswer, signal),
    taken: (said, signal) => tell('taken', said, signal),
    async extents(disk, { offset, length }, signal) {
      const params = { migration, ...disk, offset, length }
      const { extents } = await ask('extents', params, shapes.extentsAnswer, signal)
      let at = offset
      return extents.map((extent) => {
        const placed = { offset: at, length: extent.length, data: extent.data }
        at += extent.length
        return placed
      })
    },
    async digests(disk, runs, signal, stepBytes) {
      const digestBytes = stepBytes === undefined ? shapes.digestBytes : shortDigestBytes
      const count = runs.reduce((sum, { length }) => sum + Math.ceil(length / (stepBytes ?? length)), 0)
      const maximumBytes = count * digestBytes
      const params = { migration, ...disk, runs, ...(stepBytes !== undefined && { stepBytes }) }
      const { answer, body } = await channel.callForBody('digests', params, { maximumBytes, signal })
      await understood('digests', shapes.digestsAnswer, answer, body)
      const all = await wholeBody(body, maximumBytes)
      return Array.from({ length: count }, (_, at) => all.toString('base64', at * digestBytes, (at + 1) * digestBytes))
    },
    blocks: (disk, runs, options) => channel.fetch({ migration, ...disk, runs }, options),
    progress: async (said, signal) => (await ask('progress', { migration, ...said }, shapes.sentAnswer, signal)).disks,
    guests: (guests, signal) => tell('guests', { guests }, signal),
    paused: (paused, signal) => tell('paused', { paused }, signal),
    async complete(said, signal) {
      const { disks, released } = await ask('complete', { migration, ...said }, shapes.completeAnswer, signal)
      return { answer: 'released', disks, released }
    },
    cancel: (signal) => ask('cancel', { migration }, shapes.cancelAnswer, signal),
  }
}

/** The answer, if it is one. Else nobody reads its body: the request would be under way, and hold its bytes, until it is given up. */
async function understood<Answer>(
  method: Method,
  shape: z.ZodType<Answer>,
  answer: unknown,
  body: LongAnswer['body'],
): Promise<Answer> {
  const parsed = shape.safeParse(answer)
  if (parsed.success) return parsed.data
  await body.return?.()
  throw notUnderstood(method)
}

/** The maps that a body has, of disks of so many blocks, and nothing else. */
async function mapsIn(body: LongAnswer['body'], method: Method, blocksOfEach: readonly number[]): Promise<BlockMap[]> {
  const reader = new MapReader(body)
  try {
    const maps: BlockMap[] = []
    for (const blocks of blocksOfEach) maps.push(await reader.next(blocks))
    await reader.end()
    return maps
  } catch (error) {
    await body.return?.()
    if (error instanceof RangeError) throw notUnderstood(method)
    throw error
  }
}

async function acquireOverLink(
  channel: PeerChannel,
  migration: string,
  asked: Acquisition,
  signal: AbortSignal,
): Promise<AcquireAnswer> {
  const blocksOf = new Map(asked.disks.map(({ disk, copied }) => [disk, copied?.blocks]))
  const maximumBytes = asked.disks.reduce((sum, { copied }) => sum + (copied ? longestMapBytes(copied.blocks) : 0), 0)
  const { answer, body } = await channel.callForBody('acquire', { migration, ...asked }, { maximumBytes, signal })
  const said = await understood('acquire', shapes.acquireAnswer, answer, body)
  const mapped = said.answer === 'granted' ? said.disks.filter((disk) => disk.final) : []
  const blocks = mapped.map(({ disk }) => blocksOf.get(disk))
  if (blocks.includes(undefined)) {
    await body.return?.()
    throw notUnderstood('acquire') // A map that nobody asked for.
  }
  const maps = await mapsIn(body, 'acquire', blocks as number[])
  if (said.answer !== 'granted') return said
  const disks = said.disks.map(({ final, ...disk }) => {
    if (!final) return disk
    return { ...disk, final: { ...final, dirty: maps[mapped.findIndex((each) => each.disk === disk.disk)]! } }
  })
  return { ...said, disks }
}

/** As it leaves: the maps of the disks that have one are the body, in the order of the disks. */
function acquireAnswered(answer: AcquireAnswer): object {
  if (answer.answer !== 'granted') return answer
  const maps = answer.disks.flatMap(({ final }) => final?.dirty ?? [])
  const disks = answer.disks.map(({ final, ...disk }) => (final ? { ...disk, final: { epoch: final.epoch } } : disk))
  const said = { ...answer, disks }
  return maps.length > 0 ? new AnswerWithBody(said, encodeMaps(maps)) : said
}

function destinationOverLink(ask: Ask, migration: string): DestinationDesk {
  const tell = async (method: Method, params: object, signal: AbortSignal) =>
    void (await ask(method, { migration, ...params }, shapes.nothing, signal))
  return {
    cancelled: (signal) => tell('cancelled', {}, signal),
    switchover: (force, signal) => tell('switchover', { force }, signal),
    pause: (paused, signal) => tell('pause', { paused }, signal),
    setMaxRate: (maxRate, signal) => tell('max-rate', { maxRate }, signal),
    writersGone: (signal) => tell('writers-gone', {}, signal),
  }
}

/** What comes over a link from peers goes to the desk that each of them finds here. @throws what `deskFor` throws */
export function answersOverLink(deskFor: (peerId: string) => SiteDesk): PeerHandlers {
  return {
    async call(peerId, method, params, signal) {
      const desk = deskFor(peerId)
      if (!Object.hasOwn(answers, method)) throw new PeerRefusal('unknown-method', `this site does not know ${method}`)
      return answers[method as Method](desk, params, signal)
    },
    fetch(peerId, { migration, disk, generation, runs }, urgency, signal) {
      return deskFor(peerId).source(migration).blocks({ disk, generation }, runs, { urgency, signal })
    },
  }
}

const noRelease = { disks: [], released: [] }
const bodyPartBytes = 65_536

function* partsOf(bytes: Buffer): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += bodyPartBytes) yield bytes.subarray(at, at + bodyPartBytes)
}

type Answer = (desk: SiteDesk, params: unknown, signal: AbortSignal) => Promise<object>
type Method = keyof typeof answers

/** Told, and not asked: there is nothing to say but that it was heard. */
async function heard(work: Promise<void>): Promise<object> {
  await work
  return {}
}

/** A call of a migration, of which everything but its name goes to the desk. */
function ofSource<Said extends { migration: string }>(
  shape: z.ZodType<Said>,
  answer: (source: SourceDesk, said: Omit<Said, 'migration'>, signal: AbortSignal) => Promise<object>,
): Answer {
  return async (desk, params, signal) => {
    const { migration, ...said } = shape.parse(params)
    return answer(desk.source(migration), said, signal)
  }
}

function ofDestination<Said extends { migration: string }>(
  shape: z.ZodType<Said>,
  tell: (destination: DestinationDesk, said: Omit<Said, 'migration'>, signal: AbortSignal) => Promise<void>,
): Answer {
  return async (desk, params, signal) => {
    const { migration, ...said } = shape.parse(params)
    return heard(tell(desk.destination(migration), said, signal))
  }
}

const answers = {
  generations: async (desk, params, signal) => ({
    claims: await desk.generations(shapes.claimsMessage.parse(params).claims, signal),
  }),
  deed: async (desk, params, signal) => {
    const { disk, head } = shapes.deedMessage.parse(params)
    const bytes = Buffer.from(JSON.stringify(await desk.deed(disk, head, signal)))
    const answer: shapes.DeedAnswer = { bytes: bytes.length }
    return new AnswerWithBody(answer, partsOf(bytes))
  },
  request: async (desk, params, signal) => {
    const { disks, terms } = shapes.requestMessage.parse(params)
    return { migration: await desk.request(disks, terms, signal) }
  },
  estimate: async (desk, params, signal) => {
    const { disks, terms } = shapes.estimateMessage.parse(params)
    return desk.estimate(disks, terms, signal)
  },
  prepare: (desk, params, signal) => heard(desk.prepare(shapes.prepareMessage.parse(params), signal)),
  standing: async (desk, params, signal) => desk.standing(shapes.migrationMessage.parse(params).migration, signal),

  inquire: ofSource(shapes.migrationMessage, (source, _, signal) => source.inquire(signal)),
  acquire: ofSource(shapes.acquireMessage, async (source, asked, signal) =>
    acquireAnswered(await source.acquire(asked, signal)),
  ),
  track: ofSource(shapes.trackMessage, (source, { copied, ...disk }, signal) => source.track(disk, copied, signal)),
  collect: ofSource(shapes.collectMessage, async (source, asked, signal) => {
    const { spans, left } = await source.collect(asked, signal)
    const map = new BlockMap(spanOf(asked.run.offset, asked.run.length).end)
    for (const span of spans) map.add(span.first, span.end)
    return new AnswerWithBody({ left }, encodeMap(map))
  }),
  flush: ofSource(shapes.flushMessage, (source, disk, signal) => source.flush(disk, signal)),
  taken: ofSource(shapes.takenMessage, (source, said, signal) => heard(source.taken(said, signal))),
  extents: ofSource(shapes.extentsMessage, async (source, { disk, generation, ...run }, signal) => {
    const extents = await source.extents({ disk, generation }, run, signal)
    return { extents: extents.map(({ length, data }) => ({ length, data })) }
  }),
  digests: ofSource(shapes.digestsMessage, async (source, { runs, stepBytes, ...disk }, signal) => {
    const digests = await source.digests(disk, runs, signal, stepBytes)
    const answer: shapes.DigestsAnswer = { digests: digests.length }
    return new AnswerWithBody(answer, [Buffer.concat(digests.map((digest) => Buffer.from(digest, 'base64')))])
  }),
  progress: ofSource(shapes.progressMessage, async (source, said, signal) => ({
    disks: await source.progress(said, signal),
  })),
  guests: ofSource(shapes.guestsMessage, (source, { guests }, signal) => heard(source.guests(guests, signal))),
  paused: ofSource(shapes.pauseMessage, (source, { paused }, signal) => heard(source.paused(paused, signal))),
  complete: ofSource(shapes.completeMessage, async (source, said, signal) => {
    const release = await source.complete(said, signal)
    return release.answer === 'released' ? { disks: release.disks, released: release.released } : noRelease
  }),
  cancel: ofSource(shapes.migrationMessage, (source, _, signal) => source.cancel(signal)),

  cancelled: ofDestination(shapes.migrationMessage, (destination, _, signal) => destination.cancelled(signal)),
  switchover: ofDestination(shapes.switchoverMessage, (destination, { force }, signal) =>
    destination.switchover(force, signal),
  ),
  pause: ofDestination(shapes.pauseMessage, (destination, { paused }, signal) => destination.pause(paused, signal)),
  'max-rate': ofDestination(shapes.maxRateMessage, (destination, { maxRate }, signal) =>
    destination.setMaxRate(maxRate, signal),
  ),
  'writers-gone': ofDestination(shapes.migrationMessage, (destination, _, signal) => destination.writersGone(signal)),
} satisfies Record<string, Answer>
