// `migrate --as NAME`: a disk has another name at its destination, and comes back under the one that it has at home.

import assert from 'node:assert/strict'
import { attach, createDisk, endSitesAfterEach, must, refusalOf, twoSites, untilDisk, vmstore } from './sites.ts'

const mebibyte = 2 ** 20
const bytes = Buffer.alloc(4096, 7)

describe('migrate --as', () => {
  endSitesAfterEach()

  it('names the disk at the destination, whoever asks, and it comes back under its own name', async () => {
    const { a, b } = await twoSites()
    await createDisk(a, 'web01', mebibyte)
    await createDisk(b, 'web01', mebibyte) // Whose name is taken there.
    const guest = await attach(a, 'web01')
    await guest.write(0, bytes, { fua: true })
    await guest.disconnect()
    const to = ['migrate', 'web01', '--to', b.name, '--switchover', 'now']
    refusalOf(await vmstore(a, ...to), 3, 'disk-exists')
    refusalOf(await vmstore(a, ...to, '--as', '../web01'), 2)
    await must(a, ...to, '--as', 'web01-dr')
    const { id, state } = await b.control.showDisk('web01-dr')
    assert.deepEqual([state, id], ['owned', (await untilDisk(a, 'web01', (disk) => disk.state === 'released')).id])
    assert((await (await attach(b, 'web01-dr')).read(0, 4096)).equals(bytes))

    await must(a, 'migrate', 'web01-dr', '--from', b.name, '--switchover', 'now')
    assert.deepEqual([(await a.control.showDisk('web01')).state, (await a.control.listDisks()).length], ['owned', 1])
    await must(b, 'migrate', 'web01', '--from', a.name, '--as', 'web02', '--switchover', 'now')
    const back = await b.control.showDisk('web02')
    assert.deepEqual([back.id, back.state], [id, 'owned'])
    assert((await (await attach(b, 'web02')).read(0, 4096)).equals(bytes))
  })
})
