// Simulates a client that asks and asks, and never reads an answer.

import assert from 'node:assert/strict'
import { Command } from '../../src/nbd/wire/constants.ts'
import { RawClient, requestBytesOf, serve, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

const mebibyte = 1024 * 1024

function reads(count: number, lengthBytes: number): Buffer {
  return Buffer.concat(
    Array.from({ length: count }, (_, cookie) => requestBytesOf({ type: Command.read, cookie, lengthBytes })),
  )
}

describe('nbd faults: replies unread', () => {
  it('hold the client back at a bound, and it gets all of them once it reads', async () => {
    const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
    await using site = await serve([disk], { outputBytes: mebibyte })
    const client = await RawClient.open(site.path)
    client.socket.pause()
    client.send(reads(200, mebibyte / 2))
    await until(() => site.server.heldBytes > mebibyte)
    const other = await RawClient.open(site.path)
    for (let round = 0; round < 20; round++) {
      other.request({ type: Command.flush })
      await other.reply()
    }
    const begun = disk.calls.filter((call) => call.startsWith('read')).length
    // Pieces of a quarter of a mebibyte: what is queued, and what the kernel has taken.
    assert(begun <= 16, `${begun} pieces begun`)
    assert(site.server.heldBytes <= 3 * mebibyte)
    client.socket.resume()
    for (let cookie = 0; cookie < 200; cookie++) {
      assert.equal((await client.reply()).cookieLow, cookie)
      await client.take(mebibyte / 2)
    }
    await until(() => site.server.heldBytes === 0)
    client.destroy()
    other.destroy()
  })

  it('of small requests that fail hold the client back too', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk], { outputBytes: 128 * 1024 })
    const client = await RawClient.open(site.path, { structured: true })
    client.socket.pause()
    const refused = requestBytesOf({ type: Command.trim, offset: 1 << 30, lengthBytes: 1 })
    client.send(Buffer.concat(Array.from({ length: 100_000 }, () => refused)))
    await until(() => site.server.heldBytes > 128 * 1024)
    const other = await RawClient.open(site.path)
    for (let round = 0; round < 50; round++) {
      other.request({ type: Command.flush })
      await other.reply()
    }
    assert(site.server.heldBytes < mebibyte, `${site.server.heldBytes} bytes held`)
    client.destroy()
    other.destroy()
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
  })

  it('that hold the server’s memory get their client dropped when another needs it', async () => {
    const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
    await using site = await serve([disk], { serverBytes: 4 * mebibyte, outputBytes: 64 * mebibyte, memoryWaitMs: 30 })
    const greedy = await RawClient.open(site.path)
    greedy.socket.pause()
    greedy.send(reads(64, mebibyte / 4))
    await until(() => site.server.heldBytes > 2 * mebibyte)
    const modest = await RawClient.open(site.path)
    modest.request({ type: Command.read, lengthBytes: mebibyte })
    assert.equal((await modest.reply()).errorNumber, 0)
    await modest.take(mebibyte)
    await until(() => site.server.heldBytes === 0)
    assert(site.log.some(({ level, message }) => level === 'warn' && message.includes('held the most memory')))
    modest.destroy()
    greedy.destroy()
  })

  it('do not keep a stop from ending: a drain gives the client its time to read, then goes', async () => {
    for (const structured of [false, true]) {
      const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
      disk.written.fill(1)
      await using site = await serve([disk], { lingerMs: 50 })
      const client = await RawClient.open(site.path, { structured })
      client.socket.pause()
      client.send(reads(4, 4 * mebibyte))
      await until(() => site.server.heldBytes > 0)
      await site.server.stop({ drain: true })
      assert.equal(site.server.sessions, 0)
      assert.equal(site.server.heldBytes, 0)
      assert.deepEqual(disk.closes, ['broken'])
      client.destroy()
    }
  })

  it('that are read at last come whole, while the server drains', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    disk.written.fill(1)
    disk.bytes.fill(7)
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true })
    client.socket.pause()
    client.send(reads(1, 8 * mebibyte))
    await until(() => site.server.heldBytes > 0)
    const stopped = site.server.stop({ drain: true })
    client.socket.resume()
    assert((await client.dataChunks()).equals(disk.bytes))
    await client.closed
    await stopped
  })
})
