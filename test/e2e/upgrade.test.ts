// A data folder that an earlier release left is opened and gone on with; one of a newer release is refused, and left alone.
// test/e2e/fixtures/VERSION is a data folder as that release made it (make-fixture.ts).

import assert from 'node:assert/strict'
import { cpSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { loadIdentity } from '../../src/peer/identity.ts'
import { block, blockOf, diskBlocks, presentBlocks } from './fixture-facts.ts'
import { attach, endSitesAfterEach, folder, must, refusalOf, refusedWith, Site, serveRefused } from './sites.ts'

const fixtures = join(import.meta.dirname, 'fixtures')
const diskIds = (root: string) => readdirSync(join(root, 'disks'))

describe('a data folder of another release', () => {
  endSitesAfterEach()

  for (const release of readdirSync(fixtures)) {
    it(`of ${release} is opened: every disk is what it was, and is served or not as it was`, async () => {
      const site = await Site.start('osaka', { root: await restored(release) })
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

      const migrations = await site.control.listMigrations()
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

/** A fixture as a data folder of its own, which a daemon can open. */
async function restored(release: string): Promise<string> {
  const root = folder()
  cpSync(join(fixtures, release), root, { recursive: true })
  const { siteId } = await loadIdentity(root)
  using database = new DatabaseSync(join(root, 'vmstore.sqlite'))
  for (const table of ['disk', 'migration', 'peer']) {
    database.prepare(`UPDATE ${table} SET body = replace(replace(body, '@ROOT@', ?), '@SITE@', ?)`).run(root, siteId)
  }
  return root
}
