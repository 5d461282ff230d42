// A relay that means ill: whoever owns the store swaps, cuts, replays, reorders and withholds objects of a move. Each is seen, or only
// delays.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { packChunk, unpackChunk } from '../../src/relay/chunking/chunk.ts'
import { Claim } from '../../src/relay/claim.ts'
import { RelayError, SealError } from '../../src/relay/errors.ts'
import { Fence } from '../../src/relay/fence.ts'
import { moveKeys } from '../../src/relay/keys.ts'
import type { ManifestPart, PublishedRange } from '../../src/relay/manifest.ts'
import { type Followed, nothingFollowed, openPart, sealPart } from '../../src/relay/manifest-chain.ts'
import { keyOf, moveFolder, numbered, parseKey } from '../../src/relay/names.ts'
import { open, type SealedAs, seal } from '../../src/relay/seal.ts'
import { Objects } from './objects.ts'

const never = new AbortController().signal
const generation = 4
const disk = randomUUID()
const mib = 1024 * 1024
const record = () => {
  let kept: Uint8Array | undefined
  return {
    kept: async () => kept,
    keep: async (sealed: Uint8Array) => {
      kept = sealed
    },
  }
}

/** A move in a store, as its two sites have left it, with one object of every kind and more of some. */
class Published {
  readonly move = randomUUID()
  readonly keys = moveKeys(randomBytes(32), this.move)
  readonly folder = moveFolder(this.keys.names)
  readonly store: Objects
  readonly ranges: PublishedRange[] = []
  readonly place = { key: this.keys.manifest, move: this.move, generation }
  written: Followed = nothingFollowed

  constructor(store = new Objects()) {
    this.store = store
  }

  async publish(): Promise<this> {
    const keys = { move: this.move, ...this.keys }
    for (let index = 0; index < 3; index++) {
      const plain = randomBytes(mib)
      const { name, sealed, digest } = packChunk(keys, plain)
      await this.store.put(keyOf(this.folder, 'chunk', name), sealed)
      this.ranges.push({ kind: 'chunk', offset: index * mib, length: mib, digest, steps: new Uint8Array() })
      await this.part(index + 1)
    }
    for (let number = 1; number <= 2; number++) await this.mail(number, `mail ${number}`)
    const { store, folder, move } = this
    const claim = new Claim({ store, folder, key: this.keys.claim, move, record: record() })
    await claim.take({ site: 'tokyo-id', name: 'tokyo', publicKey: 'AAAA' }, never)
    await this.fence().decide({ decision: 'grant', disks: this.disks, to: 'bb'.repeat(32), by: 'aa'.repeat(32) }, never)
    return this
  }

  readonly disks = [{ disk, generation }]

  fence(): Fence {
    const { store, folder, move } = this
    return new Fence({ store, folder, key: this.keys.fence, move, generation, record: record() })
  }

  async part(round: number): Promise<void> {
    const part: Omit<ManifestPart, 'previous'> = {
      disk,
      sizeBytes: 8 * mib,
      generation: generation - 1,
      epoch: 'an epoch',
      round,
      endsRound: true,
      left: 0,
      isFrozen: false,
      stepBytes: 0,
      ranges: this.ranges.slice(-1),
    }
    const { position, sealed, followed } = sealPart(this.place, this.written, part)
    await this.store.put(keyOf(this.folder, 'manifest', position), sealed)
    this.written = followed
  }

  mailAs(number: number): SealedAs {
    return { move: this.move, kind: 'mail', position: `to-source/${numbered(number)}`, generation }
  }

  async mail(number: number, text: string): Promise<void> {
    const as = this.mailAs(number)
    const sealed = seal(this.keys.mail('to-source'), as, Buffer.from(text))
    await this.store.put(keyOf(this.folder, 'mail', as.position), sealed)
  }

  /** Reads the object at its place, as whoever follows the protocol does. @throws SealError */
  async read(key: string): Promise<void> {
    const { kind, position } = parseKey(key)!
    const found = (await this.store.get(key))!
    if (kind === 'manifest') this.follow(Number(position))
    if (kind === 'mail') open(this.keys.mail('to-source'), this.mailAs(Number(position.slice(-12))), found)
    if (kind === 'fence') await this.fence().read(never)
    const { store, folder, move, keys } = this
    if (kind === 'claim') await new Claim({ store, folder, key: keys.claim, move, record: record() }).read(never)
    if (kind !== 'chunk') return
    const range = this.ranges.find(({ offset }) => this.nameAt(offset) === position)!
    assert(range.kind === 'chunk')
    unpackChunk({ move, ...keys }, position, found, { lengthBytes: range.length, digest: range.digest })
  }

  nameAt(offset: number): string {
    const chunks = [...this.store.objects.keys()].map(parseKey).filter((one) => one?.kind === 'chunk')
    return chunks[offset / mib]!.position
  }

