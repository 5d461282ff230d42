// A command's way to its daemon. Each method asks one thing; every failure is a ControlError with a sentence.
// `daemon-unreachable`: nothing was asked. `daemon-lost`: something was asked, and no answer came.

import type { Socket } from 'node:net'
import { type Dispatcher, Pool } from 'undici'
import { ControlError, errorViewOf } from './errors.ts'
import { fromLines } from './event-lines.ts'
import type {
  AcceptRequest,
  CreateDiskRequest,
  CreateEvent,
  DiskView,
  InviteRequest,
  InviteView,
  JoinRequest,
  MigrateRequest,
  MigrationEvent,
  MigrationView,
  PeerView,
  ReclaimRequest,
  SiteView,
  StatusView,
  VerifyView,
} from './types.ts'
import { ExitCode, nbdPath, nbdProtocol } from './types.ts'

const connectTimeoutMs = 5_000

/** The client throws the `error` event, so that its caller handles errors in one place. */
type Told<Event extends { type: string }> = Exclude<Event, { type: 'error' }>
export type ToldMigrationEvent = Told<MigrationEvent>
export type ToldCreateEvent = Told<CreateEvent>

export class ControlClient {
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

  describe(): Promise<SiteView> {
    return this.#ask('GET', '/v1/site')
  }
  status(): Promise<StatusView> {
    return this.#ask('GET', '/v1/status')
  }

  /** Ends with `result`, or throws. Going away undoes what was begun. */
  createDisk(request: CreateDiskRequest, signal?: AbortSignal): AsyncGenerator<ToldCreateEvent> {
    return this.#listen('POST', '/v1/disks', request, signal)
  }
  /** A connection to the daemon's NBD server, which is about to greet: with the operator's rights, however guests connect. */
  async openNbd(signal?: AbortSignal): Promise<Socket> {
    try {
      const { socket } = await this.#pool.upgrade({ path: nbdPath, protocol: nbdProtocol, signal: signal ?? null })
      return socket as Socket
    } catch (error) {
      if ((error as Error).message === 'bad upgrade') throw this.#stranger(error)
      throw this.#explain(error, signal)
    }
  }
  listDisks(): Promise<DiskView[]> {
    return this.#ask('GET', '/v1/disks')
  }
  showDisk(name: string): Promise<DiskView> {
    return this.#ask('GET', `/v1/disks/${encodeURIComponent(name)}`)
  }
  deleteDisk(name: string): Promise<DiskView> {
    return this.#ask('DELETE', `/v1/disks/${encodeURIComponent(name)}`)
  }

  /** As long as it takes to read the disk at both sites. */
  verifyDisk(name: string, signal?: AbortSignal): Promise<VerifyView> {
    return this.#ask('POST', `/v1/disks/${encodeURIComponent(name)}/verify`, undefined, signal)
  }
  reclaimDisk(name: string, request: ReclaimRequest): Promise<DiskView> {
    return this.#ask('POST', `/v1/disks/${encodeURIComponent(name)}/reclaim`, request)
  }
  /** As long as it takes to write the disk anew. */
  acceptDisk(name: string, request: AcceptRequest, signal?: AbortSignal): Promise<DiskView> {
    return this.#ask('POST', `/v1/disks/${encodeURIComponent(name)}/accept`, request, signal)
  }

  invite(request: InviteRequest): Promise<InviteView> {
    return this.#ask('POST', '/v1/peers/invite', request)
  }
  join(request: JoinRequest, signal?: AbortSignal): Promise<PeerView> {
    return this.#ask('POST', '/v1/peers/join', request, signal)
  }
  listPeers(): Promise<PeerView[]> {
    return this.#ask('GET', '/v1/peers')
  }
  removePeer(name: string): Promise<PeerView> {
    return this.#ask('DELETE', `/v1/peers/${encodeURIComponent(name)}`)
  }

  migrate(request: MigrateRequest, signal?: AbortSignal): Promise<MigrationView> {
    return this.#ask('POST', '/v1/migrations', request, signal)
  }
  listMigrations(): Promise<MigrationView[]> {
    return this.#ask('GET', '/v1/migrations')
  }
  showMigration(id: string): Promise<MigrationView> {
    return this.#ask('GET', `/v1/migrations/${encodeURIComponent(id)}`)
  }
  switchover(id: string, options: { force?: boolean } = {}): Promise<MigrationView> {
    return this.#ask('POST', `/v1/migrations/${encodeURIComponent(id)}/switchover`, options)
  }
  pause(id: string): Promise<MigrationView> {
    return this.#ask('POST', `/v1/migrations/${encodeURIComponent(id)}/pause`)
  }
  resume(id: string): Promise<MigrationView> {
    return this.#ask('POST', `/v1/migrations/${encodeURIComponent(id)}/resume`)
  }
  cancel(id: string, options: { force: boolean }): Promise<MigrationView> {
    return this.#ask('POST', `/v1/migrations/${encodeURIComponent(id)}/cancel`, options)
  }
  /** Starts with the present step and ends with `result`, or throws. */
  migrationEvents(id: string, signal?: AbortSignal): AsyncGenerator<ToldMigrationEvent> {
    return this.#listen('GET', `/v1/migrations/${encodeURIComponent(id)}/events`, undefined, signal)
  }

  /** Drops whatever is still asked. */
  close(): Promise<void> {
    return this.#pool.destroy()
  }

  async #ask<Answer>(
    method: Dispatcher.HttpMethod,
    path: string,
    body?: object,
    signal?: AbortSignal,
  ): Promise<Answer> {
    try {
      const response = await this.#send(method, path, body, signal)
      return (await response.body.json()) as Answer
    } catch (error) {
      throw this.#explain(error, signal)
    }
  }

  async *#listen<Event extends { type: string }>(
    method: Dispatcher.HttpMethod,
    path: string,
    body?: object,
    signal?: AbortSignal,
  ): AsyncGenerator<Event> {
    let isAnswering = false
    try {
      const response = await this.#send(method, path, body, signal)
      isAnswering = true
      for await (const event of fromLines(response.body)) {
        const { type, error } = event as { type: string; error?: unknown }
        if (type === 'error') throw thrown(error)
        yield event as Event
        if (type === 'result') return
      }
    } catch (error) {
      // An answer that had begun well and is not HTTP to its end was cut off: the daemon died.
      if (isAnswering && (error as Error).name === 'HTTPParserError') throw this.#lost(error)
      throw this.#explain(error, signal)
    }
    throw this.#lost(undefined)
  }

  async #send(method: Dispatcher.HttpMethod, path: string, body: object | undefined, signal: AbortSignal | undefined) {
    const response = await this.#pool.request({
      method,
      path,
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
