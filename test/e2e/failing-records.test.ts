// A database whose syncs fail, below the real records: what store/records.ts says of transactions that were refused, and
// what the crash model takes for granted.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { SqliteRecords } from '../../src/store/sqlite-records.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { failingStorage } from './failing-storage.ts'
import { endSitesAfterEach } from './sites.ts'

describe('records whose sync fails', () => {
  endSitesAfterEach()
  removeFoldersAfterEach()

  it('a refused transaction is found as a whole by the next process, or not; once another is answered, it is not', async function () {
    const { env, syncs } = failingStorage(this, '.sqlite-wal')
    const path = join(temporaryFolder(), 'vmstore.sqlite')
    const child = spawn(process.execPath, [join(import.meta.dirname, '../store/fixtures/commit-by-line.ts'), path], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const outcomes = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const commit = async (line: string) => {
      child.stdin.write(`${line}\n`)
      return (await outcomes.next()).value as string
    }

    assert.equal(await commit('1 disk peer'), 'answered')
    syncs.begin()
    assert.match(await commit('2 disk peer'), /^failed: /)
    await syncs.end()
    const soon = await afterPowerLoss(path)
    assert.deepEqual(soon.disk, soon.peer, 'as a whole')
    assert(soon.disk === 1 || soon.disk === 2, `generation ${soon.disk}`)

    assert.equal(await commit('3 peer'), 'answered')
    assert.deepEqual(await afterPowerLoss(path), { disk: 1, peer: 3 })
    child.kill('SIGKILL')
    await once(child, 'exit')
    const records = await SqliteRecords.open(path)
    assert.deepEqual(await numbers(records), { disk: 1, peer: 3 })
  })
})

/** What a process finds that starts on what the files hold now. */
async function afterPowerLoss(path: string): Promise<{ disk: number; peer: number }> {
  const copy = join(temporaryFolder(), 'vmstore.sqlite')
  for (const suffix of ['', '-wal']) copyFileSync(`${path}${suffix}`, `${copy}${suffix}`)
  return numbers(await SqliteRecords.open(copy))
}

async function numbers(records: SqliteRecords): Promise<{ disk: number; peer: number }> {
  const { disks, peers } = await records.load()
  await records.close()
  return { disk: disks[0]!.generation, peer: Number(peers[0]!.name.split(' ')[1]) }
}
