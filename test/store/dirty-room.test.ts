// When a write may be done on the loop: as long as the kernel does not brake.

import assert from 'node:assert/strict'
import { type DirtyCounts, DirtyRoom, kernelCounts, roomBytes, threadQueuedMs } from '../../src/store/dirty-room.ts'

const mebibyte = 2 ** 20
const pages = (bytes: number) => bytes / 4096

function counts(dirtyBytes: number, brakeBytes: number): DirtyCounts {
  const dirtyPages = pages(dirtyBytes)
  return { dirtyPages, backgroundThresholdPages: pages(brakeBytes) / 2, thresholdPages: (pages(brakeBytes) * 3) / 2 }
}

describe('dirty room', () => {
  it('is a quarter of the way to where the kernel brakes, and never more than 64 MiB', () => {
    assert.equal(roomBytes(counts(0, 100 * mebibyte)), 25 * mebibyte)
    assert.equal(roomBytes(counts(60 * mebibyte, 100 * mebibyte)), 10 * mebibyte)
    assert.equal(roomBytes(counts(101 * mebibyte, 100 * mebibyte)), 0)
    assert.equal(roomBytes(counts(0, 1000 * mebibyte)), 64 * mebibyte)
  })

  it('is nothing where the kernel tells nothing', () => {
    assert.equal(roomBytes(undefined), 0)
    assert(!new DirtyRoom(() => undefined).has(1))
  })

  it('is looked at again when it is used up, and 20 ms later when there was none', () => {
    let looks = 0
    let dirtyBytes = 0
    let nowMs = 0
    const room = new DirtyRoom(
      () => {
        looks++
        return counts(dirtyBytes, 400 * mebibyte)
      },
      () => nowMs,
    )
    for (let count = 0; count < 64; count++) {
      assert(room.has(mebibyte))
      room.take(mebibyte)
    }
    assert.equal(looks, 1)
    assert(room.has(mebibyte))
    assert.equal(looks, 2)
    room.take(64 * mebibyte)
    dirtyBytes = 400 * mebibyte
    assert(!room.has(mebibyte))
    assert(!room.has(mebibyte))
    assert.equal(looks, 3)
    dirtyBytes = 0
    assert(!room.has(mebibyte))
    nowMs = 20
    assert(room.has(mebibyte))
    assert.equal(looks, 4)
  })

  /** A room where the counts say that there is some; each write takes so long, and waits so long of it for a processor. */
  function watched() {
    const at = { nowMs: 0, queuedMs: 0 }
    const room = new DirtyRoom(
      () => counts(0, 400 * mebibyte),
      () => at.nowMs,
      () => at.queuedMs,
    )
    const write = (elapsedMs: number, queuedMs: number) => {
      assert(room.has(mebibyte))
      room.begins(at.nowMs)
      at.nowMs += elapsedMs
      at.queuedMs += queuedMs
      room.wrote(elapsedMs)
    }
    return { at, room, write }
  }

  it('is closed for half a second by the second write that took long, whatever the counts say', () => {
    const { at, room, write } = watched()
    write(7, 0)
    write(9, 0)
    write(8, 0)
    write(9, 0)
    assert(!room.has(mebibyte))
    at.nowMs += 499
    assert(!room.has(mebibyte))
    at.nowMs += 1
    assert(room.has(mebibyte))
    write(9, 0) // Looked at closely since the last.
    assert(!room.has(mebibyte))
  })

  it('stays open when writes took long because others had the processor', () => {
    const { room, write } = watched()
    for (let count = 0; count < 100; count++) write(40, 33)
    assert(room.has(mebibyte))
    write(40, 31)
    assert(!room.has(mebibyte))
  })

  it('looks less closely again when no write took long for a second', () => {
    const { at, room, write } = watched()
    write(9, 0)
    at.nowMs += 1000
    write(9, 0)
    assert(room.has(mebibyte))
    write(9, 0)
    assert(!room.has(mebibyte))
  })

  it('knows how long this thread has waited for a processor', () => {
    const before = threadQueuedMs()
    assert(before >= 0 && threadQueuedMs() >= before)
  })

  it('reads the counts of this machine', () => {
    const { dirtyPages, backgroundThresholdPages, thresholdPages } = kernelCounts()!
    assert(dirtyPages >= 0)
    assert(backgroundThresholdPages > 0 && thresholdPages >= backgroundThresholdPages)
  })

  it('asks how long the thread has waited once a millisecond at most, however many writes are looked at', () => {
    let [nowMs, asked] = [0, 0]
    const room = new DirtyRoom(
      () => undefined,
      () => nowMs,
      () => {
        asked++
        return 0
      },
    )
    room.begins(nowMs)
    nowMs += 9
    room.wrote(9)
    assert.equal(asked, 0)
    for (let count = 0; count < 1000; count++) {
      room.begins(nowMs)
      nowMs += 0.01
      room.wrote(0.01)
    }
    assert(asked >= 5 && asked <= 11, `${asked}`)
  })
})
