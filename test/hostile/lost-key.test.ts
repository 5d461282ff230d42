// A destination that has lost its key in the middle of a copy, and is paired anew as somebody else: what it has is the disk of a key that
// is gone. Its operator would go on with it, while the source, to which nobody answers under the old key, takes the disk back.
// Would break promise 1: two writers for good.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { begin, endSitesAfterEach, type Site, twoSites, untilDisk, vmstore } from '../e2e/sites.ts'
import { createGuestDisk } from './witness.ts'

describe('hostile: a destination that lost its key', () => {
  endSitesAfterEach()

  it('promise 1: it serves the disk to nobody, before it is paired anew and after; and the source may take the disk back', async () => {
    const { a, b } = await twoSites()
    await createGuestDisk(a)
    await begin(a, b, 'web01', 'now', { maxRate: 64 * 1024 })
    await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
    assert(await serves(b), 'so that it can stop to')
    await b.stop()
    for (const file of ['identity.key', 'identity.crt']) rmSync(join(b.root, file))
    await b.restart()
    assert.equal(await serves(b), false)
    const { token } = await a.control.invite({ name: 'tokyo-anew' })
    await b.control.join({ token, name: 'osaka-anew' })
    assert.equal(await serves(b), false)
    const taken = await vmstore(a, 'disk', 'reclaim', 'web01', '--yes')
    assert.equal(await serves(a), taken.exit === 0, JSON.stringify(taken.json))
    assert.equal(await serves(b), false)
    await b.stop()
    await b.restart()
    assert.equal(await serves(b), false)
  })
})

/** Whether a guest's write is answered there. */
async function serves(site: Site): Promise<boolean> {
  const client = await NbdClient.connect(site.uri('web01'), { requestTimeoutMs: 5000 }).catch(() => undefined)
  if (!client) return false
  try {
    await client.write(0, Buffer.alloc(4096, 3))
    return true
  } catch {
    return false
  } finally {
    client.destroy()
  }
}
