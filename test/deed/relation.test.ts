// How two deeds of a disk stand to each other: beginnings, forks and who wins them, and those of disks from before deeds.

import assert from 'node:assert/strict'
import type { Deed } from '../../src/deed/entries.ts'
import { isVoidBeside, type Relation, relate } from '../../src/deed/relation.ts'
import { signAdopted, signMade, signRekeyed, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { a, at, b, c, disk, given, made, move } from './sites.ts'

const said = (relation: Relation) => (relation.kind === 'fork' ? `${relation.kind}, ${relation.wins}` : relation.kind)

/** Both ways round. */
function stand(ours: Deed, theirs: Deed, expected: string): void {
  const turned: Readonly<Record<string, string>> = {
    continues: 'beginning',
    beginning: 'continues',
    'fork, ours': 'fork, theirs',
    'fork, theirs': 'fork, ours',
  }
  assert.equal(said(relate(ours, theirs)), expected)
  assert.equal(said(relate(theirs, ours)), turned[expected] ?? expected, 'the other way round')
}

const root = made()
const elsewhere = signMade(a, disk, '2026-01-02T00:00:00.000Z')
const atB = given(root, a, b)
const released = signReleased(a, atB, at)
const back = signTakenBack(a, atB, 'lost', at)

describe('two deeds of a disk', () => {
  it('are the same, or one goes on where the other ends', () => {
    stand(atB, structuredClone(atB), 'same')
    stand(root, atB, 'continues')
    stand(root, given(released, b, c), 'continues')
    stand(atB, back, 'continues')
  })

  it('are the same if one has only been released more, and one that went on from before that goes on', () => {
    stand(atB, released, 'same')
    stand(released, given(atB, b, c), 'continues')
    stand(released, signRekeyed(b, atB, c.fingerprint, at), 'continues')
  })

  it('have nothing to do with each other if they have no entry in common', () => {
    stand(root, elsewhere, 'unrelated')
    stand(root, signMade(b, disk, at), 'unrelated')
    stand(root, signMade(a, move, at), 'unrelated')
    stand(signAdopted(a, disk, 3, at), signAdopted(b, disk, 3, at), 'unrelated')
  })

  it('that fork are decided by what was taken back', () => {
    stand(back, given(atB, b, c), 'fork, ours')
    stand(given(back, a, c), given(atB, b, c), 'fork, ours')
    stand(back, signRekeyed(b, atB, c.fingerprint, at), 'fork, ours')
  })

  it('that fork at what was released before it was taken back go to the one that was released to', () => {
    stand(back, released, 'fork, theirs')
    stand(back, given(released, b, c), 'fork, theirs')
    stand(given(back, a, c), released, 'fork, theirs')
    stand(back, signReleased(a, signRekeyed(b, atB, c.fingerprint, at), at), 'fork, theirs')
  })

  it('that fork in any other way are decided by nobody', () => {
    stand(atB, given(root, a, c), 'fork, nobody')
    stand(given(atB, b, c), given(atB, b, a), 'fork, nobody')
    stand(given(released, b, c), given(atB, b, a), 'fork, nobody')
    stand(back, signTakenBack(a, atB, 'again', at), 'fork, nobody')
    stand(given(given(atB, b, c), c, a), given(root, a, c), 'fork, nobody')
    const [high] = [Array.from({ length: 9 }).reduce<Deed>((deed) => given(deed, c, c), given(root, a, c))]
    stand(atB, high, 'fork, nobody')
  })

  it('of a disk from before deeds meet where the same key holds it in the same generation', () => {
    const source = given(signAdopted(a, disk, 4, at), a, b)
    const destination = signAdopted(b, disk, 5, at, a.fingerprint)
    stand(source, destination, 'same')
    stand(signReleased(a, source, at), destination, 'same')
    stand(source, given(destination, b, c), 'continues')
    stand(signReleased(a, source, at), given(destination, b, a), 'continues')
    stand(signTakenBack(a, source, '', at), destination, 'beginning')
    stand(signTakenBack(a, source, '', at), given(destination, b, c), 'fork, ours')
    stand(source, signAdopted(b, disk, 4, at), 'unrelated')
    stand(source, signAdopted(c, disk, 5, at), 'unrelated')
    stand(given(source, b, c), given(destination, b, c), 'fork, nobody')
  })

  it('promise 10: of a disk from before deeds are not decided by a key that says it had given it, and took it back', () => {
    const forged = signTakenBack(c, given(signAdopted(c, disk, 4, at), c, b), 'mine', at)
    const whole = signAdopted(b, disk, 5, at)
    const arriving = signAdopted(b, disk, 5, at, a.fingerprint)
    for (const ours of [whole, arriving, given(whole, b, a), given(arriving, b, a)]) stand(ours, forged, 'unrelated')
  })

  it('show which of them may not be served', () => {
    const cases: [Deed, Deed, boolean][] = [
      [root, atB, true],
      [atB, root, false],
      [atB, back, true],
      [back, released, true],
      [released, back, false],
      [atB, given(root, a, c), true],
      [atB, elsewhere, false],
    ]
    for (const [ours, theirs, isVoid] of cases) assert.equal(isVoidBeside(ours, theirs), isVoid)
  })
})
