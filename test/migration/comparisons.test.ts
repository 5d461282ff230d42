import assert from 'node:assert/strict'
import type { Run } from '../../src/block/units.ts'
import type { Disk } from '../../src/disk/disk.ts'
import { Comparisons } from '../../src/migration/copy/comparisons.ts'
import { Pause } from '../../src/migration/copy/pause.ts'
import { digestOf } from '../../src/migration/copy/verification.ts'
import { block, closeDisksAfterEach, isSettled, openDisk, ReadySource } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { FakeClock } from './fake-time.ts'

const never = new AbortController().signal

describe('comparisons of an arriving disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  /** A disk of which all is here, and a source that has the same, or what `lies` says. */
  async function whole(): Promise<Whole> {
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    await disk.open('guest').cache(0, disk.sizeBytes)
    const clock = new FakeClock()
    const made: Whole = { disk, clock, recorded: [], lies: false, held: undefined, comparisons: undefined! }
    made.comparisons = new Comparisons({
      migration: 'm-1',
      disk,
      clock,
      log: () => {},
      pause: new Pause(false),
      working: never,
      extents: async (offset, length) => [{ offset, length, data: true }],
      digests: async (runs) => {
        const { lies, held } = made
        await held?.promise
        const digests = runs.map(({ offset, length }) => digestOf(source.piece(offset, length).bytes!, clock))
        return lies ? runs.map(() => 'another') : Promise.all(digests)
      },
      recordDiffering: async (differing) => void made.recorded.push(...differing),
      note: () => {},
    })
    return made
  }

  interface Whole {
    readonly disk: Disk
    readonly clock: FakeClock
    readonly recorded: Run[]
    comparisons: Comparisons
    lies: boolean
    /** Answers of the source wait for it. */
    held: PromiseWithResolvers<void> | undefined
  }

  it('that found nothing are the last, and none begins after them', async () => {
    const { comparisons } = await whole()
    assert.equal(await comparisons.isLast(never), true)
    await assert.rejects(comparisons.ask(never), { code: 'nothing-to-compare' })
  })

  it('promise 8: that found a difference are not the last: it is missing again, and on record', async () => {
    const made = await whole()
    made.lies = true
    const last = made.comparisons.isLast(never)
    while (made.clock.sleeping === 0) await isSettled(last)
    await made.clock.advance(1000)
    assert.equal(await last, false)
    assert.equal(made.disk.arriving.missingBlocks, 64)
    assert.deepEqual(made.recorded, [{ offset: 0, length: 64 * block }])
  })

  it('promise 8: are not the last while one that an operator asked for is under way, nor when it finds something', async () => {
    const made = await whole()
    made.lies = true
    made.held = Promise.withResolvers()
    const { held } = made
    const asked = made.comparisons.ask(never)
    await isSettled(asked)
    made.lies = false
    made.held = undefined
    const last = made.comparisons.isLast(never)
    assert.equal(await isSettled(last), false)
    held.resolve()
    assert.equal((await asked).differing.length, 1)
    assert.equal(await last, false)
    assert.equal(made.disk.arriving.missingBlocks, 64)
  })
})
