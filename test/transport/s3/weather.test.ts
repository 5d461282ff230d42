// What this driver makes of a store's hard weather: one attempt, a code that says whether another may help, and a sentence.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Trouble } from '../../../src/demo/s3/faults.ts'
import { closeAfterEach, key, keysIn, openStore, startServer, withEnvironment } from './stores.ts'

const body = randomBytes(64 * 1024)
const never = new Promise<void>(() => {})

describe('transport-s3 in hard weather', () => {
  withEnvironment()
  closeAfterEach()

  const statuses: readonly (readonly [number, string, string])[] = [
    [500, 'InternalError', 'unavailable'],
    [502, 'BadGateway', 'unavailable'],
    [503, 'SlowDown', 'throttled'],
    [503, 'ServiceUnavailable', 'throttled'],
    [429, 'TooManyRequests', 'throttled'],
    [408, 'RequestTimeout', 'unavailable'],
    [400, 'RequestTimeout', 'unavailable'],
    [400, 'BadDigest', 'unavailable'],
    [400, 'InvalidRequest', 'denied'],
    [403, 'AccessDenied', 'denied'],
    [404, 'NoSuchBucket', 'missing'],
    [301, 'PermanentRedirect', 'missing'],
    [501, 'NotImplemented', 'unfit'],
  ]
  for (const [status, code, expected] of statuses) {
    it(`an answer ${status} ${code} is ${expected}, told with its name, after one attempt`, async () => {
      const server = await startServer()
      const store = await openStore(server)
      const failure = {
        name: 'TransportError',
        code: expected,
        message: new RegExp(`^s3://bucket/some/prefix/: .*${status} ${code}`),
      }
      for (const act of [() => store.put('a', body), () => store.delete(['a']), () => keysIn(store)]) {
        server.seen.length = 0
        server.spoil({ kind: 'status', status, code })
        await assert.rejects(act, failure)
        assert.equal(server.seen.length, 1)
      }
    })
  }

  it('how long to wait is what the store says, within reason', async () => {
    const server = await startServer()
    const store = await openStore(server)
    for (const [said, retryAfterMs] of [
      ['7', 7000],
      ['86400', 300_000],
      ['nonsense', undefined],
    ] as const) {
      server.spoil({ kind: 'status', status: 503, code: 'SlowDown', headers: { 'retry-after': said } })
      await assert.rejects(store.put('a', body), { code: 'throttled', retryAfterMs })
    }
  })

  const broken: readonly (readonly [string, Trouble])[] = [
    ['reset', { kind: 'reset' }],
    ['reset when all was done', { kind: 'reset-when-done' }],
    ['cut', { kind: 'truncate', bytes: 1000 }],
  ]
  for (const [name, trouble] of broken) {
    it(`an answer that is ${name} is unavailable, and the next attempt is as if nothing had been`, async () => {
      const server = await startServer()
      const store = await openStore(server)
      await store.put('a', body)
      server.spoil(trouble)
      await assert.rejects(store.get('a'), { name: 'TransportError', code: 'unavailable' })
      assert.ok(Buffer.from((await store.get('a'))!).equals(body))
    })
  }

  const silent: readonly (readonly [string, Trouble])[] = [
    ['does not begin', { kind: 'wait', until: never }],
    ['stops in its middle', { kind: 'stall', bytes: 1000 }],
  ]
  for (const [name, trouble] of silent) {
    it(`an answer that ${name} ends by the deadline, or sooner by the caller's signal`, async () => {
      const server = await startServer()
      const patient = await openStore(server)
      await patient.put('a', Buffer.from(body.subarray(0, 2000)))
      server.spoil(trouble, { times: 2 })
      const store = await openStore(server, { timeoutSeconds: 0.05 })
      await assert.rejects(store.get('a'), { code: 'unavailable', message: /has not answered in full within/ })
      const control = new AbortController()
      const reason = new Error('given up')
      const getting = patient.get('a', { signal: control.signal })
      control.abort(reason)
      await assert.rejects(getting, reason)
    })
  }

  it('answers that stopped free their connections: as many may stop as there are, and more', async () => {
    const server = await startServer()
    const store = await openStore(server, { connections: 2 })
    await store.put('a', Buffer.from('body'))
    server.spoil({ kind: 'stall', bytes: 1 }, { times: 6 })
    for (let round = 1; round <= 3; round++) {
      const control = new AbortController()
      const reason = new Error('given up')
      const gets = [1, 2].map(() => assert.rejects(store.get('a', { signal: control.signal }), reason))
      while (server.seen.filter(({ method, status }) => method === 'GET' && status === 200).length < 2 * round) {
        await new Promise((resolve) => setImmediate(resolve))
      }
      control.abort(reason)
      await Promise.all(gets)
    }
    assert.equal(Buffer.from((await store.get('a'))!).toString(), 'body')
  })

  it('an answer that lies about its length to the end, or of which a bit fell over, is not noticed here: who opens the seal does', async () => {
    const server = await startServer()
    const store = await openStore(server)
    await store.put('a', body)
    server.spoil({ kind: 'shorten', bytes: 10 })
    assert.equal((await store.get('a'))!.length, 10)
    server.spoil({ kind: 'corrupt' })
    assert.ok(!Buffer.from((await store.get('a'))!).equals(body))
  })

  it('a host at which nobody listens is unavailable', async () => {
    const listener = createServer()
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const { port } = listener.address() as { port: number }
    await new Promise((resolve) => listener.close(resolve))
    const store = await openStore({ endpoint: `http://127.0.0.1:${port}` })
    await assert.rejects(store.get('a'), { code: 'unavailable', message: /ECONNREFUSED/ })
  })

  it('something else that answers, in HTTP or not, is no store, and no object is absent there', async () => {
    const talker = createServer((socket) => socket.end('SSH-2.0-other\r\n'))
    await new Promise<void>((resolve) => talker.listen(0, '127.0.0.1', resolve))
    const { port } = talker.address() as { port: number }
    const store = await openStore({ endpoint: `http://127.0.0.1:${port}` })
    await assert.rejects(store.get('a'), { code: 'unavailable' })
    talker.close()
  })

  it('a bucket that is not there is missing, and no object is absent in it', async () => {
    const store = await openStore(await startServer(), {}, 's3://other/x')
    await assert.rejects(store.get('a'), { code: 'missing', message: /NoSuchBucket/ })
    await assert.rejects(store.put('a', body), { code: 'missing' })
    await assert.rejects(keysIn(store), { code: 'missing' })
    await assert.rejects(store.delete(['a']), { code: 'missing' })
  })

  it('a prefix that the policy refuses is denied', async () => {
    const server = await startServer()
    server.refuses = (_, name) => name.startsWith('some/')
    const store = await openStore(server)
    await assert.rejects(store.get('a'), { code: 'denied', message: /no right/ })
    await assert.rejects(store.put('a', body), { code: 'denied' })
    await assert.rejects(keysIn(store), { code: 'denied' })
    await assert.rejects(store.delete(['a', 'b']), { code: 'denied', message: /AccessDenied/ })
    await assert.rejects(store.delete(['a']), { code: 'denied' })
  })

  it('an absent object is undefined also where only the prefix may be listed, and the store says 403', async () => {
    const server = await startServer()
    server.refuses = (action, name) => action === 's3:ListBucket' && !name.startsWith('some/prefix/')
    const store = await openStore(server)
    assert.equal(await store.get('absent'), undefined)
    assert.ok(server.seen.some(({ status }) => status === 403))
    await store.put('there', body)
    assert.ok(await store.get('there'))
    server.refuses = (action) => action === 's3:GetObject'
    await assert.rejects(store.get('there'), { code: 'denied' })
  })

  it('an hour between the clocks is corrected by the second attempt', async () => {
    const server = await startServer()
    server.clockOffsetMs = 3_600_000
    const store = await openStore(server)
    assert.equal(await store.put('a', body), 'stored')
    assert.deepEqual(
      server.seen.map(({ status }) => status),
      [403, 200],
    )
  })

  it('keys that nobody knows are denied', async () => {
    const server = await startServer()
    server.keys = [{ accessKeyId: 'other', secretAccessKey: 'other' }]
    const store = await openStore(server)
    await assert.rejects(store.put('a', body), { code: 'denied', message: /InvalidAccessKeyId/ })
    server.keys = [{ ...key, secretAccessKey: 'other' }]
    await assert.rejects(store.put('a', body), { code: 'denied', message: /SignatureDoesNotMatch/ })
  })

  it('the region of a bucket elsewhere is named', async () => {
    const server = await startServer({ region: 'eu-central-1' })
    const store = await openStore(server)
    await assert.rejects(store.put('a', body), { code: 'denied', message: /eu-central-1/ })
    assert.equal(await (await openStore(server, { region: 'eu-central-1' })).put('a', body), 'stored')
  })
})

