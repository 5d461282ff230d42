// The Linux kernel as the client: a guest attaches an export with nbd-client, over one connection and over two, mounts the
// ext4 in it and copies what is there. The filesystem is made, and looked into afterwards, on the host.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterwards, endSitesAfterEach, folder, Site, tool } from '../e2e/sites.ts'
import { mebibyte, patterned } from '../interop/clients.ts'
import { Program } from '../program.ts'
import { findTool, needTool } from '../tools.ts'
import { buildGuest, type GuestImage, needGuestTools } from './guest-image.ts'

const bootDeadlineSeconds = 200
const workDeadlineSeconds = 200
const diskBytes = 64 * mebibyte
const fileBytes = [0, 1, 511, 4096, 100_003, mebibyte + 17, 6 * mebibyte]
/** The guest's init, or its kernel. */
const trouble = /^trouble|Kernel panic|I\/O error/
/** For each round how many; the guest's init reads one digit a round. */
const connections = [1, 2]

describe('the Linux kernel’s NBD client', () => {
  endSitesAfterEach()

  it('attaches a disk over one and two connections, mounts it, writes, trims and lets go: nothing is lost', async function () {
    needGuestTools(this)
    needTool(this, 'nbd-client', 'mke2fs', 'e2fsck', 'debugfs', 'ldd')
    const path = folder()
    const given = join(path, 'given')
    const image = await ext4With(join(path, 'web01.raw'), given)
    const site = await Site.start('osaka', { files: [image] })
    const parts = { init: 'kernel-client.c', modules: ['virtio_pci', 'virtio_net', 'nbd'], programs: ['nbd-client'] }
    const allocatedBefore = statSync(image).blocks
    const guest = boot(buildGuest(path, parts), `port=${site.nbdPort} connections=${connections.join('')}`)
    afterwards(() => guest.kill())

    await hears(guest, /^attached 1\b/, bootDeadlineSeconds)
    await hears(guest, /^done\b/, workDeadlineSeconds)
    await guest.succeed(workDeadlineSeconds)

    const total = fileBytes.reduce((sum, bytes) => sum + bytes, 0)
    const told = guest.stdout.seen
      .map((line) => line.trimEnd())
      .filter((line) => /^(attached|copied|detached)/.test(line))
    const copied = `copied ${fileBytes.length} ${total}`
    assert.deepEqual(
      told,
      connections.flatMap((count) => [`attached ${count}`, copied, `detached ${count}`]),
    )
    assert.equal(site.logged('session open').length, 3)
    assert.equal(site.logged('"end":"disconnected"').length, 3)
    assert.deepEqual(site.logged('"level":50'), [])
    assert.equal(await site.stop(), 0)

    await tool('e2fsck', '-fn', image)
    for (const count of connections) {
      const name = `out-${count}`
      await tool('debugfs', '-R', `rdump /${name} ${path}`, image)
      assertSameFiles(join(path, name), given)
    }
    const grownBytes = (statSync(image).blocks - allocatedBefore) * 512
    // The copies, what ext4 keeps for itself, and not what was removed: that is holes again.
    assert(grownBytes < connections.length * total + 8 * mebibyte, `${grownBytes} bytes more are allocated`)
  })
})

/** A raw image with ext4 in it, whose /in is the folder `given`, which is filled first. */
async function ext4With(image: string, given: string): Promise<string> {
  const inside = join(given, '..', 'tree')
  mkdirSync(given)
  mkdirSync(join(inside, 'in'), { recursive: true })
  for (const [index, bytes] of fileBytes.entries()) {
    for (const place of [given, join(inside, 'in')]) writeFileSync(join(place, `file-${index}`), patterned(bytes))
  }
  writeFileSync(image, '')
  truncateSync(image, diskBytes)
  await tool('mke2fs', '-q', '-F', '-t', 'ext4', '-d', inside, image)
  return image
}

function boot({ kernel, initramfs }: GuestImage, parameters: string): Program {
  return new Program('QEMU', findTool('qemu-system-x86_64')!, [
    ...['-machine', 'pc', '-accel', 'tcg', '-smp', '1', '-m', '256M', '-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initramfs],
    ...['-append', `console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off ${parameters}`],
    ...['-netdev', 'user,id=host', '-device', 'virtio-net-pci,netdev=host'],
  ])
}

/** Waits until the guest says so. What it finds wrong ends the wait. */
async function hears(guest: Program, wanted: RegExp, deadlineSeconds: number): Promise<void> {
  const isIt = (line: string) => (wanted.test(line) || trouble.test(line) ? line : undefined)
  assert.match(await guest.stdout.find(`${wanted} of the guest`, deadlineSeconds, isIt), wanted)
}

function assertSameFiles(found: string, given: string): void {
  assert.deepEqual(readdirSync(found).sort(), readdirSync(given).sort())
  for (const name of readdirSync(given)) {
    assert(readFileSync(join(found, name)).equals(readFileSync(join(given, name))), `${name} has other bytes`)
  }
}
