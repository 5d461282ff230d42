// What a store's answer, or the lack of one, means for whoever moves a disk through it. Judged by the status: names are missing
// from some answers, and differ by store. Only what may pass by itself is 'unavailable' or 'throttled', and so tried again.

import { TransportError, type TransportErrorCode } from 'vmstore/transport'

/** What there is of an error of the SDK's, of node:http's or of a credentials' provider. */
interface Facts {
  readonly name?: string
  readonly message?: string
  readonly code?: string
  readonly $metadata?: { readonly httpStatusCode?: number; readonly clockSkewCorrected?: boolean }
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> }
}

/** Longer than any move waits between two attempts. */
const longestRetryAfterMs = 5 * 60_000
/** A certificate that is wrong now is wrong at the next attempt. */
const certificates = /^(?:CERT_|ERR_TLS_CERT|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(?:GET|VERIFY)_)/
const expired = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired', 'RequestExpired'])
/** The bytes were hurt on their way; they are here still. */
const hurt = new Set(['BadDigest', 'IncompleteBody', 'InvalidDigest', 'XAmzContentSHA256Mismatch', 'RequestTimeout'])
const throttling = new Set(['SlowDown', 'Throttling', 'ThrottlingException', 'TooManyRequests', 'RequestLimitExceeded'])
/** What a store says of keys that it does not know, or not any more: others may have been put in their place. */
const unknownKeys = new Set([...expired, 'InvalidAccessKeyId', 'InvalidToken', 'SignatureDoesNotMatch'])

export const statusOf = (error: unknown): number | undefined => (error as Facts | undefined)?.$metadata?.httpStatusCode
export const nameOf = (error: unknown): string | undefined => (error as Facts | undefined)?.name

/** The SDK has set its clock by the answer: the next attempt has the right time. */
export const clockWasSet = (error: unknown): boolean =>
  (error as Facts | undefined)?.$metadata?.clockSkewCorrected === true

/** Newer credentials may be at hand. */
export function asksForCredentials(error: unknown): boolean {
  return unknownKeys.has(nameOf(error) ?? '') && !clockWasSet(error)
}

/** `what` is the beginning of a sentence; `hadCredentials`: they are renewed, and not missing altogether. */
export function transportError(what: string, error: unknown, hadCredentials: boolean): TransportError {
  if (error instanceof TransportError) {
    const { code, retryAfterMs, cause } = error
    const options = retryAfterMs === undefined ? { cause } : { cause, retryAfterMs }
    return new TransportError(code, `${what}: ${error.message}`, options)
  }
  const { code, says } = meaningOf(error as Facts, hadCredentials)
  const retryAfterMs = retryAfterOf(error as Facts)
  const options = retryAfterMs === undefined ? { cause: error } : { cause: error, retryAfterMs }
  return new TransportError(code, `${what}: ${says}`, options)
}

interface Meaning {
  readonly code: TransportErrorCode
  readonly says: string
}

function meaningOf(error: Facts, hadCredentials: boolean): Meaning {
  const { name = '', code = '', message = '' } = error
  const status = error.$metadata?.httpStatusCode
  if (/^(?:CredentialsProviderError|TokenProviderError|ProviderError)$/.test(name)) {
    const next = 'set AWS_PROFILE, the profile in transports.s3, or another source that the SDK of AWS knows'
    return hadCredentials
      ? { code: 'unavailable', says: `its credentials could not be renewed (${message})` }
      : { code: 'denied', says: `no credentials were found (${message}): ${next}` }
  }
  if (certificates.test(code)) {
    return {
      code: 'denied',
      says: `the store's certificate is not trusted (${code}): NODE_EXTRA_CA_CERTS names more authorities`,
    }
  }
  if (code === 'ENOTFOUND') {
    return {
      code: 'unavailable',
      says: `its host has no address (${message}); with pathStyle the bucket is no part of the host's name`,
    }
  }
  // An answer that could not be read has the status of its head, and is none.
  if (status === undefined || status < 300)
    return { code: 'unavailable', says: `there was no answer (${message || code || name})` }
  return ofStatus(status, name, error)
}

function ofStatus(status: number, name: string, error: Facts): Meaning {
  const answered = `the store answered ${status}${name === '' || name === 'Error' ? '' : ` ${name}`}`
  if (status === 501 || name === 'NotImplemented') return { code: 'unfit', says: `${answered}: it cannot do that` }
  if (expired.has(name))
    return { code: 'unavailable', says: `${answered}: the credentials have expired and must be renewed` }
  if (name === 'RequestTimeTooSkewed')
    return { code: 'unavailable', says: `${answered}: the clocks of this host and the store differ` }
  if (throttling.has(name) || status === 429 || status === 503)
    return { code: 'throttled', says: `${answered}: it asks for fewer requests` }
  if (status >= 500 || status === 408 || hurt.has(name)) return { code: 'unavailable', says: answered }
  if (status === 409)
    return { code: 'unavailable', says: `${answered}: others changed the same object at the same time` }
  const region = error.$response?.headers?.['x-amz-bucket-region']
  const elsewhere = region
    ? `the bucket lies in the region ${region}, which transports.s3 should name`
    : 'the bucket lies elsewhere: the region or endpoint in transports.s3 is not its own'
  if (status < 400) return { code: 'missing', says: `${answered}: ${elsewhere}` }
  if (name === 'AuthorizationHeaderMalformed') return { code: 'denied', says: `${answered}: ${elsewhere}` }
  if (status === 404)
    return { code: 'missing', says: `${answered}: is there such a bucket, and is the endpoint right?` }
  if (status === 401 || status === 403)
    return { code: 'denied', says: `${answered}: these credentials have no right to it` }
  return { code: 'denied', says: `${answered} (${error.message ?? ''})` }
}

/** Seconds, or a date, as HTTP says (RFC 9110, "Retry-After"). */
function retryAfterOf(error: Facts): number | undefined {
  const given = error.$response?.headers?.['retry-after']
  if (given === undefined) return undefined
  const ms = /^\d+$/.test(given) ? Number(given) * 1000 : Date.parse(given) - Date.now()
  return Number.isFinite(ms) && ms >= 0 ? Math.min(ms, longestRetryAfterMs) : undefined
}
