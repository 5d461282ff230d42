// Invite and join: who is let in, once, and only after the record is durable.

import assert from 'node:assert/strict'
import { type Identity, PeerError } from '../../src/peer/identity.ts'
import {
  decodeToken,
  encodeToken,
  Inviter,
  invitationLifeMs,
  type JoinOptions,
  join,
  maximumInvitations,
  type PairedPeer,
} from '../../src/peer/pairing.ts'
import { pairProtocol, type SecuredStream, secureClient } from '../../src/peer/secure.ts'
import { cleanUp, dial, gate, never, newIdentity, readToClose } from './sites.ts'

const notValid = { name: 'PeerError', code: 'pairing-refused', message: /not valid \(any more\)/ }

describe('peer pairing', () => {
  let osaka: Identity
  let tokyo: Identity
  before(async () => {
    osaka = await newIdentity()
    tokyo = await newIdentity()
  })
  afterEach(cleanUp)

  /** Tokyo invites. */
  async function inviting(admit: (peer: PairedPeer) => Promise<void> = async () => {}) {
    const clock = { nowMs: 1_000_000 }
    const admitted: PairedPeer[] = []
    const inviter = new Inviter({
      identity: tokyo,
      now: () => clock.nowMs,
      async admit(peer) {
        await admit(peer)
        admitted.push(peer)
      },
    })
    const at = await gate({ identity: tokyo, onPair: (secured) => void inviter.serve(secured).catch(() => {}) })
    const invite = () => decodeToken(inviter.invite({ address: `tcp://127.0.0.1:${at.port}`, name: 'tokyo' }).token)
    return { clock, admitted, inviter, invite, at }
  }

  const joining = (token: JoinOptions['token'], more: Partial<JoinOptions> = {}) =>
    join({ token, identity: osaka, name: 'osaka', signal: never, connect: (url) => dial(Number(url.port)), ...more })

  it('a token is read as it was written, and what is none is refused with a sentence', async () => {
    const { inviter } = await inviting()
    const { token } = inviter.invite({ address: 'tcp://10.0.0.1:7001', name: 'tokyo' })
    const decoded = decodeToken(` ${token}\n`)
    assert.equal(encodeToken(decoded), token)
    assert.deepEqual([decoded.address, decoded.fingerprint], ['tcp://10.0.0.1:7001', tokyo.fingerprint])
    for (const bad of [
      '',
      'vmstore-',
      'hello',
      token.slice(0, -9),
      `vmstore-${'A'.repeat(5000)}`,
      `vmstore-${btoa('[]')}`,
    ]) {
      assert.throws(() => decodeToken(bad), { code: 'token-invalid', message: /no token of/ })
    }
  })

  it('both learn who the other is, and the record is durable before the joiner hears of it', async () => {
    const order: string[] = []
    const { admitted, invite } = await inviting(async () => {
      await new Promise((resolve) => setImmediate(resolve))
      order.push('durable')
    })
    const token = invite()
    const inviterSeen = await joining(token, { address: 'tcp://10.9.9.9:1' })
    order.push('joined')
    assert.deepEqual(order, ['durable', 'joined'])
    const { fingerprint, siteId } = osaka
    assert.deepEqual(admitted, [{ fingerprint, siteId, name: 'osaka', address: 'tcp://10.9.9.9:1' }])
    assert.deepEqual(inviterSeen, {
      fingerprint: tokyo.fingerprint,
      siteId: tokyo.siteId,
      name: 'tokyo',
      address: token.address,
    })
  })

  it('promise 10: a secret opens once; used, expired and unknown ones get the same answer', async () => {
    const { clock, invite, admitted } = await inviting()
    const used = invite()
    await joining(used)
    await assert.rejects(joining(used), notValid)
    const expired = invite()
    clock.nowMs += invitationLifeMs
    await assert.rejects(joining(expired), notValid)
    await assert.rejects(joining({ ...invite(), secret: 'ab'.repeat(32) }), notValid)
    assert.equal(admitted.length, 1)
  })

  it('a secret is not spent while the record could not be made', async () => {
    let full = true
    const { invite, admitted } = await inviting(async () => {
      if (full) throw new Error('ENOSPC /secret')
    })
    const token = invite()
    await assert.rejects(joining(token), {
      code: 'pairing-refused',
      message: 'the inviting site could not keep a record',
    })
    full = false
    await joining(token)
    assert.equal(admitted.length, 1)
  })

  it('a refusal of the daemon reaches the joiner as its sentence', async () => {
    const { invite } = await inviting(async () => {
      throw new PeerError('peer-exists', 'a peer called osaka is there already')
    })
    await assert.rejects(joining(invite()), { message: 'a peer called osaka is there already' })
  })

  it('of two that use one secret at once, one is let in', async () => {
    const gateOpen = Promise.withResolvers<void>()
    const { invite, admitted } = await inviting(() => gateOpen.promise)
    const token = invite()
    const both = [joining(token), joining(token)]
    await Promise.race(both.map((each) => each.catch(() => {}))) // The refused one: the other waits for the record.
    gateOpen.resolve()
    const results = await Promise.allSettled(both)
    assert.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'rejected'])
    assert.equal(admitted.length, 1)
  })

  it('at most sixteen invitations are open', async () => {
    const { inviter, clock } = await inviting()
    const one = () => inviter.invite({ address: 'tcp://h:1', name: 'tokyo' })
    for (let count = 0; count < maximumInvitations; count++) one()
    assert.throws(one, { code: 'invitations-full' })
    clock.nowMs += invitationLifeMs
    one()
  })

  it('a token does not work against another key than the one it names', async () => {
    const { invite, admitted } = await inviting()
    await assert.rejects(joining({ ...invite(), fingerprint: 'ab'.repeat(32) }), { code: 'peer-wrong-key' })
    assert.equal(admitted.length, 0)
  })

  it('promise 10: a proof seen in one session is worth nothing in another', async () => {
    const { invite, admitted, at } = await inviting()
    const token = invite()
    // A joiner is made to speak to a gate that holds the inviter's key but not the secret's list: its proof is recorded.
    const seen = Promise.withResolvers<Buffer>()
    const trap = await gate({ identity: tokyo, onPair: ({ stream }) => stream.once('data', seen.resolve) })
    const control = new AbortController()
    const lured = joining({ ...token, address: `tcp://127.0.0.1:${trap.port}` }, { signal: control.signal })
    const recorded = await seen.promise
    control.abort()
    await assert.rejects(lured)
    const secured = await replay(at.port, osaka, recorded)
    assert.match((await readToClose(secured.stream)).toString(), /"refused"/)
    assert.equal(admitted.length, 0)
    await joining(token)
  })

  async function replay(port: number, identity: Identity, line: Buffer): Promise<SecuredStream> {
    const expectFingerprint = tokyo.fingerprint
    const secured = await secureClient(await dial(port), {
      identity,
      expectFingerprint,
      alpn: pairProtocol,
      signal: never,
    })
    secured.stream.write(line)
    return secured
  }

  it('an inviter that cannot prove the secret is not believed', async () => {
    const { invite } = await inviting()
    const answer = { type: 'welcome', proof: 'cd'.repeat(32), name: 'tokyo', address: 'tcp://h:1' }
    const trap = await gate({
      identity: tokyo,
      onPair: ({ stream }) => stream.once('data', () => stream.write(`${JSON.stringify(answer)}\n`)),
    })
    const token = { ...invite(), address: `tcp://127.0.0.1:${trap.port}` }
    await assert.rejects(joining(token), { code: 'pairing-failed', message: /did not prove/ })
  })

  it('promise 11: garbage, long lines and half lines on the pairing protocol are refused or closed', async () => {
    const { at, invite, admitted } = await inviting()
    const token = invite()
    for (const bad of ['{}\n', 'null\n', '\n', 'x'.repeat(5000), '{"type":"join"}\n', '\u0000\n']) {
      const secured = await replay(at.port, osaka, Buffer.from(bad))
      const answer = (await readToClose(secured.stream)).toString()
      assert.ok(answer === '' || answer.includes('"refused"'), `${bad.slice(0, 20)} got ${answer}`)
    }
    assert.equal(admitted.length, 0)
    await joining(token)
  })

  it('a site does not pair with itself', async () => {
    const { invite } = await inviting()
    await assert.rejects(joining(invite(), { identity: tokyo }), { code: 'pairing-refused', message: /this very site/ })
  })
})
