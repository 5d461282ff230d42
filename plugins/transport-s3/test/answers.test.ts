// The driver against answers written by hand: what a strict server of our own would not say. nock sees each request that
// node:http makes, so whatever is asked beside these would fail.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import nock from 'nock'
import type { ObjectStore } from 'vmstore/transport'
import { testOptions } from 'vmstore/transport/testkit'
import { bytesOf } from '../src/body.ts'
import { S3Transport } from '../src/s3-transport.ts'

const host = 'https://s3.example.com'
const variables = {
  AWS_ACCESS_KEY_ID: 'AKIDTEST',
  AWS_SECRET_ACCESS_KEY: 'a secret of the tests',
  AWS_EC2_METADATA_DISABLED: 'true',
  AWS_CONFIG_FILE: '/dev/null',
  AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
}
const listing = (content: string) => `<?xml version="1.0"?><ListBucketResult>${content}</ListBucketResult>`
const failure = (code: string) => `<?xml version="1.0"?><Error><Code>${code}</Code></Error>`
const entry = (key: string) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`

// It acts from its import on, and so upon every other file of the run.
nock.restore()

describe('transport-s3 against answers written by hand', () => {
  const saved = Object.entries(variables).map(([name]) => [name, process.env[name]] as const)
  let store: ObjectStore
  before(() => {
    Object.assign(process.env, variables)
    nock.activate()
    nock.disableNetConnect()
  })
  beforeEach(async () => {
    store = await open({ endpoint: host })
  })
  afterEach(async () => {
    await store.close()
    assert.deepEqual(nock.pendingMocks(), [], 'all that was awaited was asked')
    nock.cleanAll()
  })
  after(() => {
    nock.enableNetConnect()
    nock.restore()
    for (const [name, value] of saved) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  })

  const open = (settings: Record<string, unknown>) =>
    new S3Transport().open(new URL('s3://bucket/prefix'), testOptions({ settings }))

  async function keys(): Promise<string[]> {
    const found: string[] = []
    for await (const { key } of store.list('a', { after: 'a0' })) found.push(key)
    return found
  }

  it('the bucket stands in the path, or with pathStyle off in the name of the host', async () => {
    nock(host).put('/bucket/prefix/a?x-id=PutObject', 'x').reply(200)
    assert.equal(await store.put('a', Buffer.from('x')), 'stored')
    nock('https://bucket.s3.example.com').put('/prefix/a?x-id=PutObject', 'x').reply(200)
    const virtual = await open({ endpoint: host, pathStyle: false })
    assert.equal(await virtual.put('a', Buffer.from('x')), 'stored')
    await virtual.close()
  })

  it('without an endpoint it is AWS, in the region that the settings name', async () => {
    nock('https://bucket.s3.eu-north-1.amazonaws.com').put('/prefix/a?x-id=PutObject', 'x').reply(200)
    const aws = await open({ region: 'eu-north-1' })
    assert.equal(await aws.put('a', Buffer.from('x')), 'stored')
    await aws.close()
  })

  it('a put of 4 MiB is one request with its length, and no Expect', async () => {
    const body = Buffer.alloc(4 * 2 ** 20, 'x')
    nock(host, { badheaders: ['expect', 'x-amz-trailer', 'x-amz-checksum-crc32', 'x-amz-decoded-content-length'] })
      .put('/bucket/prefix/a?x-id=PutObject')
      .matchHeader('content-length', String(body.length))
      .reply(200)
    assert.equal(await store.put('a', body), 'stored')
  })

  it('a version in the answer to a conditional put makes it unfit, be it the null version', async () => {
    for (const version of ['3HL4kqtJvjVBH40Nrjfkd', 'null']) {
      nock(host)
        .put('/bucket/prefix/fence?x-id=PutObject')
        .matchHeader('if-none-match', '*')
        .reply(200, '', { 'x-amz-version-id': version })
      await assert.rejects(store.put('fence', Buffer.from('x'), { ifAbsent: true }), { code: 'unfit' })
    }
  })

  it('a 412 without a body is exists; one to a put without a condition is a failure', async () => {
    nock(host).put('/bucket/prefix/fence?x-id=PutObject').twice().reply(412)
    assert.equal(await store.put('fence', Buffer.from('x'), { ifAbsent: true }), 'exists')
    await assert.rejects(store.put('fence', Buffer.from('x')), { code: 'denied' })
  })

  it('a 404 that does not say that it is of a key is of no object: another server may have the address', async () => {
    nock(host).get('/bucket/prefix/a?x-id=GetObject').reply(404, failure('NoSuchKey'))
    assert.equal(await store.get('a'), undefined)
    nock(host).get('/bucket/prefix/a?x-id=GetObject').reply(404, '<html>nothing here</html>')
    await assert.rejects(store.get('a'), { name: 'TransportError' })
  })

  it('a listing goes on page by page, and what lies beside the prefix is left out', async () => {
    const query = { 'list-type': '2', prefix: 'prefix/a' }
    const first = entry('prefix/a1') + entry('elsewhere')
    nock(host)
      .get('/bucket/')
      .query({ ...query, 'start-after': 'prefix/a0' })
      .reply(200, listing(`<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>${first}`))
      .get('/bucket/')
      .query({ ...query, 'continuation-token': 't' })
      .reply(200, listing(entry('prefix/a2')))
    assert.deepEqual(await keys(), ['a1', 'a2'])
  })

  it('a listing that does not say where it goes on is a failure, and no end', async () => {
    const pages = [
      '<IsTruncated>true</IsTruncated>',
      '<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>',
    ]
    nock(host).get('/bucket/').query(true).reply(200, listing(pages[0]!))
    await assert.rejects(keys(), { code: 'unavailable', message: /where it goes on/ })
    nock(host).get('/bucket/').query(true).twice().reply(200, listing(pages[1]!))
    await assert.rejects(keys(), { code: 'unavailable', message: /where it goes on/ })
  })

  it('an answer that is no XML is a failure', async () => {
    nock(host).get('/bucket/').query(true).reply(200, 'not <XML')
    await assert.rejects(keys(), { name: 'TransportError' })
  })

  it('many are deleted by one request with Content-MD5; what stays is told', async () => {
    const deletion = nock(host)
      .matchHeader('content-md5', /^[\w+/]{22}==$/)
      .persist(false)
    deletion.post('/bucket/?delete=').reply(200, '<DeleteResult></DeleteResult>')
    await store.delete(['a', 'b'])
    const error = '<Error><Key>prefix/b</Key><Code>InternalError</Code></Error>'
    deletion.post('/bucket/?delete=').reply(200, `<DeleteResult>${error}</DeleteResult>`)
    await assert.rejects(store.delete(['a', 'b']), { code: 'unavailable', message: /InternalError for prefix\/b/ })
  })

  it('a certificate that nobody vouches for is denied, and an address that is not known may come', async () => {
    const failing = (code: string) =>
      nock(host)
        .get('/bucket/prefix/a?x-id=GetObject')
        .replyWithError(Object.assign(new Error(code), { code }))
    failing('DEPTH_ZERO_SELF_SIGNED_CERT')
    await assert.rejects(store.get('a'), { code: 'denied', message: /NODE_EXTRA_CA_CERTS/ })
    failing('ENOTFOUND')
    await assert.rejects(store.get('a'), { code: 'unavailable', message: /pathStyle/ })
  })

  it('a body that ends too soon, or does not end where it should, is a failure, and is let go', async () => {
    const { signal } = new AbortController()
    for (const length of [3, 5]) {
      const body = Readable.from([Buffer.from('ab'), Buffer.from('cd')])
      await assert.rejects(bytesOf(body, length, signal), { code: 'unavailable', message: /announced/ })
      assert.ok(body.destroyed)
    }
    assert.equal((await bytesOf(Readable.from([Buffer.from('ab')]), undefined, signal)).toString(), 'ab')
  })

  it('an object larger than any may be is not read', async () => {
    nock(host)
      .get('/bucket/prefix/a?x-id=GetObject')
      .reply(200, 'short', { 'content-length': String(2 ** 40) })
    await assert.rejects(store.get('a'), { code: 'denied', message: /larger than/ })
  })
})
