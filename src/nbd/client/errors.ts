// What can go wrong for a client of an NBD server, by type: the server refused, the request failed, the connection is gone.

import { ErrorNumber, nameOf } from '../wire/constants.ts'
import type { NbdErrorCode } from '../wire/error-values.ts'

/** The connection cannot be used (any more). Every request under way fails with it. */
export class NbdConnectionError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NbdConnectionError'
  }
}

/** The server is well, and its export is larger than numbers here can say. */
export class NbdTooLargeError extends NbdConnectionError {
  readonly sizeBytes: bigint
  constructor(sizeBytes: bigint) {
    super(`the export has ${sizeBytes} bytes, which is more than this client can count (${Number.MAX_SAFE_INTEGER})`)
    this.name = 'NbdTooLargeError'
    this.sizeBytes = sizeBytes
  }
}

/** The server is back, and what it serves is not what it was. */
export class NbdChangedError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'NbdChangedError'
  }
}

/** The server refused an option. `reply` is its name: ERR_UNKNOWN, ERR_POLICY … */
export class NbdRefusedError extends Error {
  readonly reply: string
  constructor(message: string, reply: string) {
    super(message)
    this.name = 'NbdRefusedError'
    this.reply = reply
  }
}

/** The server answered a request with an error; the connection is well. */
export class NbdRequestError extends Error {
  readonly code: NbdErrorCode
  constructor(message: string, errorNumber: number) {
    super(message)
    this.name = 'NbdRequestError'
    this.code = codeOf(errorNumber)
  }
}

/** A number that the protocol does not list is EINVAL (proto.md, "Error values"). */
function codeOf(errorNumber: number): NbdErrorCode {
  const name = nameOf(ErrorNumber, errorNumber)
  return name in ErrorNumber ? (name as NbdErrorCode) : 'EINVAL'
}
