// A connection until it has agreed on an export or is hung up: what arrives goes to the negotiation, its answers go to the
// client as long as that reads them, and STARTTLS puts TLS between the two.
// Always: from the answer to STARTTLS on not a byte is taken that TLS has not brought; after onAgreed or onHangUp nothing
// more is answered.

import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { isElsewhere } from '../../guest/client-place.ts'
import type { Export, ExportCatalog, ExportHandle } from '../../guest/export.ts'
import type { ServerLog } from '../../guest/log.ts'
import { NbdError } from '../wire/error-values.ts'
import { encodeGreeting } from '../wire/negotiation-codecs.ts'
import { toldCodeOf } from './guest-errors.ts'
import type { NbdLimits } from './limits.ts'
import { type Agreement, Negotiation, type NegotiationStep } from './negotiation.ts'
import type { TlsMode } from './tls-mode.ts'
import type { TlsServer } from './tls-server.ts'

export interface NegotiationPhaseOptions {
  readonly socket: Socket
  readonly client: string
  readonly catalog: ExportCatalog
  readonly limits: NbdLimits
  readonly log: ServerLog
  /** Without it, or with mode 'off', all is in the clear. */
  readonly tls: { readonly mode: TlsMode; readonly server: TlsServer } | undefined
  /** Why no client may have an export now; undefined: it may. */
  refusal(): string | undefined
  /** TLS is in the place of the plain socket; what it brings belongs to push(). */
  onSecured(secured: TLSSocket): void
  /** `rest`: bytes behind the last option. */
  onAgreed(agreement: Agreement, rest: Buffer): void
  onHangUp(): void
  /** What push() would have thrown, later. */
  onFailure(error: unknown): void
  onTlsFailure(reason: string): void
}

export class NegotiationPhase {
  readonly #options: NegotiationPhaseOptions
  readonly #negotiation: Negotiation
  #socket: Socket
  #isHeld = false
  #isOver = false

  constructor(options: NegotiationPhaseOptions) {
    this.#options = options
    this.#socket = options.socket
    const { catalog, limits, tls, socket } = options
    this.#negotiation = new Negotiation({
      catalog,
      tls: tls?.mode ?? 'off',
      optionLimit: limits.options,
      optionLimitBytes: limits.optionBytes,
      open: (wanted) => this.#open(wanted),
    })
    socket.write(encodeGreeting())
  }

  /** Bytes [from, to), which last for the time of the call. Throws ProtocolError: the connection must be broken. */
  push(bytes: Buffer, from: number, to: number): void {
    this.#negotiation.push(Buffer.from(bytes.subarray(from, to)))
    this.#answer()
  }

  /** The client has read what was written. */
  drained(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    // First this: what is negotiated may hold the client back again.
    this.#socket.resume()
    try {
      this.#answer()
    } catch (error) {
      this.#options.onFailure(error)
    }
  }

  #open(wanted: Export): ExportHandle {
    const { client, log, socket, refusal } = this.#options
    const why = refusal()
    if (why !== undefined) throw new NbdError('EPERM', why)
    try {
      return wanted.open(client, isElsewhere(socket))
    } catch (error) {
      if (toldCodeOf(error) !== undefined) throw error
      // What broke in an export is for the log alone.
      log.error({ client, export: wanted.name, err: error }, 'open failed')
      throw new NbdError('EIO', 'the export cannot be opened now', { cause: error })
    }
  }

  /** Answers the options that have arrived, as long as the client reads the answers. */
  #answer(): void {
    const socket = this.#socket
    while (!this.#isOver && !socket.destroyed) {
      if (socket.writableNeedDrain) {
        this.#isHeld = true
        socket.pause()
        return
      }
      const step = this.#negotiation.next()
      if (step === undefined) return
      this.#take(step)
    }
  }

  #take(step: NegotiationStep): void {
    if (step.kind === 'startTls') {
      this.#startTls(step)
      return
    }
    if (step.bytes !== undefined) this.#socket.write(step.bytes)
    if (step.kind === 'hangUp') {
      const { log, client, onHangUp } = this.#options
      log.debug({ client }, `session over: ${step.reason}`)
      this.#isOver = true
      onHangUp()
    } else if (step.kind === 'transmit') {
      this.#isOver = true
      this.#options.onAgreed(step.agreement, step.rest)
    }
  }

  /** The answer is the last that leaves in the clear. */
  #startTls({ bytes, discardedBytes }: Extract<NegotiationStep, { kind: 'startTls' }>): void {
    const { log, client, tls, onSecured, onTlsFailure } = this.#options
    const plain = this.#socket
    if (discardedBytes > 0) log.warn({ client, bytes: discardedBytes }, 'bytes behind STARTTLS in the clear: discarded')
    plain.pause()
    // TLS writes past the socket's own queue: the answer must have left it.
    plain.write(bytes, () => {
      if (plain.destroyed) return
      const secured = (socket: TLSSocket): void => {
        this.#socket = socket
        onSecured(socket)
        this.#negotiation.secured()
      }
      tls!.server.accept(plain, secured, onTlsFailure)
    })
  }
}
