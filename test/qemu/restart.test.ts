// vmstore is stopped and started again under a running virtual machine, as an upgrade does. QEMU waits for it
// (reconnect-delay); the guest sees a pause, no I/O error and no wrong byte.

import assert from 'node:assert/strict'
import { afterwards, createDisk, endSitesAfterEach, folder, Site } from '../e2e/sites.ts'
import { buildGuest, needGuestTools } from './guest-image.ts'
import { type ConsoleLine, GuestConsole, Machine } from './machine.ts'

const disk = 'web01'
const sizeBytes = 32 * 2 ** 20
const sectorBytes = 512
const bootDeadlineSeconds = 300
/** QEMU's reconnect has coarse back-off: an outage of a second may show as three. */
const workDeadlineSeconds = 200
const quitDeadlineSeconds = 100
const requestsBetween = 1000

describe('a virtual machine under QEMU whose storage is restarted', function () {
  this.timeout(900_000)
  endSitesAfterEach()

  it('promise 6: sees a pause and no I/O error, whether vmstore stops in good order or is killed', async function () {
    needGuestTools(this)
    const path = folder()
    const guest = buildGuest(path, { init: 'guest.c', modules: ['virtio_pci', 'virtio_blk'] })
    const site = await Site.start('osaka')
    await createDisk(site, disk, sizeBytes)
    const guestConsole = new GuestConsole()
    const machine = await Machine.start(
      { name: 'osaka', folder: path, guest, guestConsole, exportNames: [disk], nbdSocket: site.nbdSocket },
      (program) => afterwards(() => program.kill()),
    )
    await guestConsole.lines.find('disk filled by the guest', bootDeadlineSeconds, saying(/^ready /))
    await moreRequests(guestConsole)

    assert.equal(await site.stop(), 0, 'a drain, and connections that are dropped without a word')
    const stopped = await completed(guestConsole)
    await site.restart()
    await moreRequests(guestConsole, stopped)

    await site.kill()
    const killed = await completed(guestConsole)
    await site.restart()
    await moreRequests(guestConsole, killed)

    machine.type('finish\n')
    const [, result] = await guestConsole.lines.find('end of the guest', workDeadlineSeconds, saying(/^done (.*)/))
    await machine.process.succeed(quitDeadlineSeconds)
    const counts = Object.fromEntries(result!.split(' ').map((pair) => pair.split('=')))
    assert.deepEqual(
      [counts['wrong'], counts['errors'], counts['verified']].map(Number),
      [0, 0, sizeBytes / sectorBytes],
      result,
    )
    assert.deepEqual(machine.qmp.events('BLOCK_IO_ERROR'), [])
  })
})

function saying(pattern: RegExp): (line: ConsoleLine) => RegExpExecArray | undefined {
  return ({ text }) => pattern.exec(text) ?? undefined
}

function ticksOf(guestConsole: GuestConsole): number[] {
  return guestConsole.lines.seen.flatMap(({ text }) => {
    const count = /^tick (\d+)$/.exec(text)?.[1]
    return count === undefined ? [] : [Number(count)]
  })
}

/** Requests that the guest has seen completed so far. */
async function completed(guestConsole: GuestConsole): Promise<number> {
  return ticksOf(guestConsole).at(-1) ?? 0
}

/** Waits until the guest has completed so many more. */
async function moreRequests(guestConsole: GuestConsole, since = 0): Promise<void> {
  await guestConsole.lines.find(`${requestsBetween} more requests`, workDeadlineSeconds, ({ text }) => {
    const count = /^tick (\d+)$/.exec(text)?.[1]
    return (count !== undefined && Number(count) >= since + requestsBetween) || undefined
  })
}
