// The end of a move, on two sites in one process, when the destination's storage and its database fail at the worst moment.

import assert from 'node:assert/strict'
import { TwoSites } from './two-sites.ts'

describe('the end of a move', () => {
  it('promise 8: comes though a sync of the owned disk has failed, and the record of the end was refused once', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    const guest = sites.open(b)
    await sites.write(guest, 0, 7)
    b.machine.syncFaultRate = 1
    await assert.rejects(sites.flush(guest), /input\/output error/)
    await sites.until('A is released', () => sites.record(a)?.state === 'released')
    b.database.faultRate = 1
    const course = b.migrations!.courses().find((each) => each.id === id)!
    await sites.until('it could not be recorded', () => course.note?.includes('it is tried again') === true)
    b.database.faultRate = 0
    await sites.until('the move is over', () => sites.record(b)?.migrationId === null)
    assert.equal(b.database.migration.get(id)!.state, 'done')
    assert.equal(sites.record(b)?.failedSync?.message.includes('input/output error'), true, 'which was not accepted')
  })

  it('that was compared is told as such, though a sync fails as soon as the disk is owned', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    b.machine.syncFaultRate = 1
    await sites.until('the move is over', () => sites.record(b)?.migrationId === null)
    const verified = [a, b].map((site) => site.database.migration.get(id)!.disks[0]!.verified)
    assert.deepEqual(verified, [true, true])
    assert.notEqual(sites.record(b)?.failedSync, null)
  })

  it('promise 8: a source that cannot record the end of a move that was ended by force is told again', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    a.kill() // It has not heard of it.
    await sites.drive(b.migrations!.commands.cancel(id, true, new AbortController().signal))
    assert.equal(sites.record(b)?.migrationId, null)
    let refusals = 0
    b.onLog = (message) => {
      if (message.includes('could not be told')) refusals++
    }
    a.database.faultRate = 1
    await sites.drive(a.start())
    await sites.until('A could not record it', () => refusals > 0)
    a.database.faultRate = 0
    await sites.until('A is released', () => sites.record(a)?.state === 'released')
    await sites.until('B knows', () => b.database.migration.get(id)!.sourceTold)
  })
})
