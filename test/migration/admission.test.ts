import assert from 'node:assert/strict'
import { closeSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { headOf } from '../../src/deed/deed.ts'
import type { Deed } from '../../src/deed/entries.ts'
import { Disks } from '../../src/disk/disks.ts'
import { GuestError } from '../../src/guest/export.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import type { OfferedDisk, Preparation } from '../../src/migration/counterpart.ts'
import { rightsOf } from '../../src/migration/peer-rights.ts'
import { admit } from '../../src/migration/site/admission.ts'
import { Beginnings } from '../../src/migration/site/beginnings.ts'
import { takeUpAll } from '../../src/migration/site/resumption.ts'
import { Roster } from '../../src/migration/site/roster.ts'
import type { MigrationsServices } from '../../src/migration/site/services.ts'
import type { DiskRecord, MigrationRecord, PeerLimits } from '../../src/store/records.ts'
import { block, diskServices, isSettled, read, settled, WatchedFiles } from '../disk/hand.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { migrationRecord, usualTerms } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSite } from './scripted-site.ts'
import { keys, theirKey, theirs } from './site-keys.ts'
import { ids, Ledger } from './two-disks.ts'

const peer = { id: theirKey.fingerprint, site: 'there', name: 'tokyo' }
const mebibyte = 2 ** 20

/** A site to which another moves disks, over real files. The other site answers nothing until `answers` is resolved. */
class Site {
  readonly folder = temporaryFolder()
  readonly records = new Ledger()
  readonly files = new WatchedFiles()
  freeBytes = 2 ** 40
  /** What the peer may have here, and what it wanted more of. */
  limits: Partial<PeerLimits> = {}
  readonly reached: string[] = []
  /** What the other site has. */
  deeds: (disk: string) => unknown = (disk) => theirs(disk)
  /** What this one knows. */
  known: Deed | null = null
  disks!: Disks
  roster!: Roster
  #services!: MigrationsServices

  constructor() {
    this.#make()
  }

  #make(): void {
    const { records } = this
    const layout = {
      diskFolder: (id: string) => join(this.folder, id),
      passingFolder: (id: string) => join(this.folder, `passing-${id}`),
    }
    this.disks = new Disks(diskServices(this.files, records), layout)
    this.#services = {
      records,
      clock: new FakeClock(),
      siteId: 'here',
      ...keys,
      bootId: 'boot-1',
      log: () => {},
      freeBytes: async () => this.freeBytes,
      disks: this.disks,
      newId: () => 'm-2',
      counterpart: () => ({
        ...scriptedSite({ inquire: () => new Promise(() => {}) }),
        deed: async (disk) => JSON.parse(JSON.stringify(this.deeds(disk))),
      }),
      peer: () => peer,
      rights: () => rightsOf({ mayTake: [], limits: this.limits }, (limit) => void this.reached.push(limit)),
      peers: () => [peer],
      keep: () => ({ [Symbol.dispose]: () => {} }),
      readOnly: false,
      transport: () => 'tcp',
      probe: async () => {},
    }
    this.roster = new Roster(this.#services, () => {})
    this.roster.takenUp()
  }

  prepare(disks: readonly OfferedDisk[], migration = 'm-1', from = peer.id): Promise<void> {
    const preparation: Preparation = { migration, disks, terms: usualTerms, boot: 'boot-2' }
    const known = () => this.known
    return admit(this.#services, this.roster, from, preparation, known, new AbortController().signal)
  }

  /** The next daemon takes up what is on record. */
  async restart(): Promise<void> {
    const [disks, migrations] = [new Map<string, DiskRecord>(), new Map<string, MigrationRecord>()]
    for (const change of this.records.commits.flat()) {
      if (!('put' in change)) continue
      if (change.put === 'disk') disks.set(change.record.id, change.record)
      if (change.put === 'migration') migrations.set(change.record.id, change.record)
    }
    await this.close()
    this.#make()
    const [services, roster] = [this.#services, this.roster]
    const parts = { services, roster, beginnings: new Beginnings(services, roster), diskRecords: [...disks.values()] }
    await takeUpAll(parts, [...migrations.values()])
  }

  async close(): Promise<void> {
    await this.roster.stop()
    await this.disks.close()
  }

  /** Block files of disks, wherever they are. */
  get left(): string[] {
    return Object.values(ids).flatMap((id) => {
      const folder = join(this.folder, id)
      try {
        return readdirSync(folder)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [] // It may go at any moment.
        throw error
      }
    })
  }
}

const offered: readonly OfferedDisk[] = (['web01', 'web02'] as const).map((name) => ({
  id: ids[name],
  name,
  sizeBytes: 64 * block,
  generation: 1,
  allocatedBytes: 40 * mebibyte,
  head: headOf(theirs(ids[name])),
}))

describe('disks that a peer moves here together', () => {
  removeFoldersAfterEach()
  let site: Site
  beforeEach(() => {
    site = new Site()
  })
  afterEach(() => site.close())

  it('come in one transaction with their migration, and no other answer is given when it is asked again', async () => {
    await site.prepare(offered)
    assert.deepEqual(site.records.put(), [['web01 incoming', 'web02 incoming', 'move ready']])
    assert.deepEqual(
      site.roster.course('m-1').disks.map(({ name, state, record }) => [name, state, record.migrationId]),
      [
        ['web01', 'incoming', 'm-1'],
        ['web02', 'incoming', 'm-1'],
      ],
    )
    await site.prepare(offered)
    assert.equal(site.records.commits.length, 1)
  })

  describe('promise 10: the id of a migration that is known here', () => {
    it('is not taken again by another peer, nor for other disks, while it is under way', async () => {
      await site.prepare(offered)
      const [web01, web02] = offered as [OfferedDisk, OfferedDisk]
      for (const again of [
        site.prepare(offered, 'm-1', 'cd'.repeat(32)),
        site.prepare([web01]),
        site.prepare([web01, { ...web02, id: '77777777-7777-4777-8777-777777777777' }]),
        site.prepare([web01, { ...web02, generation: 9 }]),
      ])
        await assert.rejects(again, { code: 'migration-known' })
      assert.equal(site.records.commits.length, 1)
    })

    for (const role of ['source', 'destination'] as const) {
      it(`is not taken again once it is past, at its ${role}, and its record stays what it was`, async () => {
        const past = migrationRecord({ id: 'm-1', role, state: 'done', peerId: peer.id })
        site.roster.past.add(past)
        await assert.rejects(site.prepare(offered), { code: 'migration-known' })
        assert.deepEqual([site.records.commits, site.roster.past.get('m-1')], [[], past])
      })
    }

    it('is taken once of two that are made ready at the same time', async () => {
      const [web01, web02] = offered as [OfferedDisk, OfferedDisk]
      const outcomes = await Promise.allSettled([site.prepare([web01]), site.prepare([web02])])
      assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
      assert.equal(site.roster.courses().length, 1)
    })
  })

  describe('promise 10: a peer places here no more than it may', () => {
    const [web01, web02] = offered as [OfferedDisk, OfferedDisk]

    for (const [limit, enough] of [
      ['disks', 2],
      ['bytes', 80 * mebibyte],
      ['sizeBytes', 128 * block],
    ] as const) {
      it(`of ${limit}, in one move and in several, and what it wanted more is counted`, async () => {
        site.limits = { [limit]: enough - 1 }
        await assert.rejects(site.prepare(offered), { code: 'over-limit' })
        assert.deepEqual([site.reached, site.records.commits, site.left], [[limit], [], []])
        if (limit !== 'bytes') {
          await site.prepare([web01])
          await assert.rejects(site.prepare([web02], 'm-3'), { code: 'over-limit' })
          site.limits = { [limit]: enough }
          await site.prepare([web02], 'm-3')
        } else {
          site.limits = { [limit]: enough }
          await site.prepare(offered)
        }
      })
    }

    it('counting those that are being made ready at the same time', async () => {
      site.limits = { disks: 1 }
      const outcomes = await Promise.allSettled([site.prepare([web01]), site.prepare([web02], 'm-3')])
      assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    })

    it('and finds no room for what lands once its disks have all that they may have', async () => {
      await site.prepare(offered)
      assert.equal(await site.roster.roomOf(peer.id), site.freeBytes)
      site.limits = { bytes: mebibyte }
      assert.equal(await site.roster.roomOf(peer.id), mebibyte)
      site.limits = { bytes: 0 }
      assert.equal(await site.roster.roomOf(peer.id), 0)
      assert.deepEqual(site.reached, ['bytes'])
    })
  })

  describe('promise 10: of disks that it was not given a peer hears one bit', () => {
    it('of a disk that is here under the id that it offers', async () => {
      await site.disks.create(
        { id: ids.web01, name: 'secret', sizeBytes: 32 * block, deed: null },
        '2026-01-01T00:00:00.000Z',
        async () => {},
      )
      await assert.rejects(site.prepare(offered), new PeerRefusal('disk-here', `web01 (${ids.web01}) is there already`))
    })

    it('and does not take the name of the only export from the disk that is here', async () => {
      const mine = { id: '77777777-7777-4777-8777-777777777777', name: 'mine', sizeBytes: block, deed: null }
      await site.disks.create(mine, '2026-01-01T00:00:00.000Z', async () => {})
      await site.prepare([offered[0]!])
      assert.equal(site.disks.find('')?.name, 'mine')
    })

    it('of the room here: it is or is not enough', async () => {
      site.freeBytes = 123 * mebibyte
      const message = 'the destination has not room enough: web01, web02 needs 80 MiB, and 64 MiB to spare'
      await assert.rejects(site.prepare(offered), new PeerRefusal('no-space', message))
    })
  })

  it('are both refused when one of them may not come', async () => {
    const other = { id: '77777777-7777-4777-8777-777777777777', name: 'web02', sizeBytes: block, deed: null }
    await site.disks.create(other, '2026-01-01T00:00:00.000Z', async () => {})
    const before = site.records.commits.length
    await assert.rejects(site.prepare(offered), new PeerRefusal('disk-exists', 'there is a disk web02 there already'))
    assert.deepEqual([site.records.commits.length, site.left], [before, []])
    assert.deepEqual(
      site.disks.all().map(({ id }) => id),
      [other.id],
    )
    await site.disks.remove(site.disks.named('web02'))
    await site.prepare(offered) // Names and disks that were claimed are free again.
  })

  describe('of which some was copied when the move was cancelled', () => {
    /** `web01` has 2 MiB of bytes here, `web02` none; then the source says that the move is cancelled. */
    async function cancelled(): Promise<void> {
      await site.prepare([{ ...offered[0]!, sizeBytes: 4 * mebibyte }, offered[1]!])
      const file = openSync(site.disks.named('web01').record.path, 'r+')
      writeSync(file, Buffer.alloc(2 * mebibyte, 7), 0, 2 * mebibyte, 0)
      closeSync(file)
      const course = site.roster.destinations()[0]!
      await course.desk.cancelled(new AbortController().signal)
      await course.settled()
    }

    it('keep it as a seed, which takes no part in anything and may be deleted; the other is gone', async () => {
      await cancelled()
      const disk = site.disks.named('web01')
      assert.deepEqual([disk.state, disk.isSeedOnly, disk.present.bytes], ['released', true, 0])
      assert.deepEqual([disk.record.owner, disk.record.generation, disk.record.migrationId], ['there', 1, null])
      assert.equal(disk.isListed, false)
      while (site.left.length > 1) await settled()
      assert.deepEqual(site.left, ['web01.raw'])
      await site.disks.remove(disk)
      assert.deepEqual(site.left, [])
    })

    it('find it when they come again', async () => {
      await cancelled()
      const preparation = [{ ...offered[0]!, sizeBytes: 4 * mebibyte }]
      await site.prepare(preparation, 'm-2')
      const disk = site.disks.named('web01')
      assert.deepEqual([disk.state, disk.record.before?.state], ['incoming', 'released'])
      const old = await disk.arriving.openOldBytes()
      const bytes = Buffer.alloc(block)
      await old!.read(0, bytes)
      await old!.close()
      assert(bytes.every((byte) => byte === 7))
    })

    it('keep it no longer than others need the room, nor where it would take more than is left', async () => {
      await cancelled()
      const id = '77777777-7777-4777-8777-777777777777'
      const other = { ...offered[1]!, id, name: 'web03', head: headOf(theirs(id)) }
      site.freeBytes = (40 + 64) * mebibyte - 1
      await assert.rejects(site.prepare([other], 'm-2'), { code: 'no-space' })
      assert.deepEqual(site.left, [], 'it has given way')
      site.freeBytes = 2 ** 40
      await site.close()
      site = new Site()
      site.freeBytes = 200 * mebibyte
      await site.prepare([{ ...offered[0]!, sizeBytes: 4 * mebibyte }])
      writeFileSync(site.disks.named('web01').record.path, Buffer.alloc(4 * mebibyte, 7))
      site.freeBytes = 3 * mebibyte
      await site.roster.destinations()[0]!.desk.cancelled(new AbortController().signal)
      while (site.left.length > 0) await settled()
      assert.deepEqual(site.left, [])
    })
  })

  it('need room for both together', async () => {
    site.freeBytes = (40 + 40 + 64) * mebibyte - 1
    await assert.rejects(site.prepare(offered), { code: 'no-space', message: /web01, web02 needs? 80 MiB/ })
    site.freeBytes++
    await site.prepare(offered)
  })

  it('are different disks', async () => {
    const [web01] = offered
    await assert.rejects(site.prepare([web01!, web01!]), { code: 'same-disk' })
    await assert.rejects(site.prepare([web01!, { ...offered[1]!, name: 'web01' }]), { code: 'same-disk' })
    assert.deepEqual([site.records.commits, site.left], [[], []])
  })

  it('leave nothing behind when they cannot be recorded', async () => {
    site.records.failure = Object.assign(new Error('no space left on device'), { nothingRecorded: true })
    await assert.rejects(site.prepare(offered), /no space left/)
    assert.deepEqual([site.left, site.disks.all(), site.roster.courses()], [[], [], []])
    site.records.failure = undefined
    await site.prepare(offered)
  })

  it('leave nothing behind when the second has no room for its file', async () => {
    const { createBlockFile } = site.files
    site.files.createBlockFile = async function (path, sizeBytes) {
      if (path.endsWith('web02.raw')) throw new Error('no space left on device')
      return createBlockFile.call(this, path, sizeBytes)
    }
    await assert.rejects(site.prepare(offered), /no space left/)
    assert.deepEqual([site.records.commits, site.left], [[], []])
  })

  it('a guest that opens the first before the second is open waits for both', async () => {
    const opened = Promise.withResolvers<void>()
    const { openBlockFile } = site.files
    site.files.openBlockFile = async function (path, readOnly) {
      if (path.endsWith('web02.raw')) await opened.promise
      return openBlockFile.call(this, path, readOnly)
    }
    const preparing = site.prepare(offered)
    while (!site.disks.find('web01')) await settled()
    const guest = site.disks.find('web01')!.open('guest')
    const flushed = guest.flush()
    const reading = read(guest, 0, 512)
    for (const request of [flushed, reading]) assert.equal(await isSettled(Promise.resolve(request)), false)
    for (const request of [flushed, reading]) Promise.resolve(request).catch(() => {}) // Nobody answers them here.
    opened.resolve()
    await preparing
  })

  describe('at the next start', () => {
    it('are taken up together', async () => {
      await site.prepare(offered)
      await site.restart()
      assert.deepEqual(
        site.roster.course('m-1').disks.map(({ state, isUnusable }) => [state, isUnusable]),
        [
          ['incoming', false],
          ['incoming', false],
        ],
      )
    })

    it('are served to nobody when one of them cannot be opened, and taken up by the start after it is mended', async () => {
      await site.prepare(offered)
      const { openBlockFile } = site.files
      site.files.openBlockFile = async function (path, readOnly) {
        if (path.endsWith('web02.raw')) throw new Error('input/output error')
        return openBlockFile.call(this, path, readOnly)
      }
      await site.restart()
      assert.deepEqual(
        ['web01', 'web02'].map((name) => site.disks.named(name).trouble),
        Array(2).fill('its migration, with web01, web02, cannot be taken up: input/output error'),
      )
      assert.deepEqual([site.disks.find('web01'), site.disks.find('web02')], [undefined, undefined])
      await assert.rejects(async () => read(site.disks.named('web01').open('guest'), 0, 512), GuestError)
      assert.throws(() => site.roster.course('m-1'), { code: 'migration-stopped' })
      site.files.openBlockFile = openBlockFile
      await site.restart()
      assert.equal(site.roster.course('m-1').disks.length, 2)
    })

    it('that are in no migration end the one that names them', async () => {
      await site.prepare(offered)
      const puts = site.records.commits[0]!.map((change) =>
        'put' in change && change.put === 'disk'
          ? { put: 'disk' as const, record: { ...change.record, state: 'gone', migrationId: null } }
          : change,
      )
      await site.records.commit(puts)
      await site.restart()
      assert.deepEqual(
        site.roster.past.all().map(({ state, note }) => [state, note]),
        [['failed', 'it never began: its disks were not put into it']],
      )
    })
  })
})
