import assert from 'node:assert/strict'
import { UnreadableRange } from '../../src/disk/unreadable-range.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import { unreadableIn, unreadableToPeer } from '../../src/migration/unreadable.ts'

describe('a range that the source cannot read', () => {
  const run = { offset: 12 * 1024, length: 8 * 1024 }

  it('is named to the destination, with its disk and why', () => {
    const cause = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
    const told = unreadableToPeer(new UnreadableRange('web01', run, cause))
    assert(told instanceof PeerRefusal)
    assert.equal(told.message, 'the source cannot read 8 KiB at 12 KiB of web01 (EIO)')
    assert.deepEqual(unreadableIn(told), run)
  })

  it('is not found in another error, which goes on as it is', () => {
    const other = new PeerRefusal('no-right', 'it has departed')
    assert.equal(unreadableToPeer(other), other)
    assert.equal(unreadableIn(other), undefined)
  })
})
