import assert from 'node:assert/strict'
import { ReadAhead } from '../../src/store/read-ahead.ts'
import { mebibyte } from './block-files.ts'

const kibibyte = 1024
const sizeBytes = 64 * mebibyte

/** Of a file of which the page cache has [from, end). */
function readAhead(from: number, end: number): ReadAhead {
  return new ReadAhead({ has: (offset, lengthBytes) => offset >= from && offset + lengthBytes <= end }, sizeBytes)
}

describe('what is read ahead', () => {
  it('is nothing for who reads at a place before which nothing is cached, or at the beginning', () => {
    assert.equal(readAhead(0, 0).after(0, mebibyte), undefined)
    assert.equal(readAhead(0, mebibyte).after(8 * mebibyte, 4096), undefined)
    assert.equal(readAhead(0, 16 * kibibyte).after(16 * kibibyte, 4096), undefined)
  })

  it('is as much as is cached before the place, by doublings, and at most 2 MiB', () => {
    for (const [cachedBytes, aheadBytes] of [
      [32 * kibibyte, 32 * kibibyte],
      [100 * kibibyte, 64 * kibibyte],
      [mebibyte, mebibyte],
      [32 * mebibyte, 2 * mebibyte],
    ] as const) {
      const range = readAhead(0, cachedBytes).after(cachedBytes, 4096)
      assert.deepEqual(range, { offset: cachedBytes + 4096, lengthBytes: aheadBytes }, `${cachedBytes}`)
    }
  })

  it('ends where the file does', () => {
    const ahead = readAhead(0, sizeBytes - mebibyte)
    const range = ahead.after(sizeBytes - mebibyte, 4096)
    assert.deepEqual(range, { offset: sizeBytes - mebibyte + 4096, lengthBytes: mebibyte - 4096 })
    assert.equal(ahead.after(sizeBytes - mebibyte + 4096, 4096), undefined, 'it was asked for')
    assert.equal(readAhead(0, sizeBytes).after(sizeBytes - 4096, 4096), undefined)
  })

  it('is asked for once, by the first of several reads in flight', () => {
    const at = 4 * mebibyte
    const piece = mebibyte / 2
    const ahead = readAhead(0, 8 * mebibyte)
    assert.deepEqual(ahead.after(at, piece), { offset: at + piece, lengthBytes: 2 * mebibyte })
    assert.equal(ahead.after(at + piece, piece), undefined)
    const next = { offset: at + piece + 2 * mebibyte, lengthBytes: mebibyte }
    assert.deepEqual(ahead.after(at + 2 * piece, piece), next, 'half of it was used up')
  })
})
