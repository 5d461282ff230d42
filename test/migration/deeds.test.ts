// What a site makes of deeds and grants that a peer brings: what counts, and what does not.

import assert from 'node:assert/strict'
import { headOf } from '../../src/deed/deed.ts'
import type { Deed, DeedEntry } from '../../src/deed/entries.ts'
import { signAdopted, signGiven, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { askDeed, beforeGrant, checkOffered, deedOfGrant, releasesOf, withRelease } from '../../src/migration/deeds.ts'
import { restoredHere, supersededNote, supersessionBy } from '../../src/migration/supersession.ts'
import { a, at, b, c, disk, given, made, move } from '../deed/sites.ts'
import { FakeClock } from './fake-time.ts'

const never = new AbortController().signal
const root = made()
const atB = given(root, a, b)

describe('a disk that is offered', () => {
  const offered = (deed: Deed, known: Deed | null = null, generation = deed.at(-1)!.generation, peer = a) =>
    checkOffered(deed, { name: 'web01', peerId: peer.fingerprint, generation, known })

  it('is one that the peer holds, in the generation that it says', () => {
    offered(root)
    offered(signTakenBack(a, atB, '', at))
    assert.throws(() => offered(atB), { code: 'deed-of-other' })
    assert.throws(() => offered(root, null, 1, c), { code: 'deed-of-other' })
    assert.throws(() => offered(root, null, 2), { code: 'deed-generation', message: /is of generation 1, not 2/ })
  })

  it('promise 10: comes back only with a deed that goes on where what is known here ends', () => {
    const back = given(signReleased(a, atB, at), b, a)
    offered(back, atB)
    offered(back, root)
    offered(back, back)
    offered(signTakenBack(a, atB, '', at), given(atB, b, c))
    assert.throws(() => offered(root, atB), { code: 'deed-beginning', message: /is older than what is known/ })
    assert.throws(() => offered(signAdopted(a, disk, 2 ** 40, at), atB), { code: 'deed-unrelated' })
    assert.throws(() => offered(given(given(root, a, c), c, a), atB), { code: 'deed-fork' })
  })
})

describe('a grant', () => {
  const granted = (entry: DeedEntry, offered = root) =>
    deedOfGrant(offered, entry, { name: 'web01', key: b.fingerprint, migration: move, generation: 2 })

  it('is the entry that follows what was offered, and makes the disk this site’s in this move', () => {
    assert.deepEqual(granted(atB.at(-1)!), atB)
    const other = signGiven(a, root, { to: b.fingerprint, toSite: 'b', move: 'another' }, at)
    const wrong: [DeedEntry, RegExp][] = [
      [given(root, a, c).at(-1)!, /it is given to another key/],
      [other.at(-1)!, /it is given for migration another/],
      [root[0]!, /begins with made/],
      [given(atB, b, c).at(-1)!, /does not follow the entry before it/],
      [{ ...atB[1]!, at: '2026-01-03T00:00:00.000Z' }, /its signature is not of the key/],
      [given(made(c), c, b).at(-1)!, /does not follow/],
    ]
    for (const [entry, message] of wrong) assert.throws(() => granted(entry), { code: 'deed-not-given', message })
  })

  it('that was made before it was offered with a deed is told from what was before it', () => {
    assert.deepEqual(beforeGrant(atB, b.fingerprint, move), root)
    assert.deepEqual(beforeGrant(atB, b.fingerprint, 'another'), atB)
    assert.deepEqual(beforeGrant(root, b.fingerprint, move), root)
  })

  it('is released by an entry of the source, and by no other', () => {
    const released = signReleased(a, atB, at)
    assert.deepEqual(releasesOf([released, null, atB], move), [released.at(-1)])
    assert.deepEqual(withRelease(atB, [released.at(-1)!]), released)
    assert.equal(withRelease(atB, [{ ...released.at(-1)!, at: '2026-01-03T00:00:00.000Z' }]), atB)
    const gone = given(atB, b, c)
    assert.equal(withRelease(gone, [released.at(-1)!]), gone)
  })
})

describe('a deed that is asked for', () => {
  const ask = (answer: unknown, head: string | null = null) =>
    askDeed({ deed: async () => answer }, disk, { clock: new FakeClock(), head, signal: never })

  it('is verified, and is of that disk and ends as it was said', async () => {
    assert.deepEqual(await ask(JSON.parse(JSON.stringify(atB)), headOf(atB)), atB)
    await assert.rejects(ask(atB, headOf(root)), /does not end with the entry/)
    await assert.rejects(ask(signAdopted(a, move, 1, at)), /it is of disk 5555/)
    await assert.rejects(ask([...atB.slice(0, 1), { ...atB[1]!, generation: 3 }]), /entry 2 \(given\) is void/)
    for (const nothing of [undefined, {}, [], 7]) await assert.rejects(ask(nothing), { name: 'DeedError' })
  })
})

describe('a deed that is brought', () => {
  const siteOf = (key: string) => (key === c.fingerprint ? 'C' : 'another')
  const by = (ours: Deed, theirs: Deed) => supersessionBy(ours, theirs, siteOf)

  it('promise 1: supersedes what it goes on from, and names who owns', () => {
    const theirs = given(atB, b, c)
    assert.deepEqual(by(atB, theirs), { generation: 3, owner: 'C', deed: theirs, rival: null })
  })

  it('promise 10: supersedes nothing by a number, nor by being older, nor by being let go', () => {
    const high = signAdopted(c, disk, 2 ** 40, at)
    for (const theirs of [high, given(high, c, a), root, atB, signReleased(a, atB, at)])
      assert.equal(by(atB, theirs), undefined)
  })

  it('promise 1: stops both where the two fork and nothing in them says which is valid', () => {
    const theirs = given(root, a, c)
    for (const [ours, other] of [
      [atB, theirs],
      [theirs, atB],
    ] as const) {
      const both = by(ours, other)!
      assert.deepEqual(both, { generation: 2, owner: 'unknown', deed: null, rival: other })
      assert.match(supersededNote(both), /two deeds of the disk which fork.*nobody is served by either/)
    }
    assert.match(supersededNote(restoredHere(2)), /restored from an old copy/)
  })
})
