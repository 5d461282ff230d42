import assert from 'node:assert/strict'
import { BlockMap } from '../../src/block/block-map.ts'
import type { Span } from '../../src/block/span.ts'
import type { Extent } from '../../src/block/units.ts'
import { DataSurvey } from '../../src/migration/copy/data-survey.ts'
import { isSettled, settled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

const mebibyte = 2 ** 20
const block = 4096
const never = new AbortController().signal

/** A source whose disk has data in the first half of each `everyBytes`; answers are cut to `atOnce` extents. */
function survey(sizeBytes: number, everyBytes: number, atOnce = 4096) {
  const present = new BlockMap(Math.ceil(sizeBytes / block))
  const missingBlocksIn = ({ first, end }: Span) => end - first - present.countIn(first, end)
  const clock = new FakeClock()
  const asked: number[] = []
  const failing = { isOn: false }
  const made = new DataSurvey({
    sizeBytes,
    clock,
    missingBlocksIn,
    extents: async (offset, lengthBytes) => {
      if (failing.isOn) throw new Error('the link is down')
      asked.push(offset)
      const extents: Extent[] = []
      for (let at = offset; at < offset + lengthBytes && extents.length < atOnce; ) {
        const half = everyBytes / 2
        const to = Math.min(offset + lengthBytes, (Math.floor(at / half) + 1) * half)
        extents.push({ offset: at, length: to - at, data: Math.floor(at / half) % 2 === 0 })
        at = to
      }
      return extents
    },
  })
  const land = (offset: number, length: number, isHole = false) => {
    present.add(offset / block, (offset + length) / block)
    if (!isHole) made.landed(offset, length)
  }
  return { made, present, clock, asked, failing, land }
}

describe('the survey of what data is missing', () => {
  it('knows nothing before the whole disk is surveyed, and then the data alone', async () => {
    const { made, asked } = survey(2 ** 31, 2 * mebibyte, 100)
    assert.equal(made.missingBytes, undefined)
    await made.run(never)
    assert.equal(made.missingBytes, 2 ** 30)
    assert(asked.length > 10, 'a source answers in parts')
  })

  it('counts what lands of data, zeros or not, and not what lands of holes', async () => {
    const { made, land } = survey(256 * mebibyte, 2 * mebibyte)
    await made.run(never)
    land(0, mebibyte)
    assert.equal(made.missingBytes, 127 * mebibyte)
    land(mebibyte, mebibyte, true)
    assert.equal(made.missingBytes, 127 * mebibyte)
  })

  it('what was here before it was surveyed, and what the guest wrote since, is not missing', async () => {
    const { made, present, land } = survey(256 * mebibyte, 512 * mebibyte)
    land(0, mebibyte)
    await made.run(never)
    assert.equal(made.missingBytes, 255 * mebibyte)
    present.add(0, (128 * mebibyte) / block)
    assert.equal(made.missingBytes, 128 * mebibyte)
  })

  it('a source that does not answer is asked again', async () => {
    const { made, clock, failing } = survey(256 * mebibyte, 2 * mebibyte)
    failing.isOn = true
    const running = made.run(never)
    assert.equal(await isSettled(running), false)
    await clock.advance(5000)
    failing.isOn = false
    await clock.advance(5000)
    assert.equal(await isSettled(running), true)
    assert.equal(made.missingBytes, 128 * mebibyte)
  })

  it('ends when it is told to', async () => {
    const { made, failing } = survey(256 * mebibyte, 2 * mebibyte)
    failing.isOn = true
    const stop = new AbortController()
    const running = made.run(stop.signal)
    await settled()
    stop.abort(new Error('stopped'))
    await assert.rejects(running, /stopped/)
  })
})
