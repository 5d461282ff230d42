// A guest writes, a destination copies, writes take their time, the process is killed: whatever the map does not call dirty is
// at the destination as it is at the source. At random, from a seed that is printed, against bytes that are compared.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { BlockMap, blockSizeBytes } from '../../src/block/block-map.ts'
import type { Span } from '../../src/block/span.ts'
import { DirtyMap, EpochOver } from '../../src/disk/departure/dirty-map.ts'
import { TrackedIo } from '../../src/disk/io/tracked.ts'
import { SyncGroup } from '../../src/disk/sync/sync-group.ts'
import { DirtyMapFile } from '../../src/store/dirty-map-file.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { type Random, seededRandom } from '../random.ts'
import { ampleRoom, bootId } from '../store/block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { settled } from './hand.ts'

const blocks = 60
const steps = 4000
const identity = {
  diskId: '33333333-3333-4333-8333-333333333333',
  migrationId: '55555555-5555-4555-8555-555555555555',
  blocks,
}
const epoch = '99999999-9999-4999-8999-999999999999'

/** A disk of one number a block, whose writes end when the test says so, in two halves. */
class SlowDisk {
  readonly values = new Array<number>(blocks).fill(0)
  readonly #random: Random
  #pending: (() => void)[] = []
  #last = 0

  constructor(random: Random) {
    this.#random = random
  }

  get file(): BlockFile {
    const change = (offset: number, lengthBytes: number): Promise<void> | undefined => {
      const value = ++this.#last
      const [first, end] = [Math.floor(offset / blockSizeBytes), Math.ceil((offset + lengthBytes) / blockSizeBytes)]
      const half = first + this.#random.integer(end - first + 1)
      if (this.#random.chance(0.3)) {
        this.values.fill(value, first, end)
        return undefined
      }
      this.values.fill(value, first, half)
      const over = Promise.withResolvers<void>()
      this.#pending.push(() => {
        this.values.fill(value, half, end)
        over.resolve()
      })
      return over.promise
    }
    return {
      write: (offset: number, source: Uint8Array) => change(offset, source.length),
      zero: async (offset: number, lengthBytes: number) => change(offset, lengthBytes),
    } as unknown as BlockFile
  }

  /** Of the writes that are under way one ends. */
  endOne(): void {
    const [end] = this.#pending.splice(this.#random.integer(this.#pending.length || 1), 1)
    end?.()
  }

  /** The process dies: what was under way has changed what it has. */
  die(): void {
    for (const end of this.#pending.splice(0)) if (this.#random.chance(0.5)) end()
  }
}

describe('the map of what a destination lacks', () => {
  removeFoldersAfterEach()

  it('calls nothing clean that differs, whatever is written, killed, given out, read late, and confirmed twice', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    const files = new KernelFiles(bootId, ampleRoom())
    const path = `${temporaryFolder()}/dirty.map`
    const disk = new SlowDisk(random)
    const copy = new Array<number>(blocks).fill(-1)
    let nowMs = 0
    const parts = { now: () => nowMs, turn: async () => {}, lost: (error: Error) => assert.fail(error) }
    const all = new BlockMap(blocks)
    all.add(0, blocks)
    const made = await DirtyMapFile.create(files, path, identity, epoch)
    let map = new DirtyMap(made, { epoch, dirty: all, round: 0, confirmed: 0 }, parts)
    const ioOf = () => new TrackedIo(disk.file, new SyncGroup(async () => {}), map)
    let io = ioOf()
    /** Blocks that were given out and are not read yet. */
    let toRead: number[] = []
    let [round, confirmed] = [0, 0]
    let asked = { span: { first: 0, end: blocks }, most: blocks, hot: true }

    const span = (longest: number): Span => {
      const first = random.integer(blocks)
      return { first, end: Math.min(blocks, first + 1 + random.integer(longest)) }
    }

    const acts: readonly (() => Promise<void> | void)[] = [
      () => {
        const { first, end } = span(random.chance(0.1) ? 40 : 4)
        const offset = first * blockSizeBytes + random.integer(2) * 512
        const length = end * blockSizeBytes - offset
        const what = random.integer(3)
        const zero = { mayPunch: true, fast: false, fua: random.chance(0.1) }
        if (what === 0) void io.trim(offset, length, false)
        else if (what === 1) void io.writeZeroes(offset, length, zero)
        else void io.write(offset, Buffer.alloc(length), random.chance(0.1))
      },
      () => disk.endOne(),
      async () => {
        if (toRead.length > 0 && random.chance(0.7)) return
        // Everything that was given out has been read: it is durable at the destination, or is asked for again.
        if (toRead.length === 0 && random.chance(0.8)) confirmed = round
        const isAgain = toRead.length > 0 && round > confirmed
        if (!isAgain) {
          round++
          asked = { span: span(blocks), most: 1 + random.integer(random.chance(0.5) ? 4 : 60), hot: random.chance(0.7) }
        }
        for (const { first, end } of (await map.collect(round, confirmed, asked)).spans)
          for (let block = first; block < end; block++) toRead.push(block)
      },
      () => {
        for (let count = random.integer(40); count > 0 && toRead.length > 0; count--) {
          const [block] = toRead.splice(random.integer(toRead.length), 1)
          copy[block!] = disk.values[block!]!
        }
      },
      async () => {
        if (!random.chance(0.05)) return
        disk.die()
        await settled()
        await map.close()
        const found = await DirtyMapFile.open(files, path, identity)
        map = new DirtyMap(found!.file, found!.kept, parts)
        io = ioOf()
        toRead = []
        ;({ round } = map.rounds)
        confirmed = Math.max(confirmed, map.rounds.confirmed)
      },
      async () => {
        if (!random.chance(0.05)) return
        await map.takeBack()
        toRead = []
        ;({ round } = map.rounds)
      },
      () => {
        nowMs += random.integer(3000)
      },
    ]
    let clean = 0
    for (let step = 0; step < steps; step++) {
      await random.pick(acts)()
      for (let block = 0; block < blocks; block++) {
        if (map.dirty.has(block)) continue
        clean++
        assert.equal(copy[block], disk.values[block], `seed ${seed} step ${step}: block ${block} is called clean`)
      }
    }
    disk.die()
    await map.close()
    assert(clean > steps * 10, `seed ${seed}: hardly anything was ever copied (${clean})`)
    await assert.rejects(map.collect(1, 0, asked), EpochOver)
  })
})
