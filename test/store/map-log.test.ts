import assert from 'node:assert/strict'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import type { Files, LogFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'
import {
  afterPowerLoss,
  BytesFiles,
  believed,
  firstBoot,
  identity,
  nothing,
  saidNothing,
  secondBoot,
} from './map-logs.ts'

describe('map log', () => {
  removeFoldersAfterEach()
  let path: string
  beforeEach(() => {
    path = join(temporaryFolder(), 'maps.log')
  })

  async function create(files: Files = new KernelFiles(firstBoot), of = identity): Promise<MapLog> {
    return (await MapLog.create(files, path, of)).log
  }

  /** Whether records exist that no durable commit covers. */
  const uncommitted = (log: MapLog) => log.position > log.mark.records

  describe('under the same boot id', () => {
    it('promise 6: believes a landed and a written block that nobody synced', async () => {
      const log = await create()
      log.landed(10, 2)
      log.written(20, 1)
      await log.close()
      assert.deepEqual(await believed(path, firstBoot), {
        present: new Set([10, 11, 20]),
        written: new Set([20]),
        partial: new Map(),
      })
    })

    it('promise 6: believes the sectors of a partial block that nobody synced', async () => {
      const log = await create()
      log.partial(5, 0b0110)
      await log.close()
      assert.deepEqual((await believed(path, firstBoot)).partial, new Map([[5, 0b0110]]))
    })
  })

  describe('under another boot id', () => {
    it('promise 4: believes nothing that was not committed', async () => {
      const log = await create()
      log.landed(10, 2)
      log.written(20, 1)
      log.partial(5, 1)
      await log.close()
      assert.deepEqual(await believed(path, secondBoot), saidNothing)
    })

    it('believes what was committed', async () => {
      const log = await create()
      log.landed(10, 2)
      log.written(20, 1)
      log.partial(5, 1)
      await log.commit(log.position)
      await log.close()
      assert.deepEqual(await believed(path, secondBoot), {
        present: new Set([10, 11, 20]),
        written: new Set([10, 11, 20]), // Which of them the guest wrote is not known any more.
        partial: new Map([[5, 1]]),
      })
    })

    it('promise 4: does not believe a record that came between the position and the commit', async () => {
      const log = await create()
      log.landed(1, 1)
      const position = log.position
      log.landed(2, 1) // While the sync of block 1 runs.
      await log.commit(position)
      await log.close()
      assert.deepEqual((await believed(path, secondBoot)).present, new Set([1]))
    })

    it('does not believe what came after the last commit', async () => {
      const log = await create()
      log.landed(1, 1)
      await log.commit(log.position)
      log.landed(2, 1)
      await log.close()
      assert.deepEqual((await believed(path, secondBoot)).present, new Set([1]))
    })

    it('believes what a restart under the first boot id had found and synced', async () => {
      const first = await create()
      first.landed(7, 1)
      await first.close()
      const { log } = await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      await log.close()
      assert.deepEqual((await believed(path, secondBoot)).present, new Set([7]))
    })
  })

  it('promise 4: syncs the believed bytes before it says that they are durable', async () => {
    const log = await create()
    log.landed(7, 1)
    await log.close()
    const order: string[] = []
    const files = new RecordingFiles(new KernelFiles(firstBoot), order)
    const opened = await MapLog.open(files, path, identity, async () => {
      order.push('sync')
    })
    await opened.log.close()
    assert.deepEqual(order, ['sync', 'replaceLog'])
  })

  it('promise 4: names the blocks that no commit covers, whose bytes a failed sync may have dropped', async () => {
    const log = await create()
    log.landed(7, 1)
    await log.commit(log.position)
    log.landed(9, 2)
    log.written(20, 1)
    log.partial(30, 1)
    log.forgotten(7, 1)
    await log.close()
    const named = async (bootId: string) => {
      const runs: [number, number][] = []
      const copy = join(temporaryFolder(), 'maps.log')
      copyFileSync(path, copy)
      const opened = await MapLog.open(new KernelFiles(bootId), copy, identity, async (uncommitted) => {
        for (const { first, end } of uncommitted) runs.push([first, end])
      })
      await opened.log.close()
      return runs
    }
    const under = { same: await named(firstBoot), another: await named(secondBoot) }
    assert.deepEqual(under, {
      same: [
        [9, 11],
        [20, 21],
        [30, 31],
      ],
      another: [],
    })
  })

  it('leaves the old log as it was when the bytes cannot be synced', async () => {
    const log = await create()
    log.landed(7, 1)
    await log.close()
    const before = readFileSync(path)
    const failing = MapLog.open(new KernelFiles(firstBoot), path, identity, () => Promise.reject(new Error('EIO')))
    await assert.rejects(failing, /EIO/)
    assert(readFileSync(path).equals(before))
  })

  describe('commit', () => {
    it('appends nothing when nothing is new', async () => {
      const log = await create()
      log.landed(1, 1)
      await log.commit(log.position)
      const before = readFileSync(path).length
      await log.commit(log.position)
      await log.close()
      assert.equal(readFileSync(path).length, before)
    })

    it('leaves nothing uncommitted when nothing came meanwhile', async () => {
      const log = await create()
      log.landed(1, 1)
      assert.equal(uncommitted(log), true)
      await log.commit(log.position)
      assert.equal(uncommitted(log), false)
      await log.close()
    })

    it('leaves what came meanwhile uncommitted', async () => {
      const log = await create()
      log.landed(1, 1)
      const position = log.position
      log.landed(2, 1)
      await log.commit(position)
      assert.equal(uncommitted(log), true)
      await log.close()
    })

    it('whose sync failed covers nothing', async () => {
      const files = new FaultyFiles(new KernelFiles(firstBoot))
      const log = await create(files)
      log.landed(1, 1)
      files.syncError = new Error('EIO')
      await assert.rejects(log.commit(log.position), /EIO/)
      assert.equal(uncommitted(log), true)
      await log.close()
    })
  })

  describe('partial blocks', () => {
    it('merge their masks', async () => {
      const log = await create()
      log.partial(5, 0b0001)
      log.partial(5, 0b1000)
      await log.close()
      assert.deepEqual((await believed(path, firstBoot)).partial, new Map([[5, 0b1001]]))
    })

    it('become whole when the block landed or was written', async () => {
      const log = await create()
      log.partial(5, 0b0001)
      log.partial(6, 0b0001)
      log.landed(5, 1)
      log.written(6, 1)
      await log.close()
      assert.deepEqual(await believed(path, firstBoot), {
        present: new Set([5, 6]),
        written: new Set([5, 6]), // A part of block 5 is the guest's.
        partial: new Map(),
      })
    })

    it('stay whole when a mask follows', async () => {
      const log = await create()
      log.landed(5, 1)
      log.partial(5, 0b0001)
      await log.close()
      const { present, partial } = await believed(path, firstBoot)
      assert.deepEqual([present, partial], [new Set([5]), new Map()])
    })

    it('survive any number of restarts', async () => {
      const log = await create()
      log.partial(5, 0b0110)
      log.written(9, 3)
      log.landed(20, 1)
      await log.close()
      const before = await believed(path, firstBoot)
      for (let start = 0; start < 3; start++) {
        const opened = await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
        await opened.log.close()
      }
      assert.deepEqual(await believed(path, secondBoot), afterPowerLoss(before))
    })

    it('are read back in a time that grows with the log, not with its square', async () => {
      // 100 000 partial blocks, then as many others that landed: 1e10 steps if each record looked at each partial block.
      const count = 100_000
      const of = { ...identity, sizeBytes: 2 * count * blockSizeBytes }
      const files = new BytesFiles(firstBoot, undefined)
      const { log } = await MapLog.create(files, path, of)
      for (let block = 0; block < count; block++) log.partial(block, 1)
      for (let block = count; block < 2 * count; block++) log.landed(block, 1)
      const started = process.cpuUsage()
      await MapLog.open(files, path, of, nothing)
      const usedMs = process.cpuUsage(started).user / 1000
      assert(usedMs < 3000, `opening took ${usedMs} ms of the processor`)
    })
  })

  it('holds runs over 2^31 blocks, through a snapshot', async () => {
    const blocks = 2 ** 31 + 70_000
    const of = { ...identity, sizeBytes: blocks * blockSizeBytes }
    const { log, maps } = await MapLog.create(new KernelFiles(firstBoot), path, of)
    log.landed(0, 2 ** 31)
    log.landed(2 ** 31, 69_999)
    await log.close()
    assert.equal(maps.present.count, 0)
    const first = await MapLog.open(new KernelFiles(firstBoot), path, of, nothing)
    await first.log.close()
    const second = await MapLog.open(new KernelFiles(secondBoot), path, of, nothing)
    await second.log.close()
    assert.equal(second.maps.present.count, blocks - 1)
    assert.equal(second.maps.present.has(blocks - 1), false)
  })

  it('keeps a run of the largest guest write, and one at the end of a disk of 16 TiB', async () => {
    const blocks = 2 ** 32
    const of = { ...identity, sizeBytes: blocks * blockSizeBytes }
    const { log } = await MapLog.create(new KernelFiles(firstBoot), path, of)
    log.written(0, 2 ** 20)
    log.landed(blocks - 3, 3)
    await log.close()
    const { log: again, maps } = await MapLog.open(new KernelFiles(firstBoot), path, of, nothing)
    await again.close()
    assert.deepEqual(
      [...maps.present.runs(0, blocks, true)],
      [
        { first: 0, end: 2 ** 20 },
        { first: blocks - 3, end: blocks },
      ],
    )
  })

  describe('after an append that failed', () => {
    it('throws what the file threw, and counts nothing', async () => {
      const files = new FaultyFiles(new KernelFiles(firstBoot))
      const log = await create(files)
      const before = log.position
      files.appendError = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
      assert.throws(() => log.landed(1, 1), { code: 'ENOSPC' })
      assert.equal(log.position, before)
      await log.close()
    })

    it('later records are believed, the failed one is not', async () => {
      const files = new FaultyFiles(new KernelFiles(firstBoot))
      const log = await create(files)
      log.landed(1, 1)
      files.appendError = new Error('ENOSPC')
      assert.throws(() => log.written(2, 1), /ENOSPC/)
      files.appendError = undefined
      log.landed(3, 1)
      await log.commit(log.position)
      await log.close()
      assert.deepEqual((await believed(path, firstBoot)).present, new Set([1, 3]))
      assert.deepEqual((await believed(path, secondBoot)).present, new Set([1, 3]))
    })
  })
})

/** Real files whose logs fail on demand. */
class FaultyFiles implements Files {
  readonly bootId: string
  readonly #files: Files
  appendError: Error | undefined
  syncError: Error | undefined

  constructor(files: Files) {
    this.bootId = files.bootId
    this.#files = files
  }

  async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    const log = await this.#files.replaceLog(path, bytes)
    return {
      append: (more) => {
        if (this.appendError) throw this.appendError
        log.append(more)
      },
      sync: async () => {
        if (this.syncError) throw this.syncError
        await log.sync()
      },
      close: () => log.close(),
    }
  }

  readFile = (path: string) => this.#files.readFile(path)
  createBlockFile = (path: string, sizeBytes: number) => this.#files.createBlockFile(path, sizeBytes)
  openPages = (path: string) => this.#files.openPages(path)
  openBlockFile = (path: string, readOnly: boolean) => this.#files.openBlockFile(path, readOnly)
  rename = (from: string, to: string) => this.#files.rename(from, to)
  remove = (path: string) => this.#files.remove(path)
}

class RecordingFiles extends FaultyFiles {
  readonly #order: string[]

  constructor(files: Files, order: string[]) {
    super(files)
    this.#order = order
  }

  override async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    this.#order.push('replaceLog')
    return super.replaceLog(path, bytes)
  }
}
