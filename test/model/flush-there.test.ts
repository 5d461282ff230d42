// Flushes at the destination before it owns, case by case, on two simulated sites: what the source had answered is durable
// when such a flush is answered with success, whatever comes between.

import assert from 'node:assert/strict'
import { TwoSites } from './two-sites.ts'

const never = () => new AbortController().signal

describe('a flush at the destination, before it owns', () => {
  it('promise 6: is answered after the source has synced what it had answered', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const sites = await TwoSites.start(seed)
      await sites.migrate('auto')
      await sites.write(sites.open(sites.a), 0, 7)
      await sites.flush(sites.open(sites.b))
      sites.a.losePower()
      await sites.drive(sites.a.start())
      assert.equal(await sites.read(sites.open(sites.b), 0), 7, `seed ${seed}`)
      assert.deepEqual(sites.standing(sites.a), ['owned', 1, 'A'], 'nothing moves by it')
    }
  })

  it('is held while the source is away, and answered once it has synced', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    await sites.write(sites.open(sites.a), 0, 7)
    const there = sites.open(sites.b)
    sites.link.up = false
    const flush = answerOf((async () => there.session.flush())())
    await sites.pass(600_000)
    assert.equal(flush.answer, undefined)
    sites.link.up = true
    await sites.until('it is answered', () => flush.answer !== undefined)
    assert.equal(flush.answer, 'good')
    sites.a.losePower()
    await sites.drive(sites.a.start())
    assert.equal(await sites.read(there, 0), 7)
  })

  it('is answered after a source that died, and kept its power, has come back', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    await sites.write(sites.open(sites.a), 0, 7)
    const there = sites.open(sites.b)
    sites.a.kill()
    const flush = answerOf((async () => there.session.flush())())
    await sites.pass(60_000)
    assert.equal(flush.answer, undefined)
    await sites.drive(sites.a.start())
    await sites.until('it is answered', () => flush.answer !== undefined)
    assert.equal(flush.answer, 'good')
  })

  for (const until of ['the source is back', 'the disk is here'] as const) {
    it(`promise 6: fails when the source loses its power while it waits, until ${until}`, async () => {
      const sites = await TwoSites.start()
      const id = await sites.migrate('manual')
      await sites.write(sites.open(sites.a), 0, 7)
      const there = sites.open(sites.b)
      sites.link.up = false
      const flush = answerOf((async () => there.session.flush())())
      await sites.pass(1000)
      sites.a.losePower()
      await sites.drive(sites.a.start())
      if (until === 'the disk is here') sites.link.late = 'flush'
      sites.link.up = true
      if (until === 'the disk is here')
        await sites.drive(sites.b.migrations!.commands.switchover(id, false, new AbortController().signal))
      await sites.until('it is answered', () => flush.answer !== undefined)
      assert.match(String(flush.answer), /lost its power, or was booted anew, while a flush waited/)
      await sites.flush(there) // What is answered from now on is flushed again.
    })
  }

  it('promise 6: a destination that starts again knows under which boot its source was', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    await sites.write(sites.open(sites.a), 0, 7)
    sites.link.up = false
    sites.b.kill()
    await sites.drive(sites.b.start())
    const flush = answerOf((async () => sites.open(sites.b).session.flush())())
    await sites.pass(1000)
    sites.a.losePower()
    await sites.drive(sites.a.start())
    sites.link.up = true
    await sites.until('it is answered', () => flush.answer !== undefined)
    assert.match(String(flush.answer), /lost its power/)
  })

  it('promise 6: fails when the source cannot sync', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    await sites.write(sites.open(sites.a), 0, 7)
    const there = sites.open(sites.b)
    sites.a.machine.syncFaultRate = 1
    await assert.rejects(sites.flush(there), { code: 'io', message: /is not durable/ })
    sites.a.machine.syncFaultRate = 0
    await assert.rejects(sites.flush(there), { code: 'io' }, 'a failed sync is final')
  })

  it('goes on when the disk comes here meanwhile: the source has synced before it gave it up', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const sites = await TwoSites.start(seed)
      const id = await sites.migrate('manual')
      await sites.write(sites.open(sites.a), 0, 7)
      const there = sites.open(sites.b)
      sites.link.late = 'flush'
      const flush = answerOf((async () => there.session.flush())())
      await sites.drive(sites.a.migrations!.commands.switchover(id, true, never()))
      await sites.until('it is answered', () => flush.answer !== undefined)
      assert.equal(flush.answer, 'good')
      sites.a.losePower()
      await sites.drive(sites.a.start())
      assert.equal(await sites.read(there, 0), 7, `seed ${seed}`)
    }
  })

  it('promise 6: is refused when the migration is cancelled: the source goes on, and may not have synced', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    await sites.write(sites.open(sites.a), 0, 7)
    const there = sites.open(sites.b)
    sites.link.late = 'flush'
    const flush = answerOf((async () => there.session.flush())())
    await sites.drive(sites.a.migrations!.commands.cancel(id, false, never()))
    await sites.until('it is answered', () => flush.answer !== undefined)
    assert.match(String(flush.answer), /gone here|is closed/)
  })

  it('promise 6: is refused when the operator leaves by force, without the source', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    await sites.write(sites.open(sites.a), 0, 7)
    const there = sites.open(sites.b)
    sites.a.kill()
    const flush = answerOf((async () => there.session.flush())())
    const timeout = new AbortController()
    const cancelled = sites.b.migrations!.commands.cancel(id, true, timeout.signal)
    await sites.pass(15_000)
    timeout.abort(new Error('no answer'))
    await sites.drive(cancelled)
    await sites.until('it is answered', () => flush.answer !== undefined)
    assert.match(String(flush.answer), /gone here|is closed/)
  })

  it('--after-power-loss hold: reads, flushes and the switchover wait until the source is accepted, and the report does not get lost', async () => {
    const sites = await TwoSites.start()
    sites.a.holdsAfterPowerLoss = true
    await sites.migrate('auto')
    await sites.write(sites.open(sites.a), 0, 7)
    const there = sites.open(sites.b)
    sites.a.losePower()
    await sites.drive(sites.a.start())
    const answers = [
      answerOf((async () => there.session.read(0, new Uint8Array(512)))()),
      answerOf((async () => there.session.flush())()),
      answerOf((async () => there.session.write(8 * 512, new Uint8Array(512), false))()),
    ]
    await sites.pass(9000)
    assert.deepEqual(
      answers.map(({ answer }) => answer),
      [undefined, undefined, undefined],
    )
    await sites.drive(sites.a.acceptAll())
    await sites.until('all are answered', () => answers.every(({ answer }) => answer !== undefined))
    assert.equal(sites.record(sites.b)?.powerLoss, null)
  })

  it('--after-power-loss serve: the report of a source that was not accepted goes with the disk', async () => {
    const sites = await TwoSites.start()
    const id = await sites.migrate('manual')
    await sites.write(sites.open(sites.a), 0, 7)
    sites.a.losePower()
    await sites.drive(sites.a.start())
    assert.match(sites.a.disk('web01')!.trouble!, /lost its power/)
    await sites.drive(sites.b.migrations!.commands.switchover(id, false, never()))
    await sites.until('B serves', () => sites.record(sites.b)?.state === 'arriving')
    assert.match(sites.b.disk('web01')!.trouble!, /lost its power/)
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
    assert.match(sites.b.disk('web01')!.trouble!, /lost its power/)
  })

  it('promise 1: does not make a busy source quiet by itself', async () => {
    const sites = await TwoSites.start()
    await sites.migrate('auto')
    const guest = sites.open(sites.a)
    await sites.write(guest, 0, 7)
    const there = sites.open(sites.b)
    await sites.flush(there)
    await assert.rejects(sites.write(there, 0, 8), { code: 'not-permitted' })
    await sites.flush(guest)
    await sites.write(there, 0, 8)
  })
})

/** What a request was answered, once it was. */
function answerOf(request: Promise<unknown>): { answer: unknown } {
  const box: { answer: unknown } = { answer: undefined }
  request.then(
    () => {
      box.answer = 'good'
    },
    (error: unknown) => {
      box.answer = error
    },
  )
  return box
}
