// A connection that is negotiated here and used by another: what the kernel's NBD client is given.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, Socket } from 'node:net'
import { type BareConnection, openBare, openBareOver } from '../../src/nbd/client/bare-connection.ts'
import { NbdConnectionError, NbdRefusedError } from '../../src/nbd/client/client.ts'
import { Command, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { encodeGreeting, encodeInfoExport, encodeOptionReply } from '../../src/nbd/wire/negotiation-codecs.ts'
import { decodeReplyHeader, encodeRequest, requestOf } from '../../src/nbd/wire/transmission-codecs.ts'
import { parseNbdUri } from '../../src/nbd/wire/uri.ts'
import { serve, type TestServer, uriOf } from './harness.ts'
import { MemoryExport } from './memory-export.ts'
import { rawServer } from './raw-server.ts'

const open = (server: TestServer, name = 'disk') => openBare(parseNbdUri(uriOf(server, name)))

/** As the kernel does: a hold of its own of the descriptor, and ours is closed. */
async function firstSector({ fd }: BareConnection): Promise<{ header: unknown; bytes: Buffer }> {
  const socket = new Socket({ fd })
  try {
    socket.write(encodeRequest(requestOf(Command.read, 0, 7, 0, 512)))
    let reply = Buffer.alloc(0)
    while (reply.length < 16 + 512) reply = Buffer.concat([reply, ((await once(socket, 'data')) as [Buffer])[0]])
    return { header: decodeReplyHeader(reply, 0), bytes: reply.subarray(16) }
  } finally {
    socket.destroy()
  }
}

describe('a bare connection', () => {
  it('lives on when we have let go of ours; nothing was read of it, and its replies are simple', async () => {
    const disk = new MemoryExport()
    disk.bytes.fill('x')
    await using server = await serve([disk])
    const viaUri = await open(server)
    const viaSocket = await openBareOver(connect(server.path), 'disk')
    assert.equal(viaUri.info.sizeBytes, disk.sizeBytes)
    assert.equal(server.server.sessions, 2)
    for (const connection of [viaUri, viaSocket]) {
      const { header, bytes } = await firstSector(connection)
      assert.deepEqual(header, { kind: 'simple', errorNumber: 0, cookieHigh: 0, cookieLow: 7 })
      assert.equal(bytes.toString(), 'x'.repeat(512))
    }
  })

  it('over TCP too', async () => {
    await using server = await serve([new MemoryExport()])
    const { uri } = await server.server.listen('nbd://127.0.0.1:0')
    const connection = await openBare(parseNbdUri(`${uri}/disk`))
    assert.deepEqual((await firstSector(connection)).bytes, Buffer.alloc(512))
  })

  it('of a server that refuses is none, and the connection is closed', async () => {
    await using server = await serve([new MemoryExport()])
    await assert.rejects(open(server, 'other'), NbdRefusedError)
    await server.server.stop({ drain: true }) // Ends when no session is left.
  })

  it('of a server that speaks on behind the negotiation is none: those bytes would be missing', async () => {
    const go = (type: number, payload?: Buffer) => encodeOptionReply(OptionType.go, type, payload)
    const all = [encodeGreeting(), go(ReplyType.info, encodeInfoExport(4096, 1)), go(ReplyType.ack), Buffer.from('x')]
    await using server = await rawServer((socket) => {
      socket.write(Buffer.concat(all))
      socket.resume()
    })
    await assert.rejects(openBare(parseNbdUri(server.uri)), (error) => {
      assert(error instanceof NbdConnectionError)
      return /behind the end of the negotiation/.test(error.message)
    })
  })
})
