import assert from 'node:assert/strict'
import { join } from 'node:path'
import { CommittedRecord } from '../../src/disk/committed-record.ts'
import { DiskFiles } from '../../src/disk/disk-files.ts'
import { IoOfState } from '../../src/disk/io/of-state.ts'
import { SyncGroup } from '../../src/disk/sync/sync-group.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import type { DiskRecord } from '../../src/store/records.ts'
import { ampleRoom } from '../store/block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { diskRecord } from '../store/samples.ts'
import { block, bootId, HandSource, MemoryRecords } from './hand.ts'

describe('the guest I/O of a state', () => {
  removeFoldersAfterEach()

  /** Of a disk with its files open. `becomes` commits another state; the I/O is chosen by the test alone. */
  async function ioIn(state: string) {
    const folder = temporaryFolder()
    const path = join(folder, 'web01.raw')
    const record = diskRecord({ state, folder, path, sizeBytes: 4 * block, generation: 2 })
    const committed = new CommittedRecord(record, new MemoryRecords(), () => {})
    const storage = new KernelFiles(bootId, ampleRoom())
    await (await storage.createBlockFile(path, record.sizeBytes)).close()
    const files = new DiskFiles(storage, record.name)
    await files.open(record, false)
    await files.makeMaps(record, 2)
    const source = new HandSource()
    const syncs = new SyncGroup(() => files.sync())
    const nothing = { askSwitchover: async () => {}, flushSource: async () => {}, landed: () => {} }
    const remote = { source, frozen: source, ...nothing }
    const closed = new AbortController().signal
    const io = new IoOfState({
      record: committed,
      files,
      syncs,
      remote,
      tracking: { watch: undefined },
      closed,
      land: async () => {},
    })
    const becomes = (next: string) => committed.commit((now: DiskRecord) => ({ ...now, state: next }), [])
    return { io, files, source, becomes, closed }
  }

  it('is made anew for an owned disk whenever it is chosen, for nothing of it lasts', async () => {
    const { io, files } = await ioIn('owned')
    io.choose()
    const before = io.now
    io.choose()
    assert.notEqual(io.now, before)
    await files.close()
  })

  it('that is chosen again while a disk arrives goes on with the fetches that others wait for', async () => {
    const { io, files, source, closed } = await ioIn('arriving')
    io.choose()
    const first = Promise.resolve(io.now.read(0, Buffer.alloc(block), closed))
    await source.asked(0)
    io.choose()
    const second = Promise.resolve(io.now.read(0, Buffer.alloc(block), closed))
    assert.equal(source.fetches.length, 1)
    source.fetches[0]!.fail(new Error('enough'))
    await Promise.allSettled([first, second])
    await files.close()
  })

  it('that is chosen again after a disk was left before it was owned still says that its flush is not ours', async () => {
    const { io, files, becomes, closed } = await ioIn('incoming')
    io.choose()
    await becomes('gone')
    for (let time = 0; time < 2; time++) {
      io.choose()
      assert.throws(() => io.now.flush(closed), { message: /is gone here/ })
    }
    await files.close()
  })
})
