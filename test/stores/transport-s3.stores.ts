// transport-s3 over real stores: Ceph's radosgw with one OSD, and with three of which one is killed in the middle of it all; and
// Swift's s3api, which knows no condition. Run by `npm run test:stores`; needs Debian's packages of both.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { S3Transport } from '../../plugins/transport-s3/src/s3-transport.ts'
import type { ObjectStore } from '../../src/transport/index.ts'
import { objectTransportContract, testOptions } from '../../src/transport/testkit.ts'
import { needTool } from '../tools.ts'
import { withEnvironment } from '../transport/s3/stores.ts'
import { cephPrograms, startCeph } from './ceph.ts'
import { makeBuckets, type RealStore } from './store.ts'
import { startSwift, swiftPrograms } from './swift.ts'

const bucket = 'tests'
const versionedBucket = 'versioned'

function settingsOf(store: RealStore) {
  return { endpoint: store.endpoint }
}

function open(store: RealStore, address = `s3://${bucket}/some/prefix`): Promise<ObjectStore> {
  return new S3Transport().open(new URL(address), testOptions({ settings: settingsOf(store) }))
}

/** Starts it before the tests of a `describe`, tells its version, and ends it after them. */
function withStore<T extends RealStore>(
  programs: readonly string[],
  start: () => Promise<T>,
  versioned: boolean,
): () => T {
  let store: T | undefined
  withEnvironment()
  before(async function () {
    needTool(this, ...programs)
    store = await start()
    process.env['AWS_ACCESS_KEY_ID'] = store.credentials.accessKeyId
    process.env['AWS_SECRET_ACCESS_KEY'] = store.credentials.secretAccessKey
    await makeBuckets(store, bucket, versioned ? versionedBucket : undefined)
    console.log(`      (${store.version})`)
  })
  after(() => store?.end())
  return () => store!
}

function contract(name: string, store: () => RealStore, isUnfit = false): void {
  objectTransportContract(
    `s3 over ${name}`,
    () => new S3Transport(),
    () => new URL(`s3://${bucket}/contract`),
    { settings: () => settingsOf(store()), isUnfit },
  )
}

function refusals(store: () => RealStore): void {
  it('a bucket that is not there is missing, and no object is absent in it', async () => {
    const other = await open(store(), 's3://not-there/x')
    await assert.rejects(other.put('a', Buffer.from('x')), { name: 'TransportError', code: 'missing' })
    await assert.rejects(other.get('a'), { name: 'TransportError', code: 'missing' })
    await other.close()
  })

  it('keys that nobody knows are denied', async () => {
    const secret = process.env['AWS_SECRET_ACCESS_KEY']
    process.env['AWS_SECRET_ACCESS_KEY'] = 'wrong'
    try {
      const other = await open(store())
      await assert.rejects(other.put('a', Buffer.from('x')), { name: 'TransportError', code: 'denied' })
      await other.close()
    } finally {
      process.env['AWS_SECRET_ACCESS_KEY'] = secret
    }
  })

  it('keeps chunks of 4 MiB, eight at once, whole', async () => {
    const chunks = await open(store())
    const bodies = Array.from({ length: 16 }, () => randomBytes(4 * 2 ** 20))
    for (let start = 0; start < bodies.length; start += 8) {
      const some = bodies.slice(start, start + 8)
      await Promise.all(some.map((body, index) => chunks.put(`chunk/${start + index}`, body)))
    }
    for (const [index, body] of bodies.entries()) {
      assert.ok(Buffer.from((await chunks.get(`chunk/${index}`))!).equals(body))
    }
    await chunks.delete(bodies.map((_, index) => `chunk/${index}`))
    await chunks.close()
  })
}

describe('radosgw of Ceph, with one OSD', () => {
  const ceph = withStore(cephPrograms, () => startCeph(1), true)
  contract('radosgw, one OSD', ceph)
  refusals(ceph)

  it('a bucket that keeps versions is unfit for what must be decided', async () => {
    const store = await open(ceph(), `s3://${versionedBucket}/x`)
    await assert.rejects(store.put('fence', Buffer.from('x'), { ifAbsent: true }), { code: 'unfit' })
    assert.equal(await store.put('chunk', Buffer.from('x')), 'stored')
    await store.close()
  })
})

describe('radosgw of Ceph, with three OSDs of which one is killed', () => {
  const ceph = withStore(cephPrograms, () => startCeph(3), false)
  contract('radosgw, three OSDs', ceph)

  it('nothing that was answered is lost, and of racers for a key one wins, while an OSD dies and comes back', async () => {
    const racers = await Promise.all(Array.from({ length: 4 }, () => open(ceph())))
    const progress = { rounds: 0, isOver: false }
    const written = new Map<string, string>()
    const writing = write(racers, written, progress)
    try {
      await passes(progress, 10)
      await ceph().killOsd(1)
      await until(async () => (await ceph().osdsUp()) === 2)
      await passes(progress, 10)
      ceph().startOsd(1)
      await until(async () => (await ceph().osdsUp()) === 3)
      await passes(progress, 10)
    } finally {
      progress.isOver = true
      await writing
    }
    assert.ok(written.size >= 60)
    for (const [key, digest] of written)
      assert.equal(digestOf((await persistently(() => racers[0]!.get(key)))!), digest)
    await Promise.all(racers.map((racer) => racer.close()))
  })
})

describe("Swift's s3api", () => {
  const swift = withStore(swiftPrograms, startSwift, false)
  contract("Swift's s3api", swift, true)
  refusals(swift)
})

const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Round by round a chunk, and a key for which all race: each as often as it takes. */
async function write(
  racers: readonly ObjectStore[],
  written: Map<string, string>,
  progress: { rounds: number; isOver: boolean },
): Promise<void> {
  for (; !progress.isOver; progress.rounds++) {
    const chunk = randomBytes(300_000)
    await persistently(() => racers[0]!.put(`chunk/${progress.rounds}`, chunk))
    written.set(`chunk/${progress.rounds}`, digestOf(chunk))
    const fence = `fence/${progress.rounds}`
    const bodies = racers.map(() => randomBytes(32))
    const put = (racer: ObjectStore, index: number) => () => racer.put(fence, bodies[index]!, { ifAbsent: true })
    const results = await Promise.all(racers.map((racer, index) => persistently(put(racer, index))))
    const winner = Buffer.from((await persistently(() => racers[0]!.get(fence)))!)
    // An answer may have been lost, and its object be there: that is told by reading, as a fence does.
    const stored = results.flatMap((result, index) => (result === 'stored' ? [bodies[index]!] : []))
    assert.ok(stored.length <= 1 && stored.every((body) => body.equals(winner)), 'who was told that it won has won')
    assert.ok(bodies.some((body) => body.equals(winner)))
    written.set(fence, digestOf(winner))
  }
}

/** As whoever moves a disk does: what is not final is tried again. */
async function persistently<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      const { code } = error as { code?: string }
      if (code !== 'unavailable' && code !== 'throttled') throw error
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

function passes(progress: { readonly rounds: number }, rounds: number): Promise<void> {
  const goal = progress.rounds + rounds
  return until(async () => progress.rounds >= goal)
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 200))
}
