// Long requests go piece by piece: what a piece may do to the others, to the answer, and to the memory they lie in.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { GuestError } from '../../src/guest/export.ts'
import { ChunkFlag, ChunkType, Command, CommandFlag, ErrorNumber, OptionType } from '../../src/nbd/wire/constants.ts'
import { decodeErrorPayload } from '../../src/nbd/wire/transmission-codecs.ts'
import { seededRandom } from '../random.ts'
import { Gate, RawClient, requestBytesOf, serve, until } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

const mebibyte = 1024 * 1024
const quarter = mebibyte / 4

/** Every byte of it written, and each word another. */
function numberedDisk(sizeBytes: number): MemoryExport {
  const disk = new MemoryExport({ sizeBytes })
  for (let at = 0; at + 4 <= sizeBytes; at += 4) disk.bytes.writeUInt32BE(at, at)
  disk.written.fill(1)
  return disk
}

describe('nbd pieces', () => {
  describe('of a read', () => {
    it('leave as they come, in any order, and only the last says DONE', async () => {
      const disk = numberedDisk(4 * mebibyte)
      const gate = new Gate(/^read (0|524288) /)
      disk.gate = gate.enter
      await using site = await serve([disk])
      const client = await RawClient.open(site.path, { structured: true })
      client.request({ type: Command.read, cookie: 7, lengthBytes: mebibyte })
      const offsets: number[] = []
      const next = async (isLast: boolean) => {
        const { type, flags, cookieLow, payload } = await client.chunk()
        assert.equal(type, ChunkType.offsetData)
        assert.equal(cookieLow, 7)
        assert.equal((flags & ChunkFlag.done) !== 0, isLast)
        const offset = Number(payload.readBigUInt64BE(0))
        offsets.push(offset)
        assert(payload.subarray(8).equals(disk.bytes.subarray(offset, offset + payload.length - 8)))
      }
      await next(false)
      await next(false)
      gate.release(1)
      await next(false)
      gate.release(0)
      await next(true)
      assert.deepEqual(offsets, [quarter, 3 * quarter, 2 * quarter, 0])
      await until(() => site.server.heldBytes === 0)
      client.destroy()
    })

    it('that fails is answered with an error once the others have settled, and the connection goes on', async () => {
      const disk = numberedDisk(4 * mebibyte)
      const gate = new Gate(/^read (0|262144) /)
      disk.gate = gate.enter
      await using site = await serve([disk])
      const client = await RawClient.open(site.path, { structured: true })
      client.request({ type: Command.read, cookie: 7, lengthBytes: mebibyte })
      client.request({ type: Command.flush, cookie: 8 })
      assert.equal((await client.chunk()).type, ChunkType.offsetData)
      assert.equal((await client.chunk()).type, ChunkType.offsetData)
      assert.equal((await client.reply()).cookieLow, 8)
      gate.release(0, new GuestError('io', 'that piece is lost'))
      gate.release(0)
      assert.equal((await client.chunk()).flags & ChunkFlag.done, 0)
      const last = await client.chunk()
      assert.equal(last.type, ChunkType.error)
      assert.equal(last.flags, ChunkFlag.done)
      assert.equal(last.cookieLow, 7)
      assert.equal(decodeErrorPayload(last.payload).sentence, 'that piece is lost')
      client.request({ type: Command.flush, cookie: 9 })
      assert.equal((await client.reply()).cookieLow, 9)
      assert.equal(site.server.heldBytes, 0)
      client.destroy()
    })

    it('with DF, and of a simple reply, are one answer', async () => {
      const disk = numberedDisk(4 * mebibyte)
      await using site = await serve([disk])
      const structured = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
      structured.request({ type: Command.read, flags: CommandFlag.df, offset: 12, lengthBytes: 3_000_000 })
      const { flags, payload } = await structured.chunk()
      assert.equal(flags, ChunkFlag.done)
      assert(payload.subarray(8).equals(disk.bytes.subarray(12, 3_000_012)))
      const simple = await RawClient.open(site.path)
      simple.request({ type: Command.read, offset: 12, lengthBytes: 3_000_000 })
      assert.equal((await simple.reply()).errorNumber, 0)
      assert((await simple.take(3_000_000)).equals(disk.bytes.subarray(12, 3_000_012)))
      assert.equal(structured.leftBytes + simple.leftBytes, 0)
      await until(() => site.server.heldBytes === 0)
      structured.destroy()
      simple.destroy()
    })

    it('of a simple reply that fails are answered with the error alone', async () => {
      const disk = numberedDisk(4 * mebibyte)
      const gate = new Gate(/^read 262144 /)
      disk.gate = gate.enter
      await using site = await serve([disk])
      const client = await RawClient.open(site.path)
      client.request({ type: Command.read, cookie: 7, lengthBytes: mebibyte })
      await gate.reached(1)
      gate.release(0, new GuestError('no-space', 'not now'))
      assert.equal((await client.reply()).errorNumber, ErrorNumber.ENOSPC)
      client.request({ type: Command.flush, cookie: 9 })
      assert.equal((await client.reply()).cookieLow, 9)
      assert.equal(site.server.heldBytes, 0)
      client.destroy()
    })

    it('are dropped with their client, after those under way have settled', async () => {
      const disk = numberedDisk(8 * mebibyte)
      const gate = new Gate(/^read 0 /)
      disk.gate = gate.enter
      await using site = await serve([disk])
      const client = await RawClient.open(site.path, { structured: true })
      client.socket.pause()
      client.request({ type: Command.read, lengthBytes: 8 * mebibyte })
      await gate.reached(1)
      client.destroy()
      await client.closed
      assert.deepEqual(disk.closes, [])
      gate.release()
      await disk.closed(1)
      await until(() => site.server.sessions === 0 && site.server.heldBytes === 0)
      assert.deepEqual(
        site.log.filter(({ level }) => level === 'error'),
        [],
      )
    })

    it('are not begun for a client that broke off while the export was asked for holes', async () => {
      const disk = numberedDisk(8 * mebibyte)
      const gate = new Gate(/^status/)
      disk.gate = gate.enter
      const gone = Promise.withResolvers<void>()
      const open = disk.open.bind(disk)
      disk.open = (name) => Object.assign(open(name), { hangUp: () => gone.resolve() })
      await using site = await serve([disk])
      const { uri } = await site.server.listen('nbd://127.0.0.1:0')
      const socket = connect({ host: '127.0.0.1', port: Number(uri.split(':').at(-1)!.replace('/', '')) })
      await once(socket, 'connect')
      const client = RawClient.of(socket)
      await client.greet()
      await client.option(OptionType.structuredReply)
      await client.go('disk')
      client.request({ type: Command.read, lengthBytes: 8 * mebibyte })
      await gate.reached(1)
      socket.resetAndDestroy()
      await gone.promise
      gate.release()
      await disk.closed(1)
      assert(!disk.calls.some((call) => call.startsWith('read')))
      assert(!site.log.some(({ level }) => level === 'error'), 'a client that leaves is no error')
      await until(() => site.server.sessions === 0 && site.server.heldBytes === 0)
    })
  })

  describe('of a write', () => {
    it('go on one by one when there is memory for one alone', async () => {
      const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
      const gate = new Gate(/^write/)
      disk.gate = gate.enter
      await using site = await serve([disk], { payloadBytes: quarter })
      const client = await RawClient.open(site.path)
      client.request({ type: Command.write, payload: Buffer.alloc(mebibyte, 1) })
      client.request({ type: Command.flush, cookie: 2 })
      await gate.reached(1)
      // Another's round trips show that the next piece has come, and was held.
      const other = await RawClient.open(site.path)
      for (let round = 0; round < 4; round++) {
        other.request({ type: Command.flush })
        await other.reply()
      }
      await until(() => {
        gate.releaseAll()
        return client.leftBytes === 32
      })
      other.destroy()
      client.destroy()
    })

    it('end where a block ends, wherever the write begins', async () => {
      const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
      await using site = await serve([disk])
      const client = await RawClient.open(site.path)
      const payload = numberedDisk(3_000_000).bytes
      client.request({ type: Command.write, offset: 1001, payload })
      assert.equal((await client.reply()).errorNumber, 0)
      assert(disk.bytes.subarray(1001, 3_001_001).equals(payload))
      const ends = disk.calls.map((call) => Number(call.split(' ')[1]) + Number(call.split(' ')[2]))
      assert(ends.length >= 12)
      assert.equal(ends.pop(), 3_001_001)
      for (const end of ends) assert.equal(end % 4096, 0)
      client.destroy()
    })

    it('with FUA: the last one, which carries it, begins when the others are written', async () => {
      const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
      const gate = new Gate(/^write \d+ \d+$/)
      disk.gate = gate.enter
      await using site = await serve([disk])
      const client = await RawClient.open(site.path)
      client.request({ type: Command.write, flags: CommandFlag.fua, payload: Buffer.alloc(mebibyte, 1) })
      await gate.reached(3)
      const other = await RawClient.open(site.path)
      other.request({ type: Command.flush })
      await other.reply()
      assert(!disk.calls.some((call) => call.endsWith('fua')))
      gate.releaseAll()
      assert.equal((await client.reply()).errorNumber, 0)
      assert.match(disk.calls.at(-1)!, /^write \d+ \d+ fua$/)
      client.destroy()
      other.destroy()
    })

    it('after one that failed are consumed, not written, and the error is the answer', async () => {
      const disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
      const gate = new Gate(/^write 0 /)
      disk.gate = gate.enter
      await using site = await serve([disk], { inFlightRequests: 1 })
      const client = await RawClient.open(site.path)
      client.request({ type: Command.write, cookie: 7, payload: Buffer.alloc(2 * mebibyte, 1) })
      client.request({ type: Command.flush, cookie: 8 })
      await gate.reached(1)
      gate.release(0, new GuestError('no-space', 'full'))
      const { cookieLow, errorNumber } = await client.reply()
      assert.equal(cookieLow, 7)
      assert.equal(errorNumber, ErrorNumber.ENOSPC)
      assert.equal((await client.reply()).cookieLow, 8)
      assert.equal(disk.calls.filter((call) => call.startsWith('write')).length, 1)
      assert.equal(site.server.heldBytes, 0)
      client.destroy()
    })

    it('keep their bytes until a late answer, while the socket’s buffer is used for everybody', async () => {
      const seed = Date.now() >>> 0
      const random = seededRandom(seed)
      const disk = new MemoryExport({ sizeBytes: 16 * mebibyte })
      disk.takesAtOnce = (offset) => Math.floor(offset / 4096) % 3 === 0
      disk.gate = (call) => {
        const [kind, offset] = call.split(' ')
        const isLate = kind === 'write' && Math.floor(Number(offset) / 4096) % 3 !== 0
        return isLate ? new Promise((resolve) => setImmediate(resolve)) : undefined
      }
      await using site = await serve([disk])
      const expected = Buffer.alloc(disk.sizeBytes)
      const clients = await Promise.all([0, 1, 2, 3].map(() => RawClient.open(site.path)))
      await Promise.all(
        clients.map(async (client, index) => {
          const base = index * 4 * mebibyte
          const writes: Buffer[] = []
          for (let at = 0; at < 4 * mebibyte; ) {
            const lengthBytes = Math.min(1 + random.integer(random.chance(0.2) ? 700_000 : 9000), 4 * mebibyte - at)
            const payload = Buffer.alloc(lengthBytes, random.integer(256))
            payload.copy(expected, base + at)
            writes.push(requestBytesOf({ type: Command.write, offset: base + at, payload }))
            at += lengthBytes
          }
          const stream = Buffer.concat(writes)
          for (let at = 0; at < stream.length; ) {
            const cut = Math.min(stream.length, at + 1 + random.integer(random.chance(0.5) ? 300_000 : 5000))
            await new Promise((resolve) => client.socket.write(stream.subarray(at, cut), resolve))
            at = cut
          }
          for (const _ of writes) assert.equal((await client.reply()).errorNumber, 0)
        }),
      )
      assert(disk.bytes.equals(expected), `seed ${seed}`)
      assert.equal(site.server.heldBytes, 0)
      for (const client of clients) client.destroy()
    })
  })
})
