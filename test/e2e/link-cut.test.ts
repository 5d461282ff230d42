// The link between two sites is cut and comes back, at moments of a copy: it goes on by itself, soon, and what was in
// flight is all that is sent again.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { MigrationView } from '../../src/control/types.ts'
import { Promptness } from './promptness.ts'
import { Cable } from './proxy.ts'
import {
  afterwards,
  attach,
  endSitesAfterEach,
  folder,
  letTake,
  must,
  readAll,
  Site,
  until,
  untilMigration,
} from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 96 * mebibyte
/** What was in flight may be sent again. */
const resentBoundBytes = 64 * mebibyte
const progressBoundMs = 3000
/** So long that the dialler backs off as far as it does. */
const outagesMs = [200, 5000]

describe('a link that is cut', () => {
  endSitesAfterEach()

  it('promise 8: goes on within 3 s of its return, and sends again no more than what was in flight, which is counted', async () => {
    const { b, id, cable, original } = await copyingOverCable()
    for (const outageMs of outagesMs) {
      const before = await progressed(b, id)
      cable.cut()
      await untilMigration(b, id, ({ connected }) => !connected)
      await wait(outageMs)
      const { missing } = (await b.control.showMigration(id)).bytes
      assert(missing > 0 && missing <= before.bytes.missing, 'the test is in the middle of the copy')
      cable.mend()
      const progress = new Promptness(progressBoundMs)
      await until('the copy goes on', async () => {
        const { bytes } = await progress.ask(() => b.control.showMigration(id))
        return bytes.missing < missing || undefined
      })
      const { elapsedMs, boundMs } = progress
      const sight = `after ${outageMs} ms without a link: progress after ${Math.round(elapsedMs)} ms`
      console.log(`      ${sight}`)
      assert(elapsedMs <= boundMs, `${sight}, not within ${boundMs} ms`)
    }
    const done = await untilMigration(b, id, ({ state }) => state === 'done')
    assert(done.bytes.sent >= sizeBytes, `${done.bytes.sent} bytes were sent`)
    assert.equal(done.bytes.sent - done.bytes.resent, sizeBytes, 'each block once, but for what was sent again')
    assert(done.bytes.resent <= resentBoundBytes, `${done.bytes.resent} bytes were sent again`)
    assert(cable.broughtBytes < sizeBytes + done.bytes.resent + 4 * mebibyte, 'no more than that went over the cable')
    assert.deepEqual(await readAll(await attach(b, 'web01')), original)
  })

  it('promise 8: a destination killed in the middle sends again what it had not made durable, and says how much', async () => {
    const { a, b, id, cable } = await copyingOverCable()
    await progressed(b, id)
    await b.kill()
    await b.restart()
    const done = await untilMigration(b, id, ({ state }) => state === 'done')
    assert.equal(done.bytes.sent - done.bytes.resent, sizeBytes)
    assert(done.bytes.resent <= resentBoundBytes, `${done.bytes.resent} bytes were sent again`)
    assert(cable.broughtBytes < done.bytes.sent + 4 * mebibyte)
    const atSource = await untilMigration(a, id, ({ state }) => state === 'done')
    assert.deepEqual(atSource.bytes, done.bytes, 'both sites report the same')
  })
})

/** A disk of data on its way from A to B, which reaches A over a cable. */
async function copyingOverCable(): Promise<{ a: Site; b: Site; id: string; cable: Cable; original: Buffer }> {
  const original = randomFillSync(Buffer.alloc(sizeBytes))
  const image = join(folder(), 'web01.img')
  writeFileSync(image, original)
  // A cannot dial B, which names no address of its own.
  const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo', { peer: 'tcp://0.0.0.0:0' })])
  const cable = await Cable.to(a.peerPort)
  afterwards(() => cable.end())
  const { token } = await a.control.invite({ name: b.name, address: `tcp://127.0.0.1:${cable.port}` })
  await b.control.join({ token, name: a.name })
  await letTake(a, b)
  await must(a, 'disk', 'create', 'web01', '--from', image)
  const terms = { mode: 'post-copy', switchover: 'now', switchoverWaitMs: 10_000, source: 'keep' } as const
  const { id } = await b.control.migrate({ ...terms, disk: 'web01', from: a.name, maxRate: 12 * mebibyte })
  await untilMigration(b, id, ({ state }) => state === 'copying')
  return { a, b, id, cable, original }
}

/** Waits until some mebibytes more have come. */
async function progressed(b: Site, id: string): Promise<MigrationView> {
  const { missing } = (await b.control.showMigration(id)).bytes
  return until('some mebibytes come', async () => {
    const view = await b.control.showMigration(id)
    return view.bytes.missing < missing - 8 * mebibyte ? view : undefined
  })
}
