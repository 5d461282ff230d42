// The other site over a link: what is asked arrives as it was meant, what comes is checked. A peer's words end on the
// terminal of the operator here.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { BlockMap } from '../../src/block/block-map.ts'
import { AnswerWithBody, LinkError, type PeerChannel } from '../../src/link/channel.ts'
import type { Acquisition, Collection, Counterpart, GrantedDisk } from '../../src/migration/counterpart.ts'
import { waitingGuests } from '../../src/migration/held-writes.ts'
import { answersOverLink, overLink } from '../../src/migration/over-link.ts'
import { acquireAnswer, acquireMessage, progressMessage } from '../../src/migration/over-link-messages.ts'
import { scriptedSite } from './scripted-site.ts'
import { givenHere, theirs } from './site-keys.ts'

const evil = 'wait\u001b[2J\u0007'
const harmless = 'wait [2J '
const id = '55555555-5555-4555-8555-555555555555'
const at = '2026-01-01T00:00:00.000Z'
const deed = theirs(id)
const given = givenHere(deed, id)

describe('messages about a migration', () => {
  it('promise 11: carry no control characters in what a peer says in words', () => {
    const held = { clients: [evil], since: at, why: evil }
    const refused = { count: 1, clients: [evil], last: at, why: evil }
    const guests = waitingGuests.parse({ held, refused })
    assert.deepEqual(guests, {
      held: { clients: [harmless], since: at, why: harmless },
      refused: { count: 1, clients: [harmless], last: at, why: harmless },
    })
    const busy = { answer: 'busy', isAtWork: false }
    assert.deepEqual(acquireAnswer.parse({ ...busy, why: evil }), { ...busy, why: harmless })
    const granted = (since: string) => ({
      answer: 'granted',
      disks: [{ disk: id, generation: 2, given, powerLoss: { since, foundAt: null } }],
      boot: 'boot-1',
      cutOff: [],
    })
    assert.deepEqual(acquireAnswer.parse(granted(evil)), granted(harmless))
    const figures = { disk: id, missing: 0, data: 0, sent: 0, skippedZero: 0, resent: 0, unreadable: [] }
    const pace = { ahead: null, paused: false, rate: 0, secondsLeft: null, copyingMs: 0 }
    assert.equal(progressMessage.parse({ migration: id, disks: [figures], ...pace, note: evil }).note, harmless)
  })

  it('promise 11: name each disk once, and at least one', () => {
    const asked = (disks: object[]) =>
      acquireMessage.safeParse({ migration: id, disks, reason: 'operator', force: false }).success
    const disk = { disk: id, generation: 2 }
    assert.deepEqual([asked([disk]), asked([]), asked([disk, disk])], [true, false, false])
    assert(asked([disk, { ...disk, disk: id.replaceAll('5', '6') }]), 'a move may be of several')
  })
})

/** A site, as another reaches it over the code of both ends of a link. */
function joined(here: Counterpart): Counterpart {
  const handlers = answersOverLink(() => here)
  const wire = (params: object) => JSON.parse(JSON.stringify(params))
  return overLink({
    peerId: 'there',
    call: async (method, params, { signal }) => wire(await handlers.call('here', method, wire(params), signal)),
    async callForBody(method, params, { maximumBytes, signal }) {
      const given = await handlers.call('here', method, wire(params), signal)
      const isLong = given instanceof AnswerWithBody
      const parts: Uint8Array[] = []
      if (isLong) for await (const part of given.body) parts.push(part)
      const sentBytes = parts.reduce((sum, { length }) => sum + length, 0)
      if (sentBytes > maximumBytes) throw new LinkError('protocol', `a body of over ${maximumBytes} bytes`) // So does a lane.
      return { answer: wire(isLong ? given.answer : given), body: Readable.from(parts).iterator() }
    },
    fetch: () => assert.fail('nothing is fetched'),
  })
}

