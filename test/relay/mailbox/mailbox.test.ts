import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import type { Piece } from '../../../src/block/units.ts'
import { AnswerWithBody, type LinkError, type PeerHandlers, PeerRefusal, wholeBody } from '../../../src/link/channel.ts'
import { chunksInThread } from '../../../src/relay/chunking/pool.ts'
import { moveKeys } from '../../../src/relay/keys.ts'
import { Mailbox } from '../../../src/relay/mailbox/mailbox.ts'
import { moveFolder } from '../../../src/relay/names.ts'
import { Objects } from '../objects.ts'
import { VirtualClock } from '../virtual-clock.ts'

const move = randomUUID()
const keys = moveKeys(randomBytes(32), move)
const folder = moveFolder(keys.names)
const toSource = `${folder}/mail/to-source/000000000001`
const toDestination = `${folder}/mail/to-destination/000000000001`
const never = new AbortController().signal
const mebibyte = 1024 * 1024

class Desk implements PeerHandlers {
  readonly asked: string[] = []
  answer: (method: string, params: unknown, signal: AbortSignal) => Promise<object> = async (method) => ({ method })
  pieces: Piece[] = []
  call(_peer: string, method: string, params: unknown, signal: AbortSignal): Promise<object> {
    this.asked.push(method)
    return this.answer(method, params, signal)
  }
  async *fetch(): AsyncIterable<Piece> {
    this.asked.push('fetch')
    yield* this.pieces
  }
}

