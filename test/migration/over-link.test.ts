// The other site over a link: what is asked arrives as it was meant, what comes is checked. A peer's words end on the
// terminal of the operator here.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { AnswerWithBody, type PeerChannel } from '../../src/link/channel.ts'
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
    const pace = { paused: false, rate: 0, secondsLeft: null, copyingMs: 0 }
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

describe('the other site over a link', () => {
  const never = new AbortController().signal
  const channel = (answer: unknown): PeerChannel => ({
    peerId: 'there',
    call: async () => answer,
    callForBody: () => assert.fail('nothing has a body'),
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
    const handlers = answersOverLink(() => here)
    const there = overLink({
      peerId: 'there',
      call: async (method, params, { signal }) =>
        handlers.call('here', method, JSON.parse(JSON.stringify(params)), signal),
      async callForBody(method, params, { signal }) {
        const given = await handlers.call('here', method, JSON.parse(JSON.stringify(params)), signal)
        assert(given instanceof AnswerWithBody)
        return { answer: given.answer, body: Readable.from(given.body).iterator() }
      },
      fetch: () => assert.fail('nothing is fetched'),
    }).source(id)
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
})
