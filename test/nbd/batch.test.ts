// The hot path: what is begun in one turn, what leaves in one write, and in which order answers come.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Export, ExportHandle } from '../../src/guest/export.ts'
import { Command, ErrorNumber } from '../../src/nbd/wire/constants.ts'
import { decodeErrorPayload } from '../../src/nbd/wire/transmission-codecs.ts'
import { Gate, RawClient, requestBytesOf, serve, until } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

const requests = (count: number, lengthBytes = 512) =>
  Buffer.concat(
    Array.from({ length: count }, (_, cookie) =>
      requestBytesOf({ type: Command.read, cookie, offset: cookie * 512, lengthBytes }),
    ),
  )

describe('nbd batches', () => {
  it('begins all requests of a chunk at once and sends their replies in one write', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    const before = client.chunks.length
    client.send(requests(32))
    for (let cookie = 0; cookie < 32; cookie++) {
      assert.equal((await client.reply()).cookieLow, cookie)
      await client.take(512)
    }
    // What was written at once is received at once.
    assert.equal(client.chunks.length - before, 1)
    client.destroy()
  })

  it('takes about eight pieces of a long write in a turn, however much of it waits in the kernel', async () => {
    const disk = new MemoryExport({ sizeBytes: 32 * 1024 * 1024 })
    disk.takesAtOnce = () => true
    await using site = await serve([disk])
    const { uri } = await site.server.listen('nbd://127.0.0.1:0')
    const socket = connect({ host: '127.0.0.1', port: Number(uri.split(':').at(-1)!.replace('/', '')) })
    const client = RawClient.of(socket)
    await once(socket, 'connect')
    await client.greet()
    await client.go('disk')
    const turns: number[] = []
    let counted = 0
    const countTurn = (): void => {
      turns.push(disk.calls.length - counted)
      counted = disk.calls.length
      if (!socket.destroyed) setImmediate(countTurn)
    }
    client.request({ type: Command.write, payload: Buffer.alloc(32 * 1024 * 1024) })
    countTurn()
    assert.equal((await client.reply()).errorNumber, 0)
    client.destroy()
    const most = Math.max(...turns)
    assert(most >= 2 && most <= 10, `${most} pieces in one turn`)
  })

  it('answers two statuses in a turn', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
    const statuses = Array.from({ length: 9 }, () => requestBytesOf({ type: Command.blockStatus, lengthBytes: 4096 }))
    const turns: number[] = []
    let counted = 0
    const countTurn = (): void => {
      turns.push(disk.calls.length - counted)
      counted = disk.calls.length
      if (counted < statuses.length) setImmediate(countTurn)
    }
    countTurn()
    client.send(Buffer.concat(statuses))
    for (const _ of statuses) await client.chunk()
    assert(Math.max(...turns) <= 2, turns.join(' '))
    client.destroy()
  })

  it('keeps a late read’s bytes apart from all that is answered meanwhile', async () => {
    const settle = Promise.withResolvers<void>()
    const disk = new MemoryExport()
    const open = disk.open.bind(disk)
    disk.bytes.fill(1, 0, 4096)
    disk.bytes.fill(2, 4096)
    // Fills at once and says so later: whoever uses the memory in between is found out.
    disk.open = (client) => {
      const handle = open(client)
      const read = handle.read.bind(handle)
      handle.read = (offset, target) => {
        read(offset, target)
        return offset === 0 ? settle.promise : undefined
      }
      return handle
    }
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.read, cookie: 1, lengthBytes: 4096 })
    for (let round = 0; round < 50; round++) {
      for (let count = 0; count < 4; count++) {
        client.request({ type: Command.read, cookie: 2, offset: 4096, lengthBytes: 8192 })
      }
      for (let count = 0; count < 4; count++) {
        assert.equal((await client.reply()).cookieLow, 2)
        await client.take(8192)
      }
    }
    settle.resolve()
    assert.equal((await client.reply()).cookieLow, 1)
    assert((await client.take(4096)).every((byte) => byte === 1))
    client.destroy()
  })

  it('does not touch replies that still wait for the client to read', async () => {
    const disk = new MemoryExport({ sizeBytes: 4 << 20 })
    for (let at = 0; at < disk.sizeBytes; at += 4) disk.bytes.writeUInt32BE(at, at)
    await using site = await serve([disk], { outputBytes: 8 << 20 })
    const client = await RawClient.open(site.path)
    client.socket.pause()
    const asked = Array.from({ length: 100 }, (_, cookie) => ({
      type: Command.read,
      cookie,
      offset: cookie * 30_000,
      lengthBytes: 30_000,
    }))
    client.send(Buffer.concat(asked.map(requestBytesOf)))
    await until(() => disk.calls.length === 100)
    client.socket.resume()
    for (const { cookie, offset, lengthBytes } of asked) {
      assert.equal((await client.reply()).cookieLow, cookie)
      assert((await client.take(lengthBytes)).equals(disk.bytes.subarray(offset, offset + lengthBytes)))
    }
    client.destroy()
  })

  it('answers what is at hand without waiting for what is not, in whatever order it comes', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^read (0|512) /)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.send(requests(4))
    const order: number[] = []
    const next = async () => {
      order.push((await client.reply()).cookieLow)
      await client.take(512)
    }
    await next()
    await next()
    gate.release(1)
    await next()
    gate.release(0)
    await next()
    assert.deepEqual(order, [2, 3, 1, 0])
    client.destroy()
  })

  it('keeps every reply whole when late and early reads of all sizes share the output', async () => {
    const disk = new MemoryExport({ sizeBytes: 1 << 20 })
    for (let at = 0; at < disk.sizeBytes; at += 4) disk.bytes.writeUInt32BE(at, at)
    disk.written.fill(1)
    let calls = 0
    disk.gate = () => (calls++ % 3 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined)
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    const sizes = [4, 512, 4096, 40_000, 41_000, 100_000]
    const asked = Array.from({ length: 200 }, (_, cookie) => ({
      type: Command.read,
      cookie,
      offset: cookie * 4096,
      lengthBytes: sizes[cookie % sizes.length]!,
    }))
    client.send(Buffer.concat(asked.map(requestBytesOf)))
    const seen = new Set<number>()
    for (let count = 0; count < asked.length; count++) {
      const { cookieLow, errorNumber } = await client.reply()
      const { offset, lengthBytes } = asked[cookieLow]!
      assert.equal(errorNumber, 0)
      assert(!seen.has(cookieLow))
      seen.add(cookieLow)
      assert((await client.take(lengthBytes)).equals(disk.bytes.subarray(offset, offset + lengthBytes)))
    }
    assert.equal(site.server.heldBytes, 0)
    client.destroy()
  })

  it('reads requests and payloads cut anywhere', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    const stream = Buffer.concat([
      requestBytesOf({ type: Command.write, cookie: 1, offset: 3, payload: Buffer.from('some bytes') }),
      requestBytesOf({ type: Command.read, cookie: 2, offset: 3, lengthBytes: 10 }),
    ])
    for (let cut = 1; cut < stream.length; cut++) {
      disk.bytes.fill(0)
      client.socket.setNoDelay(true)
      await new Promise((resolve) => client.socket.write(stream.subarray(0, cut), resolve))
      client.send(stream.subarray(cut))
      assert.equal((await client.reply()).cookieLow, 1)
      assert.equal((await client.reply()).cookieLow, 2)
      assert.equal((await client.take(10)).toString(), 'some bytes')
    }
    client.destroy()
  })

  it('hands a write’s bytes over where they lie, and they stay until a late answer', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^write/)
    disk.gate = gate.enter
    await using site = await serve([disk])
    const client = await RawClient.open(site.path)
    client.request({ type: Command.write, cookie: 1, payload: Buffer.alloc(4096, 1) })
    await gate.reached(1)
    for (let index = 0; index < 64; index++) client.request({ type: Command.trim, cookie: 2, lengthBytes: 1 })
    for (let index = 0; index < 64; index++) await client.reply()
    gate.release()
    assert.equal((await client.reply()).cookieLow, 1)
    assert(disk.bytes.subarray(0, 4096).every((byte) => byte === 1))
    client.destroy()
  })

  it('never sends memory that a handle forgot to fill', async () => {
    const forgetful: ExportHandle = {
      read: () => undefined,
      write: () => undefined,
      trim: () => undefined,
      writeZeroes: () => undefined,
      flush: () => undefined,
      cache: () => undefined,
      blockStatus: () => [],
      close: () => {},
    }
    const disk: Export = {
      id: 'disk',
      name: 'disk',
      description: '',
      sizeBytes: 1 << 20,
      readOnly: false,
      statuses: [],
      open: () => forgetful,
    }
    await using site = await serve([disk])
    for (const lengthBytes of [512, 4096, 32_768, 500_000]) {
      const client = await RawClient.open(site.path)
      client.request({ type: Command.read, lengthBytes })
      await client.reply()
      assert((await client.take(lengthBytes)).every((byte) => byte === 0))
      client.destroy()
    }
  })

  it('cuts a status to what was asked, and an empty one is EIO', async () => {
    const disk = new MemoryExport({ sizeBytes: 1 << 20 })
    for (let block = 0; block < 256; block += 2) disk.written[block] = 1
    await using site = await serve([disk], { extents: 16 })
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
    client.request({ type: Command.blockStatus, lengthBytes: 1 << 20 })
    assert.equal((await client.chunk()).payload.length, 4 + 16 * 8)
    disk.blockStatusFault = []
    client.request({ type: Command.blockStatus, lengthBytes: 4096 })
    assert.equal(decodeErrorPayload((await client.chunk()).payload).errorNumber, ErrorNumber.EIO)
    client.destroy()
  })
})
