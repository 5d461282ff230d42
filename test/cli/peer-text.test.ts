import assert from 'node:assert/strict'
import { mayTakeText, peerRow, peerText, reachedText } from '../../src/cli/peer-text.ts'
import type { PeerLimitView, PeerView } from '../../src/control/types.ts'

const limit = (most: number, facts: Partial<PeerLimitView> = {}): PeerLimitView => {
  return { most, isSet: false, used: 0, reached: null, ...facts }
}
const tokyo: PeerView = {
  name: 'tokyo',
  id: 'site-b',
  fingerprint: 'abc',
  address: null,
  connected: true,
  link: { state: 'untried', since: null, why: null },
  mayTake: [],
  limits: {
    disks: limit(20, { isSet: true, used: 3, reached: { count: 2, last: '2026-11-30T16:08:12.123Z' } }),
    bytes: limit(2 ** 50, { used: 3 * 2 ** 30 }),
    sizeBytes: limit(2 ** 54),
    calls: limit(2048),
    digests: limit(16),
    junkBytes: limit(2 ** 26),
  },
}

describe('a peer in words', () => {
  it('says what it may take: nothing, disks by their names, or every disk, and which it says the hour of', () => {
    assert.equal(mayTakeText(tokyo), 'nothing')
    const some = [
      { disk: 'id-1', name: 'web01', give: false },
      { disk: 'id-2', name: null, give: true },
    ]
    assert.equal(mayTakeText({ mayTake: some }), 'web01, id-2 (and say when)')
    assert.equal(mayTakeText({ mayTake: [{ disk: '*', name: null, give: true }] }), 'every disk (and say when)')
    assert(peerRow({ ...tokyo, mayTake: some }).includes('web01, id-2 (and say when)'))
  })

  it('shows each limit: what it has, what it may have, whether that is the usual, and how often it wanted more', () => {
    const lines = peerText(tokyo).split('\n')
    assert(lines.some((line) => /^disks placed here +3 +20 +2 times, the last at 2026-11-30T16:08:12Z$/.test(line)))
    assert(lines.some((line) => /^bytes of them here +3 GiB +1 PiB \(usual\) +never$/.test(line)))
  })

  it('tells whoever looks at the site of what it wanted more of, and else nothing', () => {
    assert.deepEqual(reachedText([tokyo]), [
      'tokyo: wanted more than it may have of disks placed here 2 times, the last at 2026-11-30T16:08:12Z',
    ])
    assert.deepEqual(reachedText([{ ...tokyo, limits: { ...tokyo.limits, disks: limit(1000) } }]), [])
  })
})
