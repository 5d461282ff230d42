import assert from 'node:assert/strict'
import { linkView, type Naming, recordView } from '../../src/daemon/views.ts'
import type { MigrationRecord, MovedDisk } from '../../src/store/records.ts'
import { migrationRecord, movedDisk } from '../store/samples.ts'

const naming: Naming = {
  ownSite: 'site-a',
  siteName: (site) => (site === 'site-a' ? 'this site' : site === 'site-b' ? 'tokyo' : site),
  peerName: () => 'tokyo',
  keyName: () => undefined,
  isConnected: () => true,
  link: () => undefined,
  diskState: () => null,
}

function ownerOf(owner: string, role: MigrationRecord['role'] = 'source'): [name: string, side: string] {
  const ended = { role, state: 'failed', peerSite: 'site-b', endedAt: '2024-05-01T10:00:00.000Z' } as const
  const { ownerName, ownerSide } = recordView(migrationRecord(ended, { owner }), naming)
  return [ownerName, ownerSide]
}

describe('the view of a migration that is over', () => {
  it('names the owner that its record names, whatever its state', () => {
    assert.deepEqual(ownerOf('site-b'), ['tokyo', 'destination'])
    assert.deepEqual(ownerOf('site-a'), ['this site', 'source'])
    assert.deepEqual(ownerOf('site-c'), ['site-c', 'other'])
    assert.deepEqual(ownerOf('unknown'), ['unknown', 'unknown'])
    assert.deepEqual(ownerOf('site-b', 'destination'), ['tokyo', 'source'])
  })
})

describe('the view of a migration of one disk', () => {
  it('says of the disk what it says of the migration, and the state of the disk at this site', () => {
    const record = migrationRecord({ state: 'done' }, { owner: 'site-a', verified: true })
    const view = recordView(record, { ...naming, diskState: () => 'owned' })
    const { disk, generation, owner, ownerName, ownerSide, bytes, verified, differed } = view
    const { id } = movedDisk()
    const owned = { generation, owner, ownerName, ownerSide }
    const of = {
      id,
      name: disk,
      state: 'owned',
      hasLeft: false,
      ...owned,
      bytes,
      verified,
      unreadable: [],
      differed,
      picture: null,
    }
    assert.deepEqual(view.disks, [of])
    assert.deepEqual([disk, generation, owner, bytes.disk], ['web01', 2, 'site-a', 2 ** 20])
    assert.equal(recordView(migrationRecord(), naming).disks[0]?.state, null)
  })
})

describe('the view of a migration of several disks', () => {
  const counters = { data: 400, sent: 300, skippedZero: 200, resent: 100, spared: 50 }
  const [first, second, left] = [
    movedDisk({ name: 'web01', sizeBytes: 4096, owner: 'site-b', verified: true, counters, generation: 7 }),
    movedDisk({ id: 'two', name: 'web02', sizeBytes: 8192, owner: 'site-b', verified: true, counters }),
    movedDisk({ id: 'three', name: 'web03', sizeBytes: 512, owner: 'site-c', hasLeft: true }),
  ]
  const viewOf = (...disks: MovedDisk[]) =>
    recordView({ ...migrationRecord({ state: 'done', role: 'source', peerSite: 'site-b' }), disks }, naming)

  it('names them all, and sums up what is counted', () => {
    const { disk, bytes } = viewOf(first, second)
    assert.equal(disk, 'web01, web02')
    const sums = { data: 800, sent: 600, skippedZero: 400, resent: 200, spared: 100 }
    assert.deepEqual(bytes, { disk: 12_288, ...sums, missing: 0, exposed: 0 })
  })

  it('names the ranges of each that differed', () => {
    const differed = [{ offset: 0, length: 4096 }]
    const view = viewOf(first, { ...second, differed })
    assert.deepEqual(view.differed, differed)
    assert.deepEqual(
      view.disks.map((disk) => disk.differed),
      [[], differed],
    )
  })

  it('says who owns, in which generation, and that they were compared, of those that have not left it', () => {
    const view = viewOf(left, first, second)
    assert.deepEqual([view.owner, view.generation, view.verified], ['site-b', 7, true])
    assert.equal(viewOf(first, { ...second, verified: false }).verified, false)
    const sides = view.disks.map(({ name, ownerSide, hasLeft }) => [name, ownerSide, hasLeft])
    assert.deepEqual(sides, [
      ['web03', 'other', true],
      ['web01', 'destination', false],
      ['web02', 'destination', false],
    ])
    assert.equal(viewOf(left).owner, 'site-c')
  })
})

describe('the view of a link', () => {
  it('says since when, and why it is down; nothing of one that nobody has tried', () => {
    const sinceMs = Date.parse('2024-05-01T10:00:00.000Z')
    assert.deepEqual(linkView(undefined), { state: 'untried', since: null, why: null })
    assert.deepEqual(linkView({ state: 'untried', sinceMs, why: undefined }).since, null)
    assert.deepEqual(linkView({ state: 'down', sinceMs, why: 'no route' }), {
      state: 'down',
      since: '2024-05-01T10:00:00.000Z',
      why: 'no route',
    })
  })
})
