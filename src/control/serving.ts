// Serves the table of routes. Every body is checked here, once; what the service throws is answered in server.ts.

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { ControlError } from './errors.ts'
import { toLines, untilAborted } from './event-lines.ts'
import { eachRoute, parameterNames, type Route } from './routes.ts'
import type { Service } from './service.ts'
import { type ErrorView, ExitCode } from './types.ts'

export interface ServingOptions {
  readonly service: Service
  /** Aborts when the server closes. */
  readonly closing: AbortSignal
  /** The view of anything thrown; logs what is nobody's fault but ours. */
  viewOf(error: unknown): ErrorView
}

/** The service by group and key. service.ts types each method by itself; here all are alike. */
type AnyService = Readonly<Record<string, Readonly<Record<string, (...asked: unknown[]) => unknown>>>>

export function serveRoutes(app: FastifyInstance, options: ServingOptions): void {
  const service = options.service as unknown as AnyService
  for (const { group, key, route } of eachRoute()) {
    const names = parameterNames(route)
    const ask = (request: FastifyRequest, signal: AbortSignal) => {
      const parameters = request.params as Record<string, string>
      const asked = [...names.map((name) => parameters[name]), ...bodyOf(route, request.body)]
      return service[group]![key]!(...asked, signal)
    }
    app.route({
      method: route.method,
      url: route.path,
      handler: async (request, reply) => {
        const signal = whileWanted(options, reply)
        const answer = ask(request, signal)
        return route.answer.kind === 'document'
          ? answer
          : sendEvents(options, reply, answer as AsyncIterable<unknown>, signal)
      },
    })
  }
}

function bodyOf({ body }: Route, sent: unknown): readonly unknown[] {
  return body === undefined ? [] : [checked(body, sent)]
}

function checked(schema: z.ZodType, sent: unknown): unknown {
  const result = schema.safeParse(sent ?? {})
  if (result.success) return result.data
  const faults = result.error.issues.map((issue) => [...issue.path, issue.message].join(': '))
  throw new ControlError({
    code: 'bad-request',
    exit: ExitCode.usage,
    message: `The request was not understood: ${faults.join('; ')}.`,
  })
}

/** Aborts when whoever asked has gone away before the answer, or the server closes. */
function whileWanted({ closing }: ServingOptions, reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new Error('the client has gone away'))
  })
  return AbortSignal.any([gone.signal, closing])
}

/** An error before the first event is answered as one, with its status; a later one is the last line. */
async function sendEvents(
  options: ServingOptions,
  reply: FastifyReply,
  told: AsyncIterable<unknown>,
  signal: AbortSignal,
): Promise<FastifyReply> {
  const events = untilAborted(told[Symbol.asyncIterator](), signal)
  const first = await events.next()
  const all = async function* () {
    if (!first.done) yield first.value
    yield* events
  }
  // Closed with its stream: a server that closes would wait for it otherwise.
  reply.type('application/x-ndjson').header('connection', 'close')
  return reply.send(Readable.from(toLines(all(), options.viewOf), { objectMode: false }))
}
