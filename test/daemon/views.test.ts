import assert from 'node:assert/strict'
import { linkView, type Naming, recordView } from '../../src/daemon/views.ts'
import type { MigrationRecord } from '../../src/store/records.ts'
import { migrationRecord, movedDisk } from '../store/samples.ts'

const naming: Naming = {
  ownSite: 'site-a',
  siteName: (site) => (site === 'site-a' ? 'this site' : site === 'site-b' ? 'tokyo' : site),
  peerName: () => 'tokyo',
  isConnected: () => true,
  link: () => undefined,
}

function ownerOf(owner: string, role: MigrationRecord['role'] = 'source'): [name: string, side: string] {
  const ended = { role, state: 'failed', peerSite: 'site-b', endedAt: '2024-05-01T10:00:00.000Z' } as const
  const { ownerName, ownerSide } = recordView(migrationRecord(ended, { owner }), naming, null)
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
    const view = recordView(migrationRecord({ state: 'done' }, { owner: 'site-a', verified: true }), naming, 'owned')
    const { disk, generation, owner, ownerName, ownerSide, bytes, verified, differed } = view
    const { id } = movedDisk()
    const of = { id, name: disk, state: 'owned', generation, owner, ownerName, ownerSide, bytes, verified, differed }
    assert.deepEqual(view.disks, [of])
    assert.deepEqual([disk, generation, owner, bytes.disk], ['web01', 2, 'site-a', 2 ** 20])
    assert.equal(recordView(migrationRecord(), naming, null).disks[0]?.state, null)
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
