import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { SealError } from '../../src/relay/errors.ts'
import { moveKeys } from '../../src/relay/keys.ts'
import { keyOf, moveFolder, numbered, numberIn, parseKey, prefixOf } from '../../src/relay/names.ts'
import { open, type SealedAs, seal, sealBytes } from '../../src/relay/seal.ts'

const secret = randomBytes(32)
const keys = moveKeys(secret, 'move-1')
const as: SealedAs = { move: 'move-1', kind: 'mail', position: 'to-source/000000000007', generation: 4 }
const key = keys.mail('to-source')
const plain = Buffer.from('the source may go')

describe('objects of a relay, sealed', () => {
  it('open as what they were, of any length, and two of one text differ', () => {
    for (const text of [Buffer.alloc(0), plain, randomBytes(100_000)]) {
      const sealed = seal(key, as, text)
      assert.equal(sealed.length, text.length + sealBytes)
      assert(open(key, as, sealed).equals(text))
      assert(!seal(key, as, text).equals(sealed))
    }
  })

  it('at another place than their own are refused: another move, kind, position or generation', () => {
    const sealed = seal(key, as, plain)
    const others: Partial<SealedAs>[] = [
      { move: 'move-2' },
      { kind: 'state' },
      { position: 'to-source/000000000008' },
      { generation: 5 },
      // The same texts, cut at another place.
      { move: 'move-1m', kind: 'mail' },
    ]
    for (const other of others) assert.throws(() => open(key, { ...as, ...other }, sealed), SealError)
  })

  it('of the other direction, another purpose or another secret are refused', () => {
    const sealed = seal(key, as, plain)
    const others = [
      keys.mail('to-destination'),
      keys.manifest,
      keys.chunk,
      keys.fence,
      keys.claim,
      keys.state,
      moveKeys(secret, 'move-2').mail('to-source'),
      moveKeys(randomBytes(32), 'move-1').mail('to-source'),
    ]
    for (const other of others) assert.throws(() => open(other, as, sealed), SealError)
    const all = [key, ...others, keys.names].map((one) => Buffer.from(one).toString('hex'))
    assert.equal(new Set(all).size, all.length)
  })

  it('cut at any byte, or with any byte changed or added, are refused', () => {
    const sealed = seal(key, as, plain)
    for (let at = 0; at < sealed.length; at++) {
      assert.throws(() => open(key, as, sealed.subarray(0, at)), SealError, `cut at ${at}`)
      const changed = Buffer.from(sealed)
      changed[at]! ^= 1
      assert.throws(() => open(key, as, changed), SealError, `changed at ${at}`)
    }
    assert.throws(() => open(key, as, Buffer.concat([sealed, Buffer.alloc(1)])), SealError)
    assert.throws(() => open(key, as, Buffer.alloc(0)), /was cut/)
  })
})

describe('names of a relay', () => {
  const folder = moveFolder(keys.names)

  it('say nothing of the move, and the same keys find it again', () => {
    assert.equal(moveFolder(moveKeys(secret, 'move-1').names), folder)
    assert.notEqual(moveFolder(moveKeys(randomBytes(32), 'move-1').names), folder)
    assert.match(folder, /^[0-9a-f]{40}$/)
  })

  it('are read as they were made, and what others put into the bucket is nothing', () => {
    const key = keyOf(folder, 'mail', `to-source/${numbered(7)}`)
    assert.deepEqual(parseKey(key), { folder, kind: 'mail', position: 'to-source/000000000007' })
    assert.equal(numberIn('to-source/000000000007'), 7)
    assert.equal(numberIn('to-source'), undefined)
    assert(key.startsWith(prefixOf(folder, 'mail')) && key.startsWith(prefixOf(folder)))
    for (const other of ['', 'backup/2026', `${folder}/other/1`, `${folder}/mail`, `${folder}/mail/../x`, `x${key}`]) {
      assert.equal(parseKey(other), undefined, other)
    }
    assert.throws(() => keyOf(folder, 'mail', '../fence/4'), RangeError)
    assert.throws(() => keyOf('..', 'mail', '4'), RangeError)
    assert.throws(() => numbered(-1), RangeError)
  })

  it('of numbers are listed in their order', () => {
    const numbers = [0, 9, 10, 99, 100, 123456789012]
    assert.deepEqual(numbers.map(numbered).sort(), numbers.map(numbered))
  })
})
