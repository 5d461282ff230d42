import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { RelayError } from '../../src/relay/errors.ts'
import { decodeTicket, encodeTicket, hasNoSecret, type Ticket } from '../../src/relay/ticket.ts'

const ticket: Ticket = {
  address: 's3://bucket/moves?region=eu-west-1',
  move: randomUUID(),
  secret: new Uint8Array(randomBytes(32)),
  site: 'a1b2c3',
  name: 'osaka',
  fingerprint: 'ab'.repeat(32),
  disks: ['web01', 'db01'],
}

describe('a ticket of a move through a relay', () => {
  it('is read as it was written, also over broken lines', () => {
    const written = encodeTicket(ticket)
    assert.deepEqual(decodeTicket(written), ticket)
    assert.deepEqual(decodeTicket(`  ${written.slice(0, 70)}\r\n   ${written.slice(70)}\n`), ticket)
  })

  it('of which a part is missing, or a character is another, is refused', () => {
    const written = encodeTicket(ticket)
    for (let length = 0; length < written.length; length++) {
      assert.throws(() => decodeTicket(written.slice(0, length)), RelayError, `cut at ${length}`)
    }
    for (let at = 0; at < written.length; at += 7) {
      const other = written[at] === 'A' ? 'B' : 'A'
      assert.throws(() => decodeTicket(written.slice(0, at) + other + written.slice(at + 1)), RelayError)
    }
    assert.throws(() => decodeTicket('x'.repeat(5000)), /too long/)
  })

  it('never has an address with a secret', () => {
    assert(
      !hasNoSecret('s3://key:secret@bucket/moves') && !hasNoSecret('s3://key@bucket') && !hasNoSecret('no address'),
    )
    assert.throws(() => encodeTicket({ ...ticket, address: 's3://key:secret@bucket' }), RelayError)
    assert.throws(() => encodeTicket({ ...ticket, secret: new Uint8Array(16) }), RelayError)
  })

  it('names the first of many disks', () => {
    const disks = Array.from({ length: 40 }, (_, index) => `disk-${index}`)
    assert.deepEqual(decodeTicket(encodeTicket({ ...ticket, disks })).disks, disks.slice(0, 8))
  })
})
