// `vmstore peer rekey`: a site has another key, and nothing else has changed: guests work, peers know it, its disks are its own.

import assert from 'node:assert/strict'
import { sitesWithData } from './scenes.ts'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  must,
  pair,
  refusalOf,
  Site,
  twoSites,
  until,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

describe('peer rekey', () => {
  endSitesAfterEach()

  it('a guest works on, the peer knows the site by its new key, and disks move both ways under it, after restarts too', async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    const first = await begin(a, b, 'web01', 'now')
    for (const site of [a, b]) await untilMigration(site, first.id, ({ state }) => state === 'done')
    const guest = await attach(b, 'web01')
    await guest.write(0, Buffer.alloc(block, 9))
    const before = await b.control.describe()

    const renewed = await must(b, 'peer', 'rekey', '--yes')
    assert.deepEqual([renewed.before.fingerprint, renewed.told, renewed.away], [before.fingerprint, ['osaka'], []])
    const after = await b.control.describe()
    assert.deepEqual([after.id, after.fingerprint], [renewed.after.id, renewed.after.fingerprint])
    assert.notEqual(after.fingerprint, before.fingerprint)
    await guest.write(block, Buffer.alloc(block, 10))
    await guest.flush()
    await guest.disconnect()
    assert.deepEqual(await ownerOf(b), [after.id, 'this site', 'owned'])
    await knownAs(a, 'tokyo', after.fingerprint)
    assert.deepEqual(await ownerOf(a), [after.id, 'tokyo', 'released'])
    const past = await a.control.showMigration(first.id)
    assert.deepEqual([past.peer, past.owner, past.ownerSide], ['tokyo', after.id, 'destination'])

    for (const site of [a, b]) await site.kill()
    for (const site of [a, b]) await site.restart()
    assert.equal((await b.control.describe()).fingerprint, after.fingerprint)
    assert.equal((await b.control.showDisk('web01')).trouble, null)
    const back = await begin(b, a, 'web01', 'now')
    for (const site of [a, b]) await untilMigration(site, back.id, ({ state }) => state === 'done')
    const there = await attach(a, 'web01')
    const seen = await there.read(0, 3 * block)
    assert.deepEqual([seen[0], seen[block], seen[2 * block]], [9, 10, 7])
    const { id: siteA } = await a.control.describe()
    assert.deepEqual(await ownerOf(b), [siteA, 'osaka', 'released'])
  })

  it('asks first, and is refused while a move is under way, and when a peer is away, unless it is forced', async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    const c = await Site.start('kobe')
    await pair(a, c)
    const { fingerprint } = await a.control.describe()
    const question = refusalOf(await vmstore(a, 'peer', 'rekey'), 3, 'not-confirmed')
    assert.match(question.message, /tokyo, kobe are told/)

    const { id } = await begin(a, b, 'web01', 'manual')
    for (const site of [a, b]) refusalOf(await vmstore(site, 'peer', 'rekey', '--yes', '--force'), 3, 'migrating')
    await must(a, 'migration', 'cancel', id)
    await until('the destination has followed', async () => (await b.control.listDisks()).length === 0 || undefined)

    await c.kill()
    assert.match(
      refusalOf(await vmstore(a, 'peer', 'rekey', '--yes'), 3, 'peers-away').message,
      /^kobe cannot be reached/,
    )
    assert.match(refusalOf(await vmstore(a, 'peer', 'rekey', '--force'), 3, 'not-confirmed').message, /kobe is away/)
    assert.equal((await a.control.describe()).fingerprint, fingerprint)
    const renewed = await must(a, 'peer', 'rekey', '--force', '--yes')
    assert.deepEqual([renewed.told, renewed.away], [['tokyo'], ['kobe']])
    await knownAs(b, 'osaka', renewed.after.fingerprint)

    await c.restart()
    const alone = await vmstore(a, 'migrate', 'web01', '--to', 'kobe', '--detach')
    refusalOf(alone, 3, 'peer-unreachable')
    await must(a, 'peer', 'remove', 'kobe')
    await must(c, 'peer', 'remove', 'osaka')
    await pair(a, c)
    const again = await begin(a, c, 'web01', 'now')
    await untilMigration(c, again.id, ({ state }) => state === 'done')
  })

  it('promise 10: once the next key has shown, the one before is trusted no more', async () => {
    const { a, b } = await twoSites()
    await createDisk(a, 'web01', mebibyte)
    const before = await a.control.describe()
    await must(a, 'peer', 'rekey', '--yes')
    const after = await a.control.describe()
    await knownAs(b, 'osaka', after.fingerprint)
    assert(!(await b.control.listPeers()).some(({ fingerprint }) => fingerprint === before.fingerprint))
    // Twice in a row, and each time by its word alone.
    await must(a, 'peer', 'rekey', '--yes')
    await knownAs(b, 'osaka', (await a.control.describe()).fingerprint)
    assert.equal((await b.control.listPeers()).length, 1)
    // Without a restart it knows itself by it: what leaves and comes back is its own.
    const away = await begin(a, b, 'web01', 'now')
    for (const site of [a, b]) await untilMigration(site, away.id, ({ state }) => state === 'done')
    const back = await begin(b, a, 'web01', 'now')
    for (const site of [a, b]) await untilMigration(site, back.id, ({ state }) => state === 'done')
    assert.deepEqual(await ownerOf(a), [(await a.control.describe()).id, 'this site', 'owned'])
  })
})

async function ownerOf(site: Site): Promise<[owner: string, name: string, state: string]> {
  const { owner, ownerName, state } = await site.control.showDisk('web01')
  return [owner, ownerName, state]
}

/** The peer has followed when its link is up under the new key. */
async function knownAs(site: Site, name: string, fingerprint: string): Promise<void> {
  await until(`${site.name} knows ${name} by its new key`, async () => {
    const peer = (await site.control.listPeers()).find((each) => each.name === name)
    return peer?.fingerprint === fingerprint && peer.connected ? true : undefined
  })
}
