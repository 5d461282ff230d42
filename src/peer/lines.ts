// JSON documents, one a line, over a stream that ends soon: every line is bounded, and so is the time for all of them.

import type { Duplex } from 'node:stream'
import { PeerError } from './identity.ts'

export const maximumLineBytes = 4096
/** For the last line to leave. */
const lingerMs = 2000

export class LineStream {
  readonly #stream: Duplex
  readonly #timer: NodeJS.Timeout
  readonly #signal: AbortSignal | undefined
  #buffered: Buffer = Buffer.alloc(0)
  #error: unknown
  #wake = () => {}

  constructor(stream: Duplex, deadlineMs: number, signal?: AbortSignal) {
    this.#stream = stream
    this.#signal = signal
    this.#timer = setTimeout(() => {
      this.#fail(new PeerError('pairing-failed', `the peer did not answer within ${deadlineMs / 1000} s`))
    }, deadlineMs)
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    stream.on('error', (error) => this.#fail(new PeerError('pairing-failed', `the connection broke: ${error.message}`)))
    stream.on('close', () => this.#fail(new PeerError('pairing-failed', 'the peer closed the connection')))
    stream.on('end', () => this.#fail(new PeerError('pairing-failed', 'the peer closed the connection')))
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
    if (signal?.aborted) this.#onAbort()
    else if (stream.destroyed) this.#fail(new PeerError('pairing-failed', 'the peer closed the connection'))
  }

  /** The next line's document. Rejects with PeerError or the signal's reason. */
  async read(): Promise<unknown> {
    for (;;) {
      const end = this.#buffered.indexOf('\n')
      if (end >= 0) {
        const line = this.#buffered.subarray(0, end).toString('utf8')
        this.#buffered = this.#buffered.subarray(end + 1)
        try {
          return JSON.parse(line)
        } catch (error) {
          throw new PeerError('pairing-failed', 'the peer sent a line that is no JSON', { cause: error })
        }
      }
      if (this.#error) throw this.#error
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Resolves once the line has left. */
  write(document: object): Promise<void> {
    if (this.#error) return Promise.reject(this.#error)
    const line = `${JSON.stringify(document)}\n`
    if (Buffer.byteLength(line) > maximumLineBytes) {
      return Promise.reject(new PeerError('pairing-failed', `a line would be over ${maximumLineBytes} bytes`))
    }
    return new Promise((resolve, reject) => {
      this.#stream.write(line, (error) => {
        if (error) reject(this.#error ?? error)
        else resolve()
      })
    })
  }

  /** Ends our side once what was written has left. The rest of the peer's is not read. */
  close(): void {
    clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#onAbort)
    if (this.#error) {
      this.#stream.destroy()
      return
    }
    const timer = setTimeout(() => this.#stream.destroy(), lingerMs)
    this.#stream.once('close', () => clearTimeout(timer))
    this.#stream.end(() => this.#stream.destroy())
  }

  readonly #onAbort = () => this.#fail(this.#signal?.reason)

  #take(chunk: Buffer): void {
    if (this.#buffered.length + chunk.length > maximumLineBytes) {
      this.#fail(new PeerError('pairing-failed', `the peer sent over ${maximumLineBytes} bytes`))
      return
    }
    this.#buffered = Buffer.concat([this.#buffered, chunk])
    this.#wake()
  }

  #fail(error: unknown): void {
    if (this.#error) return
    this.#error = error
    this.#stream.destroy()
    this.#wake()
  }
}
