// The contract, run over an S3 server in memory; then what is this driver's own.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { S3Transport } from '../../../plugins/transport-s3/src/s3-transport.ts'
import { settingsOf } from '../../../plugins/transport-s3/src/settings.ts'
import transports from '../../../plugins/transport-s3/src/transports-hook.ts'
import { S3Server } from '../../../src/demo/s3/server.ts'
import { objectTransportContract, testOptions } from '../../../src/transport/testkit.ts'
import { closeAfterEach, key, keysIn, openStore, startServer, withEnvironment } from './stores.ts'

describe('transport-s3 over a server in memory', () => {
  withEnvironment()
  let server: S3Server
  before(async () => {
    server = await S3Server.start({
      buckets: { bucket: {}, unconditional: { conditions: 'unsupported' } },
      keys: [key],
    })
  })
  after(() => server.close())
  objectTransportContract(
    's3',
    () => new S3Transport(),
    () => new URL('s3://bucket/contract'),
    { settings: () => ({ endpoint: server.endpoint }) },
  )
  objectTransportContract(
    's3, of a store without conditions',
    () => new S3Transport(),
    () => new URL('s3://unconditional/contract'),
    { settings: () => ({ endpoint: server.endpoint }), isUnfit: true },
  )
})

describe('transport-s3', () => {
  withEnvironment()
  closeAfterEach()

  it('answers the hook with its driver', async () => {
    const drivers = await transports()
    assert.deepEqual(
      drivers.flatMap(({ schemes, kind }) => [schemes, kind]),
      [['s3'], 'object'],
    )
  })

  it('keys lie below the prefix, and what lies beside it is never seen', async () => {
    const server = await startServer()
    const store = await openStore(server)
    const other = await openStore(server, {}, 's3://bucket/some/prefix-of-others')
    const whole = await openStore(server, {}, 's3://bucket')
    await store.put('a', Buffer.from('x'))
    await other.put('b', Buffer.from('x'))
    assert.deepEqual(await keysIn(store), ['a'])
    assert.deepEqual(await keysIn(whole), ['some/prefix-of-others/b', 'some/prefix/a'])
  })

  it('an address that names no bucket, or names more, is refused without being told', async () => {
    for (const address of [
      's3://',
      's3://b/',
      's3://user:secret@bucket/x',
      's3://bucket:90/',
      's3://bucket/?a=secret',
      's3://bucket/%zz',
    ]) {
      const opening = new S3Transport().open(new URL(address), testOptions())
      await assert.rejects(
        opening,
        (error: Error) => /s3:\/\/bucket\/prefix/.test(error.message) && !/secret/.test(error.message),
      )
    }
  })

  it('settings are checked, and each that is wrong is named', () => {
    const wrong = {
      endpoint: 'ftp://x',
      pathStyle: 'yes',
      connections: 0,
      timeoutSeconds: -1,
      headers: 'no colon',
      region: '',
    }
    for (const [name, value] of Object.entries(wrong)) {
      assert.throws(() => settingsOf({ [name]: value }), new RegExp(`transports\\.s3\\.${name}`))
    }
    assert.throws(() => settingsOf({ endpoint: 'https://user:pass@host' }), /without credentials/)
    const headers = 'X-Tigris-Consistent: true; x-other: a b'
    assert.deepEqual(settingsOf({ headers }).headers, { 'x-tigris-consistent': 'true', 'x-other': 'a b' })
    assert.equal(settingsOf({}).pathStyle, false)
    assert.equal(settingsOf({ endpoint: 'https://s3.example.com' }).pathStyle, true)
  })

  it('a put of megabytes goes over the pool, without Expect, in one piece whose length and hash are said', async () => {
    const server = await startServer()
    const store = await openStore(server, { connections: 3, headers: 'x-amz-meta-said: yes' })
    const body = randomBytes(4 * 2 ** 20)
    await Promise.all(Array.from({ length: 12 }, (_, index) => store.put(`chunk/${index}`, body)))
    assert.deepEqual(new Set(server.seen.map(({ status }) => status)), new Set([200]))
    assert.equal(new Set(server.seen.map(({ connection }) => connection)).size, 3)
    for (const { headers } of server.seen) {
      assert.equal(headers['expect'], undefined)
      assert.equal(headers['content-length'], String(body.length))
      assert.match(headers['x-amz-content-sha256']!, /^[0-9a-f]{64}$/)
      assert.equal(headers['x-amz-meta-said'], 'yes')
      assert.deepEqual(
        Object.keys(headers).filter((name) => /checksum|trailer/.test(name)),
        [],
      )
    }
  })

  it('what it opens is tuned: an open descriptor, once for each connection', async () => {
    const server = await startServer()
    const tuned: number[] = []
    const options = testOptions({ settings: { endpoint: server.endpoint }, tune: (fd) => tuned.push(fd) })
    const store = await new S3Transport().open(new URL('s3://bucket/x'), options)
    await store.put('a', Buffer.from('x'))
    await store.put('b', Buffer.from('x'))
    assert.equal(tuned.length, 1)
    await store.close()
  })

  it('what is read is memory of its own, which another thread may be given', async () => {
    const store = await openStore(await startServer())
    await store.put('small', Buffer.from('x'))
    const got = (await store.get('small'))!
    assert.equal(got.buffer.byteLength, 1)
  })

  it('a store without DeleteObjects is asked once, and deletes one after another', async () => {
    const server = await startServer({ buckets: { bucket: { deletesMany: false } } })
    const store = await openStore(server)
    const keys = Array.from({ length: 40 }, (_, index) => `k${index}`)
    for (let round = 0; round < 2; round++) {
      await Promise.all(keys.map((one) => store.put(one, Buffer.from('x'))))
      await store.delete(keys)
      assert.deepEqual(await keysIn(store), [])
    }
    assert.equal(server.seen.filter(({ method }) => method === 'POST').length, 1)
  })

  it('a listing that lags shows what it shows, and get what is there', async () => {
    const server = await startServer()
    const store = await openStore(server)
    server.bucket('bucket').lag()
    await store.put('new', Buffer.from('x'))
    assert.deepEqual(await keysIn(store), [])
    assert.ok(await store.get('new'))
    server.bucket('bucket').catchUp()
    assert.deepEqual(await keysIn(store), ['new'])
  })
})

