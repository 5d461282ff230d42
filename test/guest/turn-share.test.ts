// What all connections together do in one turn of the loop is bounded.

import assert from 'node:assert/strict'
import { TurnShare } from '../../src/guest/turn-share.ts'
import { Command } from '../../src/nbd/wire/constants.ts'
import { RawClient, requestBytesOf, serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

/** The most that `calls` grew by in one turn, until it is told to stop. */
function mostInATurn(calls: readonly unknown[]): () => number {
  let most = 0
  let counted = calls.length
  let isOver = false
  const count = (): void => {
    most = Math.max(most, calls.length - counted)
    counted = calls.length
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  return () => {
    isOver = true
    return most
  }
}

describe('the share of a turn', () => {
  it('is renewed in the turn after it was used up, and lets go those that wait, in order, until it is used up again', () => {
    const due: (() => void)[] = []
    const share = new TurnShare(10, (call) => void due.push(call))
    share.spend(9)
    assert.equal(share.isSpent, false)
    assert.equal(due.length, 0, 'a turn with little to do costs nothing')
    share.spend(9)
    assert.equal(share.isSpent, true)
    const gone: number[] = []
    for (let who = 0; who < 5; who++) {
      share.whenRenewed(() => {
        gone.push(who)
        share.spend(5)
      })
    }
    const turn = (): void => due.splice(0).forEach((call) => void call())
    turn()
    assert.deepEqual(gone, [0, 1])
    turn()
    assert.deepEqual(gone, [0, 1, 2, 3])
    turn()
    assert.deepEqual(gone, [0, 1, 2, 3, 4])
    assert.equal(due.length, 0)
  })

  it('bounds the extents that crowds of clients have looked for', async () => {
    const blocks = 1024
    const disk = new MemoryExport({ sizeBytes: blocks * 4096 })
    for (let block = 0; block < blocks; block += 2) disk.written[block] = 1
    await using site = await serve([disk])
    const clients = await Promise.all(
      Array.from({ length: 16 }, () => RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })),
    )
    const most = mostInATurn(disk.calls)
    const status = requestBytesOf({ type: Command.blockStatus, lengthBytes: disk.sizeBytes })
    for (const client of clients) client.send(Buffer.concat([status, status]))
    for (const client of clients) {
      for (let count = 0; count < 2; count++) assert.equal((await client.chunk()).payload.length, 4 + 512 * 8)
    }
    // A step asks for 32 extents, and 64 use the share up. What is counted as a turn may reach into two.
    assert(most() <= 6, `${most()} steps in a turn`)
    for (const client of clients) client.destroy()
  })

  it('leaves each connection its first requests in a turn, and bounds the rest', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk], { turnSteps: 64 })
    const clients = await Promise.all(Array.from({ length: 8 }, () => RawClient.open(site.path)))
    const most = mostInATurn(disk.calls)
    const flood = Buffer.concat(Array.from({ length: 100 }, () => requestBytesOf({ type: Command.flush })))
    for (const client of clients) client.send(flood)
    for (const client of clients) for (let count = 0; count < 100; count++) await client.reply()
    const bound = 2 * (64 + 8 * 8)
    assert(most() <= bound, `${most()} requests in a turn`)
    for (const client of clients) client.destroy()
  })
})
