// How what a round gave out is cut into requests, and how much of them is on its way at once.

import assert from 'node:assert/strict'
import { InFlight } from '../../src/migration/copy/in-flight.ts'
import { requestsOf } from '../../src/migration/copy/requests.ts'
import { Window } from '../../src/migration/copy/window.ts'
import { isSettled } from '../disk/hand.ts'

const block = 4096
const kibibyte = 1024
const mebibyte = 2 ** 20
const never = new AbortController().signal

describe('requests of what is copied ahead', () => {
  const sizeBytes = 4 * mebibyte + 512

  it('have 256 KiB of data each, and end with the disk', () => {
    const requests = [...requestsOf([{ first: 0, end: 1025 }], [], sizeBytes)]
    assert.equal(requests.length, 17)
    assert.deepEqual(requests[0], { runs: [{ offset: 0, length: 256 * kibibyte }], dataBytes: 256 * kibibyte })
    assert.deepEqual(requests.at(-1), { runs: [{ offset: 4 * mebibyte, length: 512 }], dataBytes: 512 })
  })

  it('have holes of any length, which count for nothing', () => {
    const extents = [
      { offset: 0, length: block, data: true },
      { offset: block, length: 4 * mebibyte - 2 * block, data: false },
      { offset: 4 * mebibyte - block, length: block, data: true },
    ]
    assert.deepEqual(
      [...requestsOf([{ first: 0, end: 1024 }], extents, sizeBytes)],
      [{ runs: [{ offset: 0, length: 4 * mebibyte }], dataBytes: 2 * block }],
    )
  })

  it('cut no cell of 64 KiB, of which a seed may have all, however long data and holes are', () => {
    const extents = Array.from({ length: 146 }, (_, index) => ({
      offset: index * 7 * block,
      length: 7 * block,
      data: index % 3 !== 1,
    }))
    const requests = [...requestsOf([{ first: 0, end: 146 * 7 }], extents, sizeBytes)]
    assert(requests.length > 5)
    const ends = requests.map(({ runs }) => runs.at(-1)!.offset + runs.at(-1)!.length)
    assert.deepEqual(
      ends.slice(0, -1).filter((end) => end % (64 * kibibyte) !== 0),
      [],
    )
    assert.equal(ends.at(-1), 146 * 7 * block)
    for (const { dataBytes } of requests) assert(dataBytes <= 320 * kibibyte)
  })

  it('have many short runs together, and what no extent speaks of counts as data', () => {
    const spans = Array.from({ length: 64 }, (_, index) => ({ first: index * 4, end: index * 4 + 1 }))
    const extents = [{ offset: 64 * block, length: block, data: false }]
    const requests = [...requestsOf(spans, extents, sizeBytes)]
    assert.equal(requests.length, 1)
    assert.deepEqual([requests[0]!.runs.length, requests[0]!.dataBytes], [64, 63 * block])
  })

  it('of nothing are none', () => {
    assert.deepEqual([...requestsOf([], [], sizeBytes)], [])
  })
})

describe('what is on its way at once', () => {
  it('is as much as the window says, one request in any case, and first who asked first', async () => {
    const inFlight = new InFlight(new Window())
    const first = await inFlight.take(mebibyte, never)
    const second = inFlight.take(mebibyte / 2, never)
    const third = inFlight.take(1, never)
    assert.deepEqual([await isSettled(second), await isSettled(third)], [false, false])
    first[Symbol.dispose]()
    first[Symbol.dispose]()
    await Promise.all([second, third])
    const huge = inFlight.take(100 * mebibyte, never)
    assert(!(await isSettled(huge)))
    ;(await second)[Symbol.dispose]()
    ;(await third)[Symbol.dispose]()
    await huge
  })

  it('who gives up keeps nobody behind it waiting', async () => {
    const inFlight = new InFlight(new Window())
    await inFlight.take(mebibyte / 2, never)
    const leaving = new AbortController()
    const large = inFlight.take(mebibyte, leaving.signal)
    const small = inFlight.take(block, never)
    assert(!(await isSettled(small)))
    leaving.abort(new Error('over'))
    await assert.rejects(large, /over/)
    await small
  })
})
