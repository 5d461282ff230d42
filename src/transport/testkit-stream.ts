// What holds for every StreamTransport.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fstatSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { contractVersion, type Listener, type StreamTransport } from './contract.ts'
import { testOptions } from './testkit-options.ts'

const mebibyte = 1024 * 1024

/** `address` is one to listen at, with port 0 or its like: each call may give another. */
export function streamTransportContract(name: string, makeDriver: () => StreamTransport, address: () => URL): void {
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
        stream.end(`stream ${index}`)
        assert.equal((await readAll(stream)).toString(), `stream ${index}`)
      })
      await Promise.all(echoes)
    })

    it('carries bytes whole and in order, both ways at once', async () => {
      const { near, far } = await pair()
      const there = randomBytes(6 * mebibyte)
      const back = randomBytes(5 * mebibyte)
      near.end(there)
      far.end(back)
      const [atFar, atNear] = await Promise.all([readAll(far), readAll(near)])
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

    it('an end is seen as an end, and the way back stays open', async () => {
      const { near, far } = await pair()
      near.end('question')
      assert.equal((await readAll(far)).toString(), 'question')
      far.end('answer')
      assert.equal((await readAll(near)).toString(), 'answer')
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
      stream.end('alive')
      assert.equal((await readAll(stream)).toString(), 'alive')
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
