// The files of a daemon with a crash point do what those of any other do: crash tests prove nothing of paths that they do
// not run.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { pino } from 'pino'
import { withCrashPoint } from '../../src/daemon/crash-points.ts'
import { FolderKeyFiles } from '../../src/peer/key-renewal.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { KernelBlockFile } from '../../src/store/kernel-block-file.ts'
import { PagePipe } from '../../src/system/page-pipe.ts'
import { MemoryRecords } from '../disk/hand.ts'
import { closedLater, closeFilesAfterEach, files, mebibyte } from '../store/block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'

const log = pino({ level: 'silent' })

/** As a daemon opens it that dies at a step which never comes. */
function watched(file: BlockFile): Promise<BlockFile> {
  const opening = Object.assign(Object.create(files), { openBlockFile: async () => file })
  const durable = withCrashPoint(
    'before:disk-gone',
    { records: new MemoryRecords(), files: opening, keys: new FolderKeyFiles(temporaryFolder()) },
    log,
  )
  return durable.files.openBlockFile('web01.raw', false)
}

describe('crash points', () => {
  removeFoldersAfterEach()
  closeFilesAfterEach()

  it('pass every member of a block file on, with all that it is given and all that it answers', async () => {
    const methods = Object.entries(Object.getOwnPropertyDescriptors(KernelBlockFile.prototype)).filter(
      ([name, { value }]) => name !== 'constructor' && typeof value === 'function',
    )
    assert(methods.length >= 10, `${methods.length}`)
    const given = ['first', 'second', 'third', 'fourth', 'fifth']
    for (const [name] of methods) {
      const calls: unknown[][] = []
      const answer = name === 'sync' ? Promise.resolve(name) : name
      const real = {
        [name](...facts: unknown[]) {
          assert.equal(this, real)
          calls.push(facts)
          return answer
        },
      }
      const wrapped = (await watched(real as unknown as BlockFile)) as unknown as Record<
        string,
        (...facts: unknown[]) => unknown
      >
      assert.equal(await wrapped[name]!(...given), name)
      assert.deepEqual(calls, [name === 'sync' ? [] : given], name)
    }
  })

  it('tell what a block file tells of itself, as of now', async () => {
    const facts = { path: '/disks/web01.raw', sizeBytes: mebibyte, trouble: undefined as string | undefined }
    const file = await watched(facts as unknown as BlockFile)
    assert.deepEqual([file.path, file.sizeBytes, file.trouble], ['/disks/web01.raw', mebibyte, undefined])
    facts.trouble = 'it was made shorter'
    assert.equal(file.trouble, 'it was made shorter')
  })

  it("leave the kernel's block file its hot path", async () => {
    const real = closedLater(await files.createBlockFile(join(temporaryFolder(), 'disk', 'web01.raw'), mebibyte))
    const file = await watched(real)
    assert.equal(file.takesAtOnce!(0, 4096), true)
    assert.equal(file.write(0, Buffer.alloc(4096, 7)), undefined, 'at once')
    const pipe = new PagePipe()
    try {
      const isGiven = real.readPages!(0, 4096, pipe)
      pipe.discard()
      assert.equal(file.readPages!(0, 4096, pipe), isGiven)
      assert.equal(pipe.heldBytes, isGiven ? 4096 : 0)
    } finally {
      pipe.close()
    }
    await file.sync()
  })
})
