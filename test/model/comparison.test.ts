// The comparison with the source when something comes in between, on two simulated sites: what it has found to be wrong
// stays found.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import { sectorBytes } from './sim-file.ts'
import { diskId, sectors } from './stage.ts'
import { TwoSites } from './two-sites.ts'

const never = () => new AbortController().signal

/** Everything is at B, durably, and nothing is compared yet: the move is paused. */
async function paused(): Promise<{ sites: TwoSites; id: string }> {
  const sites = await TwoSites.start()
  const id = await sites.migrate('now')
  await sites.until('B serves', () => sites.record(sites.b)?.state === 'arriving')
  sites.link.up = false
  await sites.drive(sites.b.migrations!.commands.setPaused(id, true, never()))
  sites.link.up = true
  const guest = sites.open(sites.b)
  for (let sector = 0; sector < sectors; sector++) await sites.read(guest, sector)
  await sites.flush(guest)
  assert.equal(sites.b.disks!.get(diskId)!.arriving.missingBlocks, 0)
  return { sites, id }
}

/** The first block of the source that has data, or has none. */
function blockOf(sites: TwoSites, kind: 'data' | 'zeros'): number {
  const { bytes } = sites.a.blockFile()!
  for (let at = 0; at < bytes.length; at += blockSizeBytes) {
    const isZero = bytes.subarray(at, at + blockSizeBytes).every((byte) => byte === 0)
    if (isZero === (kind === 'zeros')) return at / blockSizeBytes
  }
  throw new Error(`no block has ${kind}`)
}

function flip(sites: TwoSites, block: number): void {
  sites.b.blockFile()!.flip(block * blockSizeBytes + sectorBytes, 7)
}

async function ends({ sites, id }: { sites: TwoSites; id: string }): Promise<void> {
  await sites.drive(sites.b.migrations!.commands.setPaused(id, false, never()))
  await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
}

describe('comparison with the source, interrupted', () => {
  it('promise 8: a block that was named is fetched again, whatever the power does', async () => {
    const { sites, id } = await paused()
    flip(sites, blockOf(sites, 'data'))
    const { comparison } = await sites.drive(sites.b.migrations!.commands.verify('web01', never()))
    assert.equal(comparison.differing.length, 1)
    sites.b.losePower()
    await sites.drive(sites.b.start())
    await ends({ sites, id })
    assert.deepEqual(sites.b.blockFile()!.bytes, sites.a.blockFile()!.bytes)
  })

  it('promise 8: what a comparison found before it was cut short is named at the end', async () => {
    const { sites, id } = await paused()
    const block = blockOf(sites, 'zeros')
    flip(sites, block)
    let waited = 0
    sites.b.onLog = (message) => {
      // What is asked of the source next is lost, once.
      if (message.startsWith('a range differs')) sites.link.faultRate = 1
      if (!message.includes('the comparison with the source waits')) return
      sites.link.faultRate = 0
      waited++
    }
    await ends({ sites, id })
    assert.equal(waited, 1)
    const { differed } = sites.b.database.migration.get(id)!.disks[0]!
    assert(
      differed.some(({ offset }) => offset === block * blockSizeBytes),
      JSON.stringify(differed),
    )
    assert.deepEqual(sites.a.database.migration.get(id)!.disks[0]!.differed, differed)
  })

  it('promise 8: what differed is fetched again though another range cannot be compared', async () => {
    const { sites, id } = await paused()
    const [differing, unreadable] = [blockOf(sites, 'zeros'), blockOf(sites, 'data')]
    flip(sites, differing)
    sites.a.blockFile()!.unreadable.add(unreadable)
    await sites.drive(sites.b.migrations!.commands.setPaused(id, false, never()))
    await sites.until('it is found', () => sites.b.database.migration.get(id)!.disks[0]!.differed.length > 0)
    const isHere = () => sites.b.disks!.get(diskId)!.arriving.missingBlocks === 0
    await sites.until('it has come', isHere)
    assert.equal(sites.b.blockFile()!.isHole(differing), true)
    await sites.until('the other is named', () => /cannot read/.test(sites.b.migrations!.courses()[0]?.note ?? ''))
    assert.equal(sites.record(sites.a)?.state, 'departed')
    sites.a.machine.mend()
    await sites.until('it is over', () => sites.record(sites.a)?.state === 'released')
  })
})
