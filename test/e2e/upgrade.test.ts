// A data folder that an earlier vmstore left is opened and gone on with; one of a newer one is refused, and left alone.
// test/e2e/fixtures/VERSION is a data folder as that vmstore made it; from the second format of the records on there are two,
// of two sites with moves between them (make-fixture.ts).

import assert from 'node:assert/strict'
import { cpSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type Identity, loadIdentity } from '../../src/peer/identity.ts'
import { rowChecksum } from '../../src/store/record-shapes.ts'
import { block, blockOf, diskBlocks, presentBlocks } from './fixture-facts.ts'
import {
  attach,
  endSitesAfterEach,
  folder,
  freePort,
  must,
  refusalOf,
  refusedWith,
  Site,
  serveRefused,
  untilDisk,
  untilMigration,
} from './sites.ts'

const fixtures = join(import.meta.dirname, 'fixtures')
/** Each earlier vmstore, with the folder of its first site. */
const releases = readdirSync(fixtures).map((release) => {
  const isPair = existsSync(join(fixtures, release, 'osaka'))
  return { release, isPair, first: isPair ? `${release}/osaka` : release }
})
const diskIds = (root: string) => readdirSync(join(root, 'disks'))

describe('a data folder of another release', () => {
  endSitesAfterEach()

  for (const { release, first } of releases) {
    it(`of ${release} is opened: every disk is what it was, and is served or not as it was`, async () => {
      const site = await Site.start('osaka', { root: await restored(first) })
      const own = (await site.control.describe()).id
      const shown = new Map((await site.control.listDisks()).map((disk) => [disk.name, disk]))
      const facts = (name: string) => {
        const { state, generation, owner, trouble, present } = shown.get(name)!
        return [state, generation, owner === own, trouble, present.blocks]
      }
      assert.deepEqual(facts('owned'), ['owned', 1, true, null, diskBlocks])
      assert.deepEqual(facts('arriving'), ['arriving', 2, true, null, presentBlocks])
      assert.deepEqual(facts('departed'), ['departed', 2, false, null, diskBlocks])

      const owned = await attach(site, 'owned')
      for (let index = 0; index < diskBlocks; index++)
        assert((await owned.read(index * block, block)).equals(blockOf('owned', index)), `block ${index}`)
      const arriving = await attach(site, 'arriving')
      for (let index = 0; index < presentBlocks; index++)
        assert((await arriving.read(index * block, block)).equals(blockOf('arriving', index)), `block ${index}`)
      for (const client of [owned, arriving]) {
        await client.write(7 * block, Buffer.alloc(block, 0xee))
        await client.flush()
      }
      await refusedWith('ESHUTDOWN', (await attach(site, 'departed')).read(0, block))

      const all = await site.control.listMigrations()
      const migrations = all.filter(({ state }) => !['done', 'cancelled', 'failed'].includes(state))
      assert.deepEqual(migrations.map(({ disk, role, state, paused }) => [disk, role, state, paused]).sort(), [
        ['arriving', 'destination', 'copying', true],
        ['departed', 'source', 'copying', true],
      ])
      const moving = migrations.find(({ disk }) => disk === 'arriving')!
      assert.equal((await must(site, 'migration', 'resume', moving.id)).paused, false)
      await site.kill()
      await site.restart()
      const again = await attach(site, 'arriving')
      assert((await again.read(7 * block, block)).equals(Buffer.alloc(block, 0xee)))
    })
  }

  for (const { release } of releases.filter(({ isPair }) => isPair)) {
    it(`of ${release}, at both sites: moves go on to their end, and those that were over name who owns`, async () => {
      const { a, b, ownerOf } = await restoredPair(release)
      for (const [site, disk, owners] of [
        [a, 'owned', ['cancelled', 'source', 'this site']],
        [b, 'owned', ['cancelled', 'source', 'osaka']],
        [a, 'released', ['done', 'destination', 'tokyo']],
        [b, 'released', ['done', 'destination', 'this site']],
        [a, 'reclaimed', ['failed', 'source', 'this site']],
      ] as const)
        assert.deepEqual(await ownerOf(site, disk), owners, `${disk} at ${site.name}`)

      // Its disk was taken back while it was away.
      await untilDisk(b, 'reclaimed', ({ state }) => state === 'superseded')
      assert.deepEqual(await ownerOf(b, 'reclaimed'), ['failed', 'source', 'osaka'])

      for (const [from, to, disk] of [
        [a, b, 'departed'],
        [b, a, 'arriving'],
      ] as const) {
        const { id } = (await to.control.listMigrations()).find((each) => each.disk === disk)!
        await to.control.resume(id)
        for (const site of [from, to]) await untilMigration(site, id, ({ state }) => state === 'done')
        assert.deepEqual(await ownerOf(from, disk), ['done', 'destination', to.name])
        assert.deepEqual(await ownerOf(to, disk), ['done', 'destination', 'this site'])
        const client = await attach(to, disk)
        for (let index = 0; index < diskBlocks; index++)
          assert((await client.read(index * block, block)).equals(blockOf(disk, index)), `${disk}: block ${index}`)
      }
    })
  }

  it('of 0.1 that was copied before the upgrade serves its own bytes, and leaves those of the original alone', async () => {
    const original = await restored('0.1')
    const copy = join(folder(), 'copy')
    cpSync(original, copy, { recursive: true })
    const site = await Site.start('osaka', { root: copy })
    const client = await attach(site, 'owned')
    await client.write(0, Buffer.alloc(block, 0xee))
    await client.flush()
    const { path } = await site.control.showDisk('owned')
    assert(path.startsWith(`${copy}/disks/`), path)
    const name = diskIds(original)
      .map((id) => join(original, 'disks', id, 'owned.raw'))
      .find(existsSync)!
    assert(readFileSync(name).subarray(0, block).equals(blockOf('owned', 0)))
  })

  it('records of a newer release are refused with a sentence, and left as they are', async () => {
    const root = await restored('0.1')
    const path = join(root, 'vmstore.sqlite')
    using database = new DatabaseSync(path)
    database.exec('PRAGMA user_version = 99')
    const before = readFileSync(path)
    const view = refusalOf(await serveRefused('--root', root), 3, 'newer-format')
    assert.match(view.message, /format 99/)
    assert.match(view.next!, /newer vmstore/)
    assert.deepEqual(readFileSync(path), before)
  })

  it('maps of a newer release make their disk unusable, with a sentence, and no other', async () => {
    const root = await restored('0.1')
    const log = diskIds(root)
      .map((id) => join(root, 'disks', id, 'maps.log'))
      .find((path) => readdirSync(join(path, '..')).includes('maps.log'))!
    const versionOffset = 8
    writeSync(openSync(log, 'r+'), Buffer.from([99, 0, 0, 0]), 0, 4, versionOffset)
    const before = readFileSync(log)
    const site = await Site.start('osaka', { root })
    const { trouble } = await site.control.showDisk('arriving')
    assert.match(trouble!, /format 99/)
    assert.deepEqual(readFileSync(log), before)
    assert((await (await attach(site, 'owned')).read(0, block)).equals(blockOf('owned', 0)))
  })
})

