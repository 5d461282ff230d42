// What other sites know of a disk that is about to be taken back: a deed that goes further than ours refuses it.

import assert from 'node:assert/strict'
import type { Deed } from '../../src/deed/entries.ts'
import { signRekeyed, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import type { Disk } from '../../src/disk/disk.ts'
import { Refusal } from '../../src/disk/refusal.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import type { Counterpart } from '../../src/migration/counterpart.ts'
import type { Course } from '../../src/migration/course.ts'
import { checkDeedsElsewhere } from '../../src/migration/site/deeds-elsewhere.ts'
import { siteIdOf } from '../../src/peer/identity.ts'
import { a, at, b, c, disk, given, keyOf, made, move } from '../deed/sites.ts'
import { FakeClock } from './fake-time.ts'

/** Deeds, or why there is none, by the peers' names. */
type Answers = Readonly<Record<string, unknown>>

const ours = given(made(), a, b)

function check(answers: Answers, deed: Deed = ours): Promise<readonly string[]> {
  const services = {
    clock: new FakeClock(),
    siteOf: siteIdOf,
    peers: () => Object.keys(answers).map((name) => ({ id: name, site: name, name })),
    probe: async (name: string) => {
      if (answers[name] instanceof LinkError) throw answers[name]
    },
    counterpart: (name: string) =>
      ({
        deed: async () => {
          if (answers[name] instanceof Error) throw answers[name]
          return answers[name]
        },
      }) as unknown as Counterpart,
  }
  const departed = { id: disk, name: 'web01', record: { deed } } as Disk
  const course = { id: move, inMove: [departed] } as unknown as Course
  return checkDeedsElsewhere(services, course, () => true, new AbortController().signal)
}

async function refusedBy(theirs: Deed, deed = ours): Promise<void> {
  await assert.rejects(check({ kobe: JSON.parse(JSON.stringify(theirs)) }, deed), (error) => {
    assert(error instanceof Refusal && error.code === 'deed-goes-on', String(error))
    assert.match(error.message, /^kobe has a deed of web01 that goes further/)
    return true
  })
}

describe('before a disk is taken back', () => {
  it('promise 1: a deed by which it was given on, let go, or is held by a new key of its holder, refuses it', async () => {
    const let_ = signReleased(a, ours, at)
    await refusedBy(given(ours, b, c))
    await refusedBy(let_)
    await refusedBy(given(let_, b, c))
    await refusedBy(signRekeyed(b, ours, c.fingerprint, at))
  })

  it('so does one that forks from ours, and that nobody can decide', async () => {
    await refusedBy(given(made(), a, c))
  })

  it('a deed that ends where ours does, or before, keeps nobody from it, and neither does one that is none', async () => {
    const takenBack = signTakenBack(a, ours, 'word', at)
    const forged = JSON.parse(JSON.stringify(given(ours, b, c)))
    forged[2].toSite = 'changed'
    const other = given(made(keyOf('D')), keyOf('D'), c)
    const answers = { same: ours, before: made(), forged, other, none: new PeerRefusal('deed-unknown', 'it has none') }
    assert.deepEqual(await check(answers), [])
    assert.deepEqual(await check({ tokyo: ours }, takenBack), [])
  })

  it('who cannot be asked is named', async () => {
    const away = new LinkError('unreachable', 'it is away')
    assert.deepEqual(await check({ tokyo: away, kobe: ours, nara: away }), ['tokyo', 'nara'])
  })
})
