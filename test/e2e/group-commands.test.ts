// A move of several disks as operators have it: one command, one move, one report; found by the name of any of its disks.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { MigrationView } from '../../src/control/types.ts'
import {
  attach,
  createDisk,
  endSitesAfterEach,
  must,
  refusalOf,
  type Site,
  twoSites,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const sizeBytes = 4 * 2 ** 20
const disks = ['web01-root', 'web01-data'] as const

/** Two disks at A, written all over, and nobody attached to them. */
async function sitesWithGroup(): Promise<{ a: Site; b: Site }> {
  const sites = await twoSites()
  for (const [index, name] of disks.entries()) {
    await createDisk(sites.a, name, sizeBytes)
    const guest = await attach(sites.a, name)
    await guest.write(0, Buffer.alloc(sizeBytes, index + 1))
    await guest.disconnect()
    await untilDisk(sites.a, name, ({ sessions }) => sessions === 0)
  }
  return sites
}

const states = (site: Site) => Promise.all(disks.map(async (name) => (await site.control.showDisk(name)).state))

describe('several disks at the command line', function () {
  this.timeout(120_000)
  endSitesAfterEach()

  it('move by one command, in one move with one report, and come back so', async () => {
    const { a, b } = await sitesWithGroup()
    const there = await must(a, 'migrate', ...disks, '--to', b.name, '--switchover', 'now')
    assert.deepEqual([there.type, there.disk, there.state], ['result', 'web01-root, web01-data', 'done'])
    const each = (there as MigrationView).disks
    assert.deepEqual(
      each.map(({ name, bytes, verified }) => [name, bytes.data, verified]),
      disks.map((name) => [name, sizeBytes, true]),
    )
    assert.deepEqual([there.bytes.disk, there.bytes.data], [2 * sizeBytes, 2 * sizeBytes])
    assert.deepEqual(await states(b), ['owned', 'owned'])
    const listed = await must(a, 'migration', 'list')
    assert.equal(listed.length, 1)

    const back = await must(b, 'migrate', ...disks, '--to', a.name, '--switchover', 'now')
    assert.equal(back.state, 'done')
    assert.deepEqual(await states(a), ['owned', 'owned'])
    const latest = await must(a, 'migration', 'show', disks[1])
    assert.equal(latest.id, back.id, 'of two that are over, a disk names the latest')
  })

  it('are found by the name of any of them: shown, paused, switched over', async () => {
    const { a, b } = await sitesWithGroup()
    const begun = await must(a, 'migrate', ...disks, '--to', b.name, '--switchover', 'manual', '--detach')
    await untilMigration(b, begun.id, ({ state }) => state === 'ready')
    for (const name of disks) assert.equal((await must(b, 'migration', 'show', name)).id, begun.id)
    assert.equal((await must(a, 'migration', 'pause', disks[1])).paused, true)
    await must(a, 'migration', 'resume', disks[0])
    await must(b, 'migration', 'switchover', disks[1])
    await untilMigration(a, begun.id, ({ state }) => state === 'done')
    assert.deepEqual(await states(b), ['owned', 'owned'])
    refusalOf(await vmstore(a, 'migration', 'cancel', disks[0]), 3, 'migration-over')
    refusalOf(await vmstore(a, 'migration', 'show', 'nobody'), 3, 'migration-unknown')
  })

  it('that are cancelled while a command watches: exit 4, for the source owns them all', async () => {
    const { a, b } = await sitesWithGroup()
    const watching = vmstore(a, 'migrate', ...disks, '--to', b.name, '--switchover', 'manual')
    await until('ready', async () => (await a.control.listMigrations()).find(({ state }) => state === 'ready'))
    await must(a, 'migration', 'cancel', disks[1])
    const { message, safe } = refusalOf(await watching, 4, 'migration-cancelled')
    assert.match(`${message} ${safe}`, /web01-root, web01-data/)
    assert.deepEqual(await states(a), ['owned', 'owned'])
  })

  it('with --exec: it runs once both are served, and the move ends with it; if it fails the source owns: exit 4', async () => {
    const { a, b } = await sitesWithGroup()
    const failing = ['migrate', ...disks, '--to', b.name, '--switchover', 'manual', '--exec', 'exit 7']
    const { message, safe } = refusalOf(await vmstore(a, ...failing), 4, 'exec-failed')
    assert.match(`${message} ${safe}`, /ended with 7; nothing is switched by it\. The source, this site, owns/)
    await must(a, 'migration', 'cancel', disks[0])
    // What was copied stays as a seed, for the next.
    const isOver = async () => (await b.control.listDisks()).every(({ state }) => state === 'released')
    await until('gone', async () => ((await isOver()) ? true : undefined))
    const control = `--control ${a.controlSocket}`
    const program = `"${process.execPath}" "${join(import.meta.dirname, '../../bin/run.js')}"`
    const exec = `${program} migration switchover $VMSTORE_MIGRATION ${control}`
    const { state } = await must(a, 'migrate', ...disks, '--to', b.name, '--switchover', 'manual', '--exec', exec)
    assert.equal(state, 'done')
  })

  it('of which one cannot move are all left where they are, and it is named: exit 3', async () => {
    const { a, b } = await sitesWithGroup()
    await createDisk(b, disks[1], sizeBytes)
    const { message } = refusalOf(await vmstore(a, 'migrate', ...disks, '--to', b.name), 3, 'disk-exists')
    assert.match(message, /web01-data/)
    assert.deepEqual(await states(a), ['owned', 'owned'])
    await assert.rejects(b.control.showDisk(disks[0]), { code: 'disk-unknown' })
  })
})
