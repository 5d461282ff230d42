// What a database must be to be believed: whole, not shorter than it was, each row as it was written, each path this data
// folder's own. Nothing else is loaded, for it would forget, or make up, who owns a disk (promise 1).

import assert from 'node:assert/strict'
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { rowChecksum } from '../../src/store/record-shapes.ts'
import type { DiskRecord } from '../../src/store/records.ts'
import { SqliteRecords } from '../../src/store/sqlite-records.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'
import { diskRecordIn, migrationRecord, peerRecord } from './samples.ts'

describe('damaged records', () => {
  removeFoldersAfterEach()
  let root: string
  let path: string
  beforeEach(() => {
    root = temporaryFolder()
    path = join(root, 'vmstore.sqlite')
  })

  const diskRecord = (facts: Partial<DiskRecord> = {}) => diskRecordIn(root, facts)

  async function recorded(...disks: DiskRecord[]): Promise<void> {
    const records = await SqliteRecords.open(path)
    await records.commit([
      ...disks.map((record) => ({ put: 'disk', record }) as const),
      { put: 'migration', record: migrationRecord() },
      { put: 'peer', record: peerRecord() },
    ])
    await records.close()
  }

  async function loaded(from = path): Promise<readonly DiskRecord[]> {
    const records = await SqliteRecords.open(from)
    const { disks } = await records.load()
    await records.close()
    return disks
  }

  const refused = (message: RegExp, from = path) =>
    assert.rejects(loaded(from), { name: 'StoreError', code: 'damaged', exit: 3, message, next: /Restore/ })

  function changed(sql: string): void {
    using database = new DatabaseSync(path)
    database.exec(sql)
  }

  it('promise 1: one bit that flipped in a row is seen, whichever it is: nothing is loaded', async () => {
    await recorded(diskRecord({ generation: 4 }))
    using database = new DatabaseSync(path)
    const { body } = database.prepare('SELECT body FROM disk').get() as { body: string }
    const flipped = (bit: number) => {
      const bytes = Buffer.from(body)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      return bytes
    }
    const checksum = rowChecksum('disk', diskRecord().id, body)
    for (let bit = 0; bit < body.length * 8; bit++)
      assert.notEqual(rowChecksum('disk', diskRecord().id, flipped(bit).toString('latin1')), checksum, `bit ${bit}`)
    const atGeneration = 8 * (body.indexOf('"generation":4') + '"generation":'.length)
    for (const bit of [0, atGeneration + 1, body.length * 8 - 1]) {
      database.prepare('UPDATE disk SET body = CAST(? AS TEXT)').run(flipped(bit))
      await refused(/the record of disk .* is not as it was written/)
    }
    database.prepare('UPDATE disk SET body = ?').run(body)
    assert.equal((await loaded())[0]?.generation, 4)
  })

  it('a row under the key of another, or of another kind, is refused', async () => {
    await recorded(diskRecord({ id: 'a' }), diskRecord({ id: 'b' }))
    changed(`UPDATE disk SET body = (SELECT body FROM disk WHERE id = 'a'),
      checksum = (SELECT checksum FROM disk WHERE id = 'a') WHERE id = 'b'`)
    await refused(/the record of disk b/)
  })

  it('promise 1: transactions that are gone again are missed, whether the database was put back or its log damaged', async () => {
    await recorded(diskRecord())
    copyFileSync(path, `${path}.old`)
    await recorded(diskRecord({ state: 'departed', generation: 2 }))
    copyFileSync(`${path}.old`, path)
    await refused(/has lost what was recorded last \(2 of 3 transactions/)
  })

  it('promise 1: a bit that flipped in the write-ahead log, behind which SQLite drops everything, is missed', async () => {
    const records = await SqliteRecords.open(path)
    for (const generation of [1, 2, 3]) await records.commit([{ put: 'disk', record: diskRecord({ generation }) }])
    const copy = join(root, 'copy', 'vmstore.sqlite') // As after the death of the daemon: with its log.
    mkdirSync(dirname(copy))
    for (const suffix of ['', '-wal', '-commits']) copyFileSync(`${path}${suffix}`, `${copy}${suffix}`)
    await records.close()
    const log = readFileSync(`${copy}-wal`)
    log[log.length - 100]! ^= 4 // In the last transaction.
    writeFileSync(`${copy}-wal`, log)
    await refused(/has lost what was recorded last/, copy)
  })

  it('a database that was removed, or emptied, beside a folder that was in use is not made anew', async () => {
    await recorded(diskRecord())
    renameSync(path, `${path}.away`)
    await refused(/is not there, though the data folder has been in use/)
    assert(!existsSync(path))
    writeFileSync(path, '')
    await refused(/is empty, though/)
    assert.equal(statSync(path).size, 0)
  })

  it('a database that is missing beside disks is not made anew, also without the count of its transactions', async () => {
    await assert.rejects(SqliteRecords.open(path, { hasDisks: true }), { code: 'damaged', message: /is not there/ })
  })

  it('a count of transactions that cannot be read says nothing', async () => {
    await recorded(diskRecord())
    writeFileSync(`${path}-commits`, 'commits 9999 00000000\n')
    assert.equal((await loaded()).length, 1)
  })

  it('paths are those of the folder that is opened: a copy names its own files, a folder that was moved too', async () => {
    await recorded(diskRecord({ before: { state: 'released', path: join(root, 'disks/old.raw') } }))
    const copy = join(temporaryFolder(), 'copy')
    cpSync(root, copy, { recursive: true })
    const [disk] = await loaded(join(copy, 'vmstore.sqlite'))
    assert.deepEqual(
      [disk?.path, disk?.folder, disk?.before?.path],
      ['disks/web01.raw', 'disks', 'disks/old.raw'].map((each) => join(copy, each)),
    )
  })

  it('an image that is served where it lies is found by its own path, and beside a folder that was moved with it', async () => {
    const image = join(root, 'image.raw')
    const served = { path: image, folder: `${image}.vmstore`, servedFile: image }
    await recorded(diskRecord(served))
    assert.deepEqual({ ...(await loaded())[0] }, diskRecord(served))

    mkdirSync(served.folder)
    path = join(served.folder, 'vmstore.sqlite')
    await recorded(diskRecord(served))
    const elsewhere = temporaryFolder()
    cpSync(served.folder, join(elsewhere, 'image.raw.vmstore'), { recursive: true })
    const [moved] = await loaded(join(elsewhere, 'image.raw.vmstore', 'vmstore.sqlite'))
    assert.deepEqual(
      [moved?.path, moved?.folder, moved?.servedFile],
      [join(elsewhere, 'image.raw'), join(elsewhere, 'image.raw.vmstore'), join(elsewhere, 'image.raw')],
    )
  })

  it('a path outside of the data folder is refused', async () => {
    await recorded(diskRecord({ path: '/srv/elsewhere/web01.raw' }))
    await refused(/lies outside of the data folder/)
    await recordedAnew({ path: join(root, '../web01.raw') })
    await refused(/lies outside of the data folder/)
  })

  async function recordedAnew(facts: Partial<DiskRecord>): Promise<void> {
    root = temporaryFolder()
    path = join(root, 'vmstore.sqlite')
    await recorded(diskRecord(facts))
  }

  it('nobody but the owner may read the database and what SQLite keeps beside it', async () => {
    const records = await SqliteRecords.open(path)
    await records.commit([{ put: 'peer', record: peerRecord() }])
    for (const suffix of ['', '-wal', '-shm', '-commits'])
      assert.equal(statSync(`${path}${suffix}`).mode & 0o777, 0o600, suffix)
    await records.close()
  })

  it('a database that another program has locked is not taken for a damaged one', async () => {
    await recorded(diskRecord())
    using other = new DatabaseSync(path)
    other.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
    await assert.rejects(loaded(), { code: 'records-locked', message: /another program has .* locked/ })
    other.exec('ROLLBACK')
  })

  it('a commit that meets a locked database says that nothing was recorded', async () => {
    const records = await SqliteRecords.open(path)
    using other = new DatabaseSync(path)
    other.exec('BEGIN IMMEDIATE')
    await assert.rejects(records.commit([{ put: 'disk', record: diskRecord() }]), {
      code: 'records-locked',
      nothingRecorded: true,
      message: /locked/,
    })
    other.exec('ROLLBACK')
    await records.commit([{ put: 'disk', record: diskRecord() }])
    await records.close()
    assert.equal((await loaded()).length, 1)
  })
})
