// Simulates clients that announce a large write and stop within it: hanging up, or holding what they have begun.

import assert from 'node:assert/strict'
import { Command } from '../../src/nbd/wire/constants.ts'
import { RawClient, requestBytesOf, serve, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

const mebibyte = 1024 * 1024

/** The head of a write of `lengthBytes` and the first `sentBytes` of its payload. */
function begun(lengthBytes: number, sentBytes: number): Buffer {
  return Buffer.concat([requestBytesOf({ type: Command.write, lengthBytes }), Buffer.alloc(sentBytes, 1)])
}

describe('nbd faults: a payload cut midway', () => {
  it('writes at most what arrived, answers nothing, closes the handle as broken, and gives its memory back', async () => {
    const disk = new MemoryExport({ sizeBytes: 64 * mebibyte })
    await using site = await serve([disk])
    for (const [round, sentBytes] of [0, 1, 100_000, 3_000_000].entries()) {
      const client = await RawClient.open(site.path)
      client.socket.end(begun(8 * mebibyte, sentBytes))
      await client.closed
      assert.equal(client.leftBytes, 0)
      await disk.closed(round + 1)
      const written = disk.bytes.subarray(0, 8 * mebibyte).lastIndexOf(1) + 1
      assert(written <= sentBytes, `${written} bytes written of ${sentBytes} sent`)
    }
    assert.deepEqual(disk.closes, ['broken', 'broken', 'broken', 'broken'])
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
  })

  it('costs memory by what arrived, not by what was announced', async () => {
    const disk = new MemoryExport({ sizeBytes: 64 * mebibyte })
    await using site = await serve([disk])
    const clients: RawClient[] = []
    for (let count = 0; count < 20; count++) {
      const client = await RawClient.open(site.path)
      client.send(begun(64 * mebibyte, 4095))
      clients.push(client)
    }
    await until(() => site.server.heldBytes === 20 * 4095)
    const other = await RawClient.open(site.path)
    other.request({ type: Command.flush })
    await other.reply()
    clients[0]!.send(Buffer.alloc(5 * mebibyte))
    await until(() => disk.written[1279] === 1)
    assert(site.server.heldBytes <= 20 * 4095)
    for (const client of [...clients, other]) client.destroy()
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
  })
})
