// A peer's words end on the terminal of the operator here.

import assert from 'node:assert/strict'
import { waitingGuests } from '../../src/migration/held-writes.ts'
import { acquireAnswer, progressMessage } from '../../src/migration/messages.ts'

const evil = 'wait\u001b[2J\u0007'
const harmless = 'wait [2J '
const id = '55555555-5555-4555-8555-555555555555'
const at = '2026-01-01T00:00:00.000Z'

describe('messages about a migration', () => {
  it('promise 11: carry no control characters in what a peer says in words', () => {
    const held = { clients: [evil], since: at, why: evil }
    const refused = { count: 1, clients: [evil], last: at, why: evil }
    const guests = waitingGuests.parse({ held, refused })
    assert.deepEqual(guests, {
      held: { clients: [harmless], since: at, why: harmless },
      refused: { count: 1, clients: [harmless], last: at, why: harmless },
    })
    assert.deepEqual(acquireAnswer.parse({ answer: 'busy', why: evil }), { answer: 'busy', why: harmless })
    const granted = { answer: 'granted', generation: 2, powerLoss: { since: evil, foundAt: null } }
    assert.deepEqual(acquireAnswer.parse(granted), { ...granted, powerLoss: { since: harmless, foundAt: null } })
    const figures = { missing: 0, data: 0, sent: 0, skippedZero: 0, resent: 0, paused: false, unreadable: [] }
    assert.equal(progressMessage.parse({ migration: id, ...figures, note: evil }).note, harmless)
  })
})
