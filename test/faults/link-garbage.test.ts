// Anybody at the peer port who is no peer: random bytes, HTTP, half a handshake, and connections that come and go.
// Promise 11: each is closed, and a peer beside them is served.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import type { Identity } from '../../src/peer/identity.ts'
import { linkProtocol, secureClient } from '../../src/peer/secure.ts'
import { handTimers } from '../hand-timers.ts'
import { randomOf } from '../link/pair.ts'
import { cleanUp, dial, gate, never, newIdentity, readToClose } from '../peer/sites.ts'

describe('faults: garbage at the peer port', () => {
  let osaka: Identity
  let tokyo: Identity
  before(async () => {
    osaka = await newIdentity()
    tokyo = await newIdentity()
  })
  afterEach(cleanUp)

  const welcome = async (port: number) =>
    secureClient(await dial(port), {
      identity: osaka,
      expectFingerprint: tokyo.fingerprint,
      alpn: linkProtocol,
      signal: never,
    })

  it('random bytes and other protocols are closed, and a peer beside them is served', async () => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
    const random = randomOf(seed)
    const at = await gate({ identity: tokyo, isPaired: (fingerprint) => fingerprint === osaka.fingerprint })
    for (let round = 0; round < 40; round++) {
      const noise = Buffer.from(
        Array.from({ length: 1 + Math.floor(random() * 600) }, () => Math.floor(random() * 256)),
      )
      // Some look like the beginning of TLS.
      if (random() < 0.5) noise.set([22, 3, 1].slice(0, noise.length))
      const socket = await dial(at.port)
      const closed = readToClose(socket)
      socket.end(round % 5 === 0 ? 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' : noise)
      const answer = await closed
      assert.ok(answer.length < 64, `SEED=${seed} round ${round}: ${answer.length} bytes came back`)
    }
    assert.equal(at.taken.length, 0, `SEED=${seed}`)
    const secured = await welcome(at.port)
    assert.equal(secured.fingerprint, tokyo.fingerprint)
  })

  it('a connection cut at many places of a good handshake harms nobody', async () => {
    const at = await gate({ identity: tokyo, isPaired: () => true })
    for (let bytes = 0; bytes < 260; bytes += 13) {
      const socket = await dial(at.port)
      const write = socket.write.bind(socket) as (chunk: Buffer) => boolean
      const securing = secureClient(socket, {
        identity: osaka,
        expectFingerprint: tokyo.fingerprint,
        alpn: linkProtocol,
        signal: never,
        deadlineMs: 1000,
      })
      securing.catch(() => {})
      write(Buffer.alloc(bytes, 1))
      socket.destroy()
      await assert.rejects(securing)
    }
    assert.equal(at.taken.length, 0)
    await welcome(at.port)
  })

  it('the oldest handshake makes room for a new one, and none lasts for ever', async () => {
    using timers = handTimers()
    const limits = { newcomers: 8, firstByteMs: 3000, negotiationMs: 10_000 }
    const at = await gate({ identity: tokyo, isPaired: () => true, limits })
    const first = await dial(at.port)
    const silent: Socket[] = []
    while (silent.length < limits.newcomers) silent.push(await dial(at.port))
    assert.equal((await readToClose(first)).length, 0)
    assert.match(String(await at.next()), /a newer connection needed the place/)
    await welcome(at.port)
    const closed = silent.slice(1).map(readToClose)
    timers.pass(3000)
    await Promise.all(closed)
    await welcome(at.port)
  })
})
