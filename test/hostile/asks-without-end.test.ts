// A destination, and a peer to which nothing was given, that ask without end: for hashes of all of a large disk, as many questions as a
// lane takes; with claims of ten thousand disks, again and again; with requests that nobody knows.
// Would break promise 11: an effect on others. A guest that works beside is answered all the while.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { digestedBytes, digestsAtOnce } from '../../src/migration/copy/verification.ts'
import { endSitesAfterEach, Site } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { givenTo, usualTerms } from './moves.ts'
import { createGuestDisk, sizeBytes, Witness } from './witness.ts'

/** A lane takes 256 requests at once. */
const atOnce = 200
/** Writes that a guest of 200 requests a second has answered while the flood is worked at. */
const fewest = 10

describe('hostile: a peer that asks without end', () => {
  endSitesAfterEach()

  it('promise 11: for hashes: a guest of the site is answered between, and so is another question of another peer', async () => {
    const site = await Site.start('osaka')
    const { id: disk } = await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    const other = await HostileSite.paired(site, { name: 'other' })
    const { id: migration } = await givenTo(hostile, site, 'web01')
    const witness = await Witness.of(site)
    const length = Math.min(digestedBytes, sizeBytes)
    const runs = Array.from({ length: digestsAtOnce }, () => ({ offset: 0, length }))
    let open = 0
    const flood = Array.from({ length: atOnce }, async () => {
      open++
      await hostile.outcome('digests', { migration, disk, generation: 1, runs })
      open--
    })
    const before = witness.writes
    await other.outcome('standing', { migration: randomUUID() })
    await witness.goesOn(fewest)
    assert(open > 0, 'it was answered while the flood was worked at')
    assert(witness.writes > before)
    await witness.unharmed()
    await site.control.cancel(migration, {})
    await Promise.all(flood)
  })

  it('promise 11: with claims, and with calls of no known name: refused or answered, and the guest goes on', async () => {
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    const witness = await Witness.of(site)
    // A message has 256 KiB.
    const claims = Array.from({ length: 1500 }, () => ({ disk: randomUUID(), head: 'f'.repeat(64), length: 4096 }))
    await Promise.all(
      Array.from({ length: atOnce }, (_, index) =>
        index % 2 === 0
          ? hostile.outcome('generations', { claims })
          : hostile.outcome(`no-${index}`, { terms: usualTerms, text: 'x'.repeat(100_000) }),
      ),
    )
    assert(!hostile.heard.some(({ method }) => method === 'deed'), 'no deed of a disk that is not here is asked for')
    await witness.unharmed()
  })
})
