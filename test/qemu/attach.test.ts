// vmstore attach, where it is at home: in a guest with Debian's kernel it attaches a disk of the host to the kernel's NBD
// client. The host's daemon is stopped, or killed, and started again under a mounted ext4 on which fio writes and verifies.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as outage } from 'node:timers/promises'
import { afterwards, endSitesAfterEach, folder, Site, tool } from '../e2e/sites.ts'
import { Program } from '../program.ts'
import { findTool, needTool } from '../tools.ts'
import { buildGuest, needGuestTools } from './guest-image.ts'
import { buildRoot } from './guest-root.ts'

/** Node starts slowly in an emulated processor, and more so beside other tests. */
const bootDeadlineSeconds = 240
const workDeadlineSeconds = 240
const diskBytes = 64 * 2 ** 20
const consoleLinesShown = 60
/** How long the daemon is away; with several connections, requests that were lost are asked for again after half a minute. */
const outagesMs = [2_000, 20_000]
const trouble = /^trouble|Kernel panic|"type":"error"/

describe('vmstore attach, with the Linux kernel’s NBD client', function () {
  this.timeout(600_000)
  endSitesAfterEach()
  let rootFolder: string
  /** One for all tests: it takes a while to make. */
  let root: string | undefined
  before(() => {
    rootFolder = mkdtempSync(join(tmpdir(), 'vms-root-'))
  })
  after(() => rmSync(rootFolder, { recursive: true }))
  let guest: Program | undefined
  afterEach(function () {
    if (this.currentTest?.state === 'failed') console.error(guest?.stdout.seen.slice(-consoleLinesShown).join('\n'))
  })

  const variants = [
    { connections: 1, end: 'signal' },
    { connections: 2, end: 'detach' },
  ]
  for (const { connections, end } of variants) {
    it(`restarts of 2 and 20 s under a mounted ext4 are pauses and no errors: ${connections} connection(s)`, async function () {
      needGuestTools(this)
      needTool(this, 'fio', 'mke2fs', 'e2fsck', 'ldd')
      root ??= buildRoot(rootFolder, ['fio'])
      const { site, image, ...started } = await start(connections, end, root)
      guest = started.guest
      await hears(guest, /^mounted/, bootDeadlineSeconds)
      await hears(guest, /^round 1$/, workDeadlineSeconds)
      assert.equal((await site.control.showDisk('web01')).sessions, connections)

      for (const [index, outageMs] of outagesMs.entries()) {
        if (index === 0) assert.equal(await site.stop(), 0)
        else await site.kill()
        await outage(outageMs)
        await site.restart()
        await heardEvents(guest, 'link-up', connections * (index + 1))
      }
      await hears(guest, /^killed$/, workDeadlineSeconds)
      assert.equal(await site.stop(), 0)
      await site.restart()
      await hears(guest, /^done$/, workDeadlineSeconds)
      await guest.succeed(workDeadlineSeconds)

      const [first, second, ...others] = eventsOf(guest).filter(({ type }) => type === 'attached')
      assert.deepEqual([first?.['takenOver'], second?.['takenOver'], others.length], [false, true, 0])
      assert.deepEqual(
        eventsOf(guest)
          .slice(-2)
          .map(({ type }) => type),
        ['detached', 'result'],
      )
      assert.equal(await site.stop(), 0)
      await tool('e2fsck', '-fn', image)
    })
  }
})

async function start(
  connections: number,
  end: string,
  root: string,
): Promise<{ site: Site; guest: Program; image: string }> {
  const path = folder()
  const image = await ext4(path)
  const site = await Site.start('osaka', { files: [image] })
  const modules = ['virtio_pci', 'virtio_net', 'virtio_blk', 'nbd']
  const { kernel, initramfs } = buildGuest(path, { init: 'attach.c', modules })
  const parameters = `port=${site.nbdPort} connections=${connections} outages=${outagesMs.length} end=${end}`
  const guest = new Program('QEMU', findTool('qemu-system-x86_64')!, [
    ...['-machine', 'pc', '-accel', 'tcg', '-cpu', 'max', '-smp', '1', '-m', '768M', '-nodefaults', '-no-user-config'],
    ...['-no-reboot', '-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initramfs],
    ...['-append', `console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off ${parameters}`],
    ...['-netdev', 'user,id=host', '-device', 'virtio-net-pci,netdev=host'],
    ...['-drive', `file=${root},format=raw,if=virtio,snapshot=on`],
  ])
  afterwards(() => guest.kill())
  return { site, guest, image }
}

async function ext4(path: string): Promise<string> {
  const image = join(path, 'web01.raw')
  writeFileSync(image, '')
  truncateSync(image, diskBytes)
  await tool('mke2fs', '-q', '-F', '-t', 'ext4', image)
  return image
}

/** Waits until the guest says so. What it finds wrong ends the wait. */
async function hears(guest: Program, wanted: RegExp, deadlineSeconds: number): Promise<void> {
  const isIt = (line: string) => (wanted.test(line.trimEnd()) || trouble.test(line) ? line.trimEnd() : undefined)
  assert.match(await guest.stdout.find(`${wanted} of the guest`, deadlineSeconds, isIt), wanted)
}

/** Waits until vmstore attach has told of this, so many times. */
async function heardEvents(guest: Program, type: string, times: number): Promise<void> {
  let count = 0
  const isLast = (line: string) => {
    if (trouble.test(line)) return line
    if (line.includes(`"type":"${type}"`)) count++
    return count >= times ? line : undefined
  }
  const line = await guest.stdout.find(`${times} × ${type}`, workDeadlineSeconds, isLast)
  assert.doesNotMatch(line, trouble)
}

function eventsOf(guest: Program): Record<string, unknown>[] {
  return guest.stdout.seen.flatMap((line) => {
    const text = /^event (.*)/.exec(line.trimEnd())?.[1]
    return text === undefined ? [] : [JSON.parse(text) as Record<string, unknown>]
  })
}
