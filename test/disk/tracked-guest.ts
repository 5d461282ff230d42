// A program that writes to a disk as its guest, copies it meanwhile as its destination, and is killed at some moment, for
// tracked-kill.test.ts: `tracked-guest.ts FOLDER SEED`. What it has copied lies in the file `copy`.

import assert from 'node:assert/strict'
import { openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Span } from '../../src/block/span.ts'
import { Disk } from '../../src/disk/disk.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { seededRandom } from '../random.ts'
import { ampleRoom, bootId } from '../store/block-files.ts'
import { diskServices, MemoryRecords } from './hand.ts'
import { trackedRecord } from './tracked-record.ts'

const [folder, seed] = process.argv.slice(2)
assert(folder && seed)
const random = seededRandom(Number(seed))
const record = trackedRecord(folder)
const blocks = record.sizeBytes / 4096
const disk = await Disk.open(diskServices(new KernelFiles(bootId, ampleRoom()), new MemoryRecords()), record)
const session = disk.open('guest')
const { tracking } = disk.departing
const source = openSync(record.path, 'r')
const copy = openSync(join(folder, 'copy'), 'r+')

async function guest(): Promise<never> {
  for (let value = 1; ; value = (value % 255) + 1) {
    const length = 1 + random.integer(6)
    const offset = random.integer(blocks - length) * 4096
    const what = random.integer(4)
    // Of an odd length it goes to the thread pool, and may be under way when the process is killed.
    if (what === 0) await session.trim(offset, length * 4096, false)
    else await session.write(offset, Buffer.alloc(length * 4096 - (what === 1 ? 512 : 0), value), false)
    if (random.chance(0.2)) await nextTurn()
  }
}

async function copier(): Promise<never> {
  const { epoch } = await tracking.track(null)
  const block = Buffer.alloc(4096)
  const wanted = { span: { first: 0, end: blocks }, most: 64, hot: true }
  for (let round = 1; ; round++) {
    const { spans } = await tracking.collect(epoch, { round, confirmed: round - 1 }, wanted)
    for (const { first, end } of spans as Span[]) {
      for (let at = first; at < end; at++) {
        readSync(source, block, 0, 4096, at * 4096)
        writeSync(copy, block, 0, 4096, at * 4096)
        if (random.chance(0.05)) await nextTurn()
      }
    }
    // The first whole pass, and then some: from here on it may be killed.
    if (round === 40) process.stdout.write('copied\n')
    await nextTurn()
  }
}

await Promise.all([guest(), guest(), guest(), copier()])