/** What a fixture says of the site itself, and of the other. */
type Places = Readonly<Record<`@${string}@`, string>>

/** A fixture as a data folder of its own, which a daemon can open. */
async function restored(fixture: string): Promise<string> {
  const root = folder()
  cpSync(join(fixtures, fixture), root, { recursive: true })
  fill(root, placesOf(root, await loadIdentity(root)))
  return root
}

/** The two sites of a fixture, which trust each other. */
async function restoredPair(release: string) {
  const [osaka, tokyo] = await Promise.all(
    ['osaka', 'tokyo'].map(async (name) => {
      const root = folder()
      cpSync(join(fixtures, release, name), root, { recursive: true })
      return { name, root, identity: await loadIdentity(root), address: `tcp://127.0.0.1:${await freePort()}` }
    }),
  )
  for (const [own, peer] of [
    [osaka!, tokyo!],
    [tokyo!, osaka!],
  ] as const) {
    const { fingerprint, siteId } = peer.identity
    const other = { '@PEER_KEY@': fingerprint, '@PEER_SITE@': siteId, '@PEER_ADDRESS@': peer.address }
    fill(own.root, { ...placesOf(own.root, own.identity), ...other })
  }
  const start = ({ name, root, address }: NonNullable<typeof osaka>) => Site.start(name, { root, peer: address })
  const [a, b] = await Promise.all([start(osaka!), start(tokyo!)])
  const ownerOf = async (site: Site, disk: string) => {
    const { state, ownerSide, ownerName } = (await site.control.listMigrations()).find((each) => each.disk === disk)!
    return [state, ownerSide, ownerName]
  }
  return { a, b, ownerOf }
}

const placesOf = (root: string, { fingerprint, siteId }: Identity): Places => ({
  '@ROOT@': root,
  '@KEY@': fingerprint,
  '@SITE@': siteId,
})

function fill(root: string, places: Places): void {
  using database = new DatabaseSync(join(root, 'vmstore.sqlite'))
  const hasChecksums = Number(database.prepare('PRAGMA user_version').get()?.['user_version']) > 1
  for (const table of ['disk', 'migration', 'peer']) {
    for (const [place, text] of Object.entries(places))
      database.prepare(`UPDATE ${table} SET id = replace(id, ?1, ?2), body = replace(body, ?1, ?2)`).run(place, text)
    if (!hasChecksums) continue
    for (const { id, body } of database.prepare(`SELECT id, body FROM ${table}`).all() as {
      id: string
      body: string
    }[])
      database.prepare(`UPDATE ${table} SET checksum = ? WHERE id = ?`).run(rowChecksum(table, id, body), id)
  }
}
