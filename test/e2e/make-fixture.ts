// node test/e2e/make-fixture.ts FOLDER: makes the data folder that upgrade.test.ts opens, with the vmstore that is here.
// Run once for a release, whose fixture is then kept for ever: it is what that release left on somebody's disk.
// What a start of that folder elsewhere must replace stands in it as @ROOT@ and @SITE@.

import { cpSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { block, blockOf, diskBlocks, presentBlocks } from './fixture-facts.ts'
import type { Site } from './sites.ts'

Object.assign(globalThis, { after: () => {} }) // The tools of the tests count on mocha.
const { begin, createDisk, twoSites, untilDisk, untilMigration } = await import('./sites.ts')

async function filled(site: Site, name: string): Promise<void> {
  await createDisk(site, name, diskBlocks * block)
  const client = await NbdClient.connect(site.uri(name))
  for (let index = 0; index < diskBlocks; index++) await client.write(index * block, blockOf(name, index))
  await client.flush()
  await client.disconnect()
}

/** On its way, switched over, with the copy held and its first blocks fetched. */
async function halfMoved(from: Site, to: Site, name: string): Promise<void> {
  const { id } = await begin(from, to, name, 'manual')
  await to.control.pause(id)
  await to.control.switchover(id)
  await untilMigration(to, id, ({ state }) => state === 'copying')
  await untilMigration(from, id, ({ state, paused }) => state === 'copying' && paused)
  const client = await NbdClient.connect(to.uri(name))
  await client.read(0, presentBlocks * block)
  await client.flush()
  await client.disconnect()
  await untilDisk(to, name, ({ present }) => present.blocks === presentBlocks)
}

function portable(root: string, siteId: string): void {
  const database = new DatabaseSync(join(root, 'vmstore.sqlite'))
  for (const table of ['disk', 'migration', 'peer']) {
    database.prepare(`UPDATE ${table} SET body = replace(replace(body, ?, '@ROOT@'), ?, '@SITE@')`).run(root, siteId)
  }
  database.exec('PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE; VACUUM')
  database.close()
}

const target = resolve(process.argv[2]!)
const { a, b } = await twoSites()
await filled(a, 'owned')
await filled(a, 'departed')
await filled(b, 'arriving')
await halfMoved(a, b, 'departed')
await halfMoved(b, a, 'arriving')
const { id } = await a.control.describe()
await a.stop()
await b.stop()
portable(a.root, id)
mkdirSync(target, { recursive: true })
for (const name of ['vmstore.sqlite', 'disks']) cpSync(join(a.root, name), join(target, name), { recursive: true })
await a.control.close()
await b.control.close()
