// How sessions end, and what their handle is told: once, after all its calls have settled.

import assert from 'node:assert/strict'
import { GuestError } from '../../src/guest/export.ts'
import { ChunkType, Command } from '../../src/nbd/wire/constants.ts'
import { Gate, RawClient, requestBytesOf, serve, until } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

describe('nbd session end', () => {
  it('DISC lets requests in flight finish and be answered, then closes as disconnected', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^write/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.write, cookie: 1, payload: Buffer.alloc(512, 1) })
    client.disconnect()
    client.request({ type: Command.trim, cookie: 2, lengthBytes: 512 })
    await gate.reached(1)
    assert.deepEqual(disk.closes, [])
    gate.release()
    assert.equal((await client.reply()).cookieLow, 1)
    await client.closed
    assert.deepEqual(disk.closes, ['disconnected'])
    assert.deepEqual(disk.calls, ['write 0 512'])
    assert.equal(client.leftBytes, 0)
  })

  it('a broken connection closes as broken, and only after its requests have settled', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^write/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.write, payload: Buffer.alloc(512) })
    client.request({ type: Command.write, payload: Buffer.alloc(512) })
    await gate.reached(2)
    client.destroy()
    await client.closed
    const other = await RawClient.open(site.path)
    assert.deepEqual(disk.closes, [])
    gate.release()
    other.request({ type: Command.flush })
    await other.reply()
    assert.deepEqual(disk.closes, [])
    gate.release(0, new Error('too late to matter'))
    await disk.closed(1)
    assert.deepEqual(disk.closes, ['broken'])
    await until(() => site.server.sessions === 1)
    assert.equal(site.server.heldBytes, 0)
    other.destroy()
  })

  it('a client that stops sending without DISC gets its answers, and is broken', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.flush, cookie: 3 })
    await gate.reached(1)
    client.socket.allowHalfOpen = true
    client.socket.end()
    gate.release()
    assert.equal((await client.reply()).cookieLow, 3)
    await client.closed
    assert.deepEqual(disk.closes, ['broken'])
  })

  it('garbage in the transmission is broken', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.send(Buffer.alloc(28, 0x55))
    await client.closed
    await disk.closed(1)
    assert.deepEqual(disk.closes, ['broken'])
  })

  it('a drain answers what is in flight, begins nothing more, and drops the connection without a word', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^write/)
    disk.gate = gate.enter
    await using site = await serve([disk], { inFlightRequests: 1 })
    const client = await RawClient.open(site.path)
    const idle = await RawClient.open(site.path)
    const negotiating = await RawClient.connect(site.path)
    await negotiating.greet()
    client.request({ type: Command.write, cookie: 1, payload: Buffer.alloc(512) })
    client.request({ type: Command.write, cookie: 2, payload: Buffer.alloc(512) })
    await gate.reached(1)
    const stopped = site.server.stop({ drain: true })
    await Promise.all([idle.closed, negotiating.closed])
    await assert.rejects(RawClient.connect(site.path))
    gate.release()
    assert.equal((await client.reply()).cookieLow, 1)
    await client.closed
    await stopped
    assert.equal(client.leftBytes, 0)
    assert.deepEqual(disk.closes, ['broken', 'broken'])
    assert.equal(disk.calls.length, 1)
    assert.equal(site.server.sessions, 0)
  })

  it('a second stop, without drain, drops at once what the first still waits for', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.flush })
    await gate.reached(1)
    const drained = site.server.stop({ drain: true })
    const stopped = site.server.stop({ drain: false })
    await client.closed
    assert.equal(client.leftBytes, 0)
    gate.release()
    await Promise.all([drained, stopped])
    assert.deepEqual(disk.closes, ['broken'])
  })

  it('a close that throws is logged, and the session is over all the same', async () => {
    const disk = new MemoryExport()
    disk.noteClose = () => {
      throw new Error('close is broken')
    }
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.disconnect()
    await client.closed
    await until(() => site.server.sessions === 0)
    assert(site.log.some(({ level, message }) => level === 'error' && message === 'close failed'))
  })

  it('the handle is not told of a hang-up once it is closed, though replies may wait to be read', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * 1024 * 1024 })
    await using site = await serve([disk], { outputBytes: disk.sizeBytes })
    const client = await RawClient.open(site.path)
    client.socket.pause()
    client.request({ type: Command.read, lengthBytes: disk.sizeBytes })
    client.disconnect()
    await disk.closed(1)
    client.socket.end()
    client.socket.resume()
    await client.closed
    await until(() => site.server.sessions === 0)
    assert.deepEqual(disk.hangUps, [])
  })

  it('a status that fails in one context closes the handle only once every context has settled', async () => {
    const disk = new MemoryExport({ statuses: ['allocation', 'dirty'] })
    const gate = new Gate(/^status/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation', 'vmstore:dirty'] })
    client.request({ type: Command.blockStatus, lengthBytes: 4096 })
    client.disconnect()
    await gate.reached(1)
    const asked = gate.waiting.length
    gate.release(0, new GuestError('io', 'one context is broken'))
    await disk.closed(1)
    assert.equal(asked, 1)
    assert.deepEqual(gate.waiting, [])
    assert.equal((await client.chunk()).type, ChunkType.error)
  })

  it('a request that breaks the connection after its client was held back is told as one that was not', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk], { inFlightRequests: 1 })
    const client = await RawClient.open(site.path)
    client.send(Buffer.concat([requestBytesOf({ type: Command.flush }), Buffer.alloc(28)]))
    await gate.reached(1)
    gate.release()
    await client.closed
    await until(() => site.server.sessions === 0)
    assert.ok(site.log.some(({ message }) => /dropped: a request does not begin with its magic/.test(message)))
  })
})
