// A file's number stays the file's until the last call that got it has come back.

import assert from 'node:assert/strict'
import { constants, fstatSync, openSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Descriptor, poolShare } from '../../src/store/descriptor.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

describe('a descriptor', () => {
  removeFoldersAfterEach()

  function open(): { fd: number; file: Descriptor } {
    const path = join(temporaryFolder(), 'file')
    writeFileSync(path, 'bytes')
    const fd = openSync(path, constants.O_RDONLY)
    return { fd, file: new Descriptor(path, fd) }
  }

  it('is closed when the last call under way has come back, not before', async () => {
    const { fd, file } = open()
    const calls = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const used = calls.map(({ promise }) => file.use(() => promise))
    let isClosed = false
    const closed = Promise.all([file.close(), file.close()]).then(() => {
      isClosed = true
    })
    assert.equal(file.now, -1)
    calls[0]!.resolve()
    await used[0]
    await new Promise((resolve) => setImmediate(resolve))
    assert(!isClosed)
    assert.equal(fstatSync(fd).size, 5)
    calls[1]!.reject(new Error('the platter is scratched'))
    await assert.rejects(used[1]!, /scratched/)
    await closed
    assert.throws(() => fstatSync(fd), { code: 'EBADF' })
  })

  it('has its share of the thread pool and no more, one by one in the order of asking, and its sync beside them', async () => {
    const { file } = open()
    const calls = Array.from({ length: 3 * poolShare }, () => Promise.withResolvers<void>())
    const begun: number[] = []
    const used = calls.map(({ promise }, index) =>
      file.use(() => {
        begun.push(index)
        return promise
      }),
    )
    const settled = () => new Promise((resolve) => setImmediate(resolve))
    await settled()
    assert.equal(begun.length, poolShare)
    await file.sync()
    for (let ended = 0; ended < calls.length; ended++) {
      if (ended % 2 === 0) calls[ended]!.resolve()
      else calls[ended]!.reject(new Error('the platter is scratched'))
      await used[ended]!.catch(() => {})
      await settled()
      assert.deepEqual(begun, [...calls.keys()].slice(0, poolShare + ended + 1))
    }
    await file.close()
  })

  it('that is closed while calls wait for their turn lets none of them begin: it takes no longer than what has begun', async () => {
    const { file } = open()
    const hung = Promise.withResolvers<void>()
    let begun = 0
    const used = Array.from({ length: poolShare + 1000 }, () =>
      file.use(() => {
        begun++
        return hung.promise
      }),
    )
    const outcomes = Promise.allSettled(used)
    await new Promise((resolve) => setImmediate(resolve))
    const closed = file.close()
    hung.resolve()
    await closed
    assert.equal(begun, poolShare)
    const codes = (await outcomes).map((one) => (one.status === 'rejected' ? one.reason.code : 'done'))
    assert.deepEqual(codes.slice(0, poolShare), Array(poolShare).fill('done'))
    assert.deepEqual(codes.slice(poolShare), Array(1000).fill('closed'))
  })

  it('lets nothing begin after it was closed', async () => {
    const { file } = open()
    await file.close()
    await file.close()
    await assert.rejects(
      file.use(async () => assert.fail('it was called')),
      { code: 'closed' },
    )
  })

  it('of a block file that somebody made shorter: its lost end is no hole', async () => {
    const path = join(temporaryFolder(), 'disk', 'web01.raw')
    const file = await new KernelFiles().createBlockFile(path, 1 << 20)
    await file.write(0, Buffer.alloc(8192, 1))
    assert.equal(file.extents(0, 1 << 20, 10).length, 2)
    truncateSync(path, 8192)
    assert.throws(() => file.extents(0, 1 << 20, 10), { code: 'short-file' })
    await file.close()
  })
})
