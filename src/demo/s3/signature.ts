// AWS Signature Version 4, as "Authenticating Requests: Using the Authorization Header" has it: a request is believed only if
// its signature is that of a known key over its method, path, query, headers and body, and its time is about now.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { S3Failure } from './failure.ts'

export interface AccessKey {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Of credentials for a time: must come with each request. */
  readonly sessionToken?: string
  /** Answered as a token is whose time is over. */
  isExpired?: boolean
}

export interface SignedRequest {
  readonly method: string
  /** As it was sent. */
  readonly path: string
  /** Decoded. */
  readonly query: readonly (readonly [string, string])[]
  /** In lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
}

export interface Verifier {
  readonly region: string
  readonly keys: readonly AccessKey[]
  readonly nowMs: number
}

/** "The difference between the request time and the current time is too large." */
const largestSkewMs = 15 * 60_000
const algorithm = 'AWS4-HMAC-SHA256'
const authorization =
  /^AWS4-HMAC-SHA256\s+Credential=([^/,]+)\/(\d{8})\/([^/,]+)\/s3\/aws4_request,\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})$/

export const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const hmac = (key: string | Uint8Array, text: string): Buffer => createHmac('sha256', key).update(text).digest()

/** @throws S3Failure. Returns the key that signed. The body's hash is signed, and must be compared by whoever has the body. */
export function verify(request: SignedRequest, { region, keys, nowMs }: Verifier): AccessKey {
  const { headers } = request
  if (!headers['authorization']) throw new S3Failure(403, 'AccessDenied', 'The request is not signed')
  const parsed = authorization.exec(headers['authorization'])
  if (!parsed) throw new S3Failure(400, 'AuthorizationHeaderMalformed', 'The authorization header is malformed')
  const [, accessKeyId, day, signedRegion, signedNames, signature] = parsed as unknown as string[]
  const key = keys.find((one) => one.accessKeyId === accessKeyId)
  if (!key) throw new S3Failure(403, 'InvalidAccessKeyId', 'The access key does not exist in our records')
  if (signedRegion !== region) {
    const message = `The region '${signedRegion}' is wrong; expecting '${region}'`
    throw new S3Failure(400, 'AuthorizationHeaderMalformed', message, { 'x-amz-bucket-region': region })
  }
  checkTime(headers['x-amz-date'], day!, nowMs)
  const names = signedNames!.split(';')
  const unsigned = Object.keys(headers).find((name) => name.startsWith('x-amz-') && !names.includes(name))
  if (unsigned) throw new S3Failure(403, 'AccessDenied', `The header ${unsigned} was not signed`)
  if (!names.includes('host')) throw mismatch()
  if (!timingSafeEqual(Buffer.from(signature!), Buffer.from(signatureOf(request, names, key, region)))) throw mismatch()
  if (key.isExpired) throw new S3Failure(400, 'ExpiredToken', 'The provided token has expired.')
  if (headers['x-amz-security-token'] !== key.sessionToken) {
    throw new S3Failure(400, 'InvalidToken', 'The provided token is malformed or otherwise invalid.')
  }
  return key
}

/** In hexadecimal. `names` are the signed headers, in order. */
export function signatureOf(request: SignedRequest, names: readonly string[], key: AccessKey, region: string): string {
  const { method, path, query, headers } = request
  const date = headers['x-amz-date'] ?? ''
  const day = date.slice(0, 8)
  const pairs = query.map(([name, value]) => `${encoded(name)}=${encoded(value)}`).sort()
  const lines = names.map((name) => `${name}:${(headers[name] ?? '').trim().replace(/ +/g, ' ')}`)
  const hash = headers['x-amz-content-sha256'] ?? ''
  const canonical = [method, path, pairs.join('&'), ...lines, '', names.join(';'), hash].join('\n')
  const scope = `${day}/${region}/s3/aws4_request`
  const text = [algorithm, date, scope, sha256(canonical)].join('\n')
  const signing = hmac(hmac(hmac(hmac(`AWS4${key.secretAccessKey}`, day), region), 's3'), 'aws4_request')
  return hmac(signing, text).toString('hex')
}

function checkTime(date: string | undefined, day: string, nowMs: number): void {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date ?? '')
  if (!parts || !date!.startsWith(day)) throw new S3Failure(403, 'AccessDenied', 'The request has no valid x-amz-date')
  const [, year, month, date_, hours, minutes, seconds] = parts
  const at = Date.parse(`${year}-${month}-${date_}T${hours}:${minutes}:${seconds}Z`)
  if (Number.isNaN(at) || Math.abs(at - nowMs) <= largestSkewMs) return
  throw new S3Failure(
    403,
    'RequestTimeTooSkewed',
    'The difference between the request time and the current time is too large.',
  )
}

/** "URI-encode": everything but letters, digits and -_.~ */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`)
}

function mismatch(): S3Failure {
  return new S3Failure(403, 'SignatureDoesNotMatch', 'The signature that was calculated is not the one provided.')
}
