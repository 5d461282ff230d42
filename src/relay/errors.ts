// What goes wrong at a relay, as typed errors whose messages are sentences.

/** What a relay gave back is not what the other site had put there: swapped, cut, forged, or sealed with another key. */
export class SealError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SealError'
  }
}

/**
 * 'ticket-invalid': it is no ticket. 'manifest-invalid': sealed with our key, and yet not understood. 'unfit': the store cannot
 * decide who owns a disk, and never will. 'unavailable': it did not answer in time, however often it was asked; nothing is
 * lost, and it may be asked again. 'denied': this account may not. 'missing': the bucket or folder is not there.
 */
export type RelayErrorCode = 'ticket-invalid' | 'manifest-invalid' | 'unfit' | 'unavailable' | 'denied' | 'missing'

export class RelayError extends Error {
  readonly code: RelayErrorCode
  constructor(code: RelayErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'RelayError'
    this.code = code
  }
}
