// Asks a daemon over its control socket for what stands in the table of routes; every failure is a ControlError with a
// sentence.
// `daemon-unreachable`: nothing was asked. `daemon-lost`: something was asked, and no answer came.

import type { Socket } from 'node:net'
import { Pool } from 'undici'
import { ControlError, errorViewOf } from './errors.ts'
import { fromLines } from './event-lines.ts'
import { nbdUpgrade, pathWith, type Route } from './routes.ts'
import { ExitCode } from './types.ts'

const connectTimeoutMs = 5_000

export interface Question {
  readonly route: Route
  readonly parameters: readonly string[]
  readonly body?: object | undefined
  readonly signal?: AbortSignal | undefined
}

export class ControlConnection {
  readonly path: string
  readonly #pool: Pool

  constructor(path: string) {
    this.path = path
    // No limits on answers: a migration may be quiet for as long as its guest is.
    this.#pool = new Pool('http://vmstore', {
      socketPath: path,
      connect: { timeout: connectTimeoutMs },
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /** A connection to the daemon's NBD server, which is about to greet: with the operator's rights, however guests connect. */
  async openNbd(signal?: AbortSignal): Promise<Socket> {
    try {
      const { socket } = await this.#pool.upgrade({ ...nbdUpgrade, signal: signal ?? null })
      return socket as Socket
    } catch (error) {
      if ((error as Error).message === 'bad upgrade') throw this.#stranger(error)
      throw this.#explain(error, signal)
    }
  }
  /** Drops whatever is still asked. */
  close(): Promise<void> {
    return this.#pool.destroy()
  }

  /** The document that is the answer. */
  async ask(question: Question): Promise<unknown> {
    const { signal } = question
    try {
      const response = await this.#send(question)
      return await response.body.json()
    } catch (error) {
      throw this.#explain(error, signal)
    }
  }

  /** The events that are the answer, up to `result`; an `error` event is thrown. Going away ends what was asked. */
  async *listen(question: Question): AsyncGenerator<unknown> {
    const { signal } = question
    let isAnswering = false
    try {
      const response = await this.#send(question)
      isAnswering = true
      for await (const event of fromLines(response.body)) {
        const { type, error } = event as { type: string; error?: unknown }
        if (type === 'error') throw thrown(error)
        yield event
        if (type === 'result') return
      }
    } catch (error) {
      // An answer that had begun well and is not HTTP to its end was cut off: the daemon died.
      if (isAnswering && (error as Error).name === 'HTTPParserError') throw this.#lost(error)
      throw this.#explain(error, signal)
    }
    throw this.#lost(undefined)
  }

  async #send({ route, parameters, body, signal }: Question) {
    const response = await this.#pool.request({
      method: route.method,
      path: pathWith(route, parameters),
      ...(signal && { signal }),
      ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    if (response.statusCode === 200) return response
    const answer = (await response.body.json()) as { error?: unknown }
    throw thrown(answer.error)
  }

  #explain(error: unknown, signal: AbortSignal | undefined): unknown {
    if (error instanceof ControlError || signal?.aborted) return error
    const { code = '', name = '' } = error as { code?: string; name?: string }
    if (['ENOENT', 'ECONNREFUSED', 'EACCES', 'ENOTSOCK', 'UND_ERR_CONNECT_TIMEOUT'].includes(code)) {
      return this.#unreachable(code, error)
    }
    if (code.startsWith('HPE_') || name === 'HTTPParserError' || error instanceof SyntaxError)
      return this.#stranger(error)
    return this.#lost(error)
  }

  #unreachable(code: string, cause: unknown): ControlError {
    const facts = { code: 'daemon-unreachable', exit: ExitCode.other, safe: 'Nothing was changed.' } as const
    if (code === 'EACCES') {
      const message = `You may not open the daemon's control socket ${this.path}.`
      return new ControlError(
        { ...facts, message, next: 'Run the command as the user who runs vmstore serve.' },
        { cause },
      )
    }
    const message = `No vmstore daemon answers on ${this.path}.`
    const next = 'Start it with vmstore serve, or name its socket with --control or its folder with --root.'
    return new ControlError({ ...facts, message, next }, { cause })
  }

  #stranger(cause: unknown): ControlError {
    const message = `What answers on ${this.path} is not vmstore's control API.`
    const next = 'Name the right socket with --control.'
    return new ControlError({ code: 'daemon-strange', exit: ExitCode.other, message, next }, { cause })
  }

  #lost(cause: unknown): ControlError {
    const message = `The connection to the daemon on ${this.path} broke before it had answered.`
    const next = 'See that vmstore serve runs, and look with vmstore status whether what you asked for was done.'
    return new ControlError({ code: 'daemon-lost', exit: ExitCode.other, message, next }, { cause })
  }
}

/** A daemon of another version may say what we do not understand: that is an error too. */
function thrown(error: unknown): ControlError {
  const view = errorViewOf(error)
  if (view !== undefined) return new ControlError(view)
  const message = `The daemon refused, in words this version does not understand: ${JSON.stringify(error)}.`
  return new ControlError({ code: 'daemon-strange', exit: ExitCode.other, message })
}
