// Peers that renew their keys: what is believed of them, and what follows.

import assert from 'node:assert/strict'
import { pino } from 'pino'
import { PeerBook } from '../../src/daemon/peer-book.ts'
import { PeerRenewals } from '../../src/daemon/peer-renewals.ts'
import type { Disks } from '../../src/disk/disks.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import type { Migrations } from '../../src/migration/site/migrations.ts'
import type { Identity } from '../../src/peer/identity.ts'
import { stateRenewal } from '../../src/peer/renewal-statement.ts'
import type { Change, MigrationRecord, PeerRecord } from '../../src/store/records.ts'
import { MemoryRecords } from '../disk/hand.ts'
import { cleanUp, newIdentity } from '../peer/sites.ts'
import { migrationRecord, peerRecord } from '../store/samples.ts'

const log = pino({ level: 'silent' })

describe('peers that renew their keys', () => {
  let [osaka, next, kobe]: Identity[] = []
  before(async () => {
    ;[osaka, next, kobe] = [await newIdentity(), await newIdentity(), await newIdentity()]
  })
  after(cleanUp)

  function site(past: readonly MigrationRecord[] = [], peers: readonly Partial<PeerRecord>[] = []) {
    const mine = { fingerprint: osaka!.fingerprint, site: osaka!.siteId, name: 'osaka' }
    const book = new PeerBook(new MemoryRecords(), [mine, ...peers].map(peerRecord))
    const committed: Change[][] = []
    const [renamed, dropped]: [MigrationRecord[], string[]] = [[], []]
    const migrations = {
      courses: () => [],
      past: () => past,
      renamed: (records: readonly MigrationRecord[]) => void renamed.push(...records),
    } as unknown as Migrations
    const renewals = new PeerRenewals({
      book,
      log,
      disks: { all: () => [] } as unknown as Disks,
      migrations: () => migrations,
      commit: async (changes) => void committed.push([...changes]),
      drop: (peerId) => void dropped.push(peerId),
    })
    return { book, renewals, committed, renamed, dropped }
  }
  const statement = (to = next!.fingerprint) => stateRenewal(osaka!, to, new Date())
  const refused = (asked: Promise<object>, code: string) =>
    assert.rejects(asked, (error) => error instanceof PeerRefusal && error.code === code)

  it('the next key is trusted besides, and once it shows the peer is known by it alone, in all that is on record', async () => {
    const moved = { peerId: osaka!.fingerprint, peerSite: osaka!.siteId, state: 'done' } as const
    const past = migrationRecord(moved, { owner: osaka!.siteId })
    const { book, renewals, committed, renamed, dropped } = site([past])
    await renewals.told(osaka!.fingerprint, statement())
    assert.equal(book.renewing(next!.fingerprint)?.name, 'osaka')
    assert(book.has(osaka!.fingerprint), 'until then it is who it was')

    await Promise.all([renewals.follow(next!.fingerprint), renewals.follow(next!.fingerprint)])
    assert.deepEqual([book.has(osaka!.fingerprint), book.named('osaka').fingerprint], [false, next!.fingerprint])
    assert.deepEqual([book.named('osaka').site, book.named('osaka').next], [next!.siteId, null])
    const [{ peerId, peerSite, disks }] = renamed as [MigrationRecord]
    assert.deepEqual([peerId, peerSite, disks[0]!.owner], [next!.fingerprint, next!.siteId, next!.siteId])
    assert.deepEqual(dropped, [osaka!.fingerprint])
    assert.equal(committed.length, 1, 'one transaction, once')
    assert.deepEqual(
      committed[0]!.map((change) =>
        'put' in change ? `put ${change.put}` : 'remove' in change && `remove ${change.remove}`,
      ),
      ['remove peer', 'put peer', 'put migration'],
    )
  })

  it('promise 10: a word that the present key has not signed, or that names the key of another peer, changes nothing', async () => {
    const { book, renewals } = site([], [{ fingerprint: kobe!.fingerprint, site: kobe!.siteId, name: 'kobe' }])
    await refused(
      renewals.told(osaka!.fingerprint, stateRenewal(kobe!, next!.fingerprint, new Date())),
      'rekey-invalid',
    )
    await refused(renewals.told(osaka!.fingerprint, statement(kobe!.fingerprint)), 'rekey-invalid')
    await refused(renewals.told(osaka!.fingerprint, { to: next!.fingerprint }), 'rekey-invalid')
    await refused(renewals.told(next!.fingerprint, statement()), 'peer-unknown')
    assert(book.all().every((peer) => peer.next === null))
    await renewals.told(osaka!.fingerprint, statement())
    await refused(renewals.told(kobe!.fingerprint, stateRenewal(kobe!, next!.fingerprint, new Date())), 'rekey-invalid')
    await renewals.follow(kobe!.fingerprint)
    assert(
      book.has(kobe!.fingerprint) && book.has(osaka!.fingerprint),
      'a key that nobody has announced is followed by nothing',
    )
  })

  it('a move that is not over keeps the peer known by the key that began it', async () => {
    const underWay: { -readonly [Key in keyof MigrationRecord]: MigrationRecord[Key] } = {
      ...migrationRecord({ peerId: osaka!.fingerprint, state: 'copying' }),
    }
    const { book, renewals } = site([underWay])
    await refused(renewals.told(osaka!.fingerprint, statement()), 'migrating')
    underWay.state = 'done'
    await renewals.told(osaka!.fingerprint, statement())
    underWay.state = 'copying'
    await assert.rejects(renewals.follow(next!.fingerprint), /is under way/)
    assert(book.has(osaka!.fingerprint))
    underWay.state = 'done'
    await renewals.follow(next!.fingerprint)
    assert(!book.has(osaka!.fingerprint))
  })
})
