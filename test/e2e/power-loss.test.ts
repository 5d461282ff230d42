// The power of a storage host goes while its clients, at other hosts, live on: what they had answered and not flushed may be
// lost, and they do not tell. The client is at a host of its own (a network namespace); the power is lost by a SIGKILL and
// another boot id in the record, so that no byte is lost here: what is seen is that it is told.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { rowChecksum } from '../../src/store/record-shapes.ts'
import { findTool } from '../tools.ts'
import { Network } from './network.ts'
import {
  afterwards,
  attach,
  createDisk,
  endSitesAfterEach,
  folder,
  must,
  refusalOf,
  Site,
  untilDisk,
  vmstore,
} from './sites.ts'

const block = 4096
const port = 10_809
const otherBoot = '22222222-2222-4222-8222-222222222222'

describe('power lost at the storage host while its clients live on', function () {
  this.timeout(60_000)
  endSitesAfterEach()

  it('is told, and keeps nobody from the disk: --after-power-loss serve', async function () {
    const { site, connect } = await hostWithDisk(this, [])
    await writeUntilKilled(site, await connect())
    losePower(site)
    await site.restart()
    const { trouble } = await untilDisk(site, 'web01', (disk) => disk.trouble !== null)
    assert.match(trouble!, /lost its power.*may be lost.*vmstore disk accept web01/)
    assert.match(JSON.stringify(await must(site, 'status')), /lost its power/)
    const guest = await connect()
    await guest.write(0, Buffer.alloc(block, 1))
    refusalOf(await vmstore(site, 'disk', 'accept', 'web01'), 3, 'not-confirmed')
    await must(site, 'disk', 'accept', 'web01', '--yes')
    assert.equal((await site.control.showDisk('web01')).trouble, null)
    await guest.disconnect()
  })

  it('keeps clients at other hosts from the disk until it is accepted: --after-power-loss hold', async function () {
    const { site, connect } = await hostWithDisk(this, ['--after-power-loss', 'hold'])
    await writeUntilKilled(site, await connect())
    losePower(site)
    await site.restart()
    await assert.rejects(connect(), /waits for vmstore disk accept/)
    const local = await attach(site, 'web01')
    await local.write(0, Buffer.alloc(block, 1))
    await must(site, 'disk', 'accept', 'web01', '--yes')
    const guest = await connect()
    assert((await guest.read(0, block)).equals(Buffer.alloc(block, 1)))
    await guest.disconnect()
  })

  it('is nothing to tell of when only clients of that host had written', async function () {
    const { site } = await hostWithDisk(this, [])
    const local = await attach(site, 'web01')
    await local.write(0, Buffer.alloc(block, 1))
    await site.kill()
    assert.equal(recordOf(site).unsynced, null)
  })

  it('is nothing to tell of when the daemon alone had died', async function () {
    const { site, connect } = await hostWithDisk(this, [])
    await writeUntilKilled(site, await connect())
    await site.restart()
    assert.equal((await site.control.showDisk('web01')).trouble, null)
  })
})

/** A site at a host of its own, and how a client at another host reaches its disk. */
async function hostWithDisk(context: Mocha.Context, flags: readonly string[]) {
  const network = Network.make(context)
  const root = folder()
  const address = network.address('a')
  const site = await Site.start('osaka', {
    root,
    namespace: network.namespace('a'),
    nbd: [`nbd+unix:///?socket=${join(root, 'nbd.sock')}`, `nbd://${address}:${port}`],
    flags: ['--insecure', ...flags],
  })
  await createDisk(site, 'web01', 2 ** 20)
  const path = join(folder(), 'there.sock')
  await forward(network.namespace('b'), path, address)
  const connect = async () => {
    const client = await NbdClient.connect(`nbd+unix:///web01?socket=${path}`)
    afterwards(() => client.destroy())
    return client
  }
  return { site, connect }
}

/** A socket here whose connections come from the other host. */
async function forward(namespace: string, path: string, address: string): Promise<void> {
  const program = `
    const net = require('node:net')
    net.createServer((near) => {
      const far = net.connect(${port}, '${address}')
      near.pipe(far).pipe(near)
      const end = () => { near.destroy(); far.destroy() }
      for (const socket of [near, far]) socket.on('error', end).on('close', end)
    }).listen('${path}', () => console.log('listening'))`
  const child = spawn(findTool('nsenter')!, [`--net=${namespace}`, process.execPath, '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  afterwards(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}

/** A guest that never flushes, and writes until its server is gone: so something is unflushed then. */
async function writeUntilKilled(site: Site, guest: NbdClient): Promise<void> {
  await guest.write(0, Buffer.alloc(block, 9))
  const writing = (async () => {
    for (;;) await guest.write(0, Buffer.alloc(block, 9))
  })()
  await Promise.all([assert.rejects(writing), site.kill()])
  assert.notEqual(recordOf(site).unsynced, null)
}

/** What is on record of the disk of a site that does not run. */
function recordOf(site: Site): { id: string; unsynced: { bootId: string; since: string } | null } {
  using database = new DatabaseSync(join(site.root, 'vmstore.sqlite'))
  return JSON.parse(String(database.prepare('SELECT body FROM disk').get()!['body']))
}

/** As if the kernel had started anew since. */
function losePower(site: Site): void {
  const record = recordOf(site)
  const body = JSON.stringify({ ...record, unsynced: { ...record.unsynced!, bootId: otherBoot } })
  using database = new DatabaseSync(join(site.root, 'vmstore.sqlite'))
  database.prepare('UPDATE disk SET body = ?, checksum = ?').run(body, rowChecksum('disk', record.id, body))
}
