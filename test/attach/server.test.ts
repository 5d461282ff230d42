// Where a device's connections come from: the daemon, by a disk's name, or a server, by a URI.

import assert from 'node:assert/strict'
import { closeSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { DaemonDisk, UriDisk } from '../../src/attach/server.ts'
import type { ControlError } from '../../src/control/errors.ts'
import type { DiskView } from '../../src/control/types.ts'
import { diskView } from '../control/fake-site.ts'
import { serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

const never = new AbortController().signal
const path = '/run/control.sock'

function daemon(view: Partial<DiskView>, openNbd = (): Promise<Socket> => assert.fail('it was not to be opened')) {
  return { path, showDisk: async (name: string) => diskView(name, view), openNbd }
}

describe('the server of a device', () => {
  it('that is the daemon gives a connection of its control socket, and says which disk, in which generation', async () => {
    await using server = await serve([new MemoryExport({ name: 'web01' })])
    const disk = new DaemonDisk(
      daemon({ id: 'd', generation: 4 }, async () => connect(server.path)),
      'web01',
    )
    const { fd, info, identity } = await disk.dial(never)
    closeSync(fd)
    assert.equal(info.sizeBytes, 1 << 20)
    assert.equal(identity, 'disk d in generation 4')
    assert.equal(disk.target, `web01 of the daemon at ${path}`)
  })

  it('has an incoming disk in the generation that comes with switchover: it is the same disk before and after', async () => {
    await using server = await serve([new MemoryExport({ name: 'web01' })])
    const identities: (string | undefined)[] = []
    for (const view of [
      { state: 'incoming', generation: 4 },
      { state: 'arriving', generation: 5 },
      { state: 'owned', generation: 5 },
      { state: 'owned', generation: 7 },
    ]) {
      const { fd, identity } = await new DaemonDisk(
        daemon({ id: 'd', ...view }, async () => connect(server.path)),
        'web01',
      ).dial(never)
      closeSync(fd)
      identities.push(identity)
    }
    assert.deepEqual(identities, [...Array(3).fill('disk d in generation 5'), 'disk d in generation 7'])
  })

  it('that has given the disk away is refused, with where it is', async () => {
    for (const state of ['departed', 'released', 'superseded']) {
      const disk = new DaemonDisk(daemon({ state, ownerName: 'tokyo' }), 'web01')
      await assert.rejects(disk.dial(never), (error: ControlError) => {
        assert.deepEqual([error.code, error.exit, error.next], ['not-owned', 3, 'attach it at tokyo'])
        return true
      })
    }
  })

  it('that hangs is waited for no longer than the signal says', async () => {
    const disk = new DaemonDisk({ ...daemon({}), showDisk: () => new Promise(() => {}) }, 'web01')
    const giveUp = new AbortController()
    const dialling = disk.dial(giveUp.signal)
    giveUp.abort(new Error('enough'))
    await assert.rejects(dialling, /enough/)
  })

  it('of a URI is any NBD server in the clear; TLS, and what is no URI, are refused', async () => {
    await using server = await serve([new MemoryExport({ name: 'disk' })])
    const { fd, identity } = await new UriDisk(server.uri.replace('///', '///disk')).dial(never)
    closeSync(fd)
    assert.equal(identity, undefined)
    assert.throws(() => new UriDisk('nbds://host/disk'), { code: 'no-tls', exit: 3 })
    assert.throws(() => new UriDisk('nbd:unix:/x'), { code: 'usage', exit: 2 })
    assert.equal(new UriDisk('NBD://host/disk').target, new UriDisk('nbd://host:10809/disk').target)
  })
})
