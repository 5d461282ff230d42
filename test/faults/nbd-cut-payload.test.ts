// Simulates clients that announce a large write and stop within it: hanging up, or holding what they have begun.

import assert from 'node:assert/strict'
import { Command } from '../../src/nbd/constants.ts'
import { RawClient, requestBytesOf, serve, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

const mebibyte = 1024 * 1024

/** The head of a write of `lengthBytes` and the first `sentBytes` of its payload. */
function begun(lengthBytes: number, sentBytes: number): Buffer {
  return Buffer.concat([requestBytesOf({ type: Command.write, lengthBytes }), Buffer.alloc(sentBytes, 1)])
}

describe('nbd faults: a payload cut midway', () => {
  it('writes nothing, closes the handle as broken, and gives its memory back', async () => {
    const disk = new MemoryExport({ sizeBytes: 64 * mebibyte })
    await using site = await serve([disk])
    for (const sentBytes of [0, 1, 100_000, 3_000_000]) {
      const client = await RawClient.open(site.path)
      client.socket.end(begun(8 * mebibyte, sentBytes))
      await client.closed
    }
    await disk.closed(4)
    assert.deepEqual(disk.closes, ['broken', 'broken', 'broken', 'broken'])
    assert.deepEqual(disk.calls, [])
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
  })

  it('costs memory by what arrived, not by what was announced', async () => {
    const disk = new MemoryExport({ sizeBytes: 64 * mebibyte })
    await using site = await serve([disk])
    const clients: RawClient[] = []
    for (let count = 0; count < 20; count++) {
      const client = await RawClient.open(site.path)
      client.send(begun(64 * mebibyte, 1))
      clients.push(client)
    }
    await until(() => site.server.heldBytes > 0)
    const other = await RawClient.open(site.path)
    other.request({ type: Command.flush })
    await other.reply()
    assert(site.server.heldBytes <= 20 * 64 * 1024, `${site.server.heldBytes} bytes held`)
    clients[0]!.send(Buffer.alloc(5 * mebibyte))
    await until(() => site.server.heldBytes > 5 * mebibyte)
    assert(site.server.heldBytes <= 11 * mebibyte)
    for (const client of [...clients, other]) client.destroy()
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
  })

  it('that holds the server’s memory is dropped when another client needs it', async () => {
    const disk = new MemoryExport({ sizeBytes: 64 * mebibyte })
    await using site = await serve([disk], { serverBytes: 8 * mebibyte, memoryWaitMs: 30 })
    const greedy = await RawClient.open(site.path)
    greedy.send(begun(64 * mebibyte, 5 * mebibyte))
    await until(() => site.server.heldBytes === 8 * mebibyte)
    const modest = await RawClient.open(site.path)
    modest.request({ type: Command.write, payload: Buffer.alloc(mebibyte, 2) })
    await greedy.closed
    assert.equal((await modest.reply()).errorNumber, 0)
    assert.equal(disk.bytes[mebibyte - 1], 2)
    assert.equal(site.server.heldBytes, 0)
    assert(site.log.some(({ level, message }) => level === 'warn' && message.includes('held the most memory')))
    modest.destroy()
  })
})
