// What holds for every ObjectTransport.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { contractVersion, type ObjectStore, type ObjectTransport } from './contract.ts'
import { testOptions as plainOptions } from './testkit-options.ts'

/** As long as a key may be, and each of its parts. */
const longestKey = Array.from({ length: 7 }, (_, index) => String(index).repeat(64)).join('/')

export interface ObjectContractOptions {
  /** What the driver is given as its own. */
  readonly settings?: () => Readonly<Record<string, unknown>>
  /** The store is known to know no condition: a put with one must say so, and then a hand-over by it alone is refused. */
  readonly isUnfit?: boolean
}

/** `address` is where objects may be put; what is put there stands under a prefix of this run's own. */
export function objectTransportContract(
  name: string,
  makeDriver: () => ObjectTransport,
  address: () => URL,
  { settings = () => ({}), isUnfit = false }: ObjectContractOptions = {},
): void {
  const testOptions = () => plainOptions({ settings: settings() })
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

    if (isUnfit) {
      it('a put with a condition that the store does not know is unfit, and puts nothing of it in doubt', async () => {
        const putting = store.put(`${prefix}once`, Buffer.from('one'), { ifAbsent: true })
        await assert.rejects(putting, { name: 'TransportError', code: 'unfit' })
        assert.equal(await store.put(`${prefix}once`, Buffer.from('two')), 'stored')
        assert.equal(Buffer.from((await store.get(`${prefix}once`))!).toString(), 'two')
      })
    } else conditions()

    function conditions(): void {
      it('ifAbsent leaves what was there', async () => {
        assert.equal(await store.put(`${prefix}once`, Buffer.from('one'), { ifAbsent: true }), 'stored')
        assert.equal(await store.put(`${prefix}once`, Buffer.from('two'), { ifAbsent: true }), 'exists')
        assert.equal(Buffer.from((await store.get(`${prefix}once`))!).toString(), 'one')
      })

      it('ifAbsent is decided anew once the object was deleted', async () => {
        await store.put(`${prefix}gone`, Buffer.from('one'), { ifAbsent: true })
        await store.delete([`${prefix}gone`])
        assert.equal(await store.put(`${prefix}gone`, Buffer.from('two'), { ifAbsent: true }), 'stored')
      })

      it('of many who put ifAbsent at once exactly one wins, and its object is the one, key by key', async () => {
        // Over connections of their own: one alone may put in order what would else race.
        const racers = await Promise.all(Array.from({ length: 12 }, () => makeDriver().open(at, testOptions())))
        for (const sizeBytes of [10, 100_000]) {
          const bodies = racers.map(() => randomBytes(sizeBytes))
          const keys = Array.from({ length: 4 }, (_, index) => `${prefix}race/${sizeBytes}/${index}`)
          const put = (key: string) => (racer: ObjectStore, index: number) =>
            racer.put(key, bodies[index]!, { ifAbsent: true })
          const results = await Promise.all(keys.map((key) => Promise.all(racers.map(put(key)))))
          for (const [index, key] of keys.entries()) {
            assert.deepEqual(results[index]!.filter((result) => result === 'stored').length, 1, key)
            const winner = bodies[results[index]!.indexOf('stored')]!
            assert.ok(Buffer.from((await store.get(key))!).equals(winner), 'the winner has its object there')
          }
        }
        await Promise.all(racers.map((racer) => racer.close()))
      })
    }

    it('what one store put another one gets, lists and deletes', async () => {
      const other = await makeDriver().open(at, testOptions())
      await store.put(`${prefix}shared/a`, Buffer.from('one'))
      assert.equal(Buffer.from((await other.get(`${prefix}shared/a`))!).toString(), 'one')
      assert.deepEqual(await keysOf(other, `${prefix}shared/`), [`${prefix}shared/a`])
      await other.delete([`${prefix}shared/a`])
      assert.equal(await store.get(`${prefix}shared/a`), undefined)
      await other.close()
    })

    it('puts and gets many at once, each whole', async () => {
      const bodies = Array.from({ length: 24 }, () => randomBytes(300_000))
      await Promise.all(bodies.map((body, index) => store.put(`${prefix}many/${index}`, body)))
      const got = await Promise.all(bodies.map((_, index) => store.get(`${prefix}many/${index}`)))
      for (const [index, body] of bodies.entries()) assert.ok(Buffer.from(got[index]!).equals(body), `object ${index}`)
    })

    it('a body may be a part of a larger piece of memory', async () => {
      const memory = new Uint8Array(randomBytes(5000))
      await store.put(`${prefix}part`, memory.subarray(1000, 3000))
      assert.ok(Buffer.from((await store.get(`${prefix}part`))!).equals(memory.subarray(1000, 3000)))
    })

    it('takes keys as long as they may be, and an object beside others below its key', async () => {
      const keys = [longestKey, 'below', 'below/a', 'below/a/b']
      for (const key of keys) await store.put(prefix + key, Buffer.from(key))
      for (const key of keys) {
        const got = await store.get(prefix + key)
        assert.equal(Buffer.from(got!).toString(), key)
      }
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

    it('lists by a prefix that ends within a part, and after a key that is not there', async () => {
      for (const key of ['within/ab1', 'within/ab2', 'within/ac', 'within/ab/c'])
        await store.put(prefix + key, Buffer.from('x'))
      const below = (key: string) => `${prefix}within/${key}`
      assert.deepEqual(await keysOf(store, below('ab')), [below('ab/c'), below('ab1'), below('ab2')])
      assert.deepEqual(await keysOf(store, below(''), below('ab11')), [below('ab2'), below('ac')])
      assert.deepEqual(await keysOf(store, below(''), below('b')), [])
      assert.deepEqual(await keysOf(store, below('nothing')), [])
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
