// The durable half of the map of what a destination lacks: what of it is believed, and when.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BlockMap, segmentBlocks } from '../../src/block/block-map.ts'
import { DirtyMapFile, type DirtyMapIdentity } from '../../src/store/dirty-map-file.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { seededRandom } from '../random.ts'
import { ampleRoom, bootId } from './block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

const otherBoot = '22222222-2222-4222-8222-222222222222'
const epoch = '99999999-9999-4999-8999-999999999999'
const blocks = 2 * segmentBlocks + 13
const identity: DirtyMapIdentity = {
  diskId: '33333333-3333-4333-8333-333333333333',
  migrationId: '55555555-5555-4555-8555-555555555555',
  blocks,
}
const now = async () => {}

describe('the file of a dirty map', () => {
  removeFoldersAfterEach()
  let path: string
  beforeEach(() => {
    path = join(temporaryFolder(), 'dirty.map')
  })

  const filesUnder = (boot: string) => new KernelFiles(boot, ampleRoom())

  /** With these blocks clean. */
  async function made(...clean: readonly (readonly [number, number])[]): Promise<BlockMap> {
    const file = await DirtyMapFile.create(filesUnder(bootId), path, identity, epoch)
    const dirty = new BlockMap(blocks)
    dirty.add(0, blocks)
    for (const [first, end] of clean) {
      dirty.delete(first, end)
      file.put(dirty, first, end)
    }
    file.putRounds({ round: 7, confirmed: 5 })
    await file.close()
    return dirty
  }

  async function believed(boot: string, frozenEpoch?: string, of: DirtyMapIdentity = identity) {
    const found = await DirtyMapFile.open(filesUnder(boot), path, of, frozenEpoch)
    await found?.file.close()
    return found?.kept
  }

  const runsOf = (map: BlockMap) => [...map.runs(0, map.blocks, true)]

  it('that has just been made says that all is dirty, and takes no room for it', async () => {
    await made()
    assert.equal(statSync(path).size, 4096)
    const kept = await believed(bootId)
    assert.deepEqual(runsOf(kept!.dirty), [{ first: 0, end: blocks }])
  })

  it('is the same when few blocks are written alone, wherever they lie', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    const file = await DirtyMapFile.create(filesUnder(bootId), path, identity, epoch)
    const dirty = new BlockMap(blocks)
    dirty.add(0, blocks)
    dirty.delete(0, blocks)
    file.put(dirty, 0, blocks)
    for (let count = 0; count < 400; count++) {
      const from = random.pick([0, segmentBlocks, 2 * segmentBlocks, random.integer(blocks)])
      const first = Math.max(0, Math.min(blocks - 1, from + random.integer(40) - 20))
      const end = Math.min(blocks, first + 1 + random.integer(random.pick([1, 30, 3000])))
      if (random.chance(0.8)) dirty.add(first, end)
      else dirty.delete(first, end)
      file.putFew(dirty, first, end)
    }
    await file.close()
    assert.deepEqual(runsOf((await believed(bootId))!.dirty), runsOf(dirty), `seed ${seed}`)
  })

  it('is believed as it was left under the same boot: its blocks, its rounds, its epoch', async () => {
    const dirty = await made([5, 9], [segmentBlocks - 2, blocks - 1])
    const kept = await believed(bootId)
    assert.deepEqual(runsOf(kept!.dirty), runsOf(dirty))
    assert.deepEqual([kept!.epoch, kept!.round, kept!.confirmed], [epoch, 7, 5])
  })

  it('calls the last blocks of a disk clean when they are, and nothing behind them', async () => {
    await made([blocks - 13, blocks])
    assert.deepEqual(runsOf((await believed(bootId))!.dirty), [{ first: 0, end: blocks - 13 }])
    await made([0, blocks])
    assert.equal((await believed(bootId))!.dirty.count, 0)
  })

  it('says that all is dirty where all of a segment is again, the last and shorter one too', async () => {
    const dirty = await made([0, blocks])
    const found = await DirtyMapFile.open(filesUnder(bootId), path, identity)
    dirty.add(segmentBlocks, blocks)
    found!.file.put(dirty, segmentBlocks, blocks)
    await found!.file.close()
    assert.deepEqual(runsOf((await believed(bootId))!.dirty), [{ first: segmentBlocks, end: blocks }])
  })

  it('that was cut says that what is gone is dirty', async () => {
    await made([0, blocks])
    truncateSync(path, 4096 + 4096 + 100)
    assert.deepEqual(runsOf((await believed(bootId))!.dirty), [{ first: segmentBlocks, end: blocks }])
  })

  it('is not believed after a power loss, of another move, disk or size, damaged, void or missing', async () => {
    await made([0, 9])
    assert.equal(await believed(otherBoot), undefined)
    for (const other of [
      { ...identity, migrationId: identity.diskId },
      { ...identity, diskId: identity.migrationId },
      { ...identity, blocks: blocks - 1 },
    ])
      assert.equal(await believed(bootId, undefined, other), undefined)
    const whole = readFileSync(path)
    for (const at of [3, 9, 30, 60, 4000, 4095]) {
      const bytes = Buffer.from(whole)
      bytes[at]! ^= 4
      writeFileSync(path, bytes)
      assert.equal(await believed(bootId), undefined, `byte ${at}`)
    }
    writeFileSync(path, whole)
    const found = await DirtyMapFile.open(filesUnder(bootId), path, identity)
    found!.file.void()
    await found!.file.close()
    assert.equal(await believed(bootId), undefined)
    rmSync(path)
    assert.equal(await believed(bootId), undefined)
  })

  it('that was frozen is believed under any boot where its epoch is on record, and only if not a bit of it has changed', async () => {
    const dirty = await made([5, 9], [segmentBlocks, blocks])
    const found = await DirtyMapFile.open(filesUnder(bootId), path, identity)
    await found!.file.freeze(found!.kept.dirty, now)
    await found!.file.close()
    for (const boot of [bootId, otherBoot])
      assert.deepEqual(runsOf((await believed(boot, epoch))!.dirty), runsOf(dirty))
    assert.equal(await believed(otherBoot, identity.diskId), undefined, 'another epoch is on record')
    assert.equal(await believed(otherBoot), undefined, 'nothing is on record')
    const whole = readFileSync(path)
    for (const at of [4096, 4097, 8191, 8192 + 77, 12_288]) {
      const bytes = Buffer.from(whole)
      bytes[at]! ^= 16
      writeFileSync(path, bytes)
      assert.equal(await believed(otherBoot, epoch), undefined, `byte ${at}`)
    }
  })

  it('that goes on after it was frozen is not taken for frozen', async () => {
    await made([5, 9])
    const found = await DirtyMapFile.open(filesUnder(bootId), path, identity)
    const { file, kept } = found!
    await file.freeze(kept.dirty, now)
    file.putRounds({ round: 8, confirmed: 7 })
    await file.close()
    assert.equal(await believed(bootId, epoch), undefined)
    assert.equal((await believed(bootId))!.round, 8)
  })
})
