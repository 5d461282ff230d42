// docs/commands-by-state.md, cell by cell: each row's state is arranged anew for every command that does something, and
// once for all that are refused. A refusal must be a whole sentence, with its exit code, and change nothing.

import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ControlError } from '../../src/control/errors.ts'
import type { MigrateRequest } from '../../src/control/types.ts'
import { rowChecksum } from '../../src/store/record-shapes.ts'
import { sitesWithData } from './scenes.ts'
import { attach, begin, createDisk, endSitesAfterEach, type Site, until, untilDisk, untilMigration } from './sites.ts'

const mebibyte = 2 ** 20
const document = readFileSync(join(import.meta.dirname, '../../docs/commands-by-state.md'), 'utf8')

interface Scene {
  /** Where the commands are given. */
  readonly site: Site
  readonly other: Site
  readonly id: string
}

const onTheWay: Pick<MigrateRequest, 'mode' | 'switchover' | 'switchoverWaitMs' | 'source'> = {
  mode: 'post-copy',
  switchover: 'manual',
  switchoverWaitMs: 10_000,
  source: 'keep',
}

const commands: Readonly<Record<string, (scene: Scene) => Promise<unknown>>> = {
  switchover: ({ site, id }) => site.control.switchover(id),
  'switchover --force': ({ site, id }) => site.control.switchover(id, { force: true }),
  pause: ({ site, id }) => site.control.pause(id),
  resume: ({ site, id }) => site.control.resume(id),
  cancel: ({ site, id }) => site.control.cancel(id, { force: false }),
  'cancel --force': ({ site, id }) => site.control.cancel(id, { force: true }),
  'disk verify': ({ site }) => site.control.verifyDisk('web01'),
  'disk reclaim': ({ site }) => site.control.reclaimDisk('web01', { confirmed: true }),
  'disk accept': ({ site }) => site.control.acceptDisk('web01', { confirmed: true }),
  'disk delete': ({ site }) => site.control.deleteDisk('web01'),
  'migrate on': ({ site, other }) => site.control.migrate({ ...onTheWay, disk: 'web01', to: other.name }),
  'peer rekey': ({ site }) => site.control.rekey({ confirmed: true }),
}

/** What shows that a command did what it says. */
const effects: Readonly<Record<string, (scene: Scene) => Promise<unknown>>> = {
  switchover: isSwitchedOver,
  'switchover --force': isSwitchedOver,
  pause: async ({ site, id }) => assert.equal((await site.control.showMigration(id)).paused, true),
  resume: async ({ site, id }) => assert.equal((await site.control.showMigration(id)).paused, false),
  cancel: ({ site, id }) => untilMigration(site, id, ({ state }) => state === 'cancelled'),
  'cancel --force': async ({ site, other, id }) => {
    const { state } = await untilMigration(site, id, (view) => ['cancelled', 'done'].includes(view.state))
    if (state === 'cancelled') return
    assert.equal((await site.control.showDisk('web01')).migration, null)
    await other.restart() // It is told, and gives its bytes up.
    await untilDisk(other, 'web01', (disk) => disk.state === 'released')
  },
  'disk verify': async () => {},
  'disk reclaim': async ({ site }) => {
    const { state, generation } = await site.control.showDisk('web01')
    assert.deepEqual([state, generation], ['owned', 3])
  },
  'disk accept': async ({ site }) => {
    const guest = await attach(site, 'web01')
    await guest.write(0, Buffer.alloc(4096, 9))
    await guest.flush()
    await site.kill()
    await site.restart()
    assert.equal((await site.control.showDisk('web01')).trouble, null)
  },
  'disk delete': async ({ site }) => assert.rejects(site.control.showDisk('web01'), { code: 'disk-unknown' }),
  'migrate on': async ({ site }) => assert.notEqual((await site.control.showDisk('web01')).migration, null),
  'peer rekey': async ({ site, other }) => {
    const { fingerprint } = await site.control.describe()
    const knows = async () => (await other.control.listPeers()).find((peer) => peer.fingerprint === fingerprint)
    await until('the peer knows the new key', knows)
    const { state } = await site.control.showDisk('web01')
    const { holder } = await site.control.diskDeed('web01')
    assert.equal(holder === fingerprint, state === 'owned', 'what it owns is signed over, and nothing else')
  },
}

