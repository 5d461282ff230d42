import assert from 'node:assert/strict'
import { askedTerms, migrationModes, terms, wrongTerms } from '../../src/migration/terms.ts'
import { usualTerms } from '../store/samples.ts'

describe('the terms of a move', () => {
  it('that an operator does not name have their usual values', () => {
    const { source, ...asked } = askedTerms.parse({
      mode: 'post-copy',
      switchover: 'auto',
      switchoverWaitMs: 10_000,
      source: 'keep',
    })
    assert.deepEqual({ ...asked, sourcePolicy: source }, usualTerms)
  })

  it('are the same on record, and in a message, which may leave out that nothing is forced', () => {
    const { force: _force, ...unforced } = usualTerms
    assert.deepEqual(terms.parse(unforced), usualTerms)
    assert.equal(wrongTerms(usualTerms), undefined)
    assert.equal(wrongTerms({ ...usualTerms, later: 1 }), undefined, 'what a newer vmstore of the same format added')
  })

  it('that nobody understands are named', () => {
    assert.match(wrongTerms({ ...usualTerms, switchover: 'perhaps' })!, /^switchover: /)
    assert.match(wrongTerms({ ...usualTerms, maxRate: 1 })!, /^maxRate: /)
    assert.match(wrongTerms({})!, /^mode: /)
  })

  it('name each mode, and no other', () => {
    for (const mode of migrationModes) assert.equal(wrongTerms({ ...usualTerms, mode }), undefined)
    assert.match(wrongTerms({ ...usualTerms, mode: 'mid-copy' })!, /^mode: /)
  })
})
