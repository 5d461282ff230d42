import assert from 'node:assert/strict'
import type { RelayError } from '../../src/relay/errors.ts'
import { usualWeather, type WeatherChange, WeatheredStore } from '../../src/relay/weather.ts'
import { Objects, storeError } from './objects.ts'
import { VirtualClock } from './virtual-clock.ts'

const body = Buffer.from('body')

describe('a store in any weather', () => {
  let objects: Objects
  let clock: VirtualClock
  let changes: WeatherChange[]
  let store: WeatheredStore

  beforeEach(() => {
    objects = new Objects()
    clock = new VirtualClock()
    changes = []
    const notice = (change: WeatherChange) => changes.push(change)
    store = new WeatheredStore({ store: objects, address: 's3://bucket/moves', clock, random: () => 1, notice })
  })

  /** The first `count` requests fail so. */
  const failing = (count: number, error: Error | { after: Error }) => {
    objects.fault = () => (count-- > 0 ? error : undefined)
  }

  it('is asked again until it answers, later and later, and tells of it once', async () => {
    failing(4, storeError('unavailable', 'connection reset'))
    assert.equal(await clock.run(store.put('a', body)), 'stored')
    assert.deepEqual(clock.slept, [250, 500, 1000, 2000])
    assert.deepEqual(changes, [
      { is: 'bad', why: 'connection reset', isThrottled: false },
      { is: 'good', afterMs: 3750 },
    ])
    failing(1, storeError('throttled'))
    assert((await clock.run(store.get('a')))?.length === body.length)
    assert.equal(changes.length, 4)
  })

  it('that never answers fails in the end, after minutes, with a sentence that says what is safe', async () => {
    failing(Number.POSITIVE_INFINITY, storeError('unavailable', 'no route'))
    await assert.rejects(clock.run(store.get('a')), (error: RelayError) => {
      assert.equal(error.code, 'unavailable')
      const words = 's3://bucket/moves: reading a: no route. It was tried 8 times; nothing is lost, and it goes on when'
      assert.equal(error.message, `${words} the store answers`)
      return true
    })
    assert.equal(objects.asked.length, usualWeather.attempts)
    assert(clock.slept.every((ms) => ms <= usualWeather.longestWaitMs))
  })

  it('is not named twice where its driver names it already', async () => {
    failing(1, storeError('denied', 's3://bucket/moves/: the object a cannot be put: 403.'))
    await assert.rejects(clock.run(store.put('a', body)), (error: Error) => {
      assert.match(error.message, /^s3:\/\/bucket\/moves\/: the object a cannot be put: 403\. Give this site's account/)
      return true
    })
  })

  it('that asks for patience is given it, within bounds', async () => {
    failing(1, storeError('throttled', 'SlowDown', 7000))
    await clock.run(store.put('a', body))
    assert.deepEqual(clock.slept, [7000])
    failing(1, storeError('throttled', 'SlowDown', 1e9))
    await clock.run(store.put('a', body))
    assert.deepEqual(clock.slept.slice(1), [60_000])
  })

  it('that refuses for good is not asked again', async () => {
    for (const code of ['denied', 'missing', 'unfit']) {
      objects.asked.length = 0
      failing(Number.POSITIVE_INFINITY, storeError(code))
      await assert.rejects(clock.run(store.put('a', body, { ifAbsent: true })), { code })
      assert.equal(objects.asked.length, 1)
    }
  })

  it('that is silent is given up at a deadline by size, even if its driver heeds no signal', async () => {
    const hang = new Promise<undefined>(() => {})
    let count = 2
    objects.fault = () => (count-- > 0 ? hang : undefined)
    assert.equal(await clock.run(store.put('a', Buffer.alloc(1024 * 1024))), 'stored')
    const deadlineMs = 30_000 + 8000
    assert.deepEqual(clock.slept, [deadlineMs, 250, deadlineMs, 500])
    assert(objects.asked[0]!.signal?.aborted, 'the driver was told')
  })

  it('shares what the path carries among requests that run at once', async () => {
    const hang = new Promise<undefined>(() => {})
    objects.fault = () => hang
    const rules = { ...usualWeather, attempts: 1 }
    store = new WeatheredStore({ store: objects, address: 's3://b', clock, random: () => 1, rules })
    const all = [1, 2, 3].map((key) => assert.rejects(store.put(`${key}`, Buffer.alloc(1024 * 1024)), /within/))
    await clock.run(Promise.all(all))
    assert.deepEqual(clock.slept, [38_000, 46_000, 54_000])
  })

  it('ends at once when nobody wants the answer any more: during an attempt, and between two', async () => {
    const reason = new Error('no longer')
    const during = new AbortController()
    objects.fault = () => new Promise<undefined>(() => {})
    const hanging = store.get('a', { signal: during.signal })
    during.abort(reason)
    await assert.rejects(hanging, reason)
    const between = new AbortController()
    failing(Number.POSITIVE_INFINITY, storeError('unavailable'))
    const waiting = store.get('a', { signal: between.signal })
    while (changes.length === 0) await new Promise((resolve) => setImmediate(resolve))
    between.abort(reason)
    await assert.rejects(waiting, reason)
    assert.deepEqual(clock.slept, [])
  })

  it('a conditional put whose answer was lost finds its own object: it exists', async () => {
    failing(1, { after: storeError('unavailable') })
    assert.equal(await clock.run(store.put('a', body, { ifAbsent: true })), 'exists')
    assert(objects.objects.get('a')!.equals(body))
  })

  it('a listing goes on behind the last key that it gave, and is charged by the page', async () => {
    for (let index = 0; index < 2500; index++) objects.objects.set(`k/${String(index).padStart(5, '0')}`, body)
    let asked = 0
    objects.fault = () => (++asked === 2 ? storeError('unavailable') : undefined)
    const listed: string[] = []
    const all = async () => {
      for await (const { key } of store.list('k/')) listed.push(key)
    }
    await clock.run(all())
    assert.deepEqual(listed, [...objects.objects.keys()].sort())
    assert.equal(store.counts.lists, 4)
  })

  it('counts every attempt and every byte', async () => {
    await store.put('a', Buffer.alloc(1000))
    failing(1, storeError('throttled'))
    await clock.run(store.put('b', Buffer.alloc(10)))
    await store.get('a')
    await store.get('nothing')
    await store.delete(Array.from({ length: 1001 }, (_, index) => `d/${index}`))
    assert.deepEqual(store.counts, {
      puts: 3,
      gets: 2,
      lists: 0,
      deletes: 2,
      failures: 1,
      throttled: 1,
      bytesUp: 1020,
      bytesDown: 1000,
    })
  })
})
