import assert from 'node:assert/strict'
import { costOf, foreseen, type Prospect, pricesOf, pricesShape, useOf } from '../../src/relay/prices.ts'

const use = { puts: 0, gets: 0, lists: 0, deletes: 0, bytesDown: 0, byteSeconds: 0 }
const aws = pricesOf('s3', undefined)!

describe('what a move through a store costs', () => {
  it('is reckoned by requests, by what leaves the store, and by what lies there', () => {
    const near = (actual: number, expected: number) => assert(Math.abs(actual - expected) < 1e-9, `${actual}`)
    near(costOf({ ...use, puts: 1000 }, aws), 0.005)
    near(costOf({ ...use, lists: 1000 }, aws), 0.005)
    near(costOf({ ...use, gets: 1000 }, aws), 0.0004)
    near(costOf({ ...use, bytesDown: 1e9 }, aws), 0.09)
    near(costOf({ ...use, byteSeconds: 1e9 * 30 * 24 * 3600 }, aws), 0.023)
    const counts = { ...use, puts: 5, gets: 7, failures: 3, throttled: 1, bytesUp: 9, bytesDown: 11 }
    assert.deepEqual(useOf(counts, 13), { ...use, puts: 5, gets: 7, bytesDown: 11, byteSeconds: 13 })
  })

  it('is known of some stores, is nothing in a folder, and of others is not guessed', () => {
    assert.deepEqual(pricesOf('s3', 'https://s3.eu-west-1.amazonaws.com'), aws)
    assert.equal(pricesOf('s3', 'https://account.r2.cloudflarestorage.com')?.egress, 0)
    assert.equal(costOf({ ...use, puts: 1e6, bytesDown: 1e12 }, pricesOf('dir', undefined)!), 0)
    assert.equal(pricesOf('s3', 'https://ceph.example:7480'), undefined)
    assert.equal(pricesOf('s3', 'https://notamazonaws.com'), undefined)
    assert.equal(pricesOf('webdav', undefined), undefined)
  })

  it('takes an operator’s own table, and no other words in it', () => {
    const own = { currency: '€', puts: 0, gets: 0, egress: 0.01, month: 0.007 }
    assert.deepEqual(pricesShape.parse(own), { ...own, deletes: 0 })
    assert(!pricesShape.safeParse({ ...own, egres: 1 }).success)
    assert(!pricesShape.safeParse({ ...own, egress: -1 }).success)
  })

  it('is foreseen from what is known before', () => {
    const prospect: Prospect = {
      dataBytes: 100 * 2 ** 20,
      chunkBytes: 2 ** 20,
      compressedTo: 0.5,
      distinctShare: 0.9,
      sparedShare: 0.2,
      rangesOfPart: 10,
      seconds: 60,
      pollsPerSecond: 2,
      mails: 20,
      once: { puts: 61, gets: 62, lists: 1 },
    }
    assert.deepEqual(foreseen(prospect), {
      puts: 90 + 10 + 20 + 61,
      gets: 80 + 10 + 20 + 120 + 62,
      lists: 1,
      deletes: 1,
      bytesDown: 40 * 2 ** 20,
      bytesUp: 45 * 2 ** 20,
      byteSeconds: 45 * 2 ** 20 * 30,
    })
  })
})
