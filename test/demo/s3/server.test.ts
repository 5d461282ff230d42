// The S3 server of the tests is stricter than its clients: what it lets pass, a real store would have let pass too.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { BucketTraits } from '../../../src/demo/s3/bucket.ts'
import { S3Server } from '../../../src/demo/s3/server.ts'
import { sha256, signatureOf } from '../../../src/demo/s3/signature.ts'

const key = { accessKeyId: 'AKIDTEST', secretAccessKey: 'a secret of the tests' }

interface Sent {
  readonly method?: string
  readonly path: string
  readonly body?: string
  readonly headers?: Record<string, string>
  /** Between signing and sending. */
  tamper?(headers: Record<string, string>): void
  readonly atMs?: number
  readonly sentBody?: string
}

describe('the S3 server of the tests', () => {
  let server: S3Server
  afterEach(() => server.close())

  async function start(traits: BucketTraits = {}): Promise<void> {
    server = await S3Server.start({ buckets: { bucket: traits }, keys: [key] })
  }

  async function send(sent: Sent): Promise<{ status: number; text: string; headers: Record<string, unknown> }> {
    const { method = 'GET', path, body = '', atMs = Date.now() } = sent
    const url = new URL(path, server.endpoint)
    const headers: Record<string, string> = {
      host: url.host,
      'x-amz-date': new Date(atMs).toISOString().replace(/[-:]|\.\d+/g, ''),
      'x-amz-content-sha256': sha256(body),
      ...(method === 'PUT' || method === 'POST' ? { 'content-length': String(body.length) } : {}),
      ...sent.headers,
    }
    const names = Object.keys(headers).sort()
    const query = [...url.searchParams]
    const signature = signatureOf({ method, path: url.pathname, query, headers }, names, key, 'us-east-1')
    const scope = `${headers['x-amz-date']!.slice(0, 8)}/us-east-1/s3/aws4_request`
    headers['authorization'] =
      `AWS4-HMAC-SHA256 Credential=${key.accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
    sent.tamper?.(headers)
    const asked = request(url, { method, headers, agent: false })
    asked.end(sent.sentBody ?? body)
    const [answer] = await once(asked, 'response')
    return { status: answer.statusCode, text: (await buffer(answer)).toString(), headers: answer.headers }
  }

  const codeOf = async (sent: Sent) => {
    const { status, text } = await send(sent)
    return `${status} ${/<Code>(\w+)/.exec(text)?.[1] ?? ''}`.trim()
  }

  it('keeps what is signed, and gives it back', async () => {
    await start()
    assert.equal(await codeOf({ method: 'PUT', path: '/bucket/a%20b/%C3%A9', body: 'x' }), '200')
    const got = await send({ path: '/bucket/a%20b/%C3%A9' })
    assert.deepEqual([got.status, got.text, got.headers['etag']], [200, 'x', '"9dd4e461268c8034f5c8564e155c67a6"'])
    const head = await send({ method: 'HEAD', path: '/bucket/a%20b/%C3%A9' })
    assert.deepEqual([head.status, head.headers['content-length'], head.text], [200, '1', ''])
  })

  const forged: Readonly<Record<string, readonly [Partial<Sent>, string]>> = {
    'no signature': [{ tamper: (headers) => delete headers['authorization'] }, '403 AccessDenied'],
    'another host': [{ tamper: (headers) => (headers['host'] = 'other') }, '403 SignatureDoesNotMatch'],
    'another header': [
      { headers: { 'if-none-match': '*' }, tamper: (headers) => (headers['if-none-match'] = 'x') },
      '403 SignatureDoesNotMatch',
    ],
    'a header that was not signed': [{ tamper: (headers) => (headers['x-amz-acl'] = 'public') }, '403 AccessDenied'],
    'another body': [{ sentBody: 'y' }, '400 XAmzContentSHA256Mismatch'],
    'a body of chunks': [
      { headers: { 'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' } },
      '411 MissingContentLength',
    ],
    'an unsigned body': [{ headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } }, '400 XAmzContentSHA256Mismatch'],
    'a wrong MD5': [{ headers: { 'content-md5': 'AAAA' } }, '400 BadDigest'],
    'a sum that it does not know': [{ headers: { 'x-amz-checksum-crc64nvme': 'AAAA' } }, '501 NotImplemented'],
    'an old request': [{ atMs: Date.now() - 16 * 60_000 }, '403 RequestTimeTooSkewed'],
    'a request of the future': [{ atMs: Date.now() + 16 * 60_000 }, '403 RequestTimeTooSkewed'],
    'a part that it does not know': [{ path: '/bucket/a?partNumber=1&uploadId=x' }, '501 NotImplemented'],
    'a condition that it does not know': [{ headers: { 'if-match': '"x"' } }, '501 NotImplemented'],
  }
  for (const [name, [sent, expected]] of Object.entries(forged)) {
    it(`refuses ${name}`, async () => {
      await start()
      assert.equal(await codeOf({ method: 'PUT', path: '/bucket/a', body: 'x', ...sent }), expected)
      assert.deepEqual(server.bucket('bucket').keys, [])
    })
  }

  it('takes the name of a bucket from the host as well', async () => {
    await start()
    const { host } = new URL(server.endpoint)
    const headers = { host: `bucket.localhost:${host.split(':')[1]}` }
    assert.equal(await codeOf({ method: 'PUT', path: '/a', body: 'x', headers }), '200')
    assert.deepEqual(server.bucket('bucket').keys, ['a'])
  })

  const winners: readonly (readonly [BucketTraits, (count: number) => boolean])[] = [
    [{}, (count) => count === 1],
    [{ versions: 'kept' }, (count) => count === 1],
    [{ versions: 'void' }, (count) => count === 12],
    [{ conditions: 'ignored' }, (count) => count === 12],
    [{ conditions: 'racy' }, (count) => count > 1],
    [{ conditions: 'unsupported' }, (count) => count === 0],
  ]
  for (const [traits, isRight] of winners) {
    it(`has as many winners of twelve as a bucket has that is ${JSON.stringify(traits)}`, async () => {
      await start(traits)
      const put = (index: number) => ({
        method: 'PUT',
        path: '/bucket/fence',
        body: String(index),
        headers: { 'if-none-match': '*' },
      })
      const answers = await Promise.all(Array.from({ length: 12 }, (_, index) => codeOf(put(index))))
      assert.ok(isRight(answers.filter((answer) => answer === '200').length), answers.join())
    })
  }

  it('a racy bucket refuses the second of two that come one after another', async () => {
    await start({ conditions: 'racy' })
    const put = { method: 'PUT', path: '/bucket/fence', body: 'x', headers: { 'if-none-match': '*' } }
    assert.deepEqual([await codeOf(put), await codeOf(put)], ['200', '412 PreconditionFailed'])
  })
})
