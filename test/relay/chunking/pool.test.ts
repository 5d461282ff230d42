import assert from 'node:assert/strict'
import { hash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { packChunk } from '../../../src/relay/chunking/chunk.ts'
import { ChunkPool, chunksInThread } from '../../../src/relay/chunking/pool.ts'
import { SealError } from '../../../src/relay/errors.ts'
import { moveKeys } from '../../../src/relay/keys.ts'

const mib = 1024 * 1024
const keys = { move: 'move-1', ...moveKeys(randomBytes(32), 'move-1') }

describe('workers for chunks', () => {
  let pool: ChunkPool
  beforeEach(() => {
    pool = new ChunkPool(2)
  })
  afterEach(() => pool.close())

  it('pack and unpack as is done without them', async () => {
    const chunks = pool.of(keys)
    const plain = Buffer.alloc(mib, 'some text ')
    const here = packChunk(keys, plain)
    const there = await chunks.pack(new Uint8Array(plain))
    assert.equal(there.name, here.name)
    assert(Buffer.from(there.sealed).equals(here.sealed))
    const expected = { lengthBytes: mib, digest: there.digest }
    assert(plain.equals(await chunks.unpack(there.name, there.sealed, expected)))
    assert(plain.equals(await chunksInThread(keys).unpack(here.name, here.sealed, expected)))
  })

  it('take the memory that they are given, and copy what is a part of more', async () => {
    const chunks = pool.of(keys)
    const own = new Uint8Array(mib)
    await chunks.pack(own)
    assert.equal(own.length, 0)
    const all = randomBytes(2 * mib)
    const before = Buffer.from(all)
    await chunks.pack(all.subarray(0, mib))
    assert(all.equals(before))
  })

  it('give small results too, which Node keeps in memory that cannot be transferred', async () => {
    const chunks = pool.of(keys)
    for (const lengthBytes of [1, 100, 4096, 20_000, 32_768, 65_536]) {
      const plain = Buffer.alloc(lengthBytes, 'small ')
      const { name, sealed, digest } = await chunks.pack(new Uint8Array(plain))
      assert.equal(sealed.byteLength, sealed.buffer.byteLength)
      const back = await chunks.unpack(name, sealed, { lengthBytes, digest })
      assert(plain.equals(back))
      assert.equal(back.byteLength, back.buffer.byteLength)
    }
  })

  it('answer a bad chunk with a SealError, and go on', async () => {
    const chunks = pool.of(keys)
    const { name, digest } = packChunk(keys, randomBytes(5000))
    await assert.rejects(chunks.unpack(name, randomBytes(6000), { lengthBytes: 5000, digest }), SealError)
    await assert.rejects(chunks.pack(new Uint8Array(0)), /a chunk of 0 bytes/)
    assert((await chunks.pack(new Uint8Array(10))).name)
  })

  it('do many at once, in turn, each answered with its own', async () => {
    const chunks = pool.of(keys)
    const plains = Array.from({ length: 64 }, (_, index) => Buffer.alloc(10_000 + index, `chunk ${index} `))
    const packed = await Promise.all(plains.map((plain) => chunks.pack(new Uint8Array(plain))))
    for (const [index, { digest }] of packed.entries()) {
      assert(Buffer.from(digest).equals(hash('sha256', plains[index]!, 'buffer')))
    }
  })

  it('have what a guest waits for before all that waits for nobody', async () => {
    const one = new ChunkPool(1)
    const chunks = one.of(keys)
    const done: string[] = []
    const background = Array.from({ length: 20 }, (_, index) =>
      chunks.pack(randomBytes(4096)).then(() => done.push(`background ${index}`)),
    )
    const demand = chunks.pack(randomBytes(4096), { urgency: 'demand' }).then(() => done.push('demand'))
    await Promise.all([...background, demand])
    await one.close()
    assert.equal(done.indexOf('demand'), 2, 'two had begun before')
  })

  it('let go of what waits when it is no longer wanted', async () => {
    const chunks = pool.of(keys)
    const wanted = Array.from({ length: 8 }, () => chunks.pack(randomBytes(mib)))
    const reason = new Error('no longer')
    const abort = new AbortController()
    const plain = randomBytes(mib)
    const unwanted = chunks.pack(plain, { signal: abort.signal })
    abort.abort(reason)
    await assert.rejects(unwanted, reason)
    assert.equal(plain.length, mib, 'its bytes are still whose they were')
    await Promise.all(wanted)
    await assert.rejects(chunks.pack(randomBytes(10), { signal: abort.signal }), reason)
  })

  it('that are stopped fail what they had, and what comes after', async () => {
    const chunks = pool.of(keys)
    const all = Array.from({ length: 12 }, () => assert.rejects(chunks.pack(randomBytes(mib)), /are stopped/))
    await pool.close()
    await Promise.all(all)
    await assert.rejects(chunks.pack(randomBytes(10)), /are stopped/)
  })

  it('of which one dies fail what it had alone, and another takes its place', async () => {
    const started: Worker[] = []
    const threads = new ChunkPool(1, (url, options) => {
      const thread = new Worker(url, options)
      started.push(thread)
      return thread
    })
    const chunks = threads.of(keys)
    const lost = Array.from({ length: 2 }, () => assert.rejects(chunks.pack(randomBytes(4 * mib))))
    const waiting = chunks.pack(randomBytes(mib))
    await Promise.all([started[0]!.terminate(), ...lost])
    assert((await waiting).name)
    assert.equal(started.length, 2)
    const end = once(started[1]!, 'exit')
    await threads.close()
    await end
  })
})
