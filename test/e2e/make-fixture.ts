// node test/e2e/make-fixture.ts FOLDER: makes the two data folders that upgrade.test.ts opens, with the vmstore that is here.
// Run once for a format of the records, whose fixture is then kept for ever: it is what that vmstore left on somebody's disk.
// What a start of those folders elsewhere must replace stands in them as @ROOT@, @SITE@ and @KEY@ (its own), and as
// @PEER_SITE@, @PEER_KEY@ and @PEER_ADDRESS@ (the other's).

import { cpSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { SiteView } from '../../src/control/types.ts'
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

async function moved(from: Site, to: Site, name: string): Promise<void> {
  const { id } = await begin(from, to, name, 'now')
  await untilMigration(to, id, ({ state }) => state === 'done')
  await untilMigration(from, id, ({ state }) => state === 'done')
}

async function cancelled(from: Site, to: Site, name: string): Promise<void> {
  const { id } = await begin(from, to, name, 'manual')
  await from.control.cancel(id, { force: false })
  await untilMigration(to, id, ({ state }) => state === 'cancelled')
}

function portable(root: string, own: SiteView, peer: SiteView): void {
  const places = [
    [root, '@ROOT@'],
    [own.fingerprint, '@KEY@'],
    [own.id, '@SITE@'],
    [peer.fingerprint, '@PEER_KEY@'],
    [peer.id, '@PEER_SITE@'],
    [peer.peer!, '@PEER_ADDRESS@'],
  ] as const
  const database = new DatabaseSync(join(root, 'vmstore.sqlite'))
  for (const table of ['disk', 'migration', 'peer']) {
    for (const [text, place] of places)
      database.prepare(`UPDATE ${table} SET id = replace(id, ?1, ?2), body = replace(body, ?1, ?2)`).run(text, place)
  }
  database.exec('PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE; VACUUM')
  database.close()
}

const target = resolve(process.argv[2]!)
const { a, b } = await twoSites()
for (const name of ['owned', 'departed', 'released', 'reclaimed']) await filled(a, name)
await filled(b, 'arriving')
await halfMoved(a, b, 'departed')
await halfMoved(b, a, 'arriving')
await moved(a, b, 'released')
await cancelled(a, b, 'owned')
await halfMoved(a, b, 'reclaimed')
const views = new Map([
  [a, await a.control.describe()],
  [b, await b.control.describe()],
])
await b.stop() // It does not answer any more, and knows nothing of what comes.
await a.control.reclaimDisk('reclaimed', { confirmed: true })
await a.stop()
for (const [site, peer] of [
  [a, b],
  [b, a],
] as const) {
  portable(site.root, views.get(site)!, views.get(peer)!)
  const folder = join(target, site.name)
  mkdirSync(folder, { recursive: true })
  for (const name of ['vmstore.sqlite', 'vmstore.sqlite-commits', 'disks'])
    cpSync(join(site.root, name), join(folder, name), { recursive: true })
  await site.control.close()
}