  /** The manifest from its beginning up to a part. */
  follow(last: number): Followed {
    let followed = nothingFollowed
    while (followed.number < last) {
      const sealed = this.store.objects.get(keyOf(this.folder, 'manifest', numbered(followed.number + 1)))
      if (!sealed) break // It is waited for.
      followed = openPart(this.place, followed, sealed).followed
    }
    return followed
  }
}

describe('a relay that means ill', () => {
  let one: Published
  let other: Published
  let keys: string[]
  beforeEach(async () => {
    one = await new Published().publish()
    other = await new Published(one.store).publish()
    keys = [...one.store.objects.keys()].filter((key) => key.startsWith(one.folder))
    for (const key of keys) await one.read(key)
  })

  it('that gives any object for any other, of this move or of another, is seen', async () => {
    const all = new Map(one.store.objects)
    for (const key of keys) {
      for (const [otherKey, sealed] of all) {
        if (otherKey === key) continue
        one.store.objects.set(key, sealed)
        await assert.rejects(one.read(key), SealError, `${otherKey} for ${key}`)
      }
      one.store.objects.set(key, all.get(key)!)
    }
    assert.equal(other.store.objects.size, all.size)
  })

  it('that cuts or changes objects is seen', async () => {
    for (const key of keys) {
      const sealed = one.store.objects.get(key)!
      for (const lengthBytes of [0, 1, 28, sealed.length >> 1, sealed.length - 1]) {
        one.store.objects.set(key, sealed.subarray(0, lengthBytes))
        await assert.rejects(one.read(key), SealError, `${key} cut to ${lengthBytes}`)
      }
      const changed = Buffer.from(sealed)
      changed[changed.length >> 1]! ^= 0x10
      one.store.objects.set(key, changed)
      await assert.rejects(one.read(key), SealError, `${key} changed`)
      one.store.objects.set(key, sealed)
    }
  })

  it('that has kept an older manifest and gives it again, whole or in part, is seen, or only delays', async () => {
    const before = new Map(one.store.objects)
    const manifestAt = (number: number) => keyOf(one.folder, 'manifest', numbered(number))
    const followed = one.follow(2)
    // The source was put back to an old copy, say, and published another part 2 and 3.
    one.written = one.follow(1)
    await one.part(7)
    await one.part(8)
    // In the order in which they were: the new manifest is followed from its beginning, but not by whoever had followed the old one.
    assert.equal(one.follow(3).number, 3)
    const third = one.store.objects.get(manifestAt(3))!
    assert.throws(() => openPart(one.place, followed, third), /does not follow the one before it/)
    // A mixture of both is followed by nobody.
    one.store.objects.set(manifestAt(2), before.get(manifestAt(2))!)
    assert.throws(() => one.follow(3), SealError)
  })

  it('that reorders the parts of a manifest is seen', () => {
    const [second, third] = [2, 3].map((number) => keyOf(one.folder, 'manifest', numbered(number))) as [string, string]
    const parts = [one.store.objects.get(second)!, one.store.objects.get(third)!] as const
    one.store.objects.set(second, parts[1])
    one.store.objects.set(third, parts[0])
    assert.throws(() => one.follow(3), SealError)
  })

  it('that withholds an object only delays: nothing behind a missing part is believed', () => {
    const second = keyOf(one.folder, 'manifest', numbered(2))
    const sealed = one.store.objects.get(second)!
    one.store.objects.delete(second)
    assert.equal(one.follow(3).number, 1)
    one.store.objects.set(second, sealed)
    assert.equal(one.follow(3).number, 3)
  })

  it('that withholds the decision, or gives none, decides nothing', async () => {
    const fenceKey = keys.find((key) => parseKey(key)!.kind === 'fence')!
    const store = one.store
    store.get = async () => undefined
    const wanted = { decision: 'revoked', disks: one.disks, by: 'aa'.repeat(32) } as const
    await assert.rejects(one.fence().decide(wanted, never), (error) => error instanceof RelayError)
    assert(store.objects.has(fenceKey))
  })

  it('learns of equal chunks that they are equal, of others nothing but their rounded lengths, and no name of anything', async () => {
    const words = [one.move, disk, 'tokyo', 'mail 1', 'an epoch']
    for (const key of keys) {
      const sealed = one.store.objects.get(key)!
      for (const word of words) assert(!key.includes(word) && !sealed.includes(word), `${word} in ${key}`)
    }
    const plain = Buffer.alloc(mib, 'the same at both moves ')
    const here = packChunk({ move: one.move, ...one.keys }, plain)
    const there = packChunk({ move: other.move, ...other.keys }, plain)
    assert.notEqual(here.name, there.name, 'equal chunks of two moves do not show')
    assert.equal(here.sealed.length, there.sealed.length)
    assert.equal(packChunk({ move: one.move, ...one.keys }, plain).name, here.name)
  })
})
