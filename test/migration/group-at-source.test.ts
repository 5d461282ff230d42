// Two disks of a site that begin to move together, over real files, and what becomes of them there.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { maximumEntries } from '../../src/deed/deed.ts'
import { signMade } from '../../src/deed/signing.ts'
import type { Disk } from '../../src/disk/disk.ts'
import { Disks } from '../../src/disk/disks.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import { Refusal } from '../../src/disk/refusal.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import type { Counterpart, DestinationDesk, Preparation } from '../../src/migration/counterpart.ts'
import { rightsOf } from '../../src/migration/peer-rights.ts'
import { Beginnings } from '../../src/migration/site/beginnings.ts'
import { Commands } from '../../src/migration/site/commands.ts'
import { Roster } from '../../src/migration/site/roster.ts'
import type { MigrationsServices } from '../../src/migration/site/services.ts'
import { termsOf } from '../../src/migration/terms.ts'
import { block, diskServices, WatchedFiles } from '../disk/hand.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { usualTerms } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSite } from './scripted-site.ts'
import { elsewhere, keys, ourKey } from './site-keys.ts'
import { ids, Ledger } from './two-disks.ts'

const peer = { id: 'ab'.repeat(32), site: 'there', name: 'tokyo' }
const never = new AbortController().signal
const terms = termsOf({ terms: usualTerms })
const madeAt = '2026-03-01T10:00:00.000Z'
const unreachable = new LinkError('lost', 'the link is down')

