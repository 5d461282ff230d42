// Which request asks the site for what. Every body is checked here, once; what the site throws is answered in server.ts.

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { ControlError } from './errors.ts'
import { toLines, untilAborted } from './event-lines.ts'
import type { Site } from './service.ts'
import {
  acceptRequest,
  cancelRequest,
  createDiskRequest,
  type ErrorView,
  ExitCode,
  inviteRequest,
  joinRequest,
  migrateRequest,
  reclaimRequest,
  switchoverRequest,
} from './types.ts'

export interface RouteOptions {
  readonly site: Site
  /** Aborts when the server closes. */
  readonly closing: AbortSignal
  /** The view of anything thrown; logs what is nobody's fault but ours. */
  viewOf(error: unknown): ErrorView
}

export function addRoutes(app: FastifyInstance, options: RouteOptions): void {
  const { site } = options
  const named = (request: FastifyRequest) => (request.params as { name: string }).name

  app.get('/v1/site', async () => site.describe())
  app.get('/v1/status', () => site.status())

  app.get('/v1/disks', () => site.disks.list())
  app.post('/v1/disks', (request, reply) => {
    const body = checked(createDiskRequest, request.body)
    return sendEvents(options, reply, (signal) => site.disks.create(body, signal))
  })
  app.get('/v1/disks/:name', (request) => site.disks.show(named(request)))
  app.delete('/v1/disks/:name', (request) => site.disks.delete(named(request)))

  app.post('/v1/disks/:name/verify', (request, reply) => site.disks.verify(named(request), whileWanted(options, reply)))
  app.post('/v1/disks/:name/reclaim', (request) =>
    site.disks.reclaim(named(request), checked(reclaimRequest, request.body)),
  )

  app.post('/v1/disks/:name/accept', (request, reply) =>
    site.disks.accept(named(request), checked(acceptRequest, request.body), whileWanted(options, reply)),
  )

  app.get('/v1/peers', async () => site.peers.list())
  app.post('/v1/peers/invite', (request) => site.peers.invite(checked(inviteRequest, request.body)))
  app.post('/v1/peers/join', (request, reply) => {
    const body = checked(joinRequest, request.body)
    return site.peers.join(body, whileWanted(options, reply))
  })
  app.delete('/v1/peers/:name', (request) => site.peers.remove(named(request)))

  app.get('/v1/migrations', async () => site.migrations.list())
  app.post('/v1/migrations', (request, reply) => {
    const body = checked(migrateRequest, request.body)
    return site.migrations.begin(body, whileWanted(options, reply))
  })
  app.get('/v1/migrations/:name', async (request) => site.migrations.show(named(request)))
  app.post('/v1/migrations/:name/switchover', (request) => {
    const { force = false } = checked(switchoverRequest, request.body)
    return site.migrations.switchover(named(request), { force })
  })
  app.post('/v1/migrations/:name/pause', (request) => site.migrations.setPaused(named(request), true))
  app.post('/v1/migrations/:name/resume', (request) => site.migrations.setPaused(named(request), false))
  app.post('/v1/migrations/:name/cancel', (request) => {
    const { force = false } = checked(cancelRequest, request.body)
    return site.migrations.cancel(named(request), { force })
  })
  app.get('/v1/migrations/:name/events', (request, reply) =>
    sendEvents(options, reply, (signal) => site.migrations.events(named(request), signal)),
  )
}

function checked<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  const result = schema.safeParse(body ?? {})
  if (result.success) return result.data
  const faults = result.error.issues.map((issue) => [...issue.path, issue.message].join(': '))
  throw new ControlError({
    code: 'bad-request',
    exit: ExitCode.usage,
    message: `The request was not understood: ${faults.join('; ')}.`,
  })
}

/** Aborts when whoever asked has gone away before the answer, or the server closes. */
function whileWanted({ closing }: RouteOptions, reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new Error('the client has gone away'))
  })
  return AbortSignal.any([gone.signal, closing])
}

/** An error before the first event is answered as one, with its status; a later one is the last line. */
async function sendEvents(
  options: RouteOptions,
  reply: FastifyReply,
  start: (signal: AbortSignal) => AsyncIterable<unknown>,
): Promise<FastifyReply> {
  const signal = whileWanted(options, reply)
  const events = untilAborted(start(signal)[Symbol.asyncIterator](), signal)
  const first = await events.next()
  const all = async function* () {
    if (!first.done) yield first.value
    yield* events
  }
  // Closed with its stream: a server that closes would wait for it otherwise.
  reply.type('application/x-ndjson').header('connection', 'close')
  return reply.send(Readable.from(toLines(all(), options.viewOf), { objectMode: false }))
}
