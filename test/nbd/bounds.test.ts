// The bounds against clients that nobody vouches for.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { NbdServer } from '../../src/nbd/server/server.ts'
import { Command, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { encodeClientFlags, encodeInfoRequest, encodeOption } from '../../src/nbd/wire/negotiation-codecs.ts'
import { handTimers } from '../hand-timers.ts'
import { Gate, RawClient, recordingLog, requestBytesOf, serve, temporaryFolder, until } from './harness.ts'
import { catalogOf, MemoryExport } from './memory-export.ts'

const mebibyte = 1024 * 1024

describe('nbd bounds', () => {
  it('allows 32 options and one for each export, then hangs up', async () => {
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'other' })])
    const client = await RawClient.connect(site.path)
    await client.greet()
    for (let count = 0; count < 34; count++) await client.option(OptionType.structuredReply)
    client.send(encodeOption(OptionType.structuredReply))
    await client.closed
  })

  it('gives the place of a newcomer, and of a session, back on every way out', async () => {
    const disk = new MemoryExport()
    using timers = handTimers()
    await using site = await serve([disk], { connections: 1, newcomers: 1, negotiationMs: 10_000 })
    const waysOut: ((client: RawClient) => void)[] = [
      (client) => client.destroy(),
      (client) => client.send(encodeOption(OptionType.abort)),
      (client) => client.send(encodeOption(OptionType.exportName, Buffer.from('nothing'))),
      (client) => client.send(Buffer.alloc(64)),
      (client) => client.socket.end(),
      () => timers.pass(10_000),
    ]
    for (const leave of waysOut) {
      const client = await RawClient.connect(site.path)
      await client.greet()
      assert.equal(site.server.doors.at(-1)!.newcomers.size, 1)
      leave(client)
      await client.closed
      await until(() => site.server.sessions === 0)
      assert.equal(site.server.doors.at(-1)!.newcomers.size, 0)
    }
    const inTransmission: ((client: RawClient) => void)[] = [
      (client) => client.destroy(),
      (client) => client.disconnect(),
      (client) => client.send(Buffer.alloc(64)),
      (client) => client.socket.end(),
    ]
    for (const leave of inTransmission) {
      const client = await RawClient.open(site.path)
      const refused = await RawClient.connect(site.path)
      await refused.closed
      assert.equal(refused.leftBytes, 0)
      leave(client)
      await client.closed
      await until(() => site.server.sessions === 0)
    }
    assert.equal(disk.closes.length, inTransmission.length)
  })

  it('holds a connection’s place while a request of it still runs', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^flush/)
    disk.gate = gate.enter
    await using site = await serve([disk], { connections: 1 })
    const client = await RawClient.open(site.path)
    client.request({ type: Command.flush })
    await gate.reached(1)
    client.destroy()
    await client.closed
    const refused = await RawClient.connect(site.path)
    await refused.closed
    assert.deepEqual(disk.closes, [])
    assert.equal(site.server.refused?.count, 1)
    gate.release()
    await disk.closed(1)
    await until(() => site.server.sessions === 0)
  })

  it('refused connections are counted, and a line is logged for the 1st, 2nd, 4th of them and so on', async () => {
    await using site = await serve([new MemoryExport()], { connections: 1 })
    assert.equal(site.server.refused, null)
    const client = await RawClient.open(site.path)
    for (let count = 0; count < 5; count++) await (await RawClient.connect(site.path)).closed
    assert.equal(site.server.refused!.count, 5)
    assert(Date.parse(site.server.refused!.last) > 0)
    assert.equal(site.log.filter((line) => line.message.startsWith('connection refused: there are too many')).length, 3)
    client.destroy()
  })

  it('newcomers have places beside those of sessions: the oldest makes room for whoever comes', async () => {
    await using site = await serve([new MemoryExport()], { connections: 1, newcomers: 2 })
    const [first, second] = [await RawClient.connect(site.path), await RawClient.connect(site.path)]
    await Promise.all([first.greet(), second.greet()])
    const third = await RawClient.connect(site.path)
    await Promise.all([third.greet(), first.closed])
    assert.equal(site.server.refused, null)
    assert.equal(site.server.doors.at(-1)!.newcomers.counts.pushedOut?.count, 1)
    const reply = await second.go('disk')
    assert.equal(reply.at(-1)!.type, ReplyType.ack)
    const [refused] = await third.go('disk')
    assert.equal(refused!.type, ReplyType.errPolicy)
    assert.match(refused!.payload.toString(), /all 1 places for clients are taken here/)
    assert.equal(site.server.refused!.count, 1)
    for (const client of [second, third]) client.destroy()
  })

  it('no listener takes the places of another', async () => {
    await using site = await serve([new MemoryExport()], { connections: 1, newcomers: 1 })
    const tcp = await site.server.listen('nbd://127.0.0.1:0')
    const port = Number(new URL(tcp.uri).port)
    const idle = connect({ host: '127.0.0.1', port })
    const held = await NbdClient.connect(`nbd://127.0.0.1:${port}/disk`)
    const first = await RawClient.open(site.path)
    assert.deepEqual(
      site.server.doors.map(({ sessions }) => sessions),
      [0, 1, 1],
    )
    await held.disconnect()
    idle.destroy()
    first.destroy()
  })

  it('begins no more requests than the bound while none is answered, and goes on as they are', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^read/)
    disk.gate = gate.enter
    await using site = await serve([disk], { inFlightRequests: 4 })
    const client = await RawClient.open(site.path)
    for (let cookie = 0; cookie < 10; cookie++) client.request({ type: Command.read, cookie, lengthBytes: 512 })
    await gate.reached(4)
    // A second connection's round trip shows that the first was given its chance to do more.
    const other = await RawClient.open(site.path)
    other.request({ type: Command.flush })
    await other.reply()
    assert.equal(gate.waiting.length, 4)
    gate.release()
    await client.reply()
    await gate.reached(4)
    assert.equal(disk.calls.filter((call) => call.startsWith('read')).length, 5)
    disk.gate = undefined
    gate.releaseAll()
    await client.take(512)
    for (let count = 0; count < 9; count++) {
      await client.reply()
      await client.take(512)
    }
    client.destroy()
    other.destroy()
  })

  it('holds back a client that sent its requests together with GO', async () => {
    const disk = new MemoryExport()
    const gate = new Gate(/^read/)
    disk.gate = gate.enter
    await using site = await serve([disk], { inFlightRequests: 1 })
    const client = await RawClient.connect(site.path)
    await client.take(18)
    const read = (cookie: number) => requestBytesOf({ type: Command.read, cookie, lengthBytes: 512 })
    const go = encodeOption(OptionType.go, encodeInfoRequest({ exportName: 'disk', infos: [] }))
    client.send(Buffer.concat([encodeClientFlags(3), go, read(1), read(2)]))
    await gate.reached(1)
    client.send(read(3))
    await client.optionReplies()
    for (let cookie = 1; cookie <= 3; cookie++) {
      await gate.reached(1)
      assert.equal(gate.waiting.length, 1)
      gate.release()
      assert.equal((await client.reply()).cookieLow, cookie)
      await client.take(512)
    }
    assert.deepEqual(
      site.log.filter(({ level }) => level === 'error'),
      [],
    )
    client.destroy()
  })

  it('bounds the memory for answers, but lets one request alone exceed it', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    const gate = new Gate(/^read/)
    disk.gate = gate.enter
    await using site = await serve([disk], { inFlightBytes: mebibyte })
    const client = await RawClient.open(site.path)
    client.request({ type: Command.read, lengthBytes: 4 * mebibyte })
    client.request({ type: Command.read, lengthBytes: 600_000 })
    await gate.reached(16)
    assert(site.server.heldBytes >= 4 * mebibyte)
    const other = await RawClient.open(site.path)
    other.request({ type: Command.flush })
    await other.reply()
    assert.equal(gate.waiting.length, 16)
    gate.releaseAll()
    await client.take(16 + 4 * mebibyte)
    await gate.reached(3)
    gate.releaseAll()
    await client.take(16 + 600_000)
    await until(() => site.server.heldBytes === 0)
    client.destroy()
    other.destroy()
  })

  it('bounds the memory for payloads of writes that are not answered at once', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    const gate = new Gate(/^write/)
    disk.gate = gate.enter
    await using site = await serve([disk], { payloadBytes: mebibyte })
    const client = await RawClient.open(site.path)
    const payload = Buffer.alloc(4 * mebibyte)
    for (let at = 0; at < payload.length; at += 4) payload.writeUInt32BE(at, at)
    client.request({ type: Command.write, payload })
    await until(() => site.server.heldBytes > mebibyte)
    const other = await RawClient.open(site.path)
    for (let round = 0; round < 20; round++) {
      other.request({ type: Command.flush })
      await other.reply()
    }
    assert(site.server.heldBytes < 2 * mebibyte, `${site.server.heldBytes} bytes held`)
    disk.gate = undefined
    gate.releaseAll()
    await client.reply()
    assert(disk.bytes.subarray(0, payload.length).equals(payload))
    await until(() => site.server.heldBytes === 0)
    client.destroy()
    other.destroy()
  })

  it('gives every connection its turn: a flood of requests is begun in batches', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk], { batchRequests: 8 })
    const client = await RawClient.open(site.path)
    let turns = 0
    let isCounting = true
    const count = () => {
      turns++
      if (isCounting) setImmediate(count)
    }
    const seen = new Map<number, number>()
    disk.gate = () => {
      seen.set(turns, (seen.get(turns) ?? 0) + 1)
      return undefined
    }
    setImmediate(count)
    client.send(
      Buffer.concat(Array.from({ length: 200 }, () => requestBytesOf({ type: Command.trim, lengthBytes: 1 }))),
    )
    for (let index = 0; index < 200; index++) await client.reply()
    isCounting = false
    assert(
      [...seen.values()].every((begun) => begun <= 16),
      `begun in a turn: ${[...seen.values()]}`,
    )
    client.destroy()
  })

  describe('listeners', () => {
    const server = () => new NbdServer({ catalog: catalogOf(new MemoryExport()), log: recordingLog([]) })

    it('make a Unix socket 0600, and remove it', async () => {
      using folder = temporaryFolder()
      const path = join(folder.path, 'nbd.sock')
      const subject = server()
      await subject.listen(`nbd+unix:///?socket=${path}`)
      assert.equal(statSync(path).mode & 0o777, 0o600)
      await subject.stop({ drain: false })
      assert(!existsSync(path))
    })

    it('replace a stale socket, and refuse a live one or a file', async () => {
      using folder = temporaryFolder()
      const live = join(folder.path, 'live.sock')
      const first = server()
      await first.listen(`nbd+unix:///?socket=${live}`)
      const second = server()
      await assert.rejects(second.listen(`nbd+unix:///?socket=${live}`), /another server answers there/)
      const file = join(folder.path, 'file')
      writeFileSync(file, 'precious')
      await assert.rejects(second.listen(`nbd+unix:///?socket=${file}`), /is no socket/)
      assert(existsSync(file))
      await assert.rejects(second.listen(`nbd+unix:///?socket=/${'x'.repeat(120)}`), /at most 107 bytes/)

      const stale = join(folder.path, 'stale.sock')
      await leaveStale(stale)
      await second.listen(`nbd+unix:///?socket=${stale}`)
      const client = await RawClient.open(stale)
      client.destroy()
      await first.stop({ drain: false })
      await second.stop({ drain: false })
    })

    it('resolve port 0, and several serve at once', async () => {
      const subject = server()
      const uris = await Promise.all([subject.listen('nbd://127.0.0.1:0'), subject.listen('nbd://[::1]:0')])
      for (const { uri } of uris) assert.match(uri, /:[1-9][0-9]*$/)
      await subject.stop({ drain: false })
      await assert.rejects(subject.listen('nbd://127.0.0.1:0'), /stopping/)
    })
  })
})

/** A socket file whose server died without removing it: bound in a process that is gone. */
async function leaveStale(path: string): Promise<void> {
  const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  const child = spawn(process.execPath, ['-e', script, path])
  await once(child, 'exit')
  assert(existsSync(path))
}
