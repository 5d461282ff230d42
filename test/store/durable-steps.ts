// A program that does one durable thing with the kernel's files, for durable-steps.test.ts: `durable-steps.ts STEP FOLDER`.
// What it has done by the time at which it was answered comes before the folder `answered`.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import { ampleRoom, bootId } from './block-files.ts'

const [step, folder] = process.argv.slice(2)
assert(step && folder)
const files = new KernelFiles(bootId, ampleRoom())
const disk = join(folder, 'disk')
const answered = (what = 'answered') => mkdirSync(join(folder, what))
const identity = { diskId: '33333333-3333-4333-8333-333333333333', generation: 2, sizeBytes: 2 ** 20 }

const steps: Readonly<Record<string, () => Promise<unknown>>> = {
  createBlockFile: () => files.createBlockFile(join(disk, 'web01.raw'), 2 ** 20),
  replaceLog: () => files.replaceLog(join(disk, 'maps.log'), Buffer.alloc(100)),
  rename: () => files.rename(disk, join(folder, 'other')),
  remove: () => files.remove(disk),
  removeFile: () => files.remove(join(disk, 'maps.log')),
  write: async () => {
    const file = await files.openBlockFile(join(disk, 'web01.raw'), false)
    await file.write(0, Buffer.alloc(4096, 1)) // At once.
    answered('written')
    await file.write(512, Buffer.alloc(512, 1)) // In the thread pool.
    answered('written-too')
    await file.sync()
  },
  commit: async () => {
    const { log } = await MapLog.create(files, join(disk, 'maps.log'), identity)
    answered('made')
    log.landed(0, 1)
    answered('appended')
    await log.commit(log.position)
  },
}

await steps[step]!()
answered()
