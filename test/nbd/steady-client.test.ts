// The client that mends its connections: what it repeats, what it never repeats, how long it waits, and whom it believes.

import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { NbdChangedError, NbdConnectionError, NbdRequestError } from '../../src/nbd/client/errors.ts'
import { repeatsMax, SteadyNbdClient, type SteadyOptions } from '../../src/nbd/client/steady-client.ts'
import { firstRestMs, restMaxMs } from '../../src/nbd/client/steady-connection.ts'
import { Command, ErrorNumber, TransmissionFlag } from '../../src/nbd/wire/constants.ts'
import { Gate, serve, until } from './harness.ts'
import { MemoryExport } from './memory-export.ts'
import { type Answer, bytesAt, goodAnswer, manyFlags, scriptedServer, simpleReply } from './scripted-server.ts'

/** Time passes only by sleeping, and sleeping takes none. */
function fastClock(): { nowMs(): number; sleep(ms: number): Promise<void>; readonly slept: number[] } {
  const slept: number[] = []
  let now = 0
  return {
    slept,
    nowMs: () => now,
    sleep: async (durationMs) => {
      slept.push(durationMs)
      now += durationMs
      await turn()
    },
  }
}

async function open(uri: string, options: SteadyOptions = {}): Promise<SteadyNbdClient & AsyncDisposable> {
  const client = await SteadyNbdClient.connect(uri, { clock: fastClock(), ...options })
  return Object.assign(client, { [Symbol.asyncDispose]: async () => client.destroy() })
}

/** Hangs up at the first `times` requests of a kind, and answers all others. */
function breaksAt(type: number, times: number): (request: Parameters<typeof goodAnswer>[0]) => Answer {
  let left = times
  return (request) => (request.type === type && left-- > 0 ? 'hang up' : goodAnswer(request))
}

