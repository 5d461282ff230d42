// A disk that moves between two sites of which either dies at any step, is started again, and must come to the end: the
// move completes, everything acknowledged is there, and exactly one site owns.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { Guest, makeGuestImage } from '../e2e/guest.ts'
import { afterwards, attach, begin, folder, must, type Site, twoSites, until } from '../e2e/sites.ts'

export const diskName = 'web01'
const block = 4096
const deadlineMs = 100_000

export interface MovingDisk {
  readonly a: Site
  readonly b: Site
  readonly guest: Guest
  /** The guest's requests go to this site. */
  guestAt: Site
}

/** Two sites, a disk at A, and a guest that has worked on it there for a moment. */
export async function diskWithGuest(seed: number, sizeBytes: number): Promise<MovingDisk> {
  const image = join(folder(), 'web01.img')
  await makeGuestImage(image, sizeBytes)
  const { a, b } = await twoSites()
  await must(a, 'disk', 'create', diskName, '--from', image)
  const guest = new Guest({ seed, sizeBytes, connect: () => NbdClient.connect(moving.guestAt.uri(diskName)) })
  const moving: MovingDisk = { a, b, guest, guestAt: a }
  afterwards(() => guest.stop().catch(() => {}))
  return moving
}

/** The guest works at the site that owns until `requests` more were answered; what it does goes on. */
export async function guestWorks({ guest }: MovingDisk, requests: number): Promise<void> {
  const answered = () => guest.counts.reads + guest.counts.writes
  const goal = answered() + requests
  await until('the guest has worked', () => {
    guest.check()
    return answered() >= goal ? true : undefined
  })
}

/** The disk at a site; undefined: not there, or the site is dead. */
export async function diskAt(site: Site): Promise<DiskView | undefined> {
  return site.control.showDisk(diskName).catch(() => undefined) // Whoever looks looks again, until it has to be there.
}

/** Starts the move, and again whenever a site that died while it was prepared has cancelled it, until `to` has the disk. */
export async function taken(from: Site, to: Site, maxRate: number): Promise<void> {
  const look = async () => {
    const [here, there] = await Promise.all([diskAt(from), diskAt(to)])
    assertOneOwner(here, there)
    if (there && ['arriving', 'owned'].includes(there.state)) return true
    const idle = here?.state === 'owned' && here.migration === null && there?.state !== 'incoming'
    if (idle && to.isRunning) await begin(from, to, diskName, 'now', { maxRate }).catch(() => {}) // Looked at again.
    return undefined
  }
  await until(`${to.name} has the disk`, look, deadlineMs)
}

/** Both say that the move is over, and who owns. */
export async function completed(from: Site, to: Site): Promise<void> {
  const look = async () => {
    const [here, there] = await Promise.all([diskAt(from), diskAt(to)])
    assertOneOwner(here, there)
    const isOver = there?.state === 'owned' && there.migration === null && here?.state === 'released'
    return isOver && here.generation === there.generation && here.owner === there.owner ? true : undefined
  }
  await until(`the move from ${from.name} to ${to.name} completes`, look, deadlineMs)
}

export function assertOneOwner(here: DiskView | undefined, there: DiskView | undefined): void {
  const owners = [here, there].filter((disk) => disk && ['owned', 'arriving'].includes(disk.state))
  assert(owners.length <= 1, `promise 1: both own: ${JSON.stringify({ here, there })}`)
}

/** Everything acknowledged is at `owner`, and `other` serves nobody. */
export async function verified({ guest }: MovingDisk, owner: Site, other: Site): Promise<void> {
  const client = await attach(owner, diskName)
  await guest.verify(client)
  await client.disconnect()
  await servesNobody(other)
}

/** The site refuses guests, or does not know the disk. */
export async function servesNobody(site: Site): Promise<void> {
  const stray = await NbdClient.connect(site.uri(diskName)).catch(() => undefined)
  if (!stray) return
  await assert.rejects(stray.write(0, Buffer.alloc(block)), { code: 'ESHUTDOWN' })
  await stray.disconnect()
}
