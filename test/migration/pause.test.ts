import assert from 'node:assert/strict'
import { Pause } from '../../src/migration/copy/pause.ts'
import { isSettled } from '../disk/hand.ts'

describe('a pause', () => {
  const never = new AbortController().signal

  it('that is off keeps nobody waiting, not even for a turn', () => {
    assert.equal(new Pause(false).passed(never), undefined)
  })

  it('keeps whoever asks until it is over', async () => {
    const pause = new Pause(true)
    const passed = pause.passed(never)!
    assert.equal(await isSettled(passed), false)
    pause.set(true) // Said twice.
    assert.equal(await isSettled(passed), false)
    pause.set(false)
    await passed
    assert.equal(pause.isOn, false)
  })

  it('that begins anew in the moment of its end keeps them on', async () => {
    const pause = new Pause(true)
    const passed = pause.passed(never)!
    pause.set(false)
    pause.set(true)
    assert.equal(await isSettled(passed), false)
    pause.set(false)
    await passed
  })

  it('ends for one that is told to stop', async () => {
    const stop = new AbortController()
    const passed = new Pause(true).passed(stop.signal)!
    stop.abort(new Error('stopped'))
    await assert.rejects(passed, /stopped/)
  })
})
