// Records of format 2 become those of today: a migration's disk goes into a list, with its owner, and its terms by themselves.
// What is damaged, or has lost transactions, is refused, and left as it was.

import assert from 'node:assert/strict'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { wrongTerms } from '../../src/migration/terms.ts'
import { CommitWitness } from '../../src/store/commit-witness.ts'
import { rowChecksum } from '../../src/store/record-shapes.ts'
import { SqliteRecords } from '../../src/store/sqlite-records.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'
import { diskRecordIn, migrationRecord, movedDisk, peerRecord, usualTerms } from './samples.ts'

type Row = Readonly<Record<string, unknown>>

const siteId = 'site-here'

describe('records of format 2', () => {
  removeFoldersAfterEach()
  let path: string
  beforeEach(() => {
    path = join(temporaryFolder(), 'vmstore.sqlite')
  })

  /** As format 2 had it, with all fields but `without`. */
  function written(facts: Row = {}, without: readonly string[] = []): Row {
    const { disks: _disks, terms: _terms, ...move } = migrationRecord()
    const {
      id: diskId,
      name: diskName,
      sizeBytes,
      generation,
      owner: _owner,
      hasLeft: _hasLeft,
      deed: _deed,
      ...rest
    } = movedDisk()
    const row: Row = {
      ...move,
      ...usualTerms,
      diskId,
      diskName,
      sizeBytes,
      generation,
      ...rest,
      endOwner: null,
      ...facts,
    }
    return Object.fromEntries(Object.entries(row).filter(([field]) => !without.includes(field)))
  }

  function store(...migrations: Row[]): void {
    using database = new DatabaseSync(path)
    for (const table of ['disk', 'migration', 'peer'])
      database.exec(
        `CREATE TABLE ${table} (added INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT`,
      )
    database.exec('CREATE TABLE site (commits INTEGER NOT NULL) STRICT; INSERT INTO site (commits) VALUES (7)')
    database.exec(`PRAGMA application_id = ${0x766d7374}; PRAGMA user_version = 2`)
    const put = (table: string, record: Row) => {
      const [id, body] = [String(record['id']), JSON.stringify(record)]
      database
        .prepare(`INSERT INTO ${table} (id, body, checksum) VALUES (?, ?, ?)`)
        .run(id, body, rowChecksum(table, id, body))
    }
    const disk = { ...diskRecordIn(dirname(path), { migrationId: 'under-way', owner: 'site-of-disk' }) }
    put('disk', { ...disk, path: 'disks/web01.raw', folder: 'disks' })
    for (const migration of migrations) put('migration', migration)
  }

  async function loaded() {
    const records = await SqliteRecords.open(path, { hasDisks: true, siteId })
    const { migrations } = await records.load()
    await records.close()
    return migrations
  }

  const formatOf = () => {
    using database = new DatabaseSync(path, { readOnly: true })
    return database.prepare('PRAGMA user_version').get()?.['user_version']
  }

  it('are what they were, to the last field', async () => {
    const counters = { data: 1, sent: 2, skippedZero: 3, resent: 4 }
    const differed = [{ offset: 4096, length: 512 }]
    const disk = { counters, verified: true, differed, reclaimedAs: 3, generation: 2, sizeBytes: 8192 }
    const move = { id: 'over', state: 'failed', note: 'why', mark: 5, markRun: 'run', sourceBoot: 'boot', copyingMs: 9 }
    const terms = {
      ...usualTerms,
      switchover: 'now',
      maxRate: 8192,
      stallTimeoutMs: 50,
      sourcePolicy: 'delete',
      force: true,
    }
    store(written({ ...move, ...disk, ...terms, endOwner: 'site-there' }))
    assert.deepEqual(await loaded(), [{ ...migrationRecord({ ...move, terms }, { ...disk, owner: 'site-there' }) }])
    assert.equal(formatOf(), 4)
    assert.equal((await loaded()).length, 1, 'and so they are at the next start')
  })

  it('that lack what came while format 2 was written mean that nothing of it had happened', async () => {
    const later = ['stallTimeoutMs', 'force', 'cutOff', 'differed', 'reclaimedAs', 'mark', 'sourceBoot', 'copyingMs']
    store(written({ endOwner: 'site-there' }, later))
    assert.deepEqual(await loaded(), [migrationRecord({}, { owner: 'site-there' })])
  })

  it('name the owner: that of the disk which is in the migration; once it is over, by its end', async () => {
    const peerSite = 'site-there'
    const over = { peerSite, endedAt: '2026-01-01T00:00:00.000Z' }
    store(
      written({ id: 'under-way', peerSite, state: 'copying' }),
      written({ ...over, id: 'recorded', state: 'failed', endOwner: 'site-third' }),
      written({ ...over, id: 'given', role: 'source', state: 'done' }),
      written({ ...over, id: 'kept', role: 'source', state: 'cancelled' }),
      written({ ...over, id: 'taken', state: 'done' }),
      written({ ...over, id: 'not taken', state: 'cancelled' }, ['endOwner']),
    )
    const owners = (await loaded()).map(({ id, disks }) => [id, disks[0]?.owner])
    assert.deepEqual(owners, [
      ['under-way', 'site-of-disk'],
      ['recorded', 'site-third'],
      ['given', peerSite],
      ['kept', siteId],
      ['taken', siteId],
      ['not taken', peerSite],
    ])
  })

  it('promise 1: of which one is damaged are refused, and keep their format', async () => {
    store(written({ endOwner: 'site-there' }))
    const database = new DatabaseSync(path)
    database.exec(`UPDATE migration SET body = replace(body, '"generation":2', '"generation":3')`)
    database.close()
    await assert.rejects(loaded(), { code: 'damaged', message: /the record of migration .* its checksum is wrong/ })
    assert.equal(formatOf(), 2)
  })

  it('of which one is none are refused, and keep their format', async () => {
    store(written({}, ['diskId']))
    await assert.rejects(loaded(), { code: 'damaged', message: /the record of migration .*: disks.0.id: / })
    assert.equal(formatOf(), 2)
  })

  it('promise 1: that have lost transactions are refused, and keep their format', async () => {
    store(written())
    const witness = new CommitWitness(`${path}-commits`)
    witness.write(8)
    witness.close()
    await assert.rejects(loaded(), { code: 'damaged', message: /has lost what was recorded last \(7 of 8/ })
    assert.equal(formatOf(), 2)
  })

  it('a migration with terms that nobody understands refuses the start', async () => {
    store(written({ switchover: 'perhaps' }))
    const wrongTerms = () => 'switchover: not one of them'
    await assert.rejects(SqliteRecords.open(path, { hasDisks: true, siteId, wrongTerms }), {
      name: 'StoreError',
      code: 'damaged',
      exit: 3,
      message: /the record of migration .* is not as it was written: terms.switchover: not one of them/,
    })
  })
})

describe('records of format 1', () => {
  removeFoldersAfterEach()

  function store(migration: string, disk?: string): string {
    const path = join(temporaryFolder(), 'vmstore.sqlite')
    using database = new DatabaseSync(path)
    for (const table of ['disk', 'migration', 'peer'])
      database.exec(
        `CREATE TABLE ${table} (added INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT`,
      )
    database.exec(`PRAGMA application_id = ${0x766d7374}; PRAGMA user_version = 1`)
    const folder = join(dirname(path), 'disks', 'web01')
    const whole = JSON.stringify({ ...diskRecordIn(folder), path: join(folder, 'web01.raw'), folder })
    const diskId = diskRecordIn(folder).id
    database.prepare('INSERT INTO disk (id, body) VALUES (?, ?)').run(diskId, disk ?? whole)
    database.prepare('INSERT INTO migration (id, body) VALUES (?, ?)').run('m-1', migration)
    return path
  }

  const first = {
    ...{ id: 'm-1', diskId: 'disk-1', diskName: 'web01', sizeBytes: 4096, generation: 2, role: 'source' },
    ...{ peerId: 'peer', peerSite: 'site-there', transport: 'tcp', state: 'done', note: null, switchoverMs: 0.5 },
    ...{ mode: 'post-copy', switchover: 'auto', switchoverWaitMs: 10_000, maxRate: null, sourcePolicy: 'keep' },
    ...{ counters: { data: 1, sent: 2, skippedZero: 3, resent: 4 } },
    ...{ startedAt: '2025-01-01T00:00:00.000Z', switchedAt: null, endedAt: '2025-01-01T00:01:00.000Z' },
  }

  it('as the first vmstore wrote them become those of today in one start', async () => {
    const path = store(JSON.stringify(first))
    for (const start of ['the first', 'the next']) {
      const records = await SqliteRecords.open(path, { hasDisks: true, siteId, wrongTerms })
      const { disks, migrations } = await records.load()
      await records.close()
      assert.deepEqual([disks.length, migrations.length], [1, 1], start)
      const [disk] = migrations[0]!.disks
      assert.deepEqual([disk?.owner, disk?.counters, disk?.verified], ['site-there', first.counters, false])
    }
  })

  it('promise 12: of which one is no record are refused with a sentence, and keep their format', async () => {
    for (const [migration, disk] of [
      ['{'],
      ['null'],
      ['7'],
      [JSON.stringify(first), '{'],
      [JSON.stringify(first), 'null'],
    ]) {
      const path = store(migration!, disk)
      await assert.rejects(SqliteRecords.open(path, { hasDisks: true, siteId }), {
        code: 'damaged',
        message: /is damaged: the record of (disk|migration) .* is not as it was written: it is no JSON object/,
      })
      using database = new DatabaseSync(path, { readOnly: true })
      assert.equal(database.prepare('PRAGMA user_version').get()?.['user_version'], 1)
    }
  })
})

describe('records of format 3', () => {
  removeFoldersAfterEach()

  it('give no peer anything, and no destination a word, until its operator says so', async () => {
    const path = join(temporaryFolder(), 'vmstore.sqlite')
    const written = await SqliteRecords.open(path, { hasDisks: false, siteId })
    const [peer, migration] = [peerRecord({ address: 'tcp://b:1' }), migrationRecord()]
    await written.commit([
      { put: 'peer', record: peer },
      { put: 'migration', record: migration },
    ])
    await written.close()
    asFormat3(path)
    for (const start of ['the first', 'the next']) {
      const records = await SqliteRecords.open(path, { hasDisks: true, siteId, wrongTerms })
      const { peers, migrations } = await records.load()
      await records.close()
      assert.deepEqual([peers, migrations], [[peer], [migration]], start)
      assert.deepEqual([peer.mayTake, peer.limits, migration.ordered, migration.peerDecides], [[], {}, null, false])
    }
  })
})

/** Without what came with format 4. */
function asFormat3(path: string): void {
  const later: Readonly<Record<string, readonly string[]>> = {
    peer: ['mayTake', 'limits'],
    migration: ['ordered', 'peerDecides'],
  }
  using database = new DatabaseSync(path)
  for (const [table, fields] of Object.entries(later)) {
    for (const row of database.prepare(`SELECT id, body FROM ${table}`).all()) {
      const [id, whole] = [String(row['id']), JSON.parse(String(row['body'])) as Row]
      const body = JSON.stringify(
        Object.fromEntries(Object.entries(whole).filter(([field]) => !fields.includes(field))),
      )
      assert(body.length < String(row['body']).length)
      database
        .prepare(`UPDATE ${table} SET body = ?, checksum = ? WHERE id = ?`)
        .run(body, rowChecksum(table, id, body), id)
    }
  }
  database.exec('PRAGMA user_version = 3')
}
