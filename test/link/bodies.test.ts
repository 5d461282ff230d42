// Answers with a body: bytes of any length behind the JSON of a reply. In memory.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { AnswerWithBody, PeerRefusal, wholeBody } from '../../src/link/channel.ts'
import { maximumBufferedBytes } from '../../src/link/lane/requester.ts'
import { maximumServedBodies } from '../../src/link/lane/responder.ts'
import { sendWindowBytes } from '../../src/link/lane/sender.ts'
import { maximumPartBytes } from '../../src/link/wire/frames.ts'
import { isLinkError, lanePair, never, settle } from './pair.ts'

const mebibyte = 1024 * 1024
const unlimited = 2 ** 40

async function* repeated(chunk: Uint8Array, count: number, onEach = () => {}): AsyncGenerator<Uint8Array> {
  for (let index = 0; index < count; index++) {
    onEach()
    yield chunk
  }
}

describe('link bodies', () => {
  it('a body of any length follows its answer, whatever its chunks are', async () => {
    for (const lengths of [[], [0], [1], [maximumPartBytes], [3 * mebibyte + 1], [5, 0, 700_000, 1, mebibyte]]) {
      const chunks = lengths.map((length) => randomBytes(length))
      const { near, far } = await lanePair({ handlers: { call: async () => new AnswerWithBody({ a: 1 }, chunks) } })
      const { answer, body } = await near.callForBody('x', {}, unlimited, never)
      assert.deepEqual(answer, { a: 1 })
      const whole = Buffer.concat(chunks)
      assert((await wholeBody(body, whole.length)).equals(whole), `${lengths}`)
      await settle()
      assert.deepEqual([near.outstanding, far.outstanding], [0, 0])
    }
  })

  it('an answer over the bound of JSON goes as a body', async () => {
    const map = randomBytes((10 * 2 ** 30) / 4096 / 8) // The dirty map of 10 GiB.
    const { near } = await lanePair({ handlers: { call: async () => new AnswerWithBody({}, [map]) } })
    const { body } = await near.callForBody('x', {}, map.length, never)
    assert((await wholeBody(body, map.length)).equals(map))
  })

  it('an answer without a body has an empty one', async () => {
    const { near } = await lanePair({ handlers: { call: async () => ({ a: 1 }) } })
    const { answer, body } = await near.callForBody('x', {}, unlimited, never)
    assert.deepEqual([answer, (await wholeBody(body, 0)).length], [{ a: 1 }, 0])
  })

  it('a body that is shorter or longer than it must be is no body', async () => {
    const { near } = await lanePair({ handlers: { call: async () => new AnswerWithBody({}, [randomBytes(100)]) } })
    for (const lengthBytes of [99, 101, 0]) {
      const { body } = await near.callForBody('x', {}, unlimited, never)
      await assert.rejects(wholeBody(body, lengthBytes), isLinkError('protocol'))
    }
    assert(near.isOpen)
  })

  it('other calls are answered while a body is under way', async () => {
    const { near } = await lanePair({
      handlers: {
        call: async (_peer, method) =>
          method === 'long' ? new AnswerWithBody({}, repeated(Buffer.alloc(mebibyte), 8)) : { method },
      },
    })
    const { body } = await near.callForBody('long', {}, unlimited, never)
    await body.next()
    assert.deepEqual(await near.call('short', {}, never), { method: 'short' })
    await body.return!()
  })

  it('promise 11: a reader that does not read bounds what both sides hold, and is served when it reads', async () => {
    let made = 0
    const { near, farStream } = await lanePair({
      handlers: {
        call: async () =>
          new AnswerWithBody(
            {},
            repeated(Buffer.alloc(mebibyte, 7), 64, () => made++),
          ),
      },
    })
    const { body } = await near.callForBody('x', {}, unlimited, never)
    await settle()
    await settle()
    const boundBytes = maximumBufferedBytes + sendWindowBytes + 5 * mebibyte
    assert(made * mebibyte <= boundBytes, `${made} MiB were read ahead`)
    assert(made * mebibyte >= maximumBufferedBytes)
    assert(farStream.writableLength <= sendWindowBytes + 2 * maximumPartBytes)
    assert.equal((await wholeBody(body, 64 * mebibyte)).length, 64 * mebibyte)
  })

  for (const [how, leave] of [
    ['aborts', (control: AbortController) => control.abort()],
    ['leaves', (_control: AbortController, body: AsyncIterator<Uint8Array>) => body.return!()],
  ] as const) {
    it(`a reader that ${how} stops the other side, and the lane lives`, async () => {
      let isStopped = false
      async function* endless(): AsyncGenerator<Uint8Array> {
        try {
          for (;;) yield Buffer.alloc(mebibyte)
        } finally {
          isStopped = true
        }
      }
      const { near, far } = await lanePair({ handlers: { call: async () => new AnswerWithBody({}, endless()) } })
      const control = new AbortController()
      const { body } = await near.callForBody('x', {}, unlimited, control.signal)
      await body.next()
      await leave(control, body)
      if (how === 'aborts') await assert.rejects(body.next(), isLinkError('aborted'), 'it is no end')
      await settle()
      assert(isStopped)
      assert.deepEqual([near.outstanding, far.outstanding, near.isOpen], [0, 0, true])
    })
  }

  it('a body that nobody reads is let go of when its call is given up', async () => {
    const { near, far } = await lanePair({
      handlers: { call: async () => new AnswerWithBody({}, repeated(Buffer.alloc(mebibyte), 1000)) },
    })
    const control = new AbortController()
    await near.callForBody('x', {}, unlimited, control.signal)
    await settle()
    control.abort()
    await settle()
    assert.deepEqual([near.outstanding, far.outstanding], [0, 0])
  })

  it('promise 8: a lane that breaks in the middle is no end of the body', async () => {
    const gate = Promise.withResolvers<void>()
    async function* halting(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(1000)
      await gate.promise
    }
    const { near, farStream } = await lanePair({ handlers: { call: async () => new AnswerWithBody({}, halting()) } })
    const { body } = await near.callForBody('x', {}, unlimited, never)
    const whole = wholeBody(body, 1000)
    await settle()
    farStream.destroy()
    await assert.rejects(whole, isLinkError('lost'))
    gate.resolve()
  })

  it('a body that fails is told as such: a refusal travels, the rest is internal', async () => {
    async function* failing(error: Error): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(10)
      throw error
    }
    const errors = [new PeerRefusal('no-right', 'not any more'), new Error('/secret')]
    const { near } = await lanePair({
      handlers: { call: async () => new AnswerWithBody({}, failing(errors.shift()!)) },
    })
    for (const code of ['no-right', 'internal']) {
      const { body } = await near.callForBody('x', {}, unlimited, never)
      await assert.rejects(wholeBody(body, 10), { name: 'PeerRefusal', code })
    }
    assert(near.isOpen)
  })

  it('a body for a call that takes none, or takes less, is the handler’s fault: told as internal', async () => {
    const { near } = await lanePair({ handlers: { call: async () => new AnswerWithBody({}, [Buffer.alloc(100)]) } })
    await assert.rejects(near.call('x', {}, never), { name: 'PeerRefusal', code: 'internal' })
    const { body } = await near.callForBody('x', {}, 99, never)
    await assert.rejects(wholeBody(body, 100), { name: 'PeerRefusal', code: 'internal' })
    assert(near.isOpen)
  })

  it('eight bodies are sent at once, the others in turn', async () => {
    let running = 0
    let most = 0
    async function* counted(): AsyncGenerator<Uint8Array> {
      most = Math.max(most, ++running)
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      running--
      yield Buffer.alloc(10)
    }
    const { near } = await lanePair({ handlers: { call: async () => new AnswerWithBody({}, counted()) } })
    await Promise.all(
      Array.from({ length: 40 }, async () => wholeBody((await near.callForBody('x', {}, 10, never)).body, 10)),
    )
    assert.equal(most, maximumServedBodies)
  })
})