describe('a mailbox of two sites in a store', () => {
  let store: Objects
  let clock: VirtualClock
  let desk: Desk
  let source: Mailbox
  let destination: Mailbox
  let notices: string[]
  let dateMs: number
  let open: Mailbox[]

  function mailbox(side: 'source' | 'destination', handlers: PeerHandlers): Mailbox {
    const made = new Mailbox({
      store,
      keys,
      chunks: chunksInThread({ move, ...keys }),
      move,
      generation: 7,
      side,
      peerId: side === 'source' ? 'tokyo' : 'osaka',
      handlers,
      clock: { now: clock.now, sleep: clock.sleep, date: () => new Date(dateMs++) },
      nonce: randomUUID,
      notice: ({ is }) => notices.push(is),
    })
    open.push(made)
    made.start()
    return made
  }
  const ask = (method: string, params: object = {}, signal = never) =>
    clock.run(destination.channel.call(method, params, { signal }))
  /** As courses do: what may not have been heard is asked again. */
  const askUntilHeard = async (method: string): Promise<unknown> => {
    for (;;) {
      try {
        return await ask(method)
      } catch (error) {
        assert.equal((error as LinkError).code, 'lost')
      }
    }
  }
  const until = (holds: () => boolean) =>
    clock.run(
      (async () => {
        while (!holds()) await clock.sleep(50)
      })(),
    )
  const chunks = () => [...store.objects.keys()].filter((key) => key.includes('/chunk/'))

  beforeEach(() => {
    store = new Objects()
    clock = new VirtualClock()
    desk = new Desk()
    notices = []
    dateMs = 1_800_000_000_000
    open = []
    source = mailbox('source', desk)
    destination = mailbox('destination', new Desk())
  })
  afterEach(() => Promise.all(open.map((each) => each.close())))

  it('carries a call and its answer, and a refusal with its facts', async () => {
    desk.answer = async (method, params) => {
      if (method === 'no') throw new PeerRefusal('disk-unknown', 'no such disk', { disk: 'a' })
      return { heard: params }
    }
    assert.deepEqual(await ask('yes', { value: 1 }), { heard: { value: 1 } })
    await assert.rejects(ask('no'), { name: 'PeerRefusal', code: 'disk-unknown', facts: { disk: 'a' } })
  })

  it('a handler that fails says so here, and no more there', async () => {
    desk.answer = async () => {
      throw new Error('secret')
    }
    await assert.rejects(ask('fails'), { code: 'internal', message: /whose log says why/ })
    assert.deepEqual(notices, ['handler'])
  })

  it('both sites ask at once', async () => {
    const both = Promise.all([
      source.channel.call('down', {}, { signal: never }),
      destination.channel.call('up', {}, { signal: never }),
    ])
    assert.deepEqual(await clock.run(both), [{ method: 'down' }, { method: 'up' }])
  })

  it('nothing that is said stands in the store in the open', async () => {
    await ask('a-very-secret-method')
    for (const object of store.objects.values()) assert(!object.includes('secret'))
  })

  it('carries bodies of several chunks, and deletes these once they were read', async () => {
    const body = randomBytes(9 * mebibyte + 5)
    desk.answer = async () => new AnswerWithBody({ of: 'map' }, [body.subarray(0, 100), body.subarray(100)])
    const got = destination.channel.callForBody('collect', {}, { maximumBytes: body.length, signal: never })
    const { answer, body: parts } = await clock.run(got)
    assert.deepEqual(answer, { of: 'map' })
    assert.equal(chunks().length, 3)
    assert((await clock.run(wholeBody(parts, body.length))).equals(body))
    await until(() => chunks().length === 0)
  })

  it('a body over what the call takes is an error, and leaves no chunk', async () => {
    desk.answer = async () => new AnswerWithBody({}, [randomBytes(4 * mebibyte), randomBytes(200)])
    const got = destination.channel.callForBody('collect', {}, { maximumBytes: 4 * mebibyte + 100, signal: never })
    await assert.rejects(clock.run(got), { code: 'internal' })
    await until(() => chunks().length === 0)
  })

  it('a body that is left, or whose call is given up, before it was begun is under way no more', async () => {
    desk.answer = async () => new AnswerWithBody({}, [randomBytes(1000)])
    const givenUp = new AbortController()
    for (const call of [never, givenUp.signal]) {
      const got = destination.channel.callForBody('collect', {}, { maximumBytes: 1000, signal: call })
      const { body } = await clock.run(got)
      if (call === never) await body.return?.()
      else givenUp.abort()
      await until(() => chunks().length === 0)
    }
  })

  it('fetches bytes, zeros and holes, each at its place', async () => {
    const bytes = randomBytes(5 * mebibyte)
    desk.pieces = [
      { offset: 0, length: bytes.length, bytes },
      { offset: bytes.length, length: 4096, bytes: undefined },
      { offset: bytes.length + 4096, length: 4096, bytes: undefined, hole: true },
    ]
    const request = { migration: move, disk: 'd', generation: 6, runs: [{ offset: 0, length: bytes.length + 8192 }] }
    const pieces: Piece[] = []
    const all = async (): Promise<void> => {
      for await (const piece of destination.channel.fetch(request, { urgency: 'demand', signal: never }))
        pieces.push(piece)
    }
    await clock.run(all())
    const whole = Buffer.concat(pieces.flatMap((piece) => piece.bytes ?? []))
    assert(whole.equals(bytes))
    assert.deepEqual(pieces.slice(-2), desk.pieces.slice(1))
    await until(() => chunks().length === 0)
  })

  it('equal bytes of two answers are one chunk, which stays while one of them is read', async () => {
    const body = randomBytes(1000)
    desk.answer = async () => new AnswerWithBody({}, [body])
    const call = () => destination.channel.callForBody('collect', {}, { maximumBytes: 1000, signal: never })
    const [one, other] = await clock.run(Promise.all([call(), call()]))
    assert.equal(chunks().length, 1)
    await clock.run(wholeBody(one!.body, 1000))
    await until(() => store.asked.filter(({ do: what }) => what === 'put').length > 0 && clock.now() > 60_000)
    assert((await clock.run(wholeBody(other!.body, 1000))).equals(body))
    await until(() => chunks().length === 0)
  })

  it('a request is done once, though its letter is read many times, lost, and put again', async () => {
    let lost = 0
    store.fault = ({ do: what, key }) => {
      if (what !== 'put' || key !== toDestination || lost >= 3 || desk.asked.length === 0) return undefined
      lost++
      return new Error('lost')
    }
    assert.deepEqual(await ask('once'), { method: 'once' })
    assert.deepEqual([desk.asked, lost], [['once'], 3])
  })

  it('a call that is given up is aborted there', async () => {
    const seen = Promise.withResolvers<AbortSignal>()
    desk.answer = (_method, _params, signal) => {
      seen.resolve(signal)
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    const giveUp = new AbortController()
    const call = destination.channel.call('long', {}, { signal: giveUp.signal })
    call.catch(() => undefined)
    const there = await clock.run(seen.promise)
    giveUp.abort()
    await assert.rejects(clock.run(call), { name: 'LinkError', code: 'aborted' })
    await until(() => there.aborted)
  })

  it('a source that began anew answers, and what was under way fails as lost', async () => {
    desk.answer = () => new Promise(() => {})
    const under = destination.channel.call('under-way', {}, { signal: never })
    under.catch(() => undefined)
    await until(() => desk.asked.length === 1)
    await source.close()
    const anew = new Desk()
    source = mailbox('source', anew)
    await assert.rejects(clock.run(under), (error: LinkError) => error.code === 'lost')
    assert.deepEqual(await ask('after'), { method: 'after' })
    assert.deepEqual(anew.asked, ['after'], 'what was asked of the one before is not done by this one')
  })

  it('a site whose clock went back between two starts is heard all the same', async () => {
    await ask('before')
    await destination.close()
    dateMs -= 1_000_000
    destination = mailbox('destination', new Desk())
    assert.deepEqual(await askUntilHeard('after'), { method: 'after' })
    await source.close()
    dateMs -= 1_000_000
    source = mailbox('source', desk)
    assert.deepEqual(await askUntilHeard('again'), { method: 'again' })
  })

  it('closed, it fails what waits, and clears its letters when told', async () => {
    desk.answer = () => new Promise(() => {})
    const waits = destination.channel.call('long', {}, { signal: never })
    waits.catch(() => undefined)
    await until(() => desk.asked.length === 1)
    await Promise.all([destination.close(), source.close()])
    await assert.rejects(waits, { code: 'closed' })
    await destination.clear(never)
    assert.deepEqual([...store.objects.keys()], [])
  })

  it('looks less and less often while nothing is expected', async () => {
    await ask('something')
    await until(() => clock.now() > 600_000)
    const before = store.asked.length
    const from = clock.now()
    await until(() => clock.now() > from + 3_600_000)
    const an = (store.asked.length - before) / 2
    assert(an <= 125, `${an} requests an hour of each site`)
  })

  it('more calls than are under way at once wait their turn', async () => {
    const all = Array.from({ length: 100 }, (_, at) => destination.channel.call(`m${at}`, {}, { signal: never }))
    assert.equal((await clock.run(Promise.all(all))).length, 100)
    assert.equal(desk.asked.length, 100)
  })

  describe('of a store that means ill', () => {
    it('an old letter given again is not done again', async () => {
      await ask('first')
      const old: Buffer[] = []
      store.fault = ({ do: what, key }) => {
        if (what === 'get' && key === toSource) old.push(Buffer.from(store.objects.get(key)!))
        return undefined
      }
      for (const method of ['pause', 'resume', 'third']) await ask(method)
      const done = desk.asked.length
      store.fault = () => undefined
      for (const letter of old.slice(-6)) {
        const newest = store.objects.get(toSource)!
        store.objects.set(toSource, letter)
        const from = clock.now()
        await until(() => clock.now() > from + 60_000)
        if (store.objects.get(toSource) === letter) store.objects.set(toSource, newest)
      }
      assert.equal(desk.asked.length, done)
      assert.deepEqual(await ask('still'), { method: 'still' })
    })

    it('letters of the time before a start are not done again, whichever come', async () => {
      const old = Promise.withResolvers<Buffer>()
      desk.answer = async () => {
        old.resolve(store.objects.get(toSource)!) // The letter that asks it.
        return {}
      }
      await ask('cancel')
      await Promise.all([source.close(), destination.close()])
      const anew = new Desk()
      store.objects.set(toSource, await old.promise)
      source = mailbox('source', anew)
      await until(() => clock.now() > 120_000)
      assert.deepEqual(anew.asked, [])
      destination = mailbox('destination', new Desk())
      assert.deepEqual(await ask('fresh'), { method: 'fresh' })
      assert.deepEqual(anew.asked, ['fresh'])
    })

    const changes: Record<string, (letter: Buffer) => Buffer> = {
      cut: (letter) => letter.subarray(0, letter.length - 1),
      'changed by a bit': (letter) => {
        const changed = Buffer.from(letter)
        changed[20]! ^= 1
        return changed
      },
      'swapped for that of the other direction': () => store.objects.get(toDestination)!,
    }
    for (const [what, change] of Object.entries(changes)) {
      it(`a letter that was ${what} is said, done by nobody, and only delays`, async () => {
        await ask('before')
        const call = destination.channel.call('delayed', {}, { signal: never })
        let times = 0
        store.fault = async ({ do: doing, key }) => {
          if (doing === 'get' && key === toSource && times++ < 20)
            store.objects.set(key, change(store.objects.get(key)!))
          return undefined
        }
        assert.deepEqual(await clock.run(call), { method: 'delayed' })
        assert(notices.includes('forged'))
        assert.deepEqual(desk.asked, ['before', 'delayed'])
      })
    }

    it('letters that are withheld only delay', async () => {
      await ask('before')
      const call = destination.channel.call('late', {}, { signal: never })
      let times = 0
      store.fault = async ({ do: doing, key }) => {
        if (doing === 'get' && times++ < 10) store.objects.delete(key)
        return undefined
      }
      assert.deepEqual(await clock.run(call), { method: 'late' })
    })

    it('a chunk that is swapped for another is never given out, and the request may be made again', async () => {
      desk.answer = async (_method, params) =>
        new AnswerWithBody({}, [Buffer.alloc(1000, (params as { fill: number }).fill)])
      const call = (fill: number) =>
        clock.run(destination.channel.callForBody('collect', { fill }, { maximumBytes: 1000, signal: never }))
      const one = await call(1)
      const [first] = chunks()
      const other = await call(2)
      const second = chunks().find((key) => key !== first)!
      store.objects.set(second, store.objects.get(first!)!)
      assert((await clock.run(wholeBody(one.body, 1000))).equals(Buffer.alloc(1000, 1)))
      await assert.rejects(clock.run(wholeBody(other.body, 1000)), { name: 'LinkError', code: 'lost' })
      const again = await call(2)
      assert((await clock.run(wholeBody(again.body, 1000))).equals(Buffer.alloc(1000, 2)))
    })
  })
})
