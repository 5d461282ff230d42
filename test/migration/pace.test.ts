import assert from 'node:assert/strict'
import { RateLimit } from '../../src/migration/copy/rate-limit.ts'
import { RateMeter } from '../../src/migration/copy/rate-meter.ts'
import { Window } from '../../src/migration/copy/window.ts'
import { isSettled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

const mebibyte = 2 ** 20
const never = new AbortController().signal

describe('rate limit', () => {
  it('lets everything through when there is none', async () => {
    const limit = new RateLimit(new FakeClock(), null)
    for (let count = 0; count < 100; count++) assert.equal(await isSettled(limit.pass(2 ** 30, never)), true)
  })

  it('lets the first bytes through at once, and the next when the first are paid for', async () => {
    const clock = new FakeClock()
    const limit = new RateLimit(clock, mebibyte)
    await limit.pass(mebibyte, never)
    const second = limit.pass(mebibyte, never)
    await clock.advance(890)
    assert.equal(await isSettled(second), false)
    await clock.advance(110)
    assert.equal(await isSettled(second), true)
  })

  it('holds the rate over a long run, whoever asks and in whatever sizes', async () => {
    const clock = new FakeClock()
    const limit = new RateLimit(clock, 10 * mebibyte)
    let passed = 0
    const ask = async (bytes: number) => {
      while (clock.now() < 10_000) {
        await limit.pass(bytes, never)
        passed += bytes
      }
    }
    const asking = [ask(4096), ask(256 * 1024), ask(mebibyte)]
    await clock.advance(10_000)
    await clock.advance(2000)
    await Promise.all(asking)
    assert(passed > 99 * mebibyte && passed < 105 * mebibyte, `${passed / mebibyte} MiB in 10 s`)
  })

  it('saves up no more than a tenth of a second while nobody asks', async () => {
    const clock = new FakeClock()
    const limit = new RateLimit(clock, 10 * mebibyte)
    await clock.advance(60_000)
    await limit.pass(mebibyte, never) // The tenth of a second.
    await limit.pass(mebibyte, never)
    assert.equal(await isSettled(limit.pass(mebibyte, never)), false)
  })

  it('whoever waits waits by a new bound, and by none when there is none any more', async () => {
    const clock = new FakeClock()
    const limit = new RateLimit(clock, 1024)
    await limit.pass(mebibyte, never)
    const waiting = [limit.pass(mebibyte, never), limit.pass(mebibyte, never)]
    await clock.advance(10_000)
    limit.bytesPerSecond = mebibyte
    assert.deepEqual(await Promise.all(waiting.map(isSettled)), [true, false])
    await clock.advance(1000)
    assert.equal(await isSettled(waiting[1]!), true)

    limit.bytesPerSecond = 1024
    await limit.pass(mebibyte, never)
    const last = limit.pass(mebibyte, never)
    assert.equal(await isSettled(last), false)
    limit.bytesPerSecond = null
    assert.equal(await isSettled(last), true)
  })

  it('whoever has given up is not woken by a new bound', async () => {
    const limit = new RateLimit(new FakeClock(), 1024)
    await limit.pass(mebibyte, never)
    const giving = new AbortController()
    const waiting = limit.pass(mebibyte, giving.signal)
    giving.abort(new Error('given up'))
    limit.bytesPerSecond = null
    await assert.rejects(waiting, /given up/)
  })

  it('does not count what is given back, and saves up no more for it', async () => {
    const clock = new FakeClock()
    const limit = new RateLimit(clock, mebibyte)
    for (let count = 0; count < 100; count++) {
      assert.equal(await isSettled(limit.pass(mebibyte, never)), true)
      limit.giveBack(mebibyte)
    }
    await limit.pass(mebibyte, never)
    const next = limit.pass(mebibyte, never)
    await clock.advance(890)
    assert.equal(await isSettled(next), false)
    await clock.advance(110)
    await next
  })

  it('can be changed, and what went before is forgotten', async () => {
    const clock = new FakeClock()
    const limit = new RateLimit(clock, 1)
    await limit.pass(mebibyte, never)
    limit.bytesPerSecond = mebibyte
    assert.equal(await isSettled(limit.pass(1, never)), true)
    limit.bytesPerSecond = null
    assert.equal(await isSettled(limit.pass(2 ** 40, never)), true)
  })

  it('gives up waiting when it is told to', async () => {
    const limit = new RateLimit(new FakeClock(), 1)
    await limit.pass(1000, never)
    const stop = new AbortController()
    const waiting = limit.pass(1, stop.signal)
    stop.abort(new Error('stopped'))
    await assert.rejects(waiting, /stopped/)
  })
})

describe('rate meter', () => {
  it('is 0 while nothing came', () => {
    assert.equal(new RateMeter(new FakeClock()).rate(), 0)
  })

  it('measures a steady stream', async () => {
    const clock = new FakeClock()
    const meter = new RateMeter(clock)
    for (let tick = 0; tick < 200; tick++) {
      await clock.advance(50)
      meter.add(1000)
    }
    assert(Math.abs(meter.rate() - 20_000) < 2000, String(meter.rate()))
  })

  it('counts from its start while that is shorter than its window', async () => {
    const clock = new FakeClock()
    const meter = new RateMeter(clock)
    await clock.advance(1000)
    meter.add(5000)
    assert.equal(meter.rate(), 5000)
  })

  it('does not make much of the first instant', () => {
    const meter = new RateMeter(new FakeClock())
    meter.add(1000)
    assert.equal(meter.rate(), 4000)
  })

  it('forgets what is older than three seconds', async () => {
    const clock = new FakeClock()
    const meter = new RateMeter(clock)
    meter.add(1_000_000)
    await clock.advance(3001)
    assert.equal(meter.rate(), 0)
  })
})

describe('window', () => {
  it('begins at 1 MiB', () => {
    assert.equal(new Window().bytes, mebibyte)
  })

  it('grows by what was answered while answers come fast, up to 64 MiB', () => {
    const window = new Window()
    window.answered(mebibyte, 20)
    assert.equal(window.bytes, 2 * mebibyte)
    for (let count = 0; count < 100; count++) window.answered(mebibyte, 21)
    assert.equal(window.bytes, 64 * mebibyte)
  })

  it('shrinks when answers begin to queue, and never under 1 MiB', () => {
    const window = new Window()
    for (let count = 0; count < 10; count++) window.answered(mebibyte, 20)
    const before = window.bytes
    window.answered(mebibyte, 60)
    assert.equal(window.bytes, before - mebibyte / 2)
    for (let count = 0; count < 100; count++) window.answered(mebibyte, 60)
    assert.equal(window.bytes, mebibyte)
  })

  it('takes differences of a few milliseconds for noise', () => {
    const window = new Window()
    window.answered(mebibyte, 0.2)
    window.answered(mebibyte, 9)
    assert.equal(window.bytes, 3 * mebibyte)
  })

  it('begins anew after a loss, with another path in mind', () => {
    const window = new Window()
    for (let count = 0; count < 10; count++) window.answered(mebibyte, 1)
    window.lost()
    assert.equal(window.bytes, mebibyte)
    window.answered(mebibyte, 200)
    assert.equal(window.bytes, 2 * mebibyte)
  })
})
