import assert from 'node:assert/strict'
import { join } from 'node:path'
import { rewrite } from '../../src/disk/sync/rewrite.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'

const mebibyte = 2 ** 20

describe('a range that is written anew', () => {
  removeFoldersAfterEach()

  it('promise 4: every byte of it is given to the kernel once more, data as data and holes as holes', async () => {
    const path = join(temporaryFolder(), 'disk', 'web01.raw')
    const file = await new KernelFiles().createBlockFile(path, 4 * mebibyte)
    const bytes = Buffer.alloc(mebibyte + 8192, 7)
    await file.write(mebibyte, bytes)
    const given: { kind: string; offset: number; length: number }[] = []
    const watched: BlockFile = {
      path,
      sizeBytes: file.sizeBytes,
      read: (offset, target) => file.read(offset, target),
      write: (offset, source) => {
        given.push({ kind: 'data', offset, length: source.length })
        return file.write(offset, source)
      },
      zero: (offset, length, allocated) => {
        given.push({ kind: allocated ? 'zeros' : 'hole', offset, length })
        return file.zero(offset, length, allocated)
      },
      sync: () => file.sync(),
      extents: (offset, length, limit) => file.extents(offset, length, limit),
      allocatedBytes: () => file.allocatedBytes(),
      close: () => file.close(),
    }
    const before = file.allocatedBytes()
    await rewrite(watched, 8192, 3 * mebibyte)
    assert.deepEqual(given, [
      { kind: 'hole', offset: 8192, length: mebibyte - 8192 },
      { kind: 'data', offset: mebibyte, length: mebibyte },
      { kind: 'data', offset: 2 * mebibyte, length: 8192 },
      { kind: 'hole', offset: 2 * mebibyte + 8192, length: mebibyte },
    ])
    const after = Buffer.alloc(bytes.length)
    await file.read(mebibyte, after)
    assert(after.equals(bytes))
    assert.equal(file.allocatedBytes(), before)
    await file.close()
  })
})