describe('transport-s3, of credentials', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vmc-'))
  const file = join(folder, 'credentials')
  after(() => rmSync(folder, { recursive: true, force: true }))
  withEnvironment({
    AWS_ACCESS_KEY_ID: undefined,
    AWS_SECRET_ACCESS_KEY: undefined,
    AWS_SHARED_CREDENTIALS_FILE: file,
  })
  closeAfterEach()

  const old = { ...key, sessionToken: 'old' }
  const fresh = { ...key, accessKeyId: 'AKIDFRESH', sessionToken: 'fresh' }
  const write = ({ accessKeyId, secretAccessKey, sessionToken }: typeof old) =>
    writeFileSync(
      file,
      `[relay]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\naws_session_token = ${sessionToken}\n`,
    )

  it('come from the profile that the settings name', async () => {
    write(old)
    const store = await openStore(await startServer({ keys: [old] }), { profile: 'relay' })
    assert.equal(await store.put('a', body), 'stored')
  })

  it('that have expired are read anew: a file that was renewed is used within the same request', async () => {
    write(old)
    const server = await startServer({ keys: [old, fresh] })
    const store = await openStore(server, { profile: 'relay' })
    await store.put('a', body)
    server.keys = [{ ...old, isExpired: true }, fresh]
    await assert.rejects(store.put('a', body), { code: 'unavailable', message: /expired and must be renewed/ })
    write(fresh)
    const puts = Array.from({ length: 8 }, (_, index) => store.put(`b${index}`, body))
    assert.deepEqual(new Set(await Promise.all(puts)), new Set(['stored']))
  })

  it('that are nowhere are denied, with a sentence that says where they could be', async () => {
    const store = await openStore(await startServer(), { profile: 'nobody' })
    await assert.rejects(store.put('a', body), { code: 'denied', message: /no credentials were found.*AWS_PROFILE/s })
  })
})