const scenes: Readonly<Record<string, () => Promise<Scene>>> = {
  'owned, in no migration': async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    return { site: a, other: b, id: 'ffffffff' }
  },
  'owned, after a failed sync': async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    await a.kill()
    rewrite(a, 'disk', { failedSync: { at: '2026-03-01T10:00:00.000Z', message: 'EIO: i/o error, fdatasync' } })
    await a.restart()
    return { site: a, other: b, id: 'ffffffff' }
  },
  'owned, after a power loss': async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    await a.kill()
    const bootId = '22222222-2222-4222-8222-222222222222'
    rewrite(a, 'disk', { unsynced: { bootId, since: '2026-03-01T10:00:00.000Z' } })
    await a.restart()
    return { site: a, other: b, id: 'ffffffff' }
  },
  'owned, its key gone': async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    return { site: await withoutKey(a), other: b, id: 'ffffffff' }
  },
  'source, preparing': async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    await createDisk(a, 'other', mebibyte)
    const first = await begin(a, b, 'other', 'now') // It leaves a link that is up.
    await untilMigration(a, first.id, ({ state }) => state === 'done')
    process.kill(b.pid, 'SIGSTOP') // It is killed after the test; the migration would be taken back in half a minute.
    begin(a, b, 'web01', 'manual').catch(() => {})
    const { id } = await until('it is being prepared', async () =>
      (await a.control.listMigrations()).find(({ disk }) => disk === 'web01'),
    )
    return { site: a, other: b, id }
  },
  'source, pre-copying': () => preCopying('source', 'hybrid'),
  'destination, pre-copying': () => preCopying('destination', 'hybrid'),
  'destination, pre-copying, all has to come first': () => preCopying('destination', 'pre-copy'),
  'source, ready': () => ready('source'),
  'destination, ready': () => ready('destination'),
  'source, ready, a client at work': () => atWork('source'),
  'destination, ready, a client at work': () => atWork('destination'),
  'destination, ready, source away': () => away(ready('destination')),
  'source, copying': () => copying('source'),
  'source, copying, destination away': () => away(copying('source')),
  'destination, copying': () => copying('destination'),
  'destination, copying, paused': async () => {
    const scene = await copying('destination')
    await scene.site.control.pause(scene.id)
    return scene
  },
  'destination, copying, source away': () => away(copying('destination')),
  'destination, copying, its key gone': async () => {
    const scene = await copying('destination')
    await withoutKey(scene.site)
    return scene
  },
  'destination, finishing, source away': finishing,
  'source, done': () => done('source'),
  'destination, done': () => done('destination'),
  'source, cancelled': async () => {
    const scene = await ready('source')
    await scene.site.control.cancel(scene.id, { force: false })
    await until('the destination has followed', async () =>
      (await scene.other.control.listDisks()).length === 0 ? true : undefined,
    )
    return scene
  },
  'source, taken back': async () => {
    const scene = await away(copying('source'))
    await scene.site.control.reclaimDisk('web01', { confirmed: true })
    await scene.other.restart()
    await untilDisk(scene.other, 'web01', ({ state }) => state === 'superseded')
    return scene
  },
  'destination, superseded': async () => {
    const { site: b, other: a, id } = await copying('destination')
    await b.kill()
    await a.control.reclaimDisk('web01', { confirmed: true })
    await b.restart()
    await untilDisk(b, 'web01', ({ state }) => state === 'superseded')
    return { site: b, other: a, id }
  },
}

describe('commands by state', () => {
  endSitesAfterEach()
  const { columns, rows } = tableOf(document)

  it('the table has every state and every command that there is a trial of', () => {
    assert.deepEqual(columns, Object.keys(commands))
    assert.deepEqual([...rows.keys()], Object.keys(scenes))
  })

  for (const [state, cells] of rows) {
    const named = columns.map((command, index) => ({ command, cell: cells[index]! }))
    const refused = named.filter(({ cell }) => cell !== 'yes')
    it(`${state}: what is refused is refused, and what is so already is no error`, async () => {
      const scene = await scenes[state]!()
      for (const { command, cell } of refused) {
        const before = await sight(scene)
        await isAnswered(cell, commands[command]!(scene), command)
        assert.deepEqual(await sight(scene), before, `${command} changed something`)
      }
    })
    for (const { command } of named.filter(({ cell }) => cell === 'yes')) {
      it(`${state}: ${command} does what it says`, async () => {
        const scene = await scenes[state]!()
        await commands[command]!(scene)
        await effects[command]!(scene)
      })
    }
  }
})

/** The one table of the document. */
function tableOf(text: string): { columns: string[]; rows: Map<string, string[]> } {
  const lines = text.split('\n').filter((line) => line.startsWith('| '))
  const [head, _rule, ...rest] = lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  return { columns: head!.slice(1), rows: new Map(rest.map(([state, ...cells]) => [state!, cells])) }
}

async function isAnswered(cell: string, asked: Promise<unknown>, command: string): Promise<void> {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (cell === 'so already') {
    assert.equal(error, undefined, `${command}: ${error}`)
    return
  }
  const [code, exit = 'exit 3'] = cell.split(', ')
  assert(error instanceof ControlError, `${command}: ${cell} was expected, ${error ?? 'it was done'}`)
  assert.deepEqual([error.code, `exit ${error.exit}`], [code, exit], `${command}: ${error.message}`)
  assert.match(error.message, /\S+ \S+ \S+/, 'a sentence')
}

