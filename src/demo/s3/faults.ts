// What goes wrong at a store, in the order in which it was asked for: each fault waits for requests that it fits, and spoils as
// many as it was told to.

import type { ServerResponse } from 'node:http'

export type Trouble =
  /** An answer instead of the one that was due; the store is not touched. */
  | {
      readonly kind: 'status'
      readonly status: number
      readonly code: string
      readonly headers?: Record<string, string>
    }
  /** The connection is reset before anything has happened. */
  | { readonly kind: 'reset' }
  /** Done, and the connection is reset instead of an answer. */
  | { readonly kind: 'reset-when-done' }
  /** The answer begins when this resolves; never, if it does not. */
  | { readonly kind: 'wait'; readonly until: Promise<unknown> }
  /** The head, so many bytes of the body, and then silence. */
  | { readonly kind: 'stall'; readonly bytes: number }
  /** The head, so many bytes of the body, and a reset. */
  | { readonly kind: 'truncate'; readonly bytes: number }
  /** So many bytes of the body, with a length that fits them. */
  | { readonly kind: 'shorten'; readonly bytes: number }
  /** One bit of the body is another one. */
  | { readonly kind: 'corrupt' }

export interface Fault {
  readonly trouble: Trouble
  readonly method?: string
  /** Of the key. */
  readonly key?: RegExp
  /** How many requests it spoils; 1 if missing. */
  readonly times?: number
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export class Faults {
  readonly #waiting: { readonly fault: Fault; left: number }[] = []

  add(fault: Fault): void {
    this.#waiting.push({ fault, left: fault.times ?? 1 })
  }

  clear(): void {
    this.#waiting.length = 0
  }

  take(method: string, key: string): Trouble | undefined {
    const found = this.#waiting.find(
      ({ fault, left }) => left > 0 && (fault.method ?? method) === method && (fault.key?.test(key) ?? true),
    )
    if (found) found.left--
    return found?.fault.trouble
  }
}

export function send(response: ServerResponse, answer: Answer, trouble: Trouble | undefined): void {
  const { status, headers } = answer
  let { body } = answer
  if (trouble?.kind === 'shorten') body = body.subarray(0, trouble.bytes)
  if (trouble?.kind === 'corrupt' && body.length > 0) {
    body = Buffer.from(body)
    body[body.length >> 1]! ^= 1
  }
  response.writeHead(status, { 'content-length': body.length, ...headers })
  if (trouble?.kind === 'stall') {
    response.write(body.subarray(0, trouble.bytes))
  } else if (trouble?.kind === 'truncate') {
    response.write(body.subarray(0, trouble.bytes), () => response.socket?.resetAndDestroy())
  } else {
    response.end(body)
  }
}
