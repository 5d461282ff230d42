// A site that dies at a durable step of the renewal of its key, or whose peer does: it starts with one of the two keys, finishes by
// itself, and its disks are its own.

import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { sitesWithDisk } from './scenes.ts'
import { attach, begin, endSitesAfterEach, must, type Site, until, untilMigration, vmstore } from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

/** The step, and whether the renewal is decided when the site dies there. */
const steps: readonly (readonly [point: string, isDecided: boolean])[] = [
  ['before:key-made', false],
  ['after:key-made', false],
  ['before:key-decided', false],
  ['after:key-decided', true],
  ['before:disk-rekeyed', true],
  ['after:disk-rekeyed', true],
  ['before:key-replaced', true],
  ['after:key-replaced', true],
]

describe('a key that is renewed, and a crash', () => {
  endSitesAfterEach()

  for (const [point, isDecided] of steps) {
    it(`promises 1, 8: the site dies ${point.replace(':', ' ')}: it starts as ${isDecided ? 'the next' : 'who it was'}, and owns its disk`, async () => {
      const { a, b } = await sitesWithDisk(mebibyte)
      const before = (await a.control.describe()).fingerprint
      await a.stop()
      await a.restart(point)
      const asked = vmstore(a, 'peer', 'rekey', '--yes')
      await a.crashed()
      await asked
      await a.restart()
      const { fingerprint } = await a.control.describe()
      assert.equal(fingerprint !== before, isDecided, `${fingerprint}, before ${before}`)
      await isWhole(a, b, isDecided ? 'rekeyed' : undefined)
      if (!isDecided) await must(a, 'peer', 'rekey', '--yes')
      await isWhole(a, b, 'rekeyed')
      await movesTo(a, b)
    })
  }

  it('promise 8: a start that finishes a renewal, and dies itself, is finished by the next one', async () => {
    const { a, b } = await sitesWithDisk(mebibyte)
    await a.stop()
    await a.restart('after:key-decided')
    const asked = vmstore(a, 'peer', 'rekey', '--yes')
    await a.crashed()
    await asked
    for (const point of ['before:disk-rekeyed', 'after:disk-rekeyed', 'after:key-replaced']) {
      await a.restart(point).catch(() => {}) // It dies before it listens.
      await a.crashed()
    }
    await a.restart()
    await isWhole(a, b, 'rekeyed')
    const { entries } = await a.control.diskDeed('web01')
    assert.equal(entries.filter(({ kind }) => kind === 'rekeyed').length, 1, 'signed once')
    await movesTo(a, b)
  })

  for (const point of ['before:peer-pinned', 'after:peer-pinned', 'before:peer-followed', 'after:peer-followed']) {
    it(`promise 8: the peer dies ${point.replace(':', ' ')}: it knows the site by the key that it has`, async () => {
      const { a, b } = await sitesWithDisk(mebibyte)
      await b.stop()
      await b.restart(point)
      const revived = b.crashed().then(() => b.restart())
      // Whoever could not be told, or may not have heard, counts as away: nothing has changed then.
      const asked = await vmstore(a, 'peer', 'rekey', '--yes')
      await revived
      if (asked.exit !== 0) assert.equal(asked.json.error.code, 'peers-away')
      if (asked.exit !== 0) await must(a, 'peer', 'rekey', '--yes')
      await movesTo(a, b)
    })
  }
})

/** No file of a renewal is left, and the disk is served. */
async function isWhole(site: Site, other: Site, last: string | undefined): Promise<void> {
  const files = readdirSync(site.root).filter((name) => name.startsWith('identity.'))
  assert.deepEqual(files.sort(), ['identity.crt', 'identity.key'])
  assert(existsSync(join(other.root, 'identity.key')))
  const { fingerprint, id } = await site.control.describe()
  const { trouble, state, owner } = await site.control.showDisk('web01')
  assert.deepEqual([trouble, state, owner], [null, 'owned', id])
  const { holder, entries } = await site.control.diskDeed('web01')
  assert.equal(holder, fingerprint)
  if (last !== undefined) assert.equal(entries.at(-1)?.kind, last)
  const guest = await attach(site, 'web01')
  await guest.write(0, Buffer.alloc(block, 5), { fua: true })
  await guest.disconnect()
}

/** The peer knows the site, under whatever key it has: a disk moves to it. */
async function movesTo(site: Site, peer: Site): Promise<void> {
  const { fingerprint } = await site.control.describe()
  const { id } = await until('the sites know each other', () =>
    begin(site, peer, 'web01', 'now').catch(() => undefined),
  )
  await untilMigration(peer, id, ({ state }) => state === 'done')
  const peers = await peer.control.listPeers()
  assert.deepEqual(
    peers.map((each) => each.fingerprint),
    [fingerprint],
  )
}
