// A move over a network that falls silent for a while, and what must hold after each silence: the copy goes on and a guest's
// read that was held is answered within 3 s, little is sent again, and in the end every byte is right.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { bytesOfImage, Guest, makeGuestImage } from './guest.ts'
import type { Host, Network } from './network.ts'
import { Promptness } from './promptness.ts'
import { afterwards, attach, folder, letTake, must, Site, until, untilMigration } from './sites.ts'

const mebibyte = 2 ** 20
const progressBoundMs = 3000
/** What was in flight may be sent again. */
const resentBoundBytes = 64 * mebibyte
/** The guest works on all but the end of the disk, of which every held read takes a piece. */
const heldBytes = 8 * mebibyte
const bytesPerSecond = 6 * mebibyte
const copiedBeforeBytes = 6 * mebibyte
const secondsOfCopying = 4
const readBytes = 4096
const requestTimeoutMs = 120_000

export interface Silences {
  readonly network: Network
  readonly seed: number
  /** The side that can dial the other; the other one has no address to dial. */
  readonly dials: 'source' | 'destination'
  readonly outagesMs: readonly number[]
}

export interface Figures {
  readonly outageMs: number
  readonly copyAfterMs: number
  readonly readAfterMs: number
  /** What either may take. */
  readonly boundMs: number
}

/** A is the source, B the destination. */
export async function moveThroughSilences(options: Silences): Promise<{ resentBytes: number; after: Figures[] }> {
  const { network, seed, outagesMs } = options
  const sizeBytes = heldBytes + Math.ceil(1.4 * outagesMs.length * secondsOfCopying) * bytesPerSecond
  const image = join(folder(), 'web01.img')
  await makeGuestImage(image, sizeBytes)
  const { a, b } = await sitesOf(options)
  await must(a, 'disk', 'create', 'web01', '--from', image)
  const guest = new Guest({
    seed,
    sizeBytes: sizeBytes - heldBytes,
    requestsPerSecond: 100,
    connect: () => NbdClient.connect(b.uri('web01'), { requestTimeoutMs }),
  })
  afterwards(() => guest.stop().catch(() => {}))
  const terms = { mode: 'post-copy', switchover: 'now', switchoverWaitMs: 10_000, source: 'keep' } as const
  const order = { ...terms, disk: 'web01', maxRate: bytesPerSecond }
  // Given where it can be carried out: the other site is not connected yet.
  const { id } = await (options.dials === 'source'
    ? a.control.migrate({ ...order, to: b.name })
    : b.control.migrate({ ...order, from: a.name }))
  await untilMigration(b, id, ({ state }) => state === 'copying')
  guest.start()
  const reader = await attach(b, 'web01', { requestTimeoutMs })

  const after: Figures[] = []
  for (const [index, outageMs] of outagesMs.entries()) {
    const before = (await b.control.showMigration(id)).bytes.data
    await untilMigration(b, id, ({ bytes }) => bytes.data > before + copiedBeforeBytes)
    guest.check()
    network.fallSilent()
    const offset = sizeBytes - heldBytes + index * mebibyte + Math.floor(index / 3) * mebibyte
    let progress: Promptness | undefined
    let readAfterMs: number | undefined
    let isRead = false
    const read = reader.read(offset, readBytes).then((bytes) => {
      isRead = true
      readAfterMs = progress?.elapsedMs
      return bytes
    })
    read.catch(() => {})
    await wait(outageMs)
    const { data, missing } = (await b.control.showMigration(id)).bytes
    assert(missing > 2 * mebibyte, 'the test is in the middle of the copy')
    assert(!isRead, 'a read of bytes that are not here is held')
    progress = new Promptness(progressBoundMs)
    network.speak()
    await until('the copy goes on', async () => {
      const { bytes } = await progress!.ask(() => b.control.showMigration(id))
      await progress!.ask(() => a.control.showMigration(id))
      return bytes.data > data + mebibyte || undefined
    })
    const copyAfterMs = progress.elapsedMs
    assert.deepEqual(await read, bytesOfImage(offset, readBytes))
    after.push({ outageMs, copyAfterMs, readAfterMs: readAfterMs!, boundMs: progress.boundMs })
  }
  const done = await untilMigration(b, id, ({ state }) => state === 'done')
  await guest.stop()
  await guest.verify(reader)
  const end = await reader.read(sizeBytes - heldBytes, heldBytes)
  assert.deepEqual(end, bytesOfImage(sizeBytes - heldBytes, heldBytes))
  return { resentBytes: done.bytes.resent, after }
}

