// Simulates a script of the operator's that opens the control socket again and again, asks for nothing and leaves its
// connections open: commands are answered, and `disk export`, whose connection becomes one of NBD, is too.

import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { createDisk, endSitesAfterEach, folder, must, Site } from '../e2e/sites.ts'
import { Herd } from './herd.ts'

const mebibyte = 1024 * 1024

describe('hostile: an idle herd at the control socket', () => {
  endSitesAfterEach()

  it('commands are answered beside it, and a disk is exported', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    const herd = await Herd.gather(400, { path: site.controlSocket })
    assert.equal((await must(site, 'disk', 'list')).length, 1)
    const target = join(folder(), 'web01.raw')
    await must(site, 'disk', 'export', 'web01', target)
    assert.equal(statSync(target).size, mebibyte)
    assert(herd.sentAway > 0)
  })
})
