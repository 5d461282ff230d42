import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LogFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import { skipHere } from '../tools.ts'
import { blockFile, bootId, closedLater, closeFiles, closeFilesAfterEach, files, mebibyte } from './block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

describe('kernel files', () => {
  removeFoldersAfterEach()
  closeFilesAfterEach()

  it("has the machine's boot id, unless told another", () => {
    assert.equal(new KernelFiles().bootId, readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
    assert.equal(files.bootId, bootId)
  })

  describe('a new block file', () => {
    it('is all hole, of the size asked for, and only its owner may read it', async () => {
      const file = await blockFile(3 * mebibyte + 512)
      const info = statSync(file.path)
      assert.deepEqual([info.size, info.blocks, info.mode & 0o777], [3 * mebibyte + 512, 0, 0o600])
      assert.equal(file.sizeBytes, 3 * mebibyte + 512)
    })

    it('never takes the place of another file', async () => {
      const folder = temporaryFolder()
      const path = join(folder, 'web01.raw')
      writeFileSync(path, 'precious')
      await assert.rejects(files.createBlockFile(path, mebibyte), { code: 'EEXIST' })
      assert.equal(readFileSync(path, 'utf8'), 'precious')
    })
  })

  describe('replaceLog', () => {
    async function log(path: string, bytes: Uint8Array): Promise<LogFile> {
      return closedLater(await files.replaceLog(path, bytes))
    }

    it('puts the bytes in the place of what was there, and appends after them', async () => {
      const path = join(temporaryFolder(), 'maps.log')
      writeFileSync(path, 'a log that was much longer')
      const file = await log(path, Buffer.from('head'))
      file.append(Buffer.from('er'))
      assert.equal(readFileSync(path, 'utf8'), 'header')
    })

    it('leaves nothing beside the log', async () => {
      const folder = temporaryFolder()
      await log(join(folder, 'maps.log'), Buffer.from('x'))
      assert.deepEqual(readdirSync(folder), ['maps.log'])
    })

    it('is one step: whoever has the old log open still reads the whole of it', async () => {
      const path = join(temporaryFolder(), 'maps.log')
      await log(path, Buffer.from('old'))
      const before = statSync(path).ino
      await log(path, Buffer.from('new'))
      assert.notEqual(statSync(path).ino, before)
    })

    it('that fails leaves the old log as it was', async () => {
      const folder = temporaryFolder()
      const path = join(folder, 'maps.log')
      writeFileSync(path, 'old')
      mkdirSync(`${path}.new`) // Nothing can be written there.
      await assert.rejects(files.replaceLog(path, Buffer.from('new')))
      assert.equal(readFileSync(path, 'utf8'), 'old')
    })

    it('takes the place of what an attempt that was cut short left behind', async () => {
      const path = join(temporaryFolder(), 'maps.log')
      writeFileSync(`${path}.new`, 'half of a longer attempt')
      await log(path, Buffer.from('whole'))
      assert.equal(readFileSync(path, 'utf8'), 'whole')
    })
  })

  describe('on a file system that is full', () => {
    let mounted: string | undefined
    afterEach(async () => {
      await closeFiles()
      if (mounted) execFileSync('umount', [mounted])
      mounted = undefined
    })

    /** A tmpfs with a page more than the log needs. Only root can make one. */
    function tinyFileSystem(context: Mocha.Context, sizeBytes: number): string {
      if (process.getuid?.() !== 0) skipHere(context, 'only root may mount a small file system')
      const folder = temporaryFolder()
      const done = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', folder])
      if (done.status !== 0) skipHere(context, 'root may not mount here, as in many containers')
      mounted = folder
      return folder
    }

    it('a map record that finds no room is an error, and those after it are believed', async function () {
      const folder = tinyFileSystem(this, 16384)
      const path = join(folder, 'maps.log')
      const identity = {
        diskId: '33333333-3333-4333-8333-333333333333',
        generation: 2,
        sizeBytes: 4096 * 100_000,
      }
      const { log } = await MapLog.create(files, path, identity)
      closedLater(log)
      const believed: number[] = []
      const append = (block: number) => {
        try {
          log.landed(block, 1)
          believed.push(block)
          return true
        } catch (error) {
          assert.match(String((error as NodeJS.ErrnoException).code), /^(ENOSPC|no-space)$/)
          return false
        }
      }
      let block = 0
      while (append(2 * block)) block++ // A page is no multiple of a record: the last one is cut.
      assert.equal(append(2 * block), false)
      const room = statSync(path).size
      execFileSync('mount', ['-o', 'remount,size=65536', folder])
      append(2 * block + 2)
      assert.equal(statSync(path).size, room + 24, 'the record came after whole ones')
      const copy = join(temporaryFolder(), 'maps.log')
      writeFileSync(copy, readFileSync(path))
      const opened = await MapLog.open(files, copy, identity, async () => {})
      closedLater(opened.log)
      assert.deepEqual(
        [...opened.maps.present.runs(0, 100_000, true)].map((run) => run.first),
        believed,
      )
    })

    it('a write throws or rejects with ENOSPC', async function () {
      const folder = tinyFileSystem(this, 65536)
      const file = await blockFile(mebibyte, folder)
      await assert.rejects(
        async () => {
          for (let at = 0; at < mebibyte; at += 4096) await file.write(at, Buffer.alloc(4096, 1))
        },
        { code: 'ENOSPC' },
      )
    })
  })

  describe('readFile', () => {
    it('of a missing file is undefined, of a folder an error', async () => {
      const folder = temporaryFolder()
      assert.equal(await files.readFile(join(folder, 'none')), undefined)
      await assert.rejects(files.readFile(folder), { code: 'EISDIR' })
    })
  })

  describe('remove', () => {
    it('takes a folder away with all that is in it', async () => {
      const folder = join(temporaryFolder(), 'disk')
      mkdirSync(folder)
      writeFileSync(join(folder, 'web01.raw'), 'x')
      await files.remove(folder)
      assert.equal(existsSync(folder), false)
    })

    it('of what is missing is fine, even when its folder is missing too', async () => {
      const folder = temporaryFolder()
      await files.remove(join(folder, 'none'))
      await files.remove(join(folder, 'none', 'deeper'))
    })
  })
})