describe('transport-s3, of what a conditional put says', () => {
  withEnvironment()
  closeAfterEach()
  const once = { ifAbsent: true }

  it('412 is exists', async () => {
    const store = await openStore(await startServer())
    assert.equal(await store.put('fence', Buffer.from('one'), once), 'stored')
    assert.equal(await store.put('fence', Buffer.from('two'), once), 'exists')
  })

  it('409 is a race, and tried again until it is decided', async () => {
    const server = await startServer()
    const store = await openStore(server)
    const conflict = { kind: 'status', status: 409, code: 'ConditionalRequestConflict' } as const
    server.spoil(conflict, { times: 2 })
    assert.equal(await store.put('fence', Buffer.from('one'), once), 'stored')
    assert.equal(server.seen.length, 3)
    server.spoil(conflict, { times: 1000 })
    await assert.rejects(store.put('fence', Buffer.from('one'), once), { code: 'unavailable' })
    assert.ok(server.seen.length < 20, 'not for ever')
  })

  it('a store that knows no condition is unfit, and asked once', async () => {
    const server = await startServer({ buckets: { bucket: { conditions: 'unsupported' } } })
    const store = await openStore(server)
    await assert.rejects(store.put('fence', Buffer.from('one'), once), { name: 'TransportError', code: 'unfit' })
    assert.equal(server.seen.length, 1)
    assert.equal(await store.put('chunk', Buffer.from('one')), 'stored')
  })

  for (const versions of ['kept', 'void'] as const) {
    it(`a bucket whose versions are ${versions} is unfit: who came first may be told to several`, async () => {
      const server = await startServer({ buckets: { bucket: { versions } } })
      const store = await openStore(server)
      await assert.rejects(store.put('fence', Buffer.from('one'), once), { code: 'unfit', message: /keeps versions/ })
      assert.equal(await store.put('chunk', Buffer.from('one')), 'stored')
    })
  }

  it('versions that are switched on later are noticed by the next put', async () => {
    const traits: { versions?: 'void' } = {}
    const store = await openStore(await startServer({ buckets: { bucket: traits } }))
    assert.equal(await store.put('one', Buffer.from('one'), once), 'stored')
    traits.versions = 'void'
    await assert.rejects(store.put('two', Buffer.from('one'), once), { code: 'unfit' })
  })

  it('a put whose answer was lost may say exists of its own object', async () => {
    const server = await startServer()
    const store = await openStore(server)
    server.spoil({ kind: 'reset-when-done' })
    await assert.rejects(store.put('fence', Buffer.from('mine'), once), { code: 'unavailable' })
    assert.equal(await store.put('fence', Buffer.from('mine'), once), 'exists')
    assert.equal(Buffer.from((await store.get('fence'))!).toString(), 'mine')
  })
})
