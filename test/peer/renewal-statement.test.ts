// A site's word that it will have another key: it counts when the present key has signed it, and else not.

import assert from 'node:assert/strict'
import type { Identity } from '../../src/peer/identity.ts'
import { nextKeyIn, stateRenewal } from '../../src/peer/renewal-statement.ts'
import { cleanUp, newIdentity } from './sites.ts'

describe('a statement of a new key', () => {
  let [osaka, next, thief]: Identity[] = []
  before(async () => {
    ;[osaka, next, thief] = [await newIdentity(), await newIdentity(), await newIdentity()]
  })
  after(cleanUp)

  const statement = () => stateRenewal(osaka!, next!.fingerprint, new Date('2026-01-01T00:00:00.000Z'))
  const refused = (said: unknown, fingerprint = osaka!.fingerprint) =>
    assert.throws(() => nextKeyIn(said, fingerprint), { name: 'PeerError', code: 'rekey-invalid' })

  it('names the next key to whoever has pinned the present one', () => {
    assert.equal(nextKeyIn(JSON.parse(JSON.stringify(statement())), osaka!.fingerprint), next!.fingerprint)
  })

  it('promise 10: does not count when another key has signed it, or when a word of it was changed', () => {
    const ofThief = stateRenewal(thief!, next!.fingerprint, new Date())
    refused(ofThief)
    refused({ ...ofThief, by: statement().by })
    refused(statement(), thief!.fingerprint)
    refused({ ...statement(), to: thief!.fingerprint })
    refused({ ...statement(), at: '2026-01-01T00:00:00.001Z' })
    refused({ ...statement(), signature: ofThief.signature })
  })

  it('does not count when it is none, or names the key that is there', () => {
    for (const said of [null, {}, 'word', { ...statement(), by: 'AAAA' }, { ...statement(), signature: '' }])
      refused(said)
    refused({ ...statement(), at: 'yesterday' })
    refused(stateRenewal(osaka!, osaka!.fingerprint, new Date()))
  })
})
