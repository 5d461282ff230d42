// A peer that shows deeds which are none, or prove nothing for it: cut, grown, signed anew, of another disk, of another key, endless, no
// JSON; to place a disk here, and to have its victim believe that a disk of its own is another's.
// Would break promises 1, 10 and 11.

import assert from 'node:assert/strict'
import { headOf } from '../../src/deed/deed.ts'
import { canonicalBytes, type Deed, type DeedEntry, hashOf } from '../../src/deed/entries.ts'
import { type SigningKey, signBytes } from '../../src/deed/keys.ts'
import { signAdopted, signGiven, signMade, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { newKey } from '../deed/sites.ts'
import { attach, endSitesAfterEach, Site } from '../e2e/sites.ts'
import { HostileSite, withheld } from './hostile-site.ts'
import { at, bodyOf, OwnDisk } from './own-disk.ts'
import { createGuestDisk, Witness } from './witness.ts'

const elsewhere = '00000000-0000-4000-8000-00000000dead'
const gift = (key: SigningKey) => ({ to: key.fingerprint, toSite: 'elsewhere', move: elsewhere })

describe('hostile: a deed that does not hold', () => {
  endSitesAfterEach()

  /** Of a disk that the peer offers. */
  const offers: readonly (readonly [string, (disk: OwnDisk) => unknown])[] = [
    ['none', () => null],
    ['an empty list', () => []],
    ['no JSON', () => '{"kind":'],
    ['of another disk', ({ key }) => signMade(key, elsewhere, at)],
    ['of another key', ({ id }) => signMade(newKey(), id, at)],
    ['that gives it to another key', ({ key, deed }) => signGiven(key, deed, gift(newKey()), at)],
    ['whose entry was changed', ({ deed }) => [{ ...deed[0]!, generation: 2 }]],
    [
      'whose signature is of another entry',
      ({ key, id, deed }) => [{ ...deed[0]!, signature: signMade(key, elsewhere, at)[0]!.signature, disk: id }],
    ],
    ['with an entry that another key signed', ({ key, deed }) => grown(deed, newKey(), key)],
    ['with a field more', ({ deed }) => [{ ...deed[0]!, more: 1 }]],
    ['of 5,000 entries', ({ deed }) => Array.from({ length: 5000 }, () => deed[0])],
  ]

  it('promise 10: a disk is not taken in with one, whatever head the offer names', async () => {
    const site = await Site.start('osaka')
    const hostile = await HostileSite.paired(site)
    for (const [what, lie] of offers) {
      const disk = new OwnDisk(hostile)
      const shown = lie(disk)
      hostile.replies['deed'] = () => bodyOf(shown)
      for (const head of new Set([headOf(disk.deed), headOfAny(shown) ?? '0'.repeat(64)]))
        await assert.rejects(disk.prepare({}, { head }), `${what}, head ${head}`)
    }
    const disk = new OwnDisk(hostile)
    hostile.replies['deed'] = () => bodyOf(disk.deed)
    await assert.rejects(disk.prepare({}, { generation: 2 }), 'of another generation than was offered')
    assert.deepEqual(await site.control.listDisks(), [])
    assert.deepEqual(await site.control.listMigrations(), [])
    await new OwnDisk(hostile).prepare()
    assert.equal((await site.control.listDisks()).length, 1, 'so that the others could have been taken in')
  })

  it('promise 11: a deed that is asked for and never comes keeps nothing else waiting', async () => {
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    const disk = new OwnDisk(hostile, { name: 'web02' })
    hostile.replies['deed'] = withheld
    const preparing = disk.prepare().catch(() => {})
    await hostile.asked('deed')
    const witness = await Witness.of(site)
    const other = new HostileDeeds(hostile)
    await other.claim(elsewhere, signMade(newKey(), elsewhere, at))
    await witness.unharmed()
    void preparing
  })

  it('promise 1: no deed that others have signed alone takes a disk from its owner, in whatever order its claims come', async () => {
    const site = await Site.start('osaka')
    const { id } = await createGuestDisk(site)
    const witness = await Witness.of(site)
    const hostile = await HostileSite.paired(site)
    const own = new OwnDisk(hostile, { id })
    const { key: ownersKey } = own
    const stranger = newKey()
    const victim = { to: hostile.victimKey, toSite: 'victim', move: elsewhere }
    const givenTo = (deed: Deed) => signGiven(ownersKey, deed, victim, at)
    const claims: readonly (readonly [string, Deed])[] = [
      ['made by the peer', own.deed],
      ['made by the peer, and given on', signGiven(ownersKey, own.deed, gift(stranger), at)],
      ['adopted in a far generation', signAdopted(ownersKey, id, 2 ** 48, at)],
      ['given to the owner, and taken back', signTakenBack(ownersKey, givenTo(own.deed), 'mine', at)],
      [
        'adopted, given to the owner, and taken back',
        signTakenBack(ownersKey, givenTo(signAdopted(ownersKey, id, 1, at)), 'mine', at),
      ],
      [
        'given to the owner in its generation, and taken back',
        signTakenBack(ownersKey, signGiven(ownersKey, signAdopted(ownersKey, id, 1, at), victim, at), '', at),
      ],
      ['given to the owner, and released', signReleased(ownersKey, givenTo(own.deed), at)],
    ]
    const deeds = new HostileDeeds(hostile)
    for (const [, deed] of claims) await deeds.claim(id, deed)
    for (const [, deed] of claims.toReversed()) await deeds.claim(id, deed)
    await witness.unharmed()
    await site.stop()
    await site.restart()
    await hostile.connected()
    const { state, generation } = await site.control.showDisk('web01')
    assert.deepEqual([state, generation], ['owned', 1])
    await (await attach(site, 'web01')).write(0, Buffer.alloc(4096, 7))
  })
})

/** A peer that claims deeds, and shows those that it claims. */
class HostileDeeds {
  readonly #hostile: HostileSite

  constructor(hostile: HostileSite) {
    this.#hostile = hostile
  }

  /** Tells of it, and says so when it is asked. Whether it is asked for the deed is its victim's business. */
  async claim(disk: string, deed: Deed): Promise<void> {
    const claims = [{ disk, head: headOf(deed), length: deed.length }]
    Object.assign(this.#hostile.replies, { deed: () => bodyOf(deed), generations: () => ({ claims }) })
    await this.#hostile.outcome('generations', { claims })
    await this.#hostile.outcome('generations', { claims })
  }
}

/** One entry more, that gives it to `to`, and is signed by who never held it. */
function grown(deed: Deed, signer: SigningKey, to: SigningKey): Deed {
  const last = deed.at(-1)!
  const unsigned = {
    kind: 'given',
    disk: last.disk,
    generation: last.generation + 1,
    at,
    by: signer.publicKey,
    previous: hashOf(last),
    ...gift(to),
  } as const
  return [...deed, { ...unsigned, signature: signBytes(signer, canonicalBytes(unsigned)) }]
}

function headOfAny(shown: unknown): string | undefined {
  const last = Array.isArray(shown) ? shown.at(-1) : undefined
  return last === undefined ? undefined : hashOf(last as DeedEntry)
}