/** Shows the figures, and holds them against the promise. */
export function checkSilences(
  { dials }: Silences,
  { resentBytes, after }: Awaited<ReturnType<typeof moveThroughSilences>>,
): void {
  for (const { outageMs, copyAfterMs, readAfterMs } of after) {
    const times = `the copy goes on after ${Math.round(copyAfterMs)} ms, a held read is answered after ${Math.round(readAfterMs)} ms`
    console.log(`      the ${dials} dials, ${outageMs} ms of silence: ${times}`)
  }
  console.log(`      sent again: ${(resentBytes / mebibyte).toFixed(1)} MiB`)
  for (const { outageMs, copyAfterMs, readAfterMs, boundMs } of after) {
    const late = `not within ${boundMs} ms, after ${outageMs} ms of silence:`
    assert(copyAfterMs <= boundMs, `${late} the copy went on after ${copyAfterMs} ms`)
    assert(readAfterMs <= boundMs, `${late} a read was held for ${readAfterMs} ms`)
  }
  assert(resentBytes <= resentBoundBytes, `${resentBytes} bytes were sent again`)
}

/** A disk of data that moves while a guest reads a block of its end every second: how long the reads took, and what was sent again. */
export async function moveOverSlowLine(
  network: Network,
  sizeBytes: number,
): Promise<{ resentBytes: number; seconds: number; slowestReadMs: number }> {
  const image = join(folder(), 'web01.img')
  await makeGuestImage(image, sizeBytes)
  const { a, b } = await sitesOf({ network, dials: 'destination' })
  await must(a, 'disk', 'create', 'web01', '--from', image)
  const terms = { mode: 'post-copy', switchover: 'now', switchoverWaitMs: 10_000, source: 'keep' } as const
  const { id } = await b.control.migrate({ ...terms, disk: 'web01', from: a.name })
  await untilMigration(b, id, ({ state }) => state === 'copying')
  const reader = await attach(b, 'web01', { requestTimeoutMs })
  let slowestReadMs = 0
  for (
    let offset = sizeBytes - readBytes;
    (await b.control.showMigration(id)).bytes.missing > 0;
    offset -= mebibyte / 4
  ) {
    const startedAt = performance.now()
    if (offset > 0) assert.deepEqual(await reader.read(offset, readBytes), bytesOfImage(offset, readBytes))
    slowestReadMs = Math.max(slowestReadMs, performance.now() - startedAt)
    await wait(1000)
  }
  const done = await untilMigration(b, id, ({ state }) => state === 'done')
  assert.deepEqual(await reader.read(0, sizeBytes), bytesOfImage(0, sizeBytes))
  return { resentBytes: done.bytes.resent, seconds: done.seconds.total, slowestReadMs }
}

async function sitesOf({ network, dials }: Pick<Silences, 'network' | 'dials'>): Promise<{ a: Site; b: Site }> {
  const start = (name: string, host: Host, isDialled: boolean) =>
    Site.start(name, {
      namespace: network.namespace(host),
      // A site that listens everywhere tells no address at which it could be dialled.
      peer: `tcp://${isDialled ? network.address(host) : '0.0.0.0'}:7777`,
    })
  const [a, b] = await Promise.all([
    start('osaka', 'a', dials === 'destination'),
    start('tokyo', 'b', dials === 'source'),
  ])
  const [inviter, joiner] = dials === 'destination' ? [a, b] : [b, a]
  const { token } = await inviter.control.invite({ name: joiner.name })
  await joiner.control.join({ token, name: inviter.name })
  await letTake(a, b)
  return { a, b }
}
