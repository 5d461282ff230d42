// A site of link protocol 1 or 2, made of raw frames: it is refused whichever side dials, and operators are told why, once.

import assert from 'node:assert/strict'
import { type Duplex, duplexPair } from 'node:stream'
import { type Frame, FrameDecoder } from '../../src/link/wire/frames.ts'
import type { Log } from '../../src/transport/index.ts'
import { isLinkError, ManualClock, never, noHandlers, quiet, StreamHub, settle } from './pair.ts'
import { helloFrame, type OldVersion, oldHelloFrames } from './raw-peer.ts'

interface OldPeer {
  readonly heard: Frame[]
  isEnded: boolean
}

/** What these did on a stream: they said hello, at once or in answer, and looked at ours. */
function oldPeer(version: OldVersion, stream: Duplex, whoDialled: 'it did' | 'we did'): OldPeer {
  const peer: OldPeer = { heard: [], isEnded: false }
  const decoder = new FrameDecoder()
  stream.on('error', () => {})
  stream.on('data', (chunk: Buffer) => {
    decoder.push(chunk, (frame) => peer.heard.push(frame))
    if (whoDialled === 'we did' && peer.heard.length === 1) stream.write(oldHelloFrames[version])
  })
  stream.on('end', () => {
    peer.isEnded = true
    stream.end()
  })
  if (whoDialled === 'it did') stream.write(oldHelloFrames[version])
  return peer
}

class Site {
  readonly clock = new ManualClock()
  readonly told: string[] = []
  readonly warnings: string[] = []
  readonly peers: OldPeer[] = []
  isUpgraded = false
  readonly hub: StreamHub
  readonly #version: OldVersion

  /** `version`: of the other. */
  constructor(version: OldVersion, { hasAddress }: { hasAddress: boolean }) {
    this.#version = version
    const log: Log = { ...quiet, warn: (_facts, message) => void this.warnings.push(message) }
    this.hub = new StreamHub({
      ownId: 'new',
      clock: this.clock,
      random: () => 1,
      dateMs: () => this.clock.nowMs,
      log,
      handlers: noHandlers,
      hasAddress: () => hasAddress,
      dial: async () => {
        const [near, far] = duplexPair() as [Duplex, Duplex]
        if (this.isUpgraded) far.write(helloFrame)
        else this.peers.push(oldPeer(version, far, 'we did'))
        return near
      },
    })
    this.hub.onEvent((_peer, event) => this.told.push('why' in event ? `${event.kind}: ${event.why}` : event.kind))
  }

  async isDialled(): Promise<OldPeer> {
    const [near, far] = duplexPair() as [Duplex, Duplex]
    this.hub.take('old', near)
    const peer = oldPeer(this.#version, far, 'it did')
    await settle()
    return peer
  }
}

/** What it read in a hello: its schema, and its rule of who has to be upgraded. */
function understoodByOld(version: OldVersion, { heard: [hello, ...more] }: OldPeer): void {
  assert(hello?.type === 'hello')
  const { protocolVersion, oldestVersion, purpose, stripe, features } = hello.json as Record<string, unknown>
  assert(Number.isInteger(protocolVersion) && Number.isInteger(oldestVersion) && Array.isArray(features))
  assert.deepEqual([purpose, stripe], ['control', 0])
  assert((oldestVersion as number) > version, 'it says "upgrade vmstore here" there')
  assert.deepEqual(more, [], 'nothing follows that it may not know')
}

for (const version of [1, 2] as const)
  describe(`a site of link protocol ${version}`, () => {
    const why = `the peer speaks link protocol ${version}, this site 3: upgrade vmstore at the peer`

    it('that is dialled is refused, with a sentence, and reads in our hello that it is too old', async () => {
      const site = new Site(version, { hasAddress: true })
      await assert.rejects(site.hub.probe('old', { signal: never }), { code: 'incompatible', message: why })
      await settle()
      assert.equal(site.hub.trouble('old'), why)
      understoodByOld(version, site.peers[0]!)
      assert(site.peers[0]!.isEnded, 'the stream is ended in good order, so that our hello arrives')
    })

    it('that dials is refused, with a sentence, and reads in our hello that it is too old', async () => {
      const site = new Site(version, { hasAddress: false })
      const peer = await site.isDialled()
      understoodByOld(version, peer)
      assert(peer.isEnded)
      assert.equal(site.hub.trouble('old'), why)
      assert.equal(site.hub.connected('old'), false)
      await assert.rejects(site.hub.probe('old', { signal: never }), { code: 'incompatible', message: why })
    })

    it('that is dialled is told of once an outage, however often, and shown as the reason of the link', async () => {
      const site = new Site(version, { hasAddress: true })
      using _kept = site.hub.keep('old')
      await site.clock.advance(60_000)
      const dials = site.peers.length
      assert(
        dials > 10 && dials < 40,
        `it is dialled on, for it may be upgraded at any time, but in no storm: ${dials}`,
      )
      assert.deepEqual(site.told, [`down: ${why}`])
      const { state, why: shown } = site.hub.facts('old')!
      assert.deepEqual([state, shown, site.warnings], ['down', why, []])
    })

    it('that dials again and again is told of once, also when it was away before', async () => {
      const site = new Site(version, { hasAddress: false })
      using _kept = site.hub.keep('old')
      await site.clock.advance(10_000)
      assert.match(site.told.splice(0).join(), /^down: it has not been heard of/)
      for (let count = 0; count < 10; count++) {
        await site.isDialled()
        await site.clock.advance(2000)
      }
      assert.deepEqual(site.told, [`refused: ${why}`])
      assert.deepEqual([site.hub.facts('old')!.why, site.warnings], [why, []])
    })

    it('that was away, and is there again, is told of by the site that dials', async () => {
      const site = new Site(version, { hasAddress: true })
      site.isUpgraded = true
      const kept = site.hub.keep('old')
      await site.clock.advance(1000)
      assert.deepEqual(site.told.splice(0), ['up'])
      site.isUpgraded = false
      await site.clock.advance(60_000) // The streams of the raw peer say nothing, and are dead.
      assert.deepEqual(site.told, ['down: nothing is heard of it any more', 'retry', `refused: ${why}`])
      kept[Symbol.dispose]()
    })

    it('is welcome once it is upgraded', async () => {
      const site = new Site(version, { hasAddress: true })
      using _kept = site.hub.keep('old')
      await site.clock.advance(10_000)
      site.told.length = 0
      site.isUpgraded = true
      await site.clock.advance(2500)
      assert.deepEqual(site.told, ['up'])
      assert.equal(site.hub.facts('old')!.why, undefined)
      await site.hub.probe('old', { signal: never })
    })

    it('makes a call wait, as any peer that is away', async () => {
      const site = new Site(version, { hasAddress: true })
      const control = new AbortController()
      const call = site.hub.channel('old').call('x', {}, { signal: control.signal })
      call.catch(() => {})
      await site.clock.advance(5000)
      control.abort()
      await assert.rejects(call, isLinkError('aborted'))
    })
  })
