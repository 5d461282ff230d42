// What an export answers with (guest/export.ts), in NBD's error values. Pure.

import { GuestError, type GuestErrorCode } from '../../guest/export.ts'
import { NbdError, type NbdErrorCode } from '../wire/error-values.ts'

export const nbdErrorCodes: Readonly<Record<GuestErrorCode, NbdErrorCode>> = {
  io: 'EIO',
  'no-space': 'ENOSPC',
  'not-permitted': 'EPERM',
  'not-served': 'ESHUTDOWN',
  unsupported: 'ENOTSUP',
}

/** The code of an error whose sentence is for the client. undefined: any other error; what it says is for the log alone. */
export function toldCodeOf(error: unknown): NbdErrorCode | undefined {
  if (error instanceof GuestError) return nbdErrorCodes[error.code]
  return error instanceof NbdError ? error.code : undefined
}
