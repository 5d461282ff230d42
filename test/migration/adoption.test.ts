// Disks from before deeds: what each site signs of its own, and that the deeds of two sites meet.

import assert from 'node:assert/strict'
import { generationOf, holderOf, isReleased, verifyDeed } from '../../src/deed/deed.ts'
import type { Deed } from '../../src/deed/entries.ts'
import { relate } from '../../src/deed/relation.ts'
import { adopted } from '../../src/migration/adoption.ts'
import type { DiskRecord, MigrationRecord, PeerRecord } from '../../src/store/records.ts'
import { a, at, b } from '../deed/sites.ts'
import { diskRecord, migrationRecord, peerRecord } from '../store/samples.ts'

const given = (facts: Partial<MigrationRecord> = {}, generation = 5, reclaimedAs: number | null = null) =>
  migrationRecord({ role: 'source', peerId: b.fingerprint, ...facts }, { generation, reclaimedAs })

function deedOf(
  facts: Partial<DiskRecord>,
  migrations: MigrationRecord[] = [],
  key = a,
  peers: PeerRecord[] = [],
): Deed {
  const [change, ...more] = adopted({ disks: [diskRecord({ generation: 5, ...facts })], migrations, peers }, key, at)
  assert(change?.record.deed && more.length === 0)
  return verifyDeed(JSON.parse(JSON.stringify(change.record.deed)))
}

const kinds = (deed: Deed) => deed.map(({ kind }) => kind)

describe('disks from before deeds', () => {
  it('that a site owns, or that arrive there, are its own in the generation on record', () => {
    for (const state of ['owned', 'arriving']) {
      const deed = deedOf({ state })
      assert.deepEqual([kinds(deed), generationOf(deed), holderOf(deed)], [['adopted'], 5, a.fingerprint])
    }
  })

  it('that it gave away were given to the key on record; what is released there is let go', () => {
    const departed = deedOf({ state: 'departed' }, [given()])
    assert.deepEqual(
      [kinds(departed), generationOf(departed), holderOf(departed)],
      [['adopted', 'given'], 5, b.fingerprint],
    )
    const released = deedOf({ state: 'released' }, [given()])
    assert(isReleased(released))
    const peer = peerRecord({ fingerprint: b.fingerprint, site: 'site-b' })
    const forgotten = deedOf({ state: 'released', owner: 'site-b' }, [], a, [peer])
    assert.deepEqual([holderOf(forgotten), isReleased(forgotten)], [b.fingerprint, true])
    for (const theirs of [deedOf({ state: 'arriving' }, [], b), deedOf({ state: 'owned' }, [], b)])
      for (const ours of [departed, released, forgotten]) assert.equal(relate(ours, theirs).kind, 'same')
  })

  it('promise 1: that it took back void what the other site says of them', () => {
    const ours = deedOf({ state: 'owned' }, [given({ state: 'failed' }, 4, 5)])
    assert.deepEqual(
      [kinds(ours), generationOf(ours), holderOf(ours)],
      [['adopted', 'given', 'taken-back'], 5, a.fingerprint],
    )
    const taken = migrationRecord({ role: 'destination', peerId: a.fingerprint, state: 'copying' }, { generation: 4 })
    const theirs = deedOf({ state: 'arriving', generation: 4 }, [taken], b)
    assert.equal(relate(theirs, ours).kind, 'continues')
  })

  it('promise 10: name who gave them, and may take them back, until that site has heard that everything is here', () => {
    const from = (facts: Partial<MigrationRecord>, state: string) => {
      const [root] = deedOf(
        { state },
        [migrationRecord({ role: 'destination', peerId: a.fingerprint, ...facts }, { generation: 5 })],
        b,
      )
      return root?.kind === 'adopted' ? root.from : undefined
    }
    assert.equal(from({ state: 'copying' }, 'arriving'), a.fingerprint)
    assert.equal(from({ state: 'finishing' }, 'owned'), a.fingerprint)
    assert.equal(from({ state: 'done', sourceTold: false }, 'owned'), a.fingerprint)
    assert.equal(from({ state: 'done', sourceTold: true }, 'owned'), undefined)
  })

  it('get none where this site cannot say: it serves them to nobody', () => {
    const disks = ['incoming', 'gone', 'superseded', 'released'].map((state) => diskRecord({ state, generation: 5 }))
    const departed = diskRecord({ state: 'departed', generation: 5 })
    const nameless = given({ peerId: 'nobody' })
    assert.deepEqual(adopted({ disks: [...disks, departed], migrations: [nameless], peers: [] }, a, at), [])
  })

  it('get it once', () => {
    const [change] = adopted({ disks: [diskRecord()], migrations: [], peers: [] }, a, at)
    assert.deepEqual(adopted({ disks: [change!.record], migrations: [], peers: [] }, a, at), [])
  })
})
