// What is asked of the server: read strictly, checked whole, then done. Whatever it does not know it refuses, so that a client
// that leans on more than it should is found out here.

import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { crc32 } from 'node:zlib'
import { S3Failure } from './failure.ts'
import { type SignedRequest, sha256 } from './signature.ts'

/** More than any object of a move. */
const largestBodyBytes = 128 * 2 ** 20
const longestKeyBytes = 1024

export interface Target extends SignedRequest {
  readonly bucket: string
  readonly key: string
  parameter(name: string): string | undefined
}

/** Path style, and virtual style below `domain`. @throws S3Failure */
export function targetOf(request: IncomingMessage, domain: string): Target {
  const [path = '', search = ''] = (request.url ?? '').split(/\?(.*)/s)
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(',') : value]),
  )
  const host = (headers['host'] ?? '').replace(/:\d+$/, '')
  try {
    const pairs = search === '' ? [] : search.split('&').map((pair) => pair.split(/=(.*)/s))
    const query = pairs.map(([name = '', value = '']) => [decodeURIComponent(name), decodeURIComponent(value)] as const)
    const named = host.endsWith(`.${domain}`) ? `/${host.slice(0, -domain.length - 1)}${path}` : path
    const [, bucket, key = ''] = /^\/([^/]*)(?:\/(.*))?$/s.exec(named) ?? []
    if (!bucket) throw new S3Failure(501, 'NotImplemented', 'only buckets and their objects are known here')
    return {
      method: request.method ?? '',
      path,
      query,
      headers,
      bucket: decodeURIComponent(bucket),
      key: checkedKey(decodeURIComponent(key)),
      parameter: (name) => query.find(([one]) => one === name)?.[1],
    }
  } catch (error) {
    if (error instanceof URIError) throw new S3Failure(400, 'InvalidURI', "Couldn't parse the specified URI.")
    throw error
  }
}

function checkedKey(key: string): string {
  if (Buffer.byteLength(key) > longestKeyBytes) throw new S3Failure(400, 'KeyTooLongError', 'Your key is too long')
  return key
}

/** Its length is known before it comes, and its hash is the one that was signed. @throws S3Failure */
export async function bodyOf(request: IncomingMessage, { method, headers }: Target): Promise<Buffer> {
  const signed = headers['x-amz-content-sha256'] ?? ''
  const takesBody = method === 'PUT' || method === 'POST'
  if (signed.startsWith('STREAMING-') || (takesBody && headers['content-length'] === undefined)) {
    throw new S3Failure(411, 'MissingContentLength', 'You must provide the Content-Length HTTP header.')
  }
  if (Number(headers['content-length'] ?? 0) > largestBodyBytes) {
    throw new S3Failure(400, 'EntityTooLarge', 'Your proposed upload exceeds the maximum allowed size')
  }
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const body = Buffer.concat(chunks)
  if (signed !== sha256(body)) {
    throw new S3Failure(
      400,
      'XAmzContentSHA256Mismatch',
      "The provided 'x-amz-content-sha256' is not that of the body.",
    )
  }
  checkSums(body, headers)
  return body
}

const sums: Readonly<Record<string, (body: Buffer) => string>> = {
  'content-md5': (body) => createHash('md5').update(body).digest('base64'),
  'x-amz-checksum-sha256': (body) => createHash('sha256').update(body).digest('base64'),
  'x-amz-checksum-crc32': (body) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(crc32(body))
    return bytes.toString('base64')
  },
}

function checkSums(body: Buffer, headers: Target['headers']): void {
  for (const [name, value] of Object.entries(headers)) {
    if (name !== 'content-md5' && !/^x-amz-(?:checksum-(?!mode)|trailer)/.test(name)) continue
    if (!sums[name]) throw new S3Failure(501, 'NotImplemented', `${name} is not implemented`)
    if (sums[name](body) !== value) throw new S3Failure(400, 'BadDigest', `${name} is not that of the body`)
  }
}

export const hasSum = ({ headers }: Target): boolean => Object.keys(sums).some((name) => headers[name] !== undefined)

/** The parameters of a request beside which it has none. @throws S3Failure */
export function onlyKnows({ query }: Target, names: readonly string[]): void {
  // 'x-id' is the SDK's, for its own logs.
  const unknown = query.find(([name]) => name !== 'x-id' && !names.includes(name))
  if (unknown) throw new S3Failure(501, 'NotImplemented', `the parameter ${unknown[0]} is not implemented`)
}

/** A lone `*`; anything else is not for puts. @throws S3Failure */
export function isConditional({ headers }: Target): boolean {
  if (headers['if-match'] !== undefined) throw new S3Failure(501, 'NotImplemented', 'If-Match is not implemented')
  const given = headers['if-none-match']
  if (given !== undefined && given !== '*') throw new S3Failure(501, 'NotImplemented', 'If-None-Match is * or nothing')
  return given === '*'
}
