// A disk that hangs has the thread pool to itself; what lies in the page cache of the others is served all the same.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, constants, promises as fs, openSync } from 'node:fs'
import { join } from 'node:path'
import type { Export } from '../../src/guest/export.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { serve, uriOf } from '../nbd/harness.ts'
import { files } from './block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

const mebibyte = 2 ** 20
/** More than any thread pool has. */
const hungCalls = 128

function exportOf(file: BlockFile): Export {
  const handle = {
    read: (offset: number, target: Uint8Array) => file.read(offset, target),
    takesAtOnce: (offset: number, lengthBytes: number) => file.takesAtOnce?.(offset, lengthBytes) ?? false,
    write: (offset: number, source: Uint8Array) => file.write(offset, source),
    trim: () => undefined,
    writeZeroes: () => undefined,
    flush: () => file.sync(),
    cache: () => undefined,
    blockStatus: () => [],
    close: () => {},
  }
  const facts = { id: 'hot', name: 'hot', description: '', sizeBytes: file.sizeBytes, readOnly: false, statuses: [] }
  return { ...facts, open: () => handle }
}

/** Keeps every thread of the pool waiting: opening a FIFO for reading waits for a writer. */
async function hangThreadPool(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'hung')
  execFileSync('mkfifo', [path])
  const opening = Array.from({ length: hungCalls }, () => fs.open(path, 'r'))
  let isHung = true
  return async () => {
    if (!isHung) return
    isHung = false
    const writer = openSync(path, constants.O_RDWR)
    const handles = await Promise.all(opening)
    for (const handle of handles) await handle.close()
    closeSync(writer)
  }
}

describe('a slow disk', () => {
  removeFoldersAfterEach()

  it('that has every thread of the pool never stalls another’s hot reads and writes', async () => {
    const folder = temporaryFolder()
    const file = await files.createBlockFile(join(folder, 'disk', 'hot.raw'), 4 * mebibyte)
    await using site = await serve([exportOf(file)])
    const client = await NbdClient.connect(uriOf(site, 'hot'))
    const pattern = Buffer.alloc(mebibyte, 'pattern')
    await client.write(0, pattern)
    const release = await hangThreadPool(folder)
    try {
      let isSynced = false
      const synced = client.flush().then(() => {
        isSynced = true
      })
      for (let round = 0; round < 50; round++) {
        assert((await client.read(0, mebibyte)).equals(pattern))
        await client.write(2 * mebibyte + round * 4096, pattern.subarray(0, 4096))
      }
      // The pool hung all the while.
      assert(!isSynced)
      await release()
      await synced
    } finally {
      await release()
      client.destroy()
      await file.close()
    }
  })
})
