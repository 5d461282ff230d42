import assert from 'node:assert/strict'
import { SyncGroup } from '../../src/disk/sync/sync-group.ts'
import { FailedSync } from '../../src/store/files.ts'
import { isSettled, settled } from './hand.ts'

/** Syncs that the test ends by hand. */
function handSyncs(): { group: SyncGroup; syncs: PromiseWithResolvers<void>[] } {
  const syncs: PromiseWithResolvers<void>[] = []
  const group = new SyncGroup(() => {
    const sync = Promise.withResolvers<void>()
    syncs.push(sync)
    return sync.promise
  })
  return { group, syncs }
}

describe('sync group', () => {
  it('syncs at once when none runs', () => {
    const { group, syncs } = handSyncs()
    void group.flush()
    assert.equal(syncs.length, 1)
  })

  it('promise 6: a flush that comes while a sync runs is not covered by it', async () => {
    const { group, syncs } = handSyncs()
    const first = group.flush()
    const second = group.flush()
    syncs[0]!.resolve()
    assert.equal(await isSettled(first), true)
    assert.equal(await isSettled(second), false)
    assert.equal(syncs.length, 2)
    syncs[1]!.resolve()
    await second
  })

  it('all flushes that come while a sync runs share the next one', async () => {
    const { group, syncs } = handSyncs()
    const flushes = [group.flush(), group.flush(), group.flush(), group.flush()]
    syncs[0]!.resolve()
    await settled()
    syncs[1]!.resolve()
    await Promise.all(flushes)
    assert.equal(syncs.length, 2)
  })

  it('at most one sync runs at a time', async () => {
    const { group, syncs } = handSyncs()
    void group.flush()
    void group.flush()
    await settled()
    assert.equal(syncs.length, 1)
    syncs[0]!.resolve()
    await settled()
    void group.flush()
    await settled()
    assert.equal(syncs.length, 2)
  })

  it('promise 6: a sync that failed is final: every later flush fails with its error', async () => {
    const { group, syncs } = handSyncs()
    const error = new FailedSync('web01.raw', new Error('EIO'))
    const first = group.flush()
    syncs[0]!.reject(error)
    await assert.rejects(first, error)
    await assert.rejects(group.flush(), error)
    assert.equal(group.failure, error)
    assert.equal(syncs.length, 1)
  })

  it('promise 6: a flush that waited for a sync that failed fails too', async () => {
    const { group, syncs } = handSyncs()
    const first = group.flush()
    const second = group.flush()
    syncs[0]!.reject(new FailedSync('web01.raw', new Error('EIO')))
    await assert.rejects(first, /EIO/)
    await assert.rejects(second, /EIO/)
    assert.equal(syncs.length, 1)
  })

  it('what fails before a sync is tried fails its own flush alone', async () => {
    const { group, syncs } = handSyncs()
    const first = group.flush()
    syncs[0]!.reject(new Error('ENOSPC'))
    await assert.rejects(first, /ENOSPC/)
    assert.equal(group.failure, undefined)
    const second = group.flush()
    syncs[1]!.resolve()
    await second
  })

  it('syncs again for every flush that comes after the last is done', async () => {
    const { group, syncs } = handSyncs()
    for (let count = 0; count < 3; count++) {
      const flush = group.flush()
      syncs[count]!.resolve()
      await flush
    }
    assert.equal(syncs.length, 3)
  })
})
