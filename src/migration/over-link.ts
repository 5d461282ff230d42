// The other site over a link, both ways: what this site asks and tells goes out as calls and fetches of a channel, and what
// comes in goes to this site's desk. The only place that knows the names of the calls, their shapes, and the channel.
//
// What always holds: what comes is checked before anybody here sees it. An answer that cannot be understood is none: what
// that site has done is not known.

import type { z } from 'zod'
import {
  AnswerWithBody,
  LinkError,
  type PeerChannel,
  type PeerHandlers,
  PeerRefusal,
  wholeBody,
} from '../link/channel.ts'
import type { Counterpart, DestinationDesk, SiteDesk, SourceDesk } from './counterpart.ts'
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
    acquire: (asked, signal) => ask('acquire', { migration, ...asked }, shapes.acquireAnswer, signal),
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
    async digests(disk, runs, signal) {
      const maximumBytes = runs.length * shapes.digestBytes
      const params = { migration, ...disk, runs }
      const { answer, body } = await channel.callForBody('digests', params, { maximumBytes, signal })
      if (!shapes.digestsAnswer.safeParse(answer).success) {
        await body.return?.() // Nobody reads it: the request would be under way, and hold its bytes, until `signal` aborts.
        throw notUnderstood('digests')
      }
      const all = await wholeBody(body, maximumBytes)
      return runs.map((_, at) => all.toString('base64', at * shapes.digestBytes, (at + 1) * shapes.digestBytes))
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

function destinationOverLink(ask: Ask, migration: string): DestinationDesk {
  const tell = async (method: Method, params: object, signal: AbortSignal) =>
    void (await ask(method, { migration, ...params }, shapes.nothing, signal))
  return {
    cancelled: (signal) => tell('cancelled', {}, signal),
    switchover: (force, signal) => tell('switchover', { force }, signal),
    pause: (paused, signal) => tell('pause', { paused }, signal),
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
  prepare: (desk, params, signal) => heard(desk.prepare(shapes.prepareMessage.parse(params), signal)),
  standing: async (desk, params, signal) => desk.standing(shapes.migrationMessage.parse(params).migration, signal),

  inquire: ofSource(shapes.migrationMessage, (source, _, signal) => source.inquire(signal)),
  acquire: ofSource(shapes.acquireMessage, (source, asked, signal) => source.acquire(asked, signal)),
  flush: ofSource(shapes.flushMessage, (source, disk, signal) => source.flush(disk, signal)),
  taken: ofSource(shapes.takenMessage, (source, said, signal) => heard(source.taken(said, signal))),
  extents: ofSource(shapes.extentsMessage, async (source, { disk, generation, ...run }, signal) => {
    const extents = await source.extents({ disk, generation }, run, signal)
    return { extents: extents.map(({ length, data }) => ({ length, data })) }
  }),
  digests: ofSource(shapes.digestsMessage, async (source, { runs, ...disk }, signal) => {
    const digests = await source.digests(disk, runs, signal)
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
  'writers-gone': ofDestination(shapes.migrationMessage, (destination, _, signal) => destination.writersGone(signal)),
} satisfies Record<string, Answer>