describe('disks of a site that move together', () => {
  removeFoldersAfterEach()
  let records: Ledger
  let disks: Disks
  let roster: Roster
  let beginnings: Beginnings
  let commands: Commands
  let prepared: Preparation[]
  let there: Partial<Counterpart>
  let [web01, web02]: Disk[] = []

  beforeEach(async () => {
    records = new Ledger()
    prepared = []
    const folder = temporaryFolder()
    const layout = {
      diskFolder: (id: string) => join(folder, id),
      passingFolder: (id: string) => join(folder, `p-${id}`),
    }
    disks = new Disks(diskServices(new WatchedFiles(), records), layout)
    const made = (name: keyof typeof ids) =>
      disks.create(
        { id: ids[name], name, sizeBytes: 64 * block, deed: signMade(ourKey, ids[name], madeAt) },
        madeAt,
        async () => {},
      )
    ;[web01, web02] = [await made('web01'), await made('web02')]
    const told: Partial<DestinationDesk> = { cancelled: async () => {}, writersGone: async () => {} }
    there = { prepare: async (what) => void prepared.push(what), destination: () => told as DestinationDesk }
    const services: MigrationsServices = {
      records,
      clock: new FakeClock(),
      siteId: 'here',
      ...keys,
      bootId: 'boot-1',
      log: () => {},
      freeBytes: async () => 2 ** 40,
      disks,
      newId: () => 'm-1',
      counterpart: () => ({ ...scriptedSite({}), ...there }),
      peer: () => peer,
      rights: () => rightsOf(undefined),
      peers: () => [peer],
      keep: () => ({ [Symbol.dispose]: () => {} }),
      readOnly: false,
      transport: () => 'tcp',
      probe: async () => {},
    }
    roster = new Roster(services, () => {})
    roster.takenUp()
    beginnings = new Beginnings(services, roster)
    commands = new Commands(services, roster)
    records.commits.length = 0
  })

  afterEach(async () => {
    await roster.stop()
    await disks.close()
  })

  const start = (names: readonly string[] = ['web02', 'web01']) => beginnings.start(names, peer, terms, never)
  const migrations = () => [web01!.record.migrationId, web02!.record.migrationId]

  async function depart(): Promise<void> {
    const course = await start()
    const asked = [ids.web02, ids.web01].map((disk) => ({ disk, generation: 2 }))
    const answer = await course.desk.acquire({ disks: asked, reason: 'resume', force: false }, never)
    assert.equal(answer.answer, 'granted')
  }

  it('are all in the migration by one commit, and the destination hears of all, in the order in which they were named', async () => {
    await start()
    assert.deepEqual(records.put()[0], ['web02 owned', 'web01 owned', 'move preparing'])
    assert.deepEqual(
      prepared[0]!.disks.map(({ name }) => name),
      ['web02', 'web01'],
    )
    assert.deepEqual(migrations(), ['m-1', 'm-1'])
  })

  it('do not begin where one of them may not move, and none is touched', async () => {
    const refused = async (names: readonly string[], code: string, disk: string) =>
      assert.rejects(start(names), (error) => error instanceof Refusal && error.code === code && error.disk === disk)
    await refused(['web01', 'web01'], 'same-disk', 'web01')
    await refused(['web01', 'web03'], 'disk-unknown', 'web03')
    {
      using _claim = web02!.reserve('it is being deleted')
      await refused(['web01', 'web02'], 'disk-busy', 'web02')
    }
    assert.deepEqual([records.commits, migrations()], [[], [null, null]])
    await start() // And nothing is claimed any more.
  })

  it('do not begin where the deed of one has no room for a move', async () => {
    const [entry] = signMade(ourKey, ids.web02, madeAt)
    const full = Array.from({ length: maximumEntries - 1 }, () => entry!)
    await commitTogether([web02!.noteDeed(full)])
    records.commits.length = 0
    await assert.rejects(start(), { code: 'deed-full', message: /web02 has 4095 entries, and one has at most 4096/ })
    assert.deepEqual([records.commits, migrations()], [[], [null, null]])
    await commitTogether([web02!.noteDeed(full.slice(0, -1))])
  })

  it('are all free again when the destination refuses one, and the refusal says which', async () => {
    there.prepare = async () => {
      throw new PeerRefusal('disk-exists', 'there is a disk web02 there already')
    }
    await assert.rejects(start(), /tokyo refused: there is a disk web02 there already/)
    assert.deepEqual(migrations(), [null, null])
    await assert.rejects(beginnings.start(['web01'], peer, terms, never), /web02/, 'it is asked again')
  })

  it('do not begin when that cannot be recorded, and none is in a migration', async () => {
    records.failure = new Error('the file system is full')
    await assert.rejects(start(), /full/)
    assert.deepEqual([migrations(), roster.courses().length], [[null, null], 0])
  })

  it('promise 1: come back together, whichever is named, once nobody is attached to any', async () => {
    await depart()
    there.standing = async () => {
      throw unreachable
    }
    const guest = web02!.open('guest')
    await assert.rejects(commands.reclaim('web01', true, never), /web02 has 1 client\(s\) attached/)
    await guest.close('disconnected')
    there.standing = async () => ({
      state: 'copying',
      disks: [ids.web01, ids.web02].map((disk) => ({ disk, generation: 2 })),
    })
    await assert.rejects(
      commands.reclaim('web01', true, never),
      /generation 2 of web02, generation 2 of web01, copying/,
    )
    there.standing = async () => ({ state: 'failed', disks: [] })
    await assert.rejects(commands.reclaim('web01', false, never), /Taking web02, web01 back loses all that their guest/)
    await commands.reclaim('web01', true, never)
    assert.deepEqual([web01!.state, web02!.state, migrations()], ['owned', 'owned', [null, null]])
  })

  it('promise 1: of which a peer says before switchover that one is void are in the move no more, and the other is owned', async () => {
    await start()
    await roster.supersede(web01!, elsewhere(7, 'elsewhere'))
    assert.deepEqual([web01!.state, web02!.state, migrations()], ['superseded', 'owned', [null, null]])
    assert.deepEqual([web02!.gate.frozen, roster.courses().length], [false, 0])
  })

  it('promise 1: of which one is void after switchover go on without it', async () => {
    await depart()
    await roster.supersede(web01!, elsewhere(7, 'elsewhere'))
    assert.deepEqual([web01!.state, web02!.state, migrations()], ['superseded', 'departed', [null, 'm-1']])
    assert.equal(roster.courses().length, 1)
    await roster.supersede(web02!, elsewhere(7, 'elsewhere'))
    assert.deepEqual([web02!.state, roster.courses().length], ['superseded', 0])
  })

  for (const [state, other, isOver] of [
    ['ready', null, true],
    ['copying', 'm-1', false],
  ] as const)
    it(`promise 1: of a move that stopped while it was ${state}: one that is void ${isOver ? 'ends it' : 'leaves it'}`, async () => {
      await (state === 'ready' ? start() : depart())
      const course = roster.courses()[0]!
      roster.drop(course) // As one that could not be taken up.
      await roster.supersede(web01!, elsewhere(7, 'elsewhere'))
      const record = roster.past.get('m-1')!
      assert.deepEqual([web01!.state, migrations()], ['superseded', [null, other]])
      assert.deepEqual(
        [record.state, record.disks.map(({ hasLeft }) => hasLeft)],
        [isOver ? 'failed' : state, [false, !isOver]],
      )
    })
})
