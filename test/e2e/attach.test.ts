// The connections that vmstore attach gives the kernel, of a real daemon over its control socket. The kernel's part is taken
// by the test, which has the descriptor alone, as the kernel does.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { DaemonDisk, type Dialled } from '../../src/attach/server.ts'
import { Command } from '../../src/nbd/wire/constants.ts'
import { decodeReplyHeader, encodeRequest, requestOf } from '../../src/nbd/wire/transmission-codecs.ts'
import { createDisk, endSitesAfterEach, Site } from './sites.ts'

const sizeBytes = 4 * 2 ** 20
const never = new AbortController().signal

describe('vmstore attach, at the daemon of its host', function () {
  this.timeout(60_000)
  endSitesAfterEach()

  it('has connections that are sessions as any, whose end it sees when the daemon stops, and new ones of the daemon that comes', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', sizeBytes)
    const disk = new DaemonDisk(site.control, 'web01')
    const [first, second] = [await disk.dial(never), await disk.dial(never)]
    assert.equal(first.info.sizeBytes, sizeBytes)
    assert(first.info.canMultiConn)
    assert.equal(first.identity, second.identity)
    assert.equal((await site.control.showDisk('web01')).sessions, 2)
    using kernel = new Kernel(first)
    using other = new Kernel(second)
    await kernel.read()
    await other.read()

    assert.equal(await site.stop(), 0)
    await Promise.all([kernel.ended, other.ended])
    await assert.rejects(disk.dial(never))
    await site.restart()
    const again = await disk.dial(never)
    using kernelAgain = new Kernel(again)
    await kernelAgain.read()
    assert.equal(again.identity, first.identity)
  })

  it('of a disk that the daemon does not know is refused: exit 3', async () => {
    const site = await Site.start('osaka')
    await assert.rejects(new DaemonDisk(site.control, 'web02').dial(never), { code: 'disk-unknown', exit: 3 })
  })
})

class Kernel implements Disposable {
  readonly ended: Promise<unknown>
  readonly #socket: Socket

  constructor({ fd }: Dialled) {
    this.#socket = new Socket({ fd })
    this.#socket.on('error', () => {})
    this.ended = once(this.#socket, 'close')
  }

  /** The first sector. */
  async read(): Promise<void> {
    this.#socket.write(encodeRequest(requestOf(Command.read, 0, 1, 0, 512)))
    let reply = Buffer.alloc(0)
    while (reply.length < 16 + 512) reply = Buffer.concat([reply, ((await once(this.#socket, 'data')) as [Buffer])[0]])
    assert.deepEqual(decodeReplyHeader(reply, 0), { kind: 'simple', errorNumber: 0, cookieHigh: 0, cookieLow: 1 })
    assert.deepEqual(reply.subarray(16), Buffer.alloc(512))
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }
}
