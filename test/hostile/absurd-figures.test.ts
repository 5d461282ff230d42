// A destination that tells its source nonsense of how far it is and who waits there: figures without bounds, ranges beyond the end,
// words full of control characters, as many as fit. Would break promises 11 and 12: what operators see is made of it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { endSitesAfterEach, program, Site } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { givenTo } from './moves.ts'
import { createGuestDisk, Witness } from './witness.ts'

const runFile = join(import.meta.dirname, '../../bin/run.js')
const most = Number.MAX_SAFE_INTEGER
const counters = { data: most, sent: most, skippedZero: most, resent: most }
const range = { offset: most, length: most }
const words = `\u001b[2J\u0007${'\u202e'.repeat(900)}`

describe('hostile: a destination with absurd figures', () => {
  endSitesAfterEach()

  it('promise 11: the source shows its moves, its disks and its status in words that a terminal can bear, before switchover and after', async () => {
    const site = await Site.start('osaka')
    const { id: disk, generation } = await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    const { id: migration } = await givenTo(hostile, site, 'web01')
    const witness = await Witness.of(site)
    await sayAll(hostile, migration, disk)
    await looks(site, migration)
    await witness.unharmed()

    // The operator lets the disk go: from now on it is told how far the copy is.
    const switching = site.control.switchover(migration, { force: true }).catch(() => undefined)
    hostile.replies['switchover'] = () => ({})
    const asked = { migration, disks: [{ disk, generation: generation + 1 }], force: true }
    for (const reason of ['operator', 'guest-write'] as const) await hostile.outcome('acquire', { ...asked, reason })
    await switching
    await sayAll(hostile, migration, disk)
    await looks(site, migration)
    const run = '00000000-0000-4000-8000-000000000002'
    await hostile.outcome('taken', { migration, disks: asked.disks, mark: most, run })
    await looks(site, migration)
    await site.stop()
    await site.restart()
    await looks(site, migration)
  })
})

async function sayAll(hostile: HostileSite, migration: string, disk: string): Promise<void> {
  const progress = { paused: false, note: words, rate: 1e308, secondsLeft: 1e308, copyingMs: most }
  const entry = { disk, missing: most, ...counters, unreadable: Array.from({ length: 32 }, () => range) }
  await hostile.outcome('progress', { migration, disks: [entry], ...progress })
  await hostile.outcome('progress', {
    migration,
    disks: [{ ...entry, missing: 0, data: 0, sent: 0 }],
    ...progress,
    rate: 0,
  })
  await hostile.outcome('progress', { migration, disks: [{ ...entry, missing: -1 }], ...progress })
  await hostile.outcome('progress', { migration, disks: [entry], ...progress, rate: -1 })
  const clients = Array.from({ length: 4 }, () => words.slice(0, 200))
  for (const when of ['9999-12-31T23:59:59Z', '0000-01-01T00:00:00Z', '0000-02-30T00:00:00Z', 'never'])
    await hostile.outcome('guests', {
      migration,
      guests: { held: { clients, since: when, why: words }, refused: { count: most, clients, last: when, why: words } },
    })
}

/** What an operator looks at, as text; and all of it as documents. */
async function looks(site: Site, migration: string): Promise<void> {
  await site.control.status()
  await site.control.listMigrations()
  await site.control.listDisks()
  for (const command of [['status'], ['migration', 'show', migration]]) {
    const { stdout, stderr, code } = await program(process.execPath, [
      runFile,
      ...command,
      '--control',
      site.controlSocket,
    ])
    assert.equal(code, 0, stderr)
    assert.doesNotMatch(stdout + stderr, /(?!\n)\p{Cc}|NaN|undefined|Infinity/u, command.join(' '))
  }
}
