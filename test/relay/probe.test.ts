import assert from 'node:assert/strict'
import { RelayError } from '../../src/relay/errors.ts'
import { probeFence, probeKeys, probeRacers } from '../../src/relay/probe.ts'
import { Objects, storeError } from './objects.ts'

const folder = 'ab'.repeat(20)
const never = new AbortController().signal

describe('whether a store can keep a fence', () => {
  let objects: Map<string, Buffer>
  let opened: Objects[]
  /** `prepare` is given each racer's store. */
  const probe = (prepare: (store: Objects, racer: number) => void = () => undefined) =>
    probeFence({
      folder,
      signal: never,
      open: async () => {
        const store = new Objects(objects)
        prepare(store, opened.length)
        opened.push(store)
        return store
      },
    })

  beforeEach(() => {
    objects = new Map()
    opened = []
  })
  afterEach(() => {
    assert(opened.every(({ isClosed }) => isClosed))
    assert.deepEqual([...objects.keys()], [], 'nothing is left')
  })

  it('is seen by many puts at once of several new keys, each over a connection of its own', async () => {
    await probe()
    assert.equal(opened.length, probeRacers)
    for (const store of opened) {
      const puts = store.asked.filter(({ do: what }) => what === 'put')
      assert.equal(puts.length, probeKeys)
      assert(puts.every(({ ifAbsent, key }) => ifAbsent && key.startsWith(`${folder}/fence/probe-`)))
    }
  })

  it('a store that refuses a second put in turn, and lets all win that come at once, is unfit', async () => {
    const arrived: (() => void)[] = []
    await assert.rejects(
      probe((store) => {
        // All look whether the key is there before any of them has stored.
        store.fault = ({ do: what, key }) => {
          if (what !== 'put') return undefined
          store.ignoresConditions = !objects.has(key)
          const turn = Promise.withResolvers<undefined>()
          arrived.push(() => turn.resolve(undefined))
          if (arrived.length === probeRacers) for (const go of arrived.splice(0)) go()
          return turn.promise
        }
      }),
      (error: RelayError) => {
        assert.equal(error.code, 'unfit')
        assert.match(error.message, /of 12 puts at once of one new key 12 succeeded, where one may/)
        return true
      },
    )
  })

  it('a store with two halves that do not know of each other is unfit', async () => {
    const half = new Map<string, Buffer>()
    await assert.rejects(
      probeFence({
        folder,
        signal: never,
        open: async () => {
          const store = new Objects(opened.length % 2 ? objects : half)
          opened.push(store)
          return store
        },
      }),
      { code: 'unfit' },
    )
    half.clear()
    objects.clear() // Of the other half it is not asked.
  })

  it('a store that says so, at any put, is unfit, and is asked no more', async () => {
    await assert.rejects(
      probe((store, racer) => {
        store.fault = ({ do: what }) =>
          what === 'put' && racer === 7 ? { after: storeError('unfit', 'the bucket keeps versions') } : undefined
      }),
      /the bucket keeps versions/,
    )
    assert.equal(opened[0]!.asked.filter(({ do: what }) => what === 'put').length, 1)
  })

  it('a store that lets nobody win is unfit', async () => {
    await assert.rejects(
      probe((store) => {
        store.put = async () => 'exists'
      }),
      { code: 'unfit' },
    )
  })

  it('where answers are lost another key is raced for, and in the end nothing is said of the store', async () => {
    let left = 3
    await probe((store, racer) => {
      store.fault = ({ do: what }) =>
        what === 'put' && racer === 2 && left-- > 0 ? { after: storeError('unavailable') } : undefined
    })
    opened = []
    await assert.rejects(
      probe((store, racer) => {
        store.fault = ({ do: what }) =>
          what === 'put' && racer === 0 ? { after: storeError('unavailable') } : undefined
      }),
      { code: 'unavailable' },
    )
  })

  it('what the store refuses to this account is told as it is', async () => {
    for (const code of ['denied', 'missing']) {
      opened = []
      await assert.rejects(
        probe((store) => {
          store.fault = ({ do: what }) => (what === 'put' ? storeError(code) : undefined)
        }),
        (error: Error & { code?: string }) => error.code === code && !(error instanceof RelayError),
      )
    }
  })

  it('that is given up still tidies up', async () => {
    const abort = new AbortController()
    const reason = new Error('given up')
    await assert.rejects(
      probeFence({
        folder,
        signal: abort.signal,
        open: async () => {
          const store = new Objects(objects)
          store.fault = ({ do: what }) => {
            if (what === 'put' && store === opened.at(-1)) abort.abort(reason)
            return undefined
          }
          opened.push(store)
          return store
        },
      }),
      reason,
    )
  })
})
