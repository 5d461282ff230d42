// The documents that S3 answers with and takes, as far as this server needs them.

import type { Page } from './bucket.ts'
import { S3Failure } from './failure.ts'

const namespace = 'http://s3.amazonaws.com/doc/2006-03-01/'
const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\r': '&#13;',
}
const letters: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
const mostDeletes = 1000

const escaped = (text: string): string => text.replace(/[&<>"\r]/g, (letter) => entities[letter]!)

function unescaped(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (_, hex?: string, decimal?: string, name?: string) => {
    if (name !== undefined) return letters[name] ?? ''
    return String.fromCodePoint(hex === undefined ? Number(decimal) : Number.parseInt(hex, 16))
  })
}

const element = (name: string, content: string): string => `<${name}>${content}</${name}>`
const documentOf = (root: string, content: string): Buffer =>
  Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="${namespace}">${content}</${root}>`)

export function errorDocument({ code, message }: S3Failure, requestId: string): Buffer {
  const content = element('Code', code) + element('Message', escaped(message)) + element('RequestId', requestId)
  return Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n<Error>${content}</Error>`)
}

export interface Listing {
  readonly bucket: string
  readonly prefix: string
  readonly maxKeys: number
  readonly page: Page
  /** Where the next page begins. */
  readonly token: string
}

export function listingDocument({ bucket, prefix, maxKeys, page, token }: Listing): Buffer {
  const contents = page.objects.map(([key, { bytes, etag, changedAt }]) => {
    const facts = element('LastModified', changedAt.toISOString()) + element('ETag', escaped(etag))
    return element('Contents', element('Key', escaped(key)) + facts + element('Size', String(bytes.length)))
  })
  const head = element('Name', bucket) + element('Prefix', escaped(prefix)) + element('MaxKeys', String(maxKeys))
  const count = element('KeyCount', String(contents.length)) + element('IsTruncated', String(page.isTruncated))
  const next = page.isTruncated ? element('NextContinuationToken', token) : ''
  return documentOf('ListBucketResult', head + count + next + contents.join(''))
}

/** @throws S3Failure */
export function keysToDelete(body: Buffer): { keys: string[]; isQuiet: boolean } {
  const text = body.toString()
  const keys = [...text.matchAll(/<Object>\s*<Key>([^<]*)<\/Key>\s*<\/Object>/g)].map(([, key]) => unescaped(key!))
  const isWhole = /<Delete[ >]/.test(text) && (text.match(/<Object>/g)?.length ?? 0) === keys.length
  if (!isWhole || keys.length === 0 || keys.length > mostDeletes) {
    throw new S3Failure(400, 'MalformedXML', 'The XML was not well-formed or did not validate against our schema')
  }
  return { keys, isQuiet: /<Quiet>\s*true\s*<\/Quiet>/.test(text) }
}

export function deletedDocument(deleted: readonly string[], denied: readonly string[]): Buffer {
  const errors = denied.map((key) => {
    const facts = element('Code', 'AccessDenied') + element('Message', 'Access Denied')
    return element('Error', element('Key', escaped(key)) + facts)
  })
  const done = deleted.map((key) => element('Deleted', element('Key', escaped(key))))
  return documentOf('DeleteResult', done.join('') + errors.join(''))
}
