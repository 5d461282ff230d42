import assert from 'node:assert/strict'
import { PeerRefusal } from '../../src/link/channel.ts'
import type { Completion } from '../../src/migration/counterpart.ts'
import { tellSource } from '../../src/migration/site/afterword.ts'
import type { Supersession } from '../../src/migration/supersession.ts'
import { MemoryRecords } from '../disk/hand.ts'
import { migrationRecord, movedDisk } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSource } from './scripted-site.ts'
import { elsewhere, ourKey } from './site-keys.ts'
import { ids } from './two-disks.ts'

const disks = [
  movedDisk({ id: ids.web01, name: 'web01', owner: 'here' }),
  movedDisk({ id: ids.web02, name: 'web02', owner: 'here' }),
]
const record = migrationRecord({ state: 'done', sourceTold: false, disks })

describe('a source that is told later of a move of two disks', () => {
  let superseded: [string, Supersession][]

  beforeEach(() => {
    superseded = []
  })

  const tell = (answer: (said: Completion) => void, of = record) =>
    tellSource({
      record: of,
      clock: new FakeClock(),
      records: new MemoryRecords(),
      log: () => {},
      source: scriptedSource({
        complete: async (said) => {
          answer(said)
          return { answer: 'released', disks: [], released: [] }
        },
      }),
      signal: new AbortController().signal,
      key: ourKey,
      proof: async () => elsewhere(3, 'there'),
      released: async () => {},
      superseded: async (disk, by) => void superseded.push([disk, by]),
    })

  const back = (...ofDisks: string[]) => {
    const said = ofDisks.map((disk) => ({ disk, generation: 3, owner: 'there' }))
    return new PeerRefusal('superseded', 'it was taken back', { disks: said })
  }

  it('hears of every disk that is in the move, and of no other', async () => {
    const heard: string[][] = []
    const told = await tell((said) => heard.push(said.disks.map(({ disk }) => disk)))
    const left = { ...record, disks: [{ ...disks[0]!, hasLeft: true }, disks[1]!] }
    await tell((said) => heard.push(said.disks.map(({ disk }) => disk)), left)
    assert.deepEqual(heard, [[ids.web01, ids.web02], [ids.web02]])
    assert.deepEqual(told, { ...record, sourceTold: true })
  })

  it('promise 1: and has taken both back: each is void here, and the move has failed', async () => {
    const told = await tell(() => {
      throw back(ids.web01, ids.web02)
    })
    assert.deepEqual(
      superseded.map(([disk, { generation }]) => [disk, generation]),
      [
        [ids.web01, 3],
        [ids.web02, 3],
      ],
    )
    assert.deepEqual([told.state, told.disks.map(({ owner }) => owner)], ['failed', ['there', 'there']])
  })

  it('promise 1: and says of one alone that it is void: that one left the move, and the other is owned', async () => {
    const told = await tell(() => {
      throw back(ids.web02)
    })
    assert.deepEqual(superseded, [[ids.web02, elsewhere(3, 'there')]])
    assert.deepEqual(
      [told.state, told.disks.map(({ owner, hasLeft }) => [owner, hasLeft])],
      [
        'done',
        [
          ['here', false],
          ['there', true],
        ],
      ],
    )
  })
})
