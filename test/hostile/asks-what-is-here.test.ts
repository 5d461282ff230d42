// A peer that wants to know which disks there are: it asks for, offers, claims and inquires after names and ids, and holds what it hears
// of one that is there against what it hears of one that is not. Would break promise 10: of disks that it was not given neither id, size,
// name, path, state nor owner shows.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { begin, endSitesAfterEach, twoSites, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { usualTerms } from './moves.ts'
import { OwnDisk } from './own-disk.ts'
import { createGuestDisk } from './witness.ts'

describe('hostile: a peer that asks what is here', () => {
  endSitesAfterEach()

  it('promise 10: it hears the same of a disk, or a move, that is there as of one that is not', async () => {
    const { a, b } = await twoSites()
    const here = await createGuestDisk(a, 'web01')
    await createGuestDisk(a, 'web02')
    const { id: move } = await begin(a, b, 'web02', 'manual')
    await untilMigration(a, move, ({ state }) => state === 'ready')
    const hostile = await HostileSite.paired(a)
    const [noDisk, noMove] = [randomUUID(), randomUUID()]
    const of = (disk: string, name: string, migration: string) =>
      [
        ['request', { disks: [name], terms: usualTerms }],
        [
          'generations',
          { claims: [{ disk, generation: 1, owner: 'site-0123456789abcdef', head: '0'.repeat(64), length: 1 }] },
        ],
        ['deed', { disk }],
        ['standing', { migration }],
        ['inquire', { migration }],
        ['acquire', { migration, disks: [{ disk, generation: 2 }], reason: 'resume', force: false }],
        ['flush', { migration, disk, generation: 1 }],
        ['extents', { migration, disk, generation: 1, offset: 0, length: 4096 }],
        ['digests', { migration, disk, generation: 1, runs: [{ offset: 0, length: 4096 }] }],
        ['cancel', { migration }],
        ['cancelled', { migration }],
        ['switchover', { migration, force: true }],
        ['pause', { migration, paused: true }],
      ] as const
    const [there, absent] = [of(here.id, 'web01', move), of(noDisk, 'no-disk', noMove)]
    const echoes = (text: string) =>
      text.replaceAll(here.id, noDisk).replaceAll(move, noMove).replaceAll('web01', 'no-disk')
    for (const [index, [method, params]] of there.entries())
      assert.equal(
        echoes(await hostile.outcome(method, params)),
        await hostile.outcome(method, absent[index]![1]),
        method,
      )
  })

  it('promise 10: a disk that it offers under an id or a name of another is refused in words that tell nothing of that disk', async () => {
    const { a } = await twoSites()
    const here = await createGuestDisk(a, 'web01')
    const hostile = await HostileSite.paired(a)
    const heard = [
      await new OwnDisk(hostile, { name: 'elsewhere', id: here.id }).prepare().catch((error: Error) => error.message),
      await new OwnDisk(hostile).prepare().catch((error: Error) => error.message),
    ]
    for (const text of heard) {
      assert.equal(typeof text, 'string', 'it was refused')
      for (const fact of [here.path, a.root, here.owner, `${here.size}`, 'owned', 'generation 1'])
        assert(!text!.includes(fact), `${text} has ${fact}`)
    }
    assert(!heard[0]!.includes('web01'), heard[0]!)
    assert(!heard[1]!.includes(here.id), heard[1]!)
  })
})
