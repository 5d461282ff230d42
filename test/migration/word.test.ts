// What the question of a destination counts for at the owner of the disks.

import assert from 'node:assert/strict'
import type { AcquireReason } from '../../src/migration/counterpart.ts'
import { weighed } from '../../src/migration/source/word.ts'
import type { Terms } from '../../src/migration/terms.ts'

type Move = Parameters<typeof weighed>[1]

const unsaid: Move = { id: 'm-1', ordered: null, peerDecides: false }
const reasons: readonly AcquireReason[] = ['guest-write', 'reader-only', 'operator', 'resume']

function ask(reason: AcquireReason, switchover: Terms['switchover'], move: Partial<Move> = {}, force = true) {
  return weighed({ disks: [], reason, force }, { ...unsaid, ...move }, { switchover, force: false })
}

describe("promise 10: a destination's question counts", () => {
  it("for no more than a guest's first write, whatever it says, where nobody at the owner has said more", () => {
    for (const reason of reasons) {
      const weight = ask(reason, 'auto')
      assert(!('answer' in weight))
      assert(['guest-write', 'reader-only'].includes(weight.reason), reason)
      assert.equal(weight.force, false, reason)
    }
  })

  it('for nothing in a move that is switched over by hand, until its owner says so', () => {
    for (const reason of reasons) {
      const weight = ask(reason, 'manual')
      assert('answer' in weight, reason)
      assert.match(weight.why, /it is switched over by hand: there, vmstore migration switchover m-1/)
    }
    const said = ask('operator', 'manual', { ordered: { force: false } }, false)
    assert.deepEqual(said, { reason: 'operator', force: false, unheard: undefined })
  })

  it('as that of the operator once the owner has said now: in the terms, by hand, or for the peer to say', () => {
    for (const weight of [
      ask('operator', 'now', {}, false),
      ask('operator', 'auto', { ordered: { force: false } }, false),
      ask('operator', 'auto', { peerDecides: true }, false),
      ask('operator', 'manual', { peerDecides: true }, false),
    ])
      assert.deepEqual(weight, { reason: 'operator', force: false, unheard: undefined })
  })

  it('by force only where the owner has forced it', () => {
    for (const move of [{}, { peerDecides: true }, { ordered: { force: false } }]) {
      const weight = ask('operator', 'auto', move)
      assert(!('answer' in weight))
      assert.deepEqual([weight.force, weight.unheard], [false, 'force'])
    }
    const forced = ask('operator', 'auto', { ordered: { force: true } })
    assert.deepEqual(forced, { reason: 'operator', force: true, unheard: undefined })
    const now = weighed({ disks: [], reason: 'operator', force: false }, unsaid, { switchover: 'now', force: true })
    assert.deepEqual(now, { reason: 'operator', force: true, unheard: undefined })
  })
})