describe('the other site over a link', () => {
  const never = new AbortController().signal
  const channel = (answer: unknown): PeerChannel => ({
    peerId: 'there',
    call: async () => answer,
    callForBody: async () => ({ answer, body: Readable.from([]).iterator() }),
    fetch: () => assert.fail('nothing is fetched'),
  })

  it('promise 11: an answer that cannot be understood is none, and what that site has done is not known', async () => {
    const there = overLink(channel({ answer: 'granted', generation: 2 }))
    const asked = { disks: [{ disk: id, generation: 2 }], reason: 'operator', force: false } as const
    await assert.rejects(there.source(id).acquire(asked, never), { name: 'LinkError', code: 'protocol' })
  })

  it('promise 11: the body of an answer that cannot be understood is let go of', async () => {
    let isLeft = false
    const body: AsyncIterableIterator<Uint8Array> = {
      next: () => assert.fail('nothing is read'),
      return: async () => {
        isLeft = true
        return { done: true, value: undefined }
      },
      [Symbol.asyncIterator]: () => body,
    }
    const there = overLink({ ...channel({}), callForBody: async () => ({ answer: { digests: 'many' }, body }) })
    const digests = there.source(id).digests({ disk: id, generation: 2 }, [{ offset: 0, length: 4096 }], never)
    await assert.rejects(digests, { name: 'LinkError', code: 'protocol' })
    assert(isLeft)
  })

  it('a call that nobody here knows is refused by name', async () => {
    const handlers = answersOverLink(() => scriptedSite({}))
    for (const method of ['sing', 'toString', '__proto__'])
      await assert.rejects(handlers.call('there', method, {}, never), { code: 'unknown-method' })
  })

  it('what is asked at one end is what is answered at the other', async () => {
    const here = scriptedSite({
      extents: async (disk, run) => [
        { offset: run.offset, length: 4096, data: disk.generation === 2 },
        { offset: run.offset + 4096, length: run.length - 4096, data: false },
      ],
      digests: async (_, runs) => runs.map(({ length }) => Buffer.alloc(32, length / 1024).toString('base64')),
      complete: async ({ disks }) => ({
        answer: 'released',
        disks: disks.map(({ disk, sent }) => ({ disk, sent, resent: 1 })),
        released: deed,
      }),
    })
    const there = joined(here).source(id)
    const disk = { disk: id, generation: 2 }
    assert.deepEqual(await there.extents(disk, { offset: 8192, length: 12_288 }, never), [
      { offset: 8192, length: 4096, data: true },
      { offset: 12_288, length: 8192, data: false },
    ])
    const runs = [{ offset: 0, length: 4096 }]
    assert.deepEqual(await there.digests(disk, runs, never), [Buffer.alloc(32, 4).toString('base64')])
    const counters = { data: 1, sent: 7, skippedZero: 0, resent: 0 }
    const complete = {
      disks: [{ ...disk, ...counters, verified: true, differed: [] }],
      copyingMs: 5,
      by: 'key',
      signature: 'x',
    }
    const released = { answer: 'released', disks: [{ disk: id, sent: 7, resent: 1 }], released: deed }
    assert.deepEqual(await there.complete(complete, never), released)
  })

  const epoch = '99999999-9999-4999-8999-999999999999'
  const blocks = 3 * 32_768 + 5
  const asked = { reason: 'operator', force: false } as const
  const at = (digit: string) => ({ disk: id.replaceAll('5', digit), generation: 2 })
  const granted = { answer: 'granted', boot: 'boot-1', cutOff: [] } as const

  it('the blocks that are to be copied come as they were given, however many', async () => {
    const spans = [
      { first: 7, end: 8 },
      { first: 32_000, end: 70_000 },
      ...Array.from({ length: 9000 }, (_, index) => ({ first: 70_001 + 3 * index, end: 70_003 + 3 * index })),
    ]
    const asks: Collection[] = []
    const there = joined(
      scriptedSite({
        collect: async (collection) => {
          asks.push(collection)
          return { spans, left: 11 }
        },
        track: async (_, copied) => ({ epoch, isSame: copied !== null, round: copied?.confirmed ?? 0 }),
      }),
    ).source(id)
    const run = { offset: 0, length: blocks * 4096 }
    const collection = { ...at('5'), epoch, run, round: 3, confirmed: 2, most: 2 ** 18, hot: false }
    assert.deepEqual(await there.collect(collection, never), { spans, left: 11 })
    assert.deepEqual(asks, [collection])
    assert.deepEqual(await there.track(at('5'), null, never), { epoch, isSame: false, round: 0 })
    assert.deepEqual(await there.track(at('5'), { epoch, confirmed: 9, round: 9 }, never), {
      epoch,
      isSame: true,
      round: 9,
    })
  })

  it('a grant has the final map of each disk of which something was copied, and none of the others', async () => {
    const dirty = (blocks: number) => {
      const map = new BlockMap(blocks)
      for (let block = 0; block < blocks; block += 2) map.add(block, block + 1)
      return map
    }
    const disks: GrantedDisk[] = ['5', '6', '7'].map((digit) => ({ ...at(digit), given, powerLoss: null }))
    const final = (blocks: number) => ({ epoch, dirty: dirty(blocks) })
    const answer = {
      ...granted,
      disks: [{ ...disks[0]!, final: final(blocks) }, disks[1]!, { ...disks[2]!, final: final(9) }],
    }
    const there = joined(scriptedSite({ acquire: async () => answer })).source(id)
    const copied = (blocks: number) => ({ epoch, confirmed: 1, round: 1, blocks })
    const asks = {
      ...asked,
      disks: [{ ...at('5'), copied: copied(blocks) }, at('6'), { ...at('7'), copied: copied(9) }],
    }
    const got = await there.acquire(asks, never)
    assert(got.answer === 'granted')
    const told = (each: GrantedDisk) => ({
      ...each,
      final: each.final && {
        epoch: each.final.epoch,
        runs: [...each.final.dirty.runs(0, each.final.dirty.blocks, true)],
      },
    })
    assert.deepEqual(got.disks.map(told), answer.disks.map(told))
  })

  it('promise 11: a map of another size, or that nobody asked for, or that ends too soon, is no answer', async () => {
    const map = new BlockMap(blocks)
    map.add(0, blocks)
    const disks = [{ ...at('5'), given, powerLoss: null, final: { epoch, dirty: map } }]
    const there = joined(scriptedSite({ acquire: async () => ({ ...granted, disks }) })).source(id)
    const acquire = (copied: object) =>
      there.acquire({ ...asked, disks: [{ ...at('5'), ...copied }] } as Acquisition, never)
    for (const copied of [{ copied: { epoch, confirmed: 1, round: 1, blocks: 40_000 } }, {}])
      await assert.rejects(acquire(copied), { name: 'LinkError', code: 'protocol' })
    const cut: PeerChannel = {
      ...channel({}),
      callForBody: async () => ({ answer: { left: 1 }, body: Readable.from([Buffer.alloc(9)]).iterator() }),
    }
    const run = { offset: 0, length: blocks * 4096 }
    const collection = { ...at('5'), epoch, run, round: 1, confirmed: 0, most: 1, hot: false }
    await assert.rejects(overLink(cut).source(id).collect(collection, never), { name: 'LinkError', code: 'protocol' })
  })
})
