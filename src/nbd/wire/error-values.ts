// The errors that a server of NBD may answer with, and that its client is answered with.

import type { ErrorNumber } from './constants.ts'

/** The errors that NBD lets travel (proto.md, "Error values"). */
export type NbdErrorCode = keyof typeof ErrorNumber

/** What the server itself answers a request with, whatever the export would say: its sentence is for the client. */
export class NbdError extends Error {
  readonly code: NbdErrorCode
  constructor(code: NbdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NbdError'
    this.code = code
  }
}