describe('steady nbd client', () => {
  describe('several connections', () => {
    it('spreads requests over as many as were asked for', async () => {
      const disk = new MemoryExport()
      const gate = new Gate(/^read/)
      disk.gate = gate.enter
      await using site = await serve([disk])
      await using client = await open(site.uri, { connections: 3 })
      const reads = [client.read(0, 512), client.read(512, 512)]
      await until(() => disk.opens === 3)
      for (let at = 0; at < 10; at++) reads.push(client.read(at * 512, 512))
      await gate.reached(12)
      gate.releaseAll()
      await Promise.all(reads)
      await until(() => site.server.sessions === 3)
    })

    it('is content with one where the server does not say CAN_MULTI_CONN', async () => {
      await using server = await scriptedServer()
      await using client = await open(server.uri, { connections: 8 })
      await Promise.all(Array.from({ length: 20 }, (_, index) => client.read(index * 512, 512)))
      assert.equal(server.connections, 1)
    })

    it('goes on with those that it has when a server takes no more', async () => {
      const disk = new MemoryExport()
      await using site = await serve([disk], { connections: 2 })
      await using client = await open(site.uri, { connections: 4 })
      for (let round = 0; round < 10; round++) {
        await Promise.all(Array.from({ length: 10 }, (_, index) => client.read(index * 512, 512)))
      }
      assert.equal(disk.opens, 2)
    })

    it('flushes over every connection that carried a write', async () => {
      const flags = manyFlags | TransmissionFlag.canMultiConn
      const flushed: number[] = []
      const used = new Set<number>()
      await using server = await scriptedServer({
        flags,
        answer: (request, connection) => {
          used.add(connection)
          if (request.type === Command.flush) flushed.push(connection)
          return goodAnswer(request)
        },
      })
      await using client = await open(server.uri, { connections: 2 })
      const readMany = () => Promise.all(Array.from({ length: 8 }, (_, index) => client.read(index * 512, 512)))
      while (used.size < 2) await readMany()
      await Promise.all(Array.from({ length: 8 }, (_, index) => client.write(index * 512, Buffer.alloc(512))))
      await client.flush()
      assert.deepEqual(flushed.sort(), [1, 2])
      await client.flush()
      assert.equal(flushed.length, 3, 'nothing was written since: one flush is enough')
    })
  })

  describe('after a break', () => {
    it('asks again for what was being read, over a new connection', async () => {
      await using server = await scriptedServer({ answer: breaksAt(Command.read, 1) })
      await using client = await open(server.uri)
      const reads = [client.read(0, 1024), client.read(4096, 512)]
      assert.deepEqual(await reads[0], bytesAt(0, 1024))
      assert.deepEqual(await reads[1], bytesAt(4096, 512))
      assert.equal(server.connections, 2)
    })

    it('a break between requests is not seen by the next one', async () => {
      await using server = await scriptedServer()
      await using client = await open(server.uri)
      await client.read(0, 512)
      server.dropAll()
      assert.deepEqual(await client.read(512, 512), bytesAt(512, 512))
    })

    it('gives up a request that breaks every connection', async () => {
      await using server = await scriptedServer({ answer: breaksAt(Command.read, Number.POSITIVE_INFINITY) })
      await using client = await open(server.uri)
      await assert.rejects(client.read(0, 512), NbdConnectionError)
      assert.equal(server.connections, repeatsMax + 1)
      await client.flush()
    })

    it('gives up a server that lies over every connection', async () => {
      await using server = await scriptedServer({ answer: () => Buffer.alloc(64, 0x77) })
      await using client = await open(server.uri)
      await assert.rejects(client.read(0, 512), /breaks the NBD protocol: .*magic/)
      assert.equal(server.connections, repeatsMax + 1)
    })

    it('takes a server that falls silent for one that is gone', async () => {
      let silent = true
      await using server = await scriptedServer({
        answer: (request) => {
          const answer = silent ? 'leave' : goodAnswer(request)
          silent = false
          return answer
        },
      })
      await using client = await open(server.uri, { requestTimeoutMs: 100 })
      assert.deepEqual(await client.read(0, 512), bytesAt(0, 512))
      assert(server.connections >= 2) // On a busy machine it may find the second one silent, too.
    })

    it('waits for the server, longer after each failure, and gives up in time', async () => {
      const clock = fastClock()
      await using server = await scriptedServer()
      await using client = await open(server.uri, { clock, reconnectForMs: 30_000, random: () => 1 })
      server.close()
      server.dropAll()
      await assert.rejects(client.read(0, 512), (error: Error) => {
        return error instanceof NbdConnectionError && /did not come back: .*(ENOENT|ECONNREFUSED)/.test(error.message)
      })
      const doubling = [
        firstRestMs,
        firstRestMs * 2,
        firstRestMs * 4,
        firstRestMs * 8,
        firstRestMs * 16,
        firstRestMs * 32,
      ]
      assert.deepEqual(clock.slept.slice(0, 6), doubling)
      assert.equal(Math.max(...clock.slept), restMaxMs)
      assert.equal(clock.nowMs(), 30_000)
    })

    it('stops waiting at the signal, and when it is destroyed', async () => {
      const clock = { nowMs: () => 0, sleep: (_: number, signal: AbortSignal) => aborted(signal) }
      await using server = await scriptedServer()
      await using client = await open(server.uri, { clock })
      server.close()
      server.dropAll()
      const controller = new AbortController()
      const read = client.read(0, 512, { signal: controller.signal })
      const other = client.read(0, 512)
      controller.abort(new Error('enough'))
      await assert.rejects(read, /enough/)
      client.destroy(new Error('over'))
      await assert.rejects(other, /over/)
      await assert.rejects(client.read(0, 512), /over/)
    })

    it('never sends a write again: what became of it is not known', async () => {
      for (const type of [Command.write, Command.trim, Command.writeZeroes]) {
        await using server = await scriptedServer({ answer: breaksAt(type, 1) })
        await using client = await open(server.uri)
        const changes = {
          [Command.write]: () => client.write(0, Buffer.alloc(512)),
          [Command.trim]: () => client.trim(0, 512),
          [Command.writeZeroes]: () => client.writeZeroes(0, 512),
        }
        await assert.rejects(changes[type]!(), NbdConnectionError)
        await assert.rejects(client.read(0, 512), /may be lost/)
        assert.equal(server.requests.length, 1)
        assert.equal(server.connections, 1)
      }
    })

    it('is over when an answered write was not flushed: a server that crashed has lost it', async () => {
      await using server = await scriptedServer({ answer: breaksAt(Command.read, 1) })
      await using client = await open(server.uri)
      await client.write(0, Buffer.alloc(512))
      await assert.rejects(client.read(0, 512), /may be lost/)
      await assert.rejects(client.flush(), /may be lost/)
    })

    it('is over when the flush itself breaks', async () => {
      await using server = await scriptedServer({ answer: breaksAt(Command.flush, 1) })
      await using client = await open(server.uri)
      await client.write(0, Buffer.alloc(512))
      await assert.rejects(client.flush(), NbdConnectionError)
      await assert.rejects(client.read(0, 512), /may be lost/)
    })

    it('goes on when all that was written is durable: flushed, with FUA, or refused by the server', async () => {
      await using server = await scriptedServer({
        answer: (request) =>
          request.type === Command.trim ? simpleReply(request, ErrorNumber.ENOSPC) : goodAnswer(request),
      })
      await using client = await open(server.uri)
      await client.write(0, Buffer.alloc(512))
      await client.flush()
      await client.write(0, Buffer.alloc(512), { fua: true })
      await assert.rejects(client.trim(0, 512), NbdRequestError)
      server.dropAll()
      assert.deepEqual(await client.read(0, 512), bytesAt(0, 512))
    })

    it('a flush covers no write that was answered after it was sent', async () => {
      const gate = new Gate(/^flush/)
      const disk = new MemoryExport()
      disk.gate = gate.enter
      await using site = await serve([disk])
      await using client = await open(site.uri, { connections: 1 })
      await client.write(0, Buffer.alloc(512))
      const flushing = client.flush()
      await gate.reached(1)
      await client.write(512, Buffer.alloc(512))
      gate.release()
      await flushing
      await site.server.stop({ drain: false })
      await assert.rejects(client.read(0, 512), /may be lost/)
    })

    it('believes no server that comes back with another size, other flags or other blocks', async () => {
      const changes: [Partial<Parameters<typeof scriptedServer>[0] & object>, RegExp][] = [
        [{ sizeBytes: 1 << 19 }, /its bytes were 1048576 and are 524288/],
        [{ flags: manyFlags | TransmissionFlag.readOnly }, /its flags were/],
        [{ blockSize: [512, 4096, 1 << 20] }, /its smallest block were 1 and are 512/],
      ]
      for (const [change, message] of changes) {
        await using server = await scriptedServer()
        await using client = await open(server.uri)
        Object.assign(server.script, change)
        server.dropAll()
        await assert.rejects(client.read(0, 512), (error: Error) => {
          return error instanceof NbdChangedError && message.test(error.message)
        })
        await assert.rejects(client.read(0, 512), NbdChangedError)
      }
    })
  })

  describe("the server's block sizes", () => {
    it('reads are aligned and cut to them, and bring what was asked for', async () => {
      await using server = await scriptedServer({ blockSize: [512, 4096, 2048] })
      await using client = await open(server.uri)
      assert.deepEqual(await client.read(700, 3000), bytesAt(700, 3000))
      assert.deepEqual(server.requests, ['read 512 2048', 'read 2560 1536'])
      assert.equal((await client.read(100, 0)).length, 0)
      await client.cache(1, 1)
      assert.equal(server.requests.at(-1), 'cache 0 512')
    })

    it('writes are cut to them, and refused when they are not aligned', async () => {
      await using server = await scriptedServer({ blockSize: [512, 4096, 2048] })
      await using client = await open(server.uri)
      await client.write(512, Buffer.alloc(3072))
      assert.deepEqual(server.requests, ['write 512 2048', 'write 2560 1024'])
      await assert.rejects(client.write(100, Buffer.alloc(512)), RangeError)
      await assert.rejects(client.trim(0, 100), RangeError)
    })

    it('a server whose constraints cannot be kept is refused', async () => {
      const impossible: [readonly [number, number, number], number][] = [
        [[3, 4096, 1 << 20], 1 << 20],
        [[1 << 20, 1 << 20, 1 << 20], 1 << 20],
        [[4096, 4096, 512], 1 << 20],
        [[4096, 4096, 1 << 20], 5000],
      ]
      for (const [blockSize, sizeBytes] of impossible) {
        await using server = await scriptedServer({ blockSize, sizeBytes })
        await assert.rejects(open(server.uri), /block sizes cannot be kept/)
      }
    })
  })

  it('sends nothing that the server does not offer', async () => {
    await using server = await scriptedServer({ flags: TransmissionFlag.hasFlags })
    await using client = await open(server.uri)
    const asked = [
      () => client.trim(0, 512),
      () => client.writeZeroes(0, 512),
      () => client.cache(0, 512),
      () => client.flush(),
      () => client.write(0, Buffer.alloc(512), { fua: true }),
    ]
    for (const ask of asked) {
      await assert.rejects(
        ask(),
        (error: NbdRequestError) => error.code === 'ENOTSUP' && /does not offer/.test(error.message),
      )
    }
    assert.deepEqual(server.requests, [])
  })

  it('takes leave of the server on every connection', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    await using client = await open(site.uri, { connections: 2 })
    await client.read(0, 512)
    await client.disconnect()
    assert.deepEqual(disk.closes, ['disconnected'])
    await assert.rejects(client.read(0, 512), /DISC/)
  })

  it('is aborted while it connects', async () => {
    await using server = await scriptedServer()
    await assert.rejects(open(server.uri, { signal: AbortSignal.abort(new Error('before')) }), /before/)
  })
})

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
