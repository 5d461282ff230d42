import assert from 'node:assert/strict'
import { allowed } from '../../src/daemon/peer-allowing.ts'
import { rightsOf } from '../../src/migration/peer-rights.ts'
import type { PeerRecord } from '../../src/store/records.ts'
import { peerRecord } from '../store/samples.ts'

const id = '33333333-3333-4333-8333-333333333333'
const named = (name: string) => {
  if (name === 'web01') return { id }
  throw new Error(`there is no disk ${name}`)
}
/** What the peer may after these requests, one after the other. */
function changed(now: PeerRecord, ...requests: Parameters<typeof allowed>[1][]): PeerRecord {
  let peer = now
  for (const request of requests) peer = { ...peer, ...allowed(peer, request, named) }
  return peer
}

describe('promise 10: what a peer may', () => {
  it('is nothing of any disk at first', () => {
    for (const peer of [peerRecord(), undefined]) {
      const rights = rightsOf(peer)
      assert.deepEqual([rights.mayTake(id), rights.maySayWhen(id), rights.mayTake('')], [false, false, false])
    }
  })

  it('is one disk, by its id, with or without saying when', () => {
    const may = changed(peerRecord(), { take: 'web01' })
    assert.deepEqual(may.mayTake, [{ disk: id, give: false }])
    assert.deepEqual([rightsOf(may).mayTake(id), rightsOf(may).maySayWhen(id)], [true, false])
    const says = changed(may, { take: 'web01', give: true })
    assert.deepEqual(says.mayTake, [{ disk: id, give: true }])
    assert.deepEqual([rightsOf(says).maySayWhen(id), rightsOf(says).maySayWhen('another')], [true, false])
    assert.deepEqual(changed(says, { take: 'web01', give: false }).mayTake, [{ disk: id, give: false }])
  })

  it('is taken back, by name, by id once the disk is gone, or all at once', () => {
    const may = changed(peerRecord(), { take: 'web01' })
    assert.deepEqual(changed(may, { take: 'web01', revoke: true }).mayTake, [])
    const gone = peerRecord({ mayTake: [{ disk: 'gone', give: true }] })
    assert.deepEqual(changed(gone, { take: 'gone', revoke: true }).mayTake, [])
    assert.deepEqual(changed(may, { take: '*', give: true }, { take: '*', revoke: true }).mayTake, [])
  })

  it('is not taken back of one disk in silence while it may take every disk', () => {
    const all = changed(peerRecord(), { take: '*' })
    assert.throws(() => changed(all, { take: 'web01', revoke: true }), { code: 'still-allowed' })
  })

  it('has the usual limits, those that were set, and the usual ones again', () => {
    const set = changed(peerRecord(), { limits: { disks: 3, bytes: 0 } }, { limits: { disks: 4 } })
    assert.deepEqual(set.limits, { disks: 4, bytes: 0 })
    assert.equal(rightsOf(set).limits.disks, 4)
    assert.deepEqual(changed(set, { limits: { disks: null, bytes: null } }).limits, {})
    assert(rightsOf(peerRecord()).limits.disks > 4)
  })

  it('is named with a disk', () => {
    assert.throws(() => changed(peerRecord(), { revoke: true }), { code: 'bad-request' })
    assert.throws(() => changed(peerRecord(), { take: 'web09' }), /there is no disk web09/)
  })
})
