// A process that is killed while a guest writes to a disk and a destination copies it: what it leaves is found by the next one.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Disk } from '../../src/disk/disk.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { ampleRoom, bootId } from '../store/block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { diskServices, MemoryRecords } from './hand.ts'
import { trackedRecord } from './tracked-record.ts'

describe('a process that is killed while it tracks what a guest writes', () => {
  removeFoldersAfterEach()

  it('promise 8: has lost no bit: whatever the next one does not call lacking was copied as it stands', async function () {
    this.timeout(120_000)
    for (let time = 0; time < 4; time++) {
      const seed = randomInt(2 ** 31)
      const folder = temporaryFolder()
      const record = trackedRecord(folder)
      const files = new KernelFiles(bootId, ampleRoom())
      await (await files.createBlockFile(record.path, record.sizeBytes)).close()
      writeFileSync(join(folder, 'copy'), Buffer.alloc(record.sizeBytes, 0xee))
      const program = join(import.meta.dirname, 'tracked-guest.ts')
      const child = spawn(process.execPath, [program, folder, String(seed)], { stdio: ['ignore', 'pipe', 'inherit'] })
      const exited = once(child, 'exit')
      await Promise.race([once(child.stdout, 'data'), exited])
      for (let turns = seed % 1000; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      child.kill('SIGKILL')
      assert.equal((await exited)[1], 'SIGKILL', `seed ${seed}`)
      const disk = await Disk.open(diskServices(files, new MemoryRecords()), record)
      const dirty = disk.departing.tracking.watch?.dirty
      assert(dirty, 'it is tracked on')
      const [bytes, copy] = [readFileSync(record.path), readFileSync(join(folder, 'copy'))]
      let clean = 0
      for (let block = 0; block < dirty.blocks; block++) {
        if (dirty.has(block)) continue
        clean++
        const [at, end] = [block * 4096, (block + 1) * 4096]
        assert(bytes.subarray(at, end).equals(copy.subarray(at, end)), `seed ${seed}: block ${block} is called clean`)
      }
      assert(clean > 0, 'something was copied')
      await disk.close()
    }
  })
})
