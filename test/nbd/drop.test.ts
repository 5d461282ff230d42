// A session that an operator drops, and what is told of those that there are.

import assert from 'node:assert/strict'
import { Command } from '../../src/nbd/wire/constants.ts'
import { handTimers } from '../hand-timers.ts'
import { Gate, RawClient, serve } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

const limitMs = 5000

describe('nbd sessions that are dropped', () => {
  it('what is in flight is answered first, then the client is cut off, and nothing else is said', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.flush, cookie: 7 })
    await gate.reached(1)
    const [{ id, inFlight, state }] = site.server.open as [(typeof site.server.open)[0]]
    assert.deepEqual([inFlight, state], [1, 'open'])
    const dropping = site.server.drop(id, limitMs)
    assert.equal(site.server.open[0]!.state, 'ending')
    client.request({ type: Command.flush, cookie: 8 })
    gate.release()
    assert.deepEqual([await client.reply().then(({ cookieLow }) => cookieLow), await dropping], [7, true])
    await client.closed
    assert.equal(client.leftBytes, 0)
    assert.deepEqual(site.server.open, [])
    assert.equal(await site.server.drop(id, limitMs), false)
  })

  it('who waits for a request that does not end is cut off all the same, and others are not', async () => {
    using timers = handTimers()
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const [client, other] = [await RawClient.open(site.path), await RawClient.open(site.path)]
    client.request({ type: Command.flush })
    await gate.reached(1)
    const dropping = site.server.drop(site.server.open[0]!.id, limitMs)
    timers.pass(limitMs)
    assert.equal(await dropping, true)
    await client.closed
    gate.releaseAll()
    disk.gate = undefined
    other.request({ type: Command.flush })
    await other.reply()
    other.destroy()
  })

  it('a newcomer is no session', async () => {
    await using site = await serve([new MemoryExport()])
    const client = await RawClient.connect(site.path)
    await client.greet()
    assert.deepEqual(site.server.open, [])
    client.destroy()
  })
})
