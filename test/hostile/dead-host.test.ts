// Simulates hosts that are gone, or as good as gone, with a disk attached: one that dies with its replies unread, one that
// dies while it is idle, one that lives and reads nothing any more. Hosts are network namespaces, and the router between
// them drops what it is given.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Network } from '../e2e/network.ts'
import { afterwards, attach, createDisk, endSitesAfterEach, folder, Site, until } from '../e2e/sites.ts'
import { findTool, needTool } from '../tools.ts'

const mebibyte = 1024 * 1024
/** More than the sockets of both hosts hold. */
const sizeBytes = 64 * mebibyte

const clientFile = join(import.meta.dirname, '../../src/nbd/client/client.ts')

/** What a client does once it is connected, to say `done` at the end. */
const idle = `console.log('done')`
/** The process hangs from then on: what comes to it stays in the kernel. */
const asksAndDoesNotRead = `
for (let at = 0; at < ${sizeBytes}; at += 1 << 20) client.read(at, 1 << 20).catch(() => {})
setTimeout(() => {
  fs.writeSync(1, 'done\\n')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
})`

describe('hostile: a host that is gone', () => {
  endSitesAfterEach()

  /** At host b, of a site at host a that gives hosts up after two seconds. */
  async function attachedFrom(context: Mocha.Context, script: string): Promise<{ site: Site; network: Network }> {
    needTool(context, 'nsenter')
    const network = Network.make(context)
    const uri = `nbd://${network.address('a')}:10809`
    const flags = ['--insecure', '--dead-host-after', '2s']
    const root = folder()
    const nbd = [uri, `nbd+unix:///?socket=${join(root, 'nbd.sock')}`]
    const site = await Site.start('osaka', { root, namespace: network.namespace('a'), nbd, flags })
    await createDisk(site, 'web01', sizeBytes)
    const writer = await attach(site, 'web01')
    for (let at = 0; at < sizeBytes; at += mebibyte) await writer.write(at, Buffer.alloc(mebibyte, 1)) // Holes are sent as such.
    await writer.disconnect()
    await until('the writer is gone', async () => (await site.control.listSessions()).length === 0 || undefined)
    const program = `
      const fs = await import('node:fs')
      const { NbdClient } = await import(${JSON.stringify(clientFile)})
      const client = await NbdClient.connect('${uri}/web01')
      ${script}
      process.stdin.resume()`
    const args = [`--net=${network.namespace('b')}`, process.execPath, '--input-type=module', '--eval', program]
    const client = spawn(findTool('nsenter')!, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    afterwards(() => client.kill('SIGKILL'))
    const ended = once(client, 'exit').then(([code]) => {
      throw new Error(`the client ended with ${code}`)
    })
    await Promise.race([once(createInterface(client.stdout), 'line'), ended])
    ended.catch(() => {})
    return { site, network }
  }

  const dropped = (site: Site) =>
    until('the session is over', async () => (await site.control.listSessions()).length === 0 || undefined)

  it('with replies unread, it is dropped when its time is over', async function () {
    const { site, network } = await attachedFrom(this, asksAndDoesNotRead)
    await until('replies wait', async () => (await site.control.listSessions())[0]!.unread > 0 || undefined)
    network.fallSilent()
    await dropped(site)
  })

  it('idle, it is dropped when its time is over', async function () {
    const { site, network } = await attachedFrom(this, idle)
    assert.equal((await site.control.listSessions()).length, 1)
    network.fallSilent()
    await dropped(site)
  })

  it('alive and idle, it stays for longer than that', async function () {
    const { site } = await attachedFrom(this, idle)
    const [session] = await site.control.listSessions()
    // Another that reads nothing is given up meanwhile, which takes as long.
    const client = await attachedFrom(this, asksAndDoesNotRead)
    await dropped(client.site)
    assert.equal((await site.control.listSessions())[0]?.id, session?.id)
  })

  it('alive and reading nothing, it is dropped, and guests beside it are served', async function () {
    const { site } = await attachedFrom(this, asksAndDoesNotRead)
    const guest = await attach(site, 'web01')
    await until('one session is left', async () => {
      await guest.read(0, 4096)
      return (await site.control.listSessions()).length === 1 || undefined
    })
    await guest.disconnect()
  })
})
