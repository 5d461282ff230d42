// After an honest move from A to B, a third site C, paired with A only, "returns" the disk to A: it offers A's old disk, grants it,
// and gives it some bytes. A would own a generation that B's live guest does not know of, and its honest claim would fence that guest.
// Would break promise 1, and 10.

import assert from 'node:assert/strict'
import { begin, endSitesAfterEach, must, twoSites, until, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { offered, preparation, usualTerms } from './moves.ts'
import { createGuestDisk, standing, Witness } from './witness.ts'

describe("hostile: a peer that returns another's disk", () => {
  endSitesAfterEach()

  it('promise 1: the former owner does not take it, and the live guest at the owner goes on', async () => {
    const { a, b } = await twoSites()
    const { id: disk, size } = await createGuestDisk(a)
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(a, id, ({ state }) => state === 'done')
    await untilMigration(b, id, ({ state }) => state === 'done')
    const witness = await Witness.of(b)
    const before = standing(await a.control.showDisk('web01'))
    const hostile = await HostileSite.paired(a)
    grants(hostile)
    for (const generation of [before.generation, before.generation + 7]) {
      const offer = offered({ id: disk, name: 'web01', sizeBytes: size, generation })
      await hostile.outcome(
        'prepare',
        preparation([offer], undefined, { ...usualTerms, switchover: 'now', force: true }),
      )
    }
    // What A believes it tells B when it starts, and when the link comes up.
    await a.stop()
    await a.restart()
    await until('A and B have spoken', async () => {
      const peers = await b.control.listPeers()
      return peers.every(({ connected }) => connected) ? true : undefined
    })
    assert.deepEqual(standing(await a.control.showDisk('web01')), before)
    await witness.unharmed()
    await must(b, 'disk', 'show', 'web01')
  })
})

/** It gives whatever it is asked for. */
function grants(hostile: HostileSite): void {
  Object.assign(hostile.replies, {
    inquire: () => ({ state: 'ready', writersAreGone: true, sessions: 0, boot: 'boot-1' }),
    acquire: ({ disks }: { disks?: unknown }) => ({
      answer: 'granted',
      disks: (disks as object[]).map((each) => ({ ...each, powerLoss: null })),
      boot: 'boot-1',
      cutOff: [],
    }),
    taken: () => ({}),
    progress: () => ({ disks: [] }),
    complete: () => ({ disks: [] }),
  })
  hostile.pieces = ({ runs }) => runs.map((run) => ({ ...run, bytes: undefined }))
}
