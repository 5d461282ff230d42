import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { fingerprintOfKey } from '../../src/deed/keys.ts'
import { Claim, type Claimant, fingerprintOfClaimant } from '../../src/relay/claim.ts'
import { moveKeys } from '../../src/relay/keys.ts'
import { moveFolder } from '../../src/relay/names.ts'
import { Objects } from './objects.ts'

const move = randomUUID()
const keys = moveKeys(randomBytes(32), move)
const never = new AbortController().signal
const claimant = (name: string): Claimant => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { site: `${name}-id`, name, publicKey: publicKey.export({ type: 'spki', format: 'der' }).toString('base64') }
}

describe('the claim of a ticket', () => {
  const claimAt = (store: Objects) => {
    let kept: Uint8Array | undefined
    const record = {
      kept: async () => kept,
      keep: async (sealed: Uint8Array) => {
        kept = sealed
      },
    }
    return new Claim({ store, folder: moveFolder(keys.names), key: keys.claim, move, record })
  }

  it('of two sites that race for one ticket one wins, and both learn which', async () => {
    const store = new Objects()
    const [one, other] = [claimAt(store), claimAt(store)]
    const [tokyo, lyon] = [claimant('tokyo'), claimant('lyon')]
    const [first, second] = await Promise.all([one.take(tokyo, never), other.take(lyon, never)])
    assert.deepEqual([first.isOurs, second.isOurs], [true, false])
    assert.equal(second.decided.name, 'tokyo')
    assert(!(await other.take(lyon, never)).isOurs, 'however often it is asked')
    assert((await one.take(tokyo, never)).isOurs)
    const seen = await claimAt(store).read(never)
    assert.equal(seen && fingerprintOfClaimant(seen), fingerprintOfKey(tokyo.publicKey))
  })

  it('shows nothing of who it is without the key', async () => {
    const store = new Objects()
    await claimAt(store).take(claimant('tokyo'), never)
    const [[key, sealed]] = [...store.objects] as [[string, Buffer]]
    assert(!key.includes(move) && !sealed.includes('tokyo'))
  })
})
