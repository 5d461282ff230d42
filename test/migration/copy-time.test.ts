import assert from 'node:assert/strict'
import { CopyTime } from '../../src/migration/copy/copy-time.ts'
import { FakeClock } from './fake-time.ts'

describe('the time that a copy has copied', () => {
  it('is without the link that was down, the pause, and the wait for room, also where they overlap', async () => {
    const clock = new FakeClock()
    const time = new CopyTime(clock, 500)
    await clock.advance(1000)
    assert.equal(time.ms, 500, 'it has not begun')
    time.set('idle', false)
    await clock.advance(2000)
    assert.equal(time.ms, 2500)
    time.set('link', true)
    await clock.advance(60_000)
    time.set('pause', true)
    time.set('trouble', true)
    time.set('link', false)
    await clock.advance(1000)
    time.set('trouble', false)
    time.set('pause', false)
    assert.equal(time.ms, 2500)
    await clock.advance(1000)
    assert.equal(time.ms, 3500)
    time.set('idle', true)
    await clock.advance(1000)
    assert.equal(time.ms, 3500)
  })
})
