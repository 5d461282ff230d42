// What a destination has signed, shown to it again: when it proves that this site was further once.

import assert from 'node:assert/strict'
import { signComplete, signMark, wasFurther } from '../../src/migration/signed-words.ts'
import { migrationRecord } from '../store/samples.ts'
import { ourKey, theirKey } from './site-keys.ts'

const [before, now] = ['22222222-2222-4222-8222-222222222222', '44444444-4444-4444-8444-444444444444']
const move = migrationRecord({ id: 'm-1', role: 'destination', mark: 5 })

function shown(mark: number, run = before, key = ourKey): object {
  const { signature: markSigned } = signMark(key, move, { mark, run })
  return { mark, run, markSigned, completeSigned: null }
}

describe('what a destination has signed, shown to it', () => {
  it('proves that it was further when another run had said a later mark, or the one that this run has taken', () => {
    for (const isMarked of [true, false]) assert(wasFurther(ourKey, move, { run: now, isMarked }, shown(6)))
    assert(wasFurther(ourKey, move, { run: now, isMarked: true }, shown(5)))
  })

  it('promise 1: proves nothing of a daemon that has started anew, and has said no mark yet', () => {
    assert.equal(wasFurther(ourKey, move, { run: now, isMarked: false }, shown(5)), false)
  })

  it('proves nothing when it is older, of this run, or of another key', () => {
    const here = { run: now, isMarked: true }
    for (const facts of [shown(4), shown(9, now), shown(9, before, theirKey), {}, null])
      assert.equal(wasFurther(ourKey, move, here, facts), false)
  })

  it('proves that it had said complete', () => {
    const { signature: completeSigned } = signComplete(ourKey, move)
    const facts = { mark: 0, run: null, markSigned: null, completeSigned }
    assert(wasFurther(ourKey, move, { run: now, isMarked: false }, facts))
  })
})