/** What no refused command may change. */
async function sight({ site, id }: Scene): Promise<unknown> {
  const { state, generation, owner, migration } = await site.control.showDisk('web01')
  const view = await site.control.showMigration(id).catch(() => undefined)
  return { state, generation, owner, migration, migrationState: view?.state, paused: view?.paused }
}

function sceneAt(side: 'source' | 'destination', a: Site, b: Site, id: string): Scene {
  return side === 'source' ? { site: a, other: b, id } : { site: b, other: a, id }
}

/** So slow that it is not ready before the test is over. */
async function preCopying(side: 'source' | 'destination', mode: 'hybrid' | 'pre-copy'): Promise<Scene> {
  const { a, b } = await sitesWithData(4 * mebibyte)
  const request = { ...onTheWay, mode, disk: 'web01', to: b.name, maxRate: 16 * 1024 }
  const { id } = await a.control.migrate(request)
  for (const site of [a, b]) await untilMigration(site, id, ({ state }) => state === 'pre-copying')
  return sceneAt(side, a, b, id)
}

async function ready(side: 'source' | 'destination'): Promise<Scene> {
  const { a, b } = await sitesWithData(4 * mebibyte)
  const { id } = await begin(a, b, 'web01', 'manual')
  return sceneAt(side, a, b, id)
}

async function isSwitchedOver({ site, other, id }: Scene): Promise<void> {
  if (!other.isRunning) await other.restart()
  await untilMigration(site, id, ({ state }) => ['copying', 'finishing', 'done'].includes(state))
}

/** A client at the source has written, and not flushed since. */
async function atWork(side: 'source' | 'destination'): Promise<Scene> {
  const scene = await ready(side)
  const guest = await attach(side === 'source' ? scene.site : scene.other, 'web01')
  await guest.write(0, Buffer.alloc(4096, 7))
  return scene
}

/** So slow that it is not over before the test is. */
async function copying(side: 'source' | 'destination'): Promise<Scene> {
  const { a, b } = await sitesWithData(4 * mebibyte)
  const { id } = await begin(a, b, 'web01', 'now', { maxRate: 16 * 1024 })
  await untilMigration(b, id, ({ state }) => state === 'copying')
  await untilMigration(a, id, ({ state }) => state === 'copying')
  return sceneAt(side, a, b, id)
}

async function done(side: 'source' | 'destination'): Promise<Scene> {
  const { a, b } = await sitesWithData(4 * mebibyte)
  const { id } = await begin(a, b, 'web01', 'now')
  for (const site of [a, b]) await untilMigration(site, id, ({ state }) => state === 'done')
  return sceneAt(side, a, b, id)
}

async function away(arranged: Promise<Scene>): Promise<Scene> {
  const scene = await arranged
  await scene.other.kill()
  return scene
}

/** The site is started anew, and makes itself another key. */
async function withoutKey(site: Site): Promise<Site> {
  await site.kill()
  for (const name of ['identity.key', 'identity.crt']) rmSync(join(site.root, name))
  await site.restart()
  return site
}

/** As a destination stands that died after it had recorded that it owns all, and before the source had answered. */
async function finishing(): Promise<Scene> {
  const scene = await done('destination')
  await scene.site.kill()
  await scene.other.kill()
  rewrite(scene.site, 'migration', { state: 'finishing', endedAt: null })
  rewrite(scene.site, 'disk', { migrationId: scene.id }, unreleased)
  rewrite(scene.other, 'migration', { state: 'copying', endedAt: null })
  rewrite(scene.other, 'disk', { state: 'departed', migrationId: scene.id }, unreleased)
  await scene.site.restart()
  return scene
}

/** The deed of a disk before its source had let it go. */
const unreleased = ({ deed }: { readonly deed?: readonly { readonly kind: string }[] }) => ({
  deed: deed!.filter(({ kind }) => kind !== 'released'),
})

/** The one record of its kind at a site that does not run. */
function rewrite(
  site: Site,
  table: 'disk' | 'migration',
  changes: object,
  more: (body: object) => object = () => ({}),
): void {
  using database = new DatabaseSync(join(site.root, 'vmstore.sqlite'))
  const { id, body } = database.prepare(`SELECT id, body FROM ${table}`).get() as { id: string; body: string }
  const before = JSON.parse(body)
  const changed = JSON.stringify({ ...before, ...changes, ...more(before) })
  const checksum = rowChecksum(table, id, changed)
  database.prepare(`UPDATE ${table} SET body = ?, checksum = ? WHERE id = ?`).run(changed, checksum, id)
}
