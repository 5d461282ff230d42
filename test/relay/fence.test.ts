import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { type RelayError, SealError } from '../../src/relay/errors.ts'
import { type Decision, Fence, type Wanted } from '../../src/relay/fence.ts'
import { moveKeys } from '../../src/relay/keys.ts'
import { moveFolder } from '../../src/relay/names.ts'
import type { OnceRecord } from '../../src/relay/once.ts'
import { Objects, storeError } from './objects.ts'

const move = randomUUID()
const disks = [{ disk: randomUUID(), generation: 4 }]
const osaka = 'aa'.repeat(32)
const tokyo = 'bb'.repeat(32)
const lyon = 'cc'.repeat(32)
const never = new AbortController().signal
const keys = moveKeys(randomBytes(32), move)

const granted: Wanted = { decision: 'grant', disks, to: tokyo, by: osaka }
const revoked: Wanted = { decision: 'revoked', disks, by: osaka }

class Kept implements OnceRecord {
  sealed: Uint8Array | undefined
  log: string[] = []
  async kept() {
    return this.sealed
  }
  async keep(sealed: Uint8Array) {
    this.log.push('kept')
    this.sealed = Buffer.from(sealed)
  }
}

describe('the fence of a move through a relay', () => {
  let store: Objects
  let record: Kept
  const fenceOf = (at: Objects, of: Kept, generation = 4) =>
    new Fence({ store: at, folder: moveFolder(keys.names), key: keys.fence, move, generation, record: of })
  const said = ({ decision, by }: Decision) => `${decision} by ${by.slice(0, 2)}`

  beforeEach(() => {
    store = new Objects()
    record = new Kept()
  })

  it('is the first that puts it, and the other is told what was decided', async () => {
    const one = await fenceOf(store, record).decide(granted, never)
    assert.deepEqual([one.isOurs, said(one.decided)], [true, 'grant by aa'])
    const other = await fenceOf(store, new Kept()).decide(revoked, never)
    assert.deepEqual([other.isOurs, said(other.decided)], [false, 'grant by aa'])
    assert.equal(other.decided.decision === 'grant' && other.decided.to, tokyo)
  })

  it('promise 2: what is put is durable with the site first', async () => {
    store.fault = ({ do: what }) => {
      if (what === 'put') assert(record.sealed, 'a put of what is not kept')
      return undefined
    }
    await fenceOf(store, record).decide(granted, never)
    assert.deepEqual(record.log, ['kept'])
    assert(record.sealed && [...store.objects.values()][0]!.equals(record.sealed), 'byte for byte')
  })

  it('a site that died before its put, or before the answer, puts the same and knows it again', async () => {
    for (const dies of [storeError('unavailable'), { after: storeError('unavailable') }] as const) {
      store = new Objects()
      record = new Kept()
      store.fault = () => dies
      await assert.rejects(fenceOf(store, record).decide(granted, never), /unavailable/)
      store.fault = () => undefined
      const { isOurs } = await fenceOf(store, record).decide(granted, never)
      assert(isOurs)
      assert.deepEqual(record.log, ['kept'], 'nothing was made anew')
    }
  })

  it('`exists` is not taken for having lost, nor for having won: what stands there is read', async () => {
    const other = new Kept()
    await fenceOf(store, other).decide({ ...granted, to: lyon }, never)
    const { isOurs, decided } = await fenceOf(store, record).decide(granted, never)
    assert.deepEqual([isOurs, decided.decision === 'grant' && decided.to], [false, lyon])
    assert((await fenceOf(store, other).decide({ ...granted, to: lyon }, never)).isOurs)
  })

  it('two copies of one site that put the same are told apart', async () => {
    assert((await fenceOf(store, record).decide(granted, never)).isOurs)
    assert(!(await fenceOf(store, new Kept()).decide(granted, never)).isOurs)
  })

  it('a site that wants it otherwise after its put was lost is told what its own put decided', async () => {
    store.fault = () => ({ after: storeError('unavailable') })
    await assert.rejects(fenceOf(store, record).decide(granted, never), /unavailable/)
    store.fault = () => undefined
    const { isOurs, decided } = await fenceOf(store, record).decide(revoked, never)
    assert.deepEqual([isOurs, said(decided)], [false, 'grant by aa'])
  })

  it('a put that comes late, after the key was decided, changes nothing', async () => {
    const late = Promise.withResolvers<undefined>()
    store.fault = ({ do: what }) => (what === 'put' ? late.promise : undefined)
    const first = fenceOf(store, record).decide(granted, never)
    while (store.asked.length === 0) await Promise.resolve()
    store.fault = () => undefined
    assert((await fenceOf(store, new Kept()).decide(revoked, never)).isOurs)
    late.resolve(undefined)
    assert.deepEqual([(await first).isOurs, said((await first).decided)], [false, 'revoked by aa'])
  })

  it('a store that cannot keep the condition is no fence, at this very put, and what it stored is not believed', async () => {
    store.fault = ({ ifAbsent }) => (ifAbsent ? { after: storeError('unfit', 'it keeps versions') } : undefined)
    await assert.rejects(fenceOf(store, record).decide(granted, never), (error: RelayError) => {
      assert.equal(error.code, 'unfit')
      assert.match(error.message, /it keeps versions.*vmstore peer invite/)
      return true
    })
  })

  it('a put whose answer was lost is not believed to have won where versions are kept since, which only that answer said', async () => {
    await fenceOf(store, new Kept()).decide(granted, never) // Its destination has read it, and serves.
    store.ignoresConditions = true
    store.fault = ({ ifAbsent }) => (ifAbsent ? { after: storeError('unavailable', 'connection reset') } : undefined)
    await assert.rejects(fenceOf(store, record).decide(revoked, never), /connection reset/)
    // A second put in a row is refused, as it should be; the first has won over the grant.
    store.ignoresConditions = false
    store.fault = ({ key }) =>
      key.includes('/fence/probe-') ? { after: storeError('unfit', 'it keeps versions') } : undefined
    await assert.rejects(fenceOf(store, record).decide(revoked, never), { code: 'unfit' })
  })

  it('nothing but the decision is left in a store that keeps the condition', async () => {
    await fenceOf(store, record).decide(granted, never)
    await fenceOf(store, record).decide(granted, never)
    assert.equal(store.objects.size, 1)
  })

  it('a store that shows another object than it said it stored is no fence', async () => {
    store.ignoresConditions = true
    const other = new Kept()
    store.fault = async ({ do: what }) => {
      if (what !== 'get') return undefined
      // Between the put and the read the other site is told, too, that it won.
      store.fault = () => undefined
      await fenceOf(store, other)
        .decide(revoked, never)
        .catch(() => undefined)
      return undefined
    }
    await assert.rejects(fenceOf(store, record).decide(granted, never), { code: 'unfit' })
  })

  it('while what stands there cannot be read, nothing is decided', async () => {
    await fenceOf(store, new Kept()).decide(granted, never)
    const [key, sealed] = [...store.objects][0]!
    store.fault = ({ do: what }) => {
      if (what === 'get') store.objects.delete(key)
      return undefined
    }
    await assert.rejects(fenceOf(store, record).decide(revoked, never), { code: 'unavailable' })
    store.fault = () => undefined
    for (let at = 0; at < sealed.length; at += 11) {
      const forged = Buffer.from(sealed)
      forged[at]! ^= 1
      store.objects.set(key, forged)
      await assert.rejects(fenceOf(store, record).decide(revoked, never), SealError)
      await assert.rejects(fenceOf(store, record).read(never), SealError)
    }
  })

  it('of another generation, moved here by the relay, is refused', async () => {
    await fenceOf(store, new Kept(), 4).decide(granted, never)
    const [key4, sealed] = [...store.objects][0]!
    const key6 = key4.replace(/4$/, '6')
    store.objects.clear()
    store.objects.set(key6, sealed)
    await assert.rejects(fenceOf(store, record, 6).decide(revoked, never), SealError)
  })

  it('a source has its disks back only if it is `revoked` that stands there', async () => {
    assert(await fenceOf(store, record).takesBack(disks, osaka, never))
    assert(await fenceOf(store, record).takesBack(disks, osaka, never))
    const late = await fenceOf(store, new Kept()).decide({ ...granted, by: tokyo }, never)
    assert.equal(late.decided.decision, 'revoked', 'a parked disk is not taken any more')
    store = new Objects()
    await fenceOf(store, new Kept()).decide({ ...granted, by: tokyo }, never)
    assert(!(await fenceOf(store, new Kept()).takesBack(disks, osaka, never)))
    store.fault = () => storeError('unavailable')
    await assert.rejects(fenceOf(store, new Kept()).takesBack(disks, osaka, never), /unavailable/)
  })

  it('read shows what is decided, and nothing proves that nothing is', async () => {
    assert.equal(await fenceOf(store, record).read(never), undefined)
    await fenceOf(store, record).decide(revoked, never)
    assert.equal((await fenceOf(store, new Kept()).read(never))?.decision, 'revoked')
  })
})
