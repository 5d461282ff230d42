// What holds for every StreamTransport.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fstatSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { contractVersion, type Listener, type StreamTransport, type TransportOptions } from './contract.ts'
import { testOptions as plainOptions } from './testkit-options.ts'

const mebibyte = 1024 * 1024

/**
 * `address` is one to listen at, with port 0 or its like: each call may give another. `settings` are what the driver is given
 * as its own.
 */
export function streamTransportContract(
  name: string,
  makeDriver: () => StreamTransport,
  address: () => URL,
  settings: Readonly<Record<string, unknown>> = {},
): void {
  const testOptions = (options: Partial<TransportOptions> = {}) => plainOptions({ settings, ...options })
  describe(`stream transport contract: ${name}`, () => {
    const closing: (() => unknown)[] = []
    afterEach(async () => {
      for (const close of closing.splice(0).reverse()) await close()
    })

    async function listen(driver: StreamTransport, accept: (stream: Duplex) => void, options = testOptions()) {
      const listener = await driver.listen(address(), (stream) => accept(held(stream)), options)
      closing.push(() => listener.close())
      return listener
    }

    /** Streams may break while a test ends; drivers see to it that this is no crash. */
    function held(stream: Duplex): Duplex {
      closing.push(() => stream.destroy())
      return stream
    }

    async function pair(driver = makeDriver()): Promise<{ near: Duplex; far: Duplex; listener: Listener }> {
      const accepted = Promise.withResolvers<Duplex>()
      const listener = await listen(driver, accepted.resolve)
      const near = held(await driver.connect(listener.address, testOptions()))
      return { near, far: await accepted.promise, listener }
    }

    it('states the contract version, its kind and its schemes', () => {
      const driver = makeDriver()
      assert.equal(driver.contractVersion, contractVersion)
      assert.equal(driver.kind, 'stream')
      assert.ok(driver.schemes.length > 0)
      assert.ok(
        driver.schemes.includes(address().protocol.slice(0, -1)),
        'the scheme of its address is among its schemes',
      )
    })

    it('reports the address at which peers dial', async () => {
      const listener = await listen(makeDriver(), () => {})
      assert.notEqual(listener.address.port, '0')
      held(await makeDriver().connect(listener.address, testOptions()))
    })

    it('accepts many streams at once, each its own', async () => {
      const driver = makeDriver()
      const listener = await listen(driver, (stream) => stream.pipe(stream))
      const echoes = Array.from({ length: 32 }, async (_, index) => {
        const stream = held(await driver.connect(listener.address, testOptions()))
        assert.equal(await echo(stream, `stream ${index}`), `stream ${index}`)
      })
      await Promise.all(echoes)
    })

    it('carries bytes whole and in order, both ways at once', async () => {
      const { near, far } = await pair()
      const there = randomBytes(6 * mebibyte)
      const back = randomBytes(5 * mebibyte)
      near.write(there)
      far.write(back)
      const [atFar, atNear] = await Promise.all([read(far, there.length), read(near, back.length)])
      assert.ok(atFar.equals(there) && atNear.equals(back))
    })

    it('pushes back when the other side does not read, and loses nothing', async () => {
      const { near, far } = await pair()
      const chunk = randomBytes(256 * 1024)
      far.pause()
      let written = 0
      while (written < 256 && near.write(chunk)) written++
      assert.ok(written < 256, 'write() never said that its reader is slow')
      near.end()
      assert.equal((await readAll(far)).length, (written + 1) * chunk.length)
    })

    it('an end is seen as an end, after all that came before it', async () => {
      const { near, far } = await pair()
      near.write('question, ')
      near.end('and no more')
      assert.equal((await readAll(far)).toString(), 'question, and no more')
    })

    it('what was ended arrives, though its writer destroys the stream once it has finished', async () => {
      const { near, far } = await pair()
      const bytes = randomBytes(3 * mebibyte)
      near.end(bytes, () => near.destroy())
      assert.ok((await readAll(far)).equals(bytes))
    })

    it('both sides may end, whichever comes first', async () => {
      const { near, far } = await pair()
      const closed = [near, far].map((stream) => once(stream.resume(), 'close'))
      near.end('one')
      far.end('other')
      await Promise.all(closed)
    })

    it('a destroyed stream is seen at the other side', async () => {
      const { near, far } = await pair()
      far.resume()
      const closed = Promise.race([once(far, 'close'), once(far, 'end')])
      near.destroy()
      await closed
    })

    it('a stream that breaks crashes nobody', async () => {
      const { near, far } = await pair()
      near.write(randomBytes(mebibyte))
      near.destroy(new Error('broken by the test'))
      far.resume()
      far.write(randomBytes(mebibyte))
      // Nobody listens for 'error': the driver sees to it that this is no crash.
      await new Promise((resolve) => far.once('close', resolve))
    })

    it('a connect is given up when its signal aborts, with the reason', async () => {
      const driver = makeDriver()
      const listener = await listen(driver, () => {})
      const reason = new Error('given up')
      const before = AbortSignal.abort(reason)
      await assert.rejects(async () => driver.connect(listener.address, testOptions({ signal: before })), reason)
      const control = new AbortController()
      const connecting = driver.connect(listener.address, testOptions({ signal: control.signal }))
      control.abort(reason)
      await connecting.then(
        (stream) => held(stream),
        (error) => assert.equal(error, reason),
      )
    })

    it('a stream outlives the abort of the signal that its connect had', async () => {
      const driver = makeDriver()
      const listener = await listen(driver, (stream) => stream.pipe(stream))
      const control = new AbortController()
      const stream = held(await driver.connect(listener.address, testOptions({ signal: control.signal })))
      control.abort()
      assert.equal(await echo(stream, 'alive'), 'alive')
    })

    it('an address at which nobody listens is unavailable', async () => {
      const driver = makeDriver()
      const listener = await listen(driver, () => {})
      await listener.close()
      const connecting = async () => held(await driver.connect(listener.address, testOptions()))
      await assert.rejects(connecting, { name: 'TransportError', code: 'unavailable' })
    })

    it('a closed listener accepts nobody, and its streams live on', async () => {
      const { near, far, listener } = await pair()
      await listener.close()
      await listener.close()
      near.end('still here')
      assert.equal((await readAll(far)).toString(), 'still here')
      const connecting = async () => held(await makeDriver().connect(listener.address, testOptions()))
      await assert.rejects(connecting, { name: 'TransportError' })
    })

    it('two drivers side by side share nothing', async () => {
      const [one, other] = [await pair(makeDriver()), await pair(makeDriver())]
      await one.listener.close()
      other.near.end('mine')
      assert.equal((await readAll(other.far)).toString(), 'mine')
    })

    it('what is tuned is an open descriptor', async () => {
      const driver = makeDriver()
      let calls = 0
      const options = testOptions({
        tune(fd) {
          calls++
          assert.doesNotThrow(() => fstatSync(fd))
        },
      })
      const listener = await listen(driver, (stream) => stream.resume(), options)
      const stream = held(await driver.connect(listener.address, options))
      stream.end()
      stream.resume()
      assert.ok(calls >= 0)
    })
  })
}

async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** So many bytes, and not one more. */
async function read(stream: Duplex, lengthBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let missing = lengthBytes
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk as Buffer)
    missing -= (chunk as Buffer).length
    if (missing <= 0) break
  }
  assert.equal(missing, 0, 'bytes that nobody wrote, or too few')
  return Buffer.concat(chunks)
}

/** What the other side sends back of `text`. */
async function echo(stream: Duplex, text: string): Promise<string> {
  stream.write(text)
  return (await read(stream, Buffer.byteLength(text))).toString()
}
