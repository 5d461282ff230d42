// Simulates hosts without an invitation that connect as joiners do, with keys of their own, and never say a word, while an
// invitation is open: the site that was invited joins.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { loadIdentity } from '../../src/peer/identity.ts'
import { pairProtocol, secureClient } from '../../src/peer/secure.ts'
import { afterwards, endSitesAfterEach, folder, Site } from '../e2e/sites.ts'

const never = new AbortController().signal

describe('hostile: joiners that never speak', () => {
  endSitesAfterEach()

  it('the site that was invited joins beside 40 of them, and those are gone in time', async () => {
    const a = await Site.start('osaka', { flags: ['--newcomers', '32', '--newcomers-per-address', '32'] })
    const b = await Site.start('tokyo')
    const identity = await loadIdentity(folder())
    const { fingerprint } = await a.control.describe()
    const { token } = await a.control.invite({ name: 'tokyo' })
    const mute = Array.from({ length: 40 }, async () => {
      const socket = connect(a.peerPort, '127.0.0.1')
      afterwards(() => socket.destroy())
      const terms = { identity, expectFingerprint: fingerprint, alpn: pairProtocol, signal: never }
      const { stream } = await secureClient(socket, terms)
      stream.on('error', () => {})
      return stream.resume()
    })
    const streams = (await Promise.allSettled(mute)).flatMap((each) => (each.status === 'fulfilled' ? each.value : []))
    assert(streams.length >= 32, `${streams.length} of them hold a place`)
    await b.control.join({ token, name: 'osaka' })
    assert.equal((await a.control.listPeers()).length, 1)
    await Promise.all(streams.map((stream) => stream.destroyed || new Promise((gone) => stream.once('close', gone))))
  })
})
