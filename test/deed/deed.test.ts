// What a deed is: which entry may follow which, who must have signed it, and that nothing else is taken for one.

import assert from 'node:assert/strict'
import {
  DeedError,
  followedBy,
  generationOf,
  headOf,
  holderOf,
  isNamed,
  maximumDeedBytes,
  maximumEntries,
  standingOf,
  verifyDeed,
  verifyDeedInTurns,
} from '../../src/deed/deed.ts'
import { canonicalBytes, type Deed, type DeedEntry, hashOf } from '../../src/deed/entries.ts'
import { isSignedBy, type SigningKey, signBytes } from '../../src/deed/keys.ts'
import { signAdopted, signGiven, signRekeyed, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { a, at, b, c, disk, given, keyOf, made, move } from './sites.ts'

const copy = (deed: Deed): Record<string, unknown>[] => structuredClone(deed) as unknown as Record<string, unknown>[]

/** Signed by `key` whatever it says. */
function forged(key: SigningKey, entry: Record<string, unknown>): DeedEntry {
  const said = { by: key.publicKey, at, disk, ...entry }
  return { ...said, signature: signBytes(key, canonicalBytes(said as unknown as DeedEntry)) } as unknown as DeedEntry
}

function refused(deed: unknown, message: RegExp): void {
  assert.throws(
    () => verifyDeed(deed),
    (error) => error instanceof DeedError && message.test(error.message),
    String(message),
  )
}

describe('a deed', () => {
  it('says who holds the disk, in which generation, after each kind of entry', () => {
    const steps: [Deed, SigningKey, number][] = []
    const add = (deed: Deed, holder: SigningKey, generation: number) => {
      steps.push([deed, holder, generation])
      return deed
    }
    const atB = add(given(add(made(), a, 1), a, b), b, 2)
    add(signTakenBack(a, atB, 'the guest is off', at), a, 3)
    const released = add(signReleased(a, atB, at), b, 2)
    const rekeyed = add(signRekeyed(b, released, c.fingerprint, at), c, 2)
    add(given(rekeyed, c, a), a, 3)
    add(signAdopted(a, disk, 7, at), a, 7)
    for (const [deed, holder, generation] of steps) {
      const verified = verifyDeed(JSON.parse(JSON.stringify(deed)))
      assert.deepEqual([holderOf(verified), generationOf(verified)], [holder.fingerprint, generation])
      assert.deepEqual(verified, deed)
      assert.equal(headOf(verified), hashOf(deed.at(-1)!))
    }
  })

  it('is refused when a byte of any text or number of it is another', () => {
    const deed = signTakenBack(a, given(made(), a, b), 'word', at)
    for (const [index, entry] of deed.entries()) {
      for (const [field, value] of Object.entries(entry)) {
        const changed = copy(deed)
        if (typeof value === 'number') changed[index]![field] = value + 1
        else if (typeof value === 'string') {
          const [first, ...rest] = [...value]
          changed[index]![field] = (first === '1' ? '2' : '1') + rest.join('')
        } else changed[index]![field] = '0'.repeat(64)
        assert.throws(() => verifyDeed(changed), DeedError, `${index}: ${field}`)
      }
    }
  })

  it('is refused without one of its entries, with one twice, or in another order', () => {
    const deed = given(signReleased(a, given(made(), a, b), at), b, c)
    for (let index = 0; index < deed.length - 1; index++) {
      assert.throws(() => verifyDeed(deed.toSpliced(index, 1)), DeedError)
      assert.throws(() => verifyDeed(deed.toSpliced(index, 0, deed[index]!)), DeedError)
      assert.throws(() => verifyDeed(deed.toSpliced(index, 2, deed[index + 1]!, deed[index]!)), DeedError)
    }
    assert.equal(holderOf(verifyDeed(deed.slice(0, -1))), b.fingerprint, 'but a beginning of one is one')
  })

  it('names the entry that is wrong, in a sentence', () => {
    const deed = copy(given(made(), a, b))
    deed[1]!['generation'] = 9
    refused(deed, /^entry 2 \(given\) is void: it speaks of generation 9, and only 2 may follow$/)
    refused(
      deed.map((entry) => ({ ...entry, more: 1 })),
      /^entry 1 \(made\) is not as an entry is: /,
    )
    refused([{ kind: '\u001b[31m' }], /^entry 1 \(of no known kind\)/)
    for (const nothing of [undefined, null, {}, [], 'deed', [null], [[]]])
      assert.throws(() => verifyDeed(nothing), DeedError)
  })

  it('begins with made or adopted, and has neither anywhere else', () => {
    const root = made()
    refused(given(root, a, b).slice(1), /a deed begins with made or adopted/)
    refused([...root, ...made()], /begins with made, and nowhere else/)
    refused([...root, ...signAdopted(a, disk, 1, at)], /begins with adopted, and nowhere else/)
    refused([forged(a, { kind: 'made', generation: 2, previous: null })], /only 1 may follow/)
  })

  it('is given by the holder alone, to the next generation alone', () => {
    const root = made()
    const gift = { kind: 'given', previous: headOf(root), to: b.fingerprint, toSite: 'b', move }
    refused([...root, forged(c, { ...gift, generation: 2 })], /not signed by the key that held the disk/)
    for (const generation of [1, 3, 2 ** 47])
      refused([...root, forged(a, { ...gift, generation })], /only 2 may follow/)
    assert.throws(() => signGiven(c, root, { to: b.fingerprint, toSite: 'b', move }, at), DeedError)
  })

  it('is taken back by the giver alone, of the last gift alone, and not once that is released', () => {
    const atB = given(made(), a, b)
    assert.throws(() => signTakenBack(b, atB, '', at), /not signed by the key that had given/)
    assert.throws(() => signTakenBack(a, signReleased(a, atB, at), '', at), /undoes nothing/)
    assert.throws(() => signTakenBack(a, given(atB, b, c), '', at), /not signed by the key that had given/)
    assert.throws(() => signTakenBack(a, signRekeyed(b, atB, c.fingerprint, at), '', at), /undoes nothing/)
    assert.throws(() => signTakenBack(a, made(), '', at), /undoes nothing/)
    const undoes = { kind: 'taken-back', generation: 3, previous: headOf(atB), undoes: headOf(made()), word: '' }
    refused([...atB, forged(a, undoes)], /undoes nothing/)
    refused([...atB, forged(a, { ...undoes, undoes: headOf(atB), generation: 2 })], /only 3 may follow/)
  })

  it('is released by the giver alone, once, in the same generation', () => {
    const atB = given(made(), a, b)
    assert.throws(() => signReleased(b, atB, at), /not signed by the key that had given/)
    assert.throws(() => signReleased(a, made(), at), /nothing given/)
    assert.throws(() => signReleased(a, signReleased(a, atB, at), at), /nothing given/)
    refused([...atB, forged(a, { kind: 'released', generation: 3, previous: headOf(atB) })], /only 2 may follow/)
    verifyDeed(signReleased(a, signRekeyed(b, atB, c.fingerprint, at), at))
  })

  it('is signed over to a new key by the one that holds it', () => {
    const atB = given(made(), a, b)
    assert.throws(() => signRekeyed(a, atB, c.fingerprint, at), /not signed by the key that held/)
    const atC = signRekeyed(b, atB, c.fingerprint, at)
    assert.throws(() => given(atC, b, a), /not signed by the key that held/)
    assert.equal(holderOf(verifyDeed(given(atC, c, a))), a.fingerprint)
  })

  it('is of one disk', () => {
    const other = forged(a, {
      kind: 'given',
      generation: 2,
      previous: headOf(made()),
      to: b.fingerprint,
      toSite: '',
      move,
    })
    refused([...signAdopted(a, move, 1, at), other], /it is of disk 33333333/)
  })

  it('is not signed by a key that is spelt in another way: that would be another fingerprint', () => {
    const compressed = Buffer.from(a.publicKey, 'base64')
    // SPKI of the compressed point: a valid key for OpenSSL.
    const point = compressed.subarray(-65)
    const head = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex')
    const short = Buffer.concat([head, Buffer.from([2 + (point[64]! & 1)]), point.subarray(1, 33)]).toString('base64')
    const said = { kind: 'made', disk, generation: 1, at, by: short, previous: null } as const
    refused([{ ...said, signature: signBytes(a, canonicalBytes(said)) }], /its signature is not of the key/)
    assert.equal(isSignedBy('AAAA', Buffer.alloc(1), 'AAAA'), false)
  })

  it('has texts that need no escape, so that its bytes are the same whoever writes them', () => {
    for (const word of ['a\nb', '\u0000', '\u007f', '\ud800'])
      refused([...given(made(), a, b), forged(a, { ...takenBack(word) })], /word/)
    const deed = signTakenBack(a, given(made(), a, b), 'gone: "büro" \\ 東京', at)
    assert.match(canonicalBytes(deed.at(-1)!).toString(), /"word":"gone: \\"büro\\" \\\\ 東京"\}$/)
    verifyDeed(deed)
  })

  it('is one with another valid signature of the same entry: it is no other entry', () => {
    const once = made()
    const [entry] = once
    const again: Deed = [{ ...entry!, signature: signBytes(a, canonicalBytes(entry!)) }]
    assert.notEqual(again[0]!.signature, entry!.signature)
    assert.equal(headOf(verifyDeed(again)), headOf(once))
  })

  it('has bounds: entries, and bytes', () => {
    refused(
      Array.from({ length: maximumEntries + 1 }, () => ({})),
      /at most 4096/,
    )
    const long = { ...made()[0]!, kind: 'taken-back', previous: '0'.repeat(64), undoes: '0'.repeat(64) }
    const many = Array.from({ length: 4000 }, () => ({ ...long, word: 'x'.repeat(1000) }))
    assert(JSON.stringify(many).length > maximumDeedBytes)
    refused(many, /over 4194304 bytes/)
  })

  it('that is long is looked at in turns of the loop', async () => {
    let deed = made()
    for (let count = 0; count < 40; count++) deed = given(deed, a, a)
    let turns = 0
    const turn = async () => void turns++
    assert.deepEqual(await verifyDeedInTurns(deed, turn), deed)
    assert.equal(turns, 4)
    const wrong = copy(deed)
    wrong[40]!['signature'] = wrong[39]!['signature']
    await assert.rejects(verifyDeedInTurns(wrong, turn), /entry 41 \(given\) is void: its signature/)
  })

  it('are looked at in turns of the loop also where the last of many entries is none', async () => {
    const many = [...Array.from({ length: 100 }, () => made()[0]), { kind: 'none' }]
    let turns = 0
    const turn = async () => void turns++
    await assert.rejects(verifyDeedInTurns(many, turn), /entry 101/)
    assert(turns > 4, `${turns}`)
  })

  it('names the keys that had to do with it', () => {
    const deed = given(made(), a, b)
    assert.deepEqual(
      [isNamed(deed, a.fingerprint), isNamed(deed, b.fingerprint), isNamed(deed, c.fingerprint)],
      [true, true, false],
    )
  })

  it('takes an entry from elsewhere that may follow, and no other', () => {
    const root = made()
    const [, entry] = given(root, a, b)
    assert.equal(holderOf(followedBy(root, JSON.parse(JSON.stringify(entry)))), b.fingerprint)
    assert.throws(() => followedBy(root, { ...entry, to: c.fingerprint }), /entry 2 \(given\) is void: its signature/)
    assert.throws(() => followedBy(given(root, a, b), entry), /does not follow/)
    assert.throws(() => followedBy(root, { kind: 'given' }), /entry 2 \(given\) is not as an entry is/)
  })

  it('goes on as long as its entries are legal, in random chains, and no illegal one is signed', () => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    let state = seed
    const next = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
      return Math.floor((state / 0x80000000) * below)
    }
    const keys = ['A', 'B', 'C', 'D'].map(keyOf)
    for (let round = 0; round < 20; round++) {
      let deed = next(2) === 0 ? made(keys[next(4)]) : signAdopted(keys[next(4)]!, disk, 1 + next(9), at)
      for (let step = 0; step < 25; step++) {
        const [key, other] = [keys[next(4)]!, keys[next(4)]!]
        const before = standingOf(deed)
        const giver = keys.find(({ publicKey }) => publicKey === before.given?.by)
        const kind = next(4)
        const isHolder = key.fingerprint === before.holder
        const mayUndo = key === giver && before.given?.hash === before.head
        const isLegal = [isHolder, mayUndo, key === giver, isHolder][kind]!
        const facts = `SEED=${seed}: round ${round}, step ${step}, kind ${kind}`
        try {
          if (kind === 0) deed = given(deed, key, other)
          else if (kind === 1) deed = signTakenBack(key, deed, '', at)
          else if (kind === 2) deed = signReleased(key, deed, at)
          else deed = signRekeyed(key, deed, other.fingerprint, at)
          assert(isLegal, facts)
        } catch (error) {
          if (!(error instanceof DeedError)) throw error
          assert(!isLegal, `${facts}: ${error.message}`)
        }
      }
      assert.deepEqual(verifyDeed(JSON.parse(JSON.stringify(deed))), deed, `SEED=${seed}`)
    }
  })
})

const takenBack = (word: string) => {
  const atB = given(made(), a, b)
  return { kind: 'taken-back', generation: 3, previous: headOf(atB), undoes: headOf(atB), word }
}
