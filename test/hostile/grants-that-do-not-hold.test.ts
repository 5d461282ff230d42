// A source that grants its disk with an entry of the deed that does not give it to its destination: to another key, for another move, of
// another disk or generation, signed by another key, not signed at all, or none. The destination would serve, and take writes to, what
// another site can show to be its own. Would break promises 1 and 10.

import assert from 'node:assert/strict'
import type { Deed } from '../../src/deed/entries.ts'
import { signGiven, signMade, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { newKey } from '../deed/sites.ts'
import { attach, endSitesAfterEach, must, Site, until } from '../e2e/sites.ts'
import { HostileSite, type Said } from './hostile-site.ts'
import { at, OwnDisk } from './own-disk.ts'

const elsewhere = '00000000-0000-4000-8000-00000000dead'

describe('hostile: a source whose grant does not hold', () => {
  endSitesAfterEach()

  const lies: readonly (readonly [string, (disk: OwnDisk, gift: Gift) => unknown])[] = [
    ['to another key', (disk, gift) => last(signGiven(disk.key, disk.deed, { ...gift, to: newKey().fingerprint }, at))],
    ['for another move', (disk, gift) => last(signGiven(disk.key, disk.deed, { ...gift, move: elsewhere }, at))],
    ['of another disk', (disk, gift) => last(signGiven(disk.key, signMade(disk.key, elsewhere, at), gift, at))],
    [
      'of a later generation',
      (disk, gift) => {
        const own = { ...gift, to: disk.key.fingerprint }
        return last(signGiven(disk.key, signGiven(disk.key, disk.deed, own, at), gift, at))
      },
    ],
    [
      'signed by another key',
      (disk, gift) => {
        const key = newKey()
        return last(signGiven(key, signMade(key, disk.id, at), gift, at))
      },
    ],
    [
      'with a signature of another entry',
      (disk, gift) => ({
        ...last(signGiven(disk.key, disk.deed, gift, at)),
        signature: disk.deed[0]!.signature,
      }),
    ],
    [
      'with a generation that was put in',
      (disk, gift) => ({ ...last(signGiven(disk.key, disk.deed, gift, at)), generation: 9 }),
    ],
    ['that is released', (disk, gift) => last(signReleased(disk.key, signGiven(disk.key, disk.deed, gift, at), at))],
    [
      'that is taken back',
      (disk, gift) => last(signTakenBack(disk.key, signGiven(disk.key, disk.deed, gift, at), '', at)),
    ],
    ['that was made', (disk) => disk.deed[0]],
    ['of none', () => undefined],
  ]
  for (const [what, lie] of lies) {
    it(`promise 10: ${what}: the destination does not serve, and the guest's write is not answered`, async () => {
      const site = await Site.start('osaka')
      const hostile = await HostileSite.paired(site)
      const disk = new OwnDisk(hostile)
      await disk.prepare()
      const given = lie(disk, { to: hostile.victimKey, toSite: 'victim', move: disk.migration })
      let asked = 0
      hostile.replies['acquire'] = (said: Said) => {
        asked++
        return disk.granted(said, given)
      }
      const guest = await attach(site, 'web01')
      const written = guest.write(0, Buffer.alloc(4096, 7)).then(
        () => 'answered',
        () => 'refused',
      )
      const seen = async () => {
        const { note } = await site.control.showMigration(disk.migration)
        return asked > 0 && note !== null ? note : undefined
      }
      await until('the operator is told', seen)
      assert.equal((await site.control.showDisk('web01')).state, 'incoming')
      await site.stop()
      await site.restart()
      assert.notEqual(await written, 'answered')
      assert.equal((await site.control.showDisk('web01')).state, 'incoming')
      await must(site, 'migration', 'cancel', disk.migration, '--force')
    })
  }
})

interface Gift {
  readonly to: string
  readonly toSite: string
  readonly move: string
}

const last = (deed: Deed) => deed.at(-1)!
