// What holds for every ObjectTransport.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { contractVersion, type ObjectStore, type ObjectTransport } from './contract.ts'
import { testOptions } from './testkit-options.ts'

/** `address` is where objects may be put; what is put there stands under a prefix of this run's own. */
export function objectTransportContract(name: string, makeDriver: () => ObjectTransport, address: () => URL): void {
  describe(`object transport contract: ${name}`, () => {
    const prefix = `contract-${randomBytes(6).toString('hex')}/`
    let store: ObjectStore
    let at: URL
    before(async () => {
      at = address()
      store = await makeDriver().open(at, testOptions())
    })
    after(async () => {
      await store.delete(await keysOf(store, prefix))
      await store.close()
    })

    it('states the contract version, its kind and its schemes', () => {
      const driver = makeDriver()
      assert.equal(driver.contractVersion, contractVersion)
      assert.equal(driver.kind, 'object')
      assert.ok(driver.schemes.includes(at.protocol.slice(0, -1)), 'the scheme of its address is among its schemes')
    })

    it('gets what was put, of any size', async () => {
      for (const sizeBytes of [0, 1, 4096, 5 * 1024 * 1024]) {
        const body = randomBytes(sizeBytes)
        assert.equal(await store.put(`${prefix}size/${sizeBytes}`, body), 'stored')
        const got = await store.get(`${prefix}size/${sizeBytes}`)
        assert.ok(got && Buffer.from(got).equals(body), `${sizeBytes} bytes`)
      }
    })

    it('an object that is not there is undefined', async () => {
      assert.equal(await store.get(`${prefix}nothing`), undefined)
    })

    it('a put takes the place of what was there', async () => {
      await store.put(`${prefix}again`, Buffer.from('one'))
      assert.equal(await store.put(`${prefix}again`, Buffer.from('two')), 'stored')
      assert.equal(Buffer.from((await store.get(`${prefix}again`))!).toString(), 'two')
    })

    it('ifAbsent leaves what was there', async () => {
      assert.equal(await store.put(`${prefix}once`, Buffer.from('one'), { ifAbsent: true }), 'stored')
      assert.equal(await store.put(`${prefix}once`, Buffer.from('two'), { ifAbsent: true }), 'exists')
      assert.equal(Buffer.from((await store.get(`${prefix}once`))!).toString(), 'one')
    })

    it('of many who put ifAbsent at once exactly one wins, and its object is the one', async () => {
      const other = await makeDriver().open(at, testOptions())
      for (let round = 0; round < 5; round++) {
        const key = `${prefix}race/${round}`
        const results = await Promise.all(
          Array.from({ length: 16 }, (_, index) =>
            (index % 2 ? store : other).put(key, Buffer.from(`writer ${index}`), { ifAbsent: true }),
          ),
        )
        assert.equal(results.filter((result) => result === 'stored').length, 1)
        const winner = `writer ${results.indexOf('stored')}`
        assert.equal(Buffer.from((await store.get(key))!).toString(), winner)
      }
      await other.close()
    })

    it('lists by prefix, in order of bytes, with sizes', async () => {
      const keys = ['list/a', 'list/a/b', 'list/a0', 'list/b', 'list/Z', 'list/é', 'lister']
      for (const key of keys) await store.put(prefix + key, Buffer.from(key))
      const listed = []
      for await (const info of store.list(`${prefix}list/`)) listed.push(info)
      const expected = keys
        .filter((key) => key.startsWith('list/'))
        .sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
        .map((key) => ({ key: prefix + key, sizeBytes: Buffer.byteLength(key) }))
      assert.deepEqual(
        listed.map(({ key, sizeBytes }) => ({ key, sizeBytes })),
        expected,
      )
    })

    it('lists after a key, over more than a page', async () => {
      const keys = Array.from({ length: 1100 }, (_, index) => `${prefix}page/${String(index).padStart(5, '0')}`)
      for (let start = 0; start < keys.length; start += 50) {
        await Promise.all(keys.slice(start, start + 50).map((key) => store.put(key, Buffer.from('x'))))
      }
      assert.deepEqual(await keysOf(store, `${prefix}page/`), keys)
      assert.deepEqual(await keysOf(store, `${prefix}page/`, keys[17]), keys.slice(18))
    })

    it('deletes many, and what is not there', async () => {
      const keys = Array.from({ length: 30 }, (_, index) => `${prefix}delete/${index}`)
      await Promise.all(keys.map((key) => store.put(key, Buffer.from('x'))))
      await store.delete([...keys, `${prefix}delete/never`])
      assert.deepEqual(await keysOf(store, `${prefix}delete/`), [])
      await store.delete([])
    })

    it('an aborted signal ends every request with its reason', async () => {
      const reason = new Error('given up')
      const signal = AbortSignal.abort(reason)
      await assert.rejects(async () => store.put(`${prefix}aborted`, Buffer.from('x'), { signal }), reason)
      await assert.rejects(async () => store.get(`${prefix}aborted`, { signal }), reason)
      await assert.rejects(async () => store.delete([`${prefix}aborted`], { signal }), reason)
      await assert.rejects(async () => {
        for await (const _ of store.list(prefix, { signal }));
      }, reason)
      assert.equal(await store.get(`${prefix}aborted`), undefined)
    })

    it('a body may change once its put has resolved', async () => {
      const body = Buffer.from('before')
      await store.put(`${prefix}body`, body)
      body.write('after!')
      assert.equal(Buffer.from((await store.get(`${prefix}body`))!).toString(), 'before')
    })
  })
}

async function keysOf(store: ObjectStore, prefix: string, after?: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix, after === undefined ? {} : { after })) keys.push(key)
  return keys
}
