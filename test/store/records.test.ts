import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import type { Change, DiskRecord, MigrationRecord } from '../../src/store/records.ts'
import { SqliteRecords } from '../../src/store/sqlite-records.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'
import { diskRecordIn, migrationRecord, peerRecord } from './samples.ts'

describe('records in SQLite', () => {
  removeFoldersAfterEach()
  let path: string
  const open: SqliteRecords[] = []
  beforeEach(() => {
    path = join(temporaryFolder(), 'vmstore.sqlite')
  })
  afterEach(async () => {
    for (const records of open.splice(0)) await records.close()
  })

  const diskRecord = (facts: Partial<DiskRecord> = {}) => diskRecordIn(dirname(path), facts)

  async function opened(): Promise<SqliteRecords> {
    const records = await SqliteRecords.open(path)
    open.push(records)
    return records
  }

  it('are empty at first', async () => {
    const records = await opened()
    assert.deepEqual(await records.load(), { disks: [], migrations: [], peers: [] })
  })

  it('give back what was put, to the last field', async () => {
    const records = await opened()
    const disk = diskRecord({ sizeBytes: 16 * 2 ** 40, name: 'größe ✓' })
    const [migration, peer] = [migrationRecord(), peerRecord()]
    await records.commit([
      { put: 'disk', record: disk },
      { put: 'migration', record: migration },
      { put: 'peer', record: peer },
    ])
    assert.deepEqual(await records.load(), { disks: [disk], migrations: [migration], peers: [peer] })
  })

  it('promise 11: are loaded whatever a peer has said of how much it has: those are figures for people', async () => {
    const records = await opened()
    const sent = Number.MAX_SAFE_INTEGER + 4096 // A peer's word, and what was sent after it.
    const migration = migrationRecord({}, { counters: { data: 0, sent, skippedZero: 0, resent: sent } })
    await records.commit([{ put: 'migration', record: migration }])
    assert.deepEqual((await records.load()).migrations, [migration])
  })

  it('of a disk written before failed syncs and losses of power were recorded tell of none', async () => {
    const { failedSync: _later, unsynced: _then, powerLoss: _last, ...older } = diskRecord()
    const records = await opened()
    await records.commit([{ put: 'disk', record: older as DiskRecord }])
    assert.deepEqual((await records.load()).disks, [diskRecord({ failedSync: null })])
  })

  it('of a migration written before a field was there are those of one to which nothing of it has happened', async () => {
    const later = {
      paused: false,
      sourceTold: true,
      mark: 0,
      markRun: null,
      sourceBoot: null,
    }
    const older = Object.fromEntries(Object.entries(migrationRecord()).filter(([field]) => !(field in later)))
    const records = await opened()
    await records.commit([{ put: 'migration', record: older as unknown as MigrationRecord }])
    assert.deepEqual((await records.load()).migrations, [migrationRecord(later)])
  })

  it('promise 6: a mark of a failed sync changes nothing else of its disk, and goes again', async () => {
    const records = await opened()
    await records.commit([{ put: 'disk', record: diskRecord({ migrationId: 'newer' }) }])
    const failedSync = { at: '2026-03-01T10:00:00.000Z', message: 'EIO: "größe"' }
    for (const mark of [failedSync, null]) {
      await records.commit([{ mark: 'disk', id: diskRecord().id, facts: { failedSync: mark } }])
      assert.deepEqual((await records.load()).disks, [diskRecord({ migrationId: 'newer', failedSync: mark })])
    }
  })

  it('survive close and reopen', async () => {
    const first = await opened()
    await first.commit([{ put: 'disk', record: diskRecord() }])
    await first.close()
    assert.deepEqual((await (await opened()).load()).disks, [diskRecord()])
  })

  it('are replaced by a put of the same id, and keep their place', async () => {
    const records = await opened()
    await records.commit([
      { put: 'disk', record: diskRecord({ id: 'a' }) },
      { put: 'disk', record: diskRecord({ id: 'b' }) },
    ])
    await records.commit([{ put: 'disk', record: diskRecord({ id: 'a', state: 'departed', generation: 2 }) }])
    const { disks } = await records.load()
    assert.deepEqual(
      disks.map(({ id, state, generation }) => [id, state, generation]),
      [
        ['a', 'departed', 2],
        ['b', 'owned', 1],
      ],
    )
  })

  it('are loaded in the order in which they were first put', async () => {
    const records = await opened()
    const ids = ['zebra', 'apple', 'mango']
    for (const id of ids) await records.commit([{ put: 'migration', record: migrationRecord({ id }) }])
    assert.deepEqual(
      (await records.load()).migrations.map(({ id }) => id),
      ids,
    )
  })

  it('are gone once removed, and removing what is missing is fine', async () => {
    const records = await opened()
    await records.commit([{ put: 'disk', record: diskRecord() }])
    await records.commit([
      { remove: 'disk', id: diskRecord().id },
      { remove: 'peer', id: 'nobody' },
    ])
    assert.deepEqual(await records.load(), { disks: [], migrations: [], peers: [] })
  })

  it('a removed and a put record of one commit happen in the order given', async () => {
    const records = await opened()
    await records.commit([
      { put: 'disk', record: diskRecord() },
      { remove: 'disk', id: diskRecord().id },
      { put: 'disk', record: diskRecord({ name: 'again' }) },
    ])
    assert.deepEqual(
      (await records.load()).disks.map(({ name }) => name),
      ['again'],
    )
  })

  it('a bad change in the middle of a commit changes nothing', async () => {
    const records = await opened()
    await records.commit([{ put: 'disk', record: diskRecord() }])
    const circular: Record<string, unknown> = { ...diskRecord({ id: 'bad' }) }
    circular['self'] = circular // Cannot become JSON.
    const changes = [
      { put: 'disk', record: diskRecord({ state: 'departed', generation: 2 }) },
      { put: 'disk', record: circular },
      { put: 'peer', record: peerRecord() },
    ]
    await assert.rejects(records.commit(changes as unknown as Change[]))
    assert.deepEqual(await records.load(), { disks: [diskRecord()], migrations: [], peers: [] })
  })

  it('take commits after one that failed', async () => {
    const records = await opened()
    await assert.rejects(records.commit([{ remove: 'nonsense', id: 'x' } as unknown as Change]))
    await records.commit([{ put: 'disk', record: diskRecord() }])
    assert.equal((await records.load()).disks.length, 1)
  })

  it('commits happen in the order in which they were asked for, without waiting for each other', async () => {
    const records = await opened()
    const commits = Array.from({ length: 50 }, (_, count) =>
      records.commit([{ put: 'disk', record: diskRecord({ generation: count + 1 }) }]),
    )
    await Promise.all(commits)
    assert.equal((await records.load()).disks[0]?.generation, 50)
  })

  it('promise 2: what a commit answered is durable before the answer: the database syncs each of them', async () => {
    const records = await opened()
    await records.commit([{ put: 'disk', record: diskRecord() }])
    // Another connection, beside the open one: what it finds is in the files, not in the worker's memory.
    const other = new DatabaseSync(path, { readOnly: true })
    const mode = other.prepare('PRAGMA journal_mode').get()?.['journal_mode']
    const rows = other.prepare('SELECT count(*) AS count FROM disk').get()?.['count']
    other.close()
    assert.deepEqual([mode, rows], ['wal', 1])
  })

  it('promise 2: outlive a SIGKILL: every answered commit is there, and no half of one', async () => {
    const fixture = join(import.meta.dirname, 'fixtures/commit-for-ever.ts')
    const child = spawn(process.execPath, [fixture, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    let answered = 0
    for await (const line of createInterface({ input: child.stdout })) {
      answered = Number(line)
      if (answered === 40) child.kill('SIGKILL') // What is in the pipe still comes, then its end.
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    assert(answered >= 40)
    const { disks, peers } = await (await opened()).load()
    const generation = disks[0]!.generation
    assert(generation >= answered, `${answered} were answered, ${generation} are there`)
    assert.equal(disks.length, generation + 1)
    assert.equal(peers[0]?.name, `tokyo ${generation}`)
  })

  it('can be closed twice', async () => {
    const records = await SqliteRecords.open(path)
    await records.close()
    await records.close()
  })

  it('refuse work once they are closed', async () => {
    const records = await SqliteRecords.open(path)
    await records.close()
    await assert.rejects(records.load(), { name: 'StoreError', code: 'closed' })
    await assert.rejects(records.commit([]), { name: 'StoreError', code: 'closed' })
  })

  it('commits asked for before the close are done', async () => {
    const records = await SqliteRecords.open(path)
    const commit = records.commit([{ put: 'disk', record: diskRecord() }])
    await records.close()
    await commit
    assert.equal((await (await opened()).load()).disks.length, 1)
  })

  describe('of a newer format', () => {
    beforeEach(async () => {
      const records = await SqliteRecords.open(path)
      await records.close()
      const database = new DatabaseSync(path)
      database.exec('PRAGMA user_version = 99')
      database.close()
    })

    it('are refused by name', async () => {
      await assert.rejects(SqliteRecords.open(path), { name: 'StoreError', code: 'newer-format' })
    })

    it('are not touched', async () => {
      const before = readFileSync(path)
      await SqliteRecords.open(path).catch(() => {})
      assert(readFileSync(path).equals(before))
    })
  })

  describe('in a file that is no database', () => {
    const text = 'These are the notes of a sysadmin, and no database at all. '.repeat(100)
    beforeEach(() => writeFileSync(path, text))

    it('are refused with a sentence that names the file', async () => {
      await assert.rejects(SqliteRecords.open(path), {
        name: 'StoreError',
        code: 'damaged',
        message: /vmstore\.sqlite/,
      })
    })

    it('leave the file as it was', async () => {
      await SqliteRecords.open(path).catch(() => {})
      assert.equal(readFileSync(path, 'utf8'), text)
    })
  })

  describe('in the database of another program', () => {
    beforeEach(() => {
      const database = new DatabaseSync(path)
      database.exec('CREATE TABLE disk (id TEXT); PRAGMA application_id = 1234; PRAGMA user_version = 1')
      database.close()
    })

    it('are refused with a sentence that names the file', async () => {
      await assert.rejects(SqliteRecords.open(path), {
        name: 'StoreError',
        code: 'damaged',
        message: /vmstore\.sqlite/,
      })
    })

    it('leave the file as it was', async () => {
      const before = readFileSync(path)
      await SqliteRecords.open(path).catch(() => {})
      assert(readFileSync(path).equals(before))
    })
  })

  it('in a folder that is missing are refused', async () => {
    await assert.rejects(SqliteRecords.open(join(temporaryFolder(), 'none', 'vmstore.sqlite')), { name: 'StoreError' })
  })
})
