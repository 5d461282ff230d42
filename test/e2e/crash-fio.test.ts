// Sites that die at a durable step of a move under fio, which works through qemu-nbd as behind a hypervisor. Some of the
// steps; npm run test:crash takes many.

import { needFioAndProxy } from '../crash/fio-guest.ts'
import { crashInFreeze, crashUnderFio } from '../crash/fio-moves.ts'
import { endSitesAfterEach } from './sites.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)

describe(`a site that dies under fio, SEED=${seed}`, () => {
  before(function () {
    needFioAndProxy(this)
  })
  endSitesAfterEach()

  it('promises 2, 6, 8: both die in the copy: fio sees neither an error nor a wrong byte', () =>
    crashUnderFio('destination', 'after:data-synced#3', seed, true))

  it('promise 2: the source dies in the freeze, with fio’s requests held, and goes on owning', () =>
    crashInFreeze('before:disk-departed', seed))
})
