import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DirtyRoom } from '../../src/store/dirty-room.ts'
import type { BlockFile, LogFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import { seededRandom } from '../random.ts'
import { findTool, needTool, skipHere } from '../tools.ts'
import { removeFoldersAfterEach, temporaryFolder, temporaryFolderOnTmpfs } from './folder.ts'

const mebibyte = 2 ** 20

describe('kernel files', () => {
  removeFoldersAfterEach()
  const bootId = '11111111-1111-4111-8111-111111111111'
  const files = new KernelFiles(bootId)
  const open: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const file of open.splice(0)) await file.close()
  })

  async function blockFile(sizeBytes: number, folder = temporaryFolder()): Promise<BlockFile> {
    const file = await files.createBlockFile(join(folder, 'disk', 'web01.raw'), sizeBytes)
    open.push(file)
    return file
  }

  async function reopened(path: string, readOnly = false): Promise<BlockFile> {
    const file = await files.openBlockFile(path, readOnly)
    open.push(file)
    return file
  }

  async function bytesOf(file: BlockFile, offset: number, lengthBytes: number): Promise<Buffer> {
    const target = Buffer.alloc(lengthBytes, 0xee)
    await file.read(offset, target)
    return target
  }

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

  describe('write', () => {
    it('is done at once when it is aligned to pages and short', async () => {
      const file = await blockFile(4 * mebibyte)
      assert.equal(file.write(4096, Buffer.alloc(mebibyte, 1)), undefined)
      assert(
        readFileSync(file.path)
          .subarray(4096, 4096 + mebibyte)
          .equals(Buffer.alloc(mebibyte, 1)),
      )
    })

    it('leaves the turn when its offset or its length is no multiple of a page', async () => {
      const file = await blockFile(mebibyte)
      for (const [offset, length] of [
        [512, 4096],
        [4096, 512],
        [3, 5],
      ] as const) {
        const written = file.write(offset, Buffer.alloc(length, 9))
        assert(written instanceof Promise, `${offset}+${length}`)
        await written
        assert((await bytesOf(file, offset, length)).equals(Buffer.alloc(length, 9)), `${offset}+${length}`)
      }
    })

    it('leaves the turn when it is longer than 1 MiB', async () => {
      const file = await blockFile(4 * mebibyte)
      const written = file.write(0, Buffer.alloc(mebibyte + 4096, 3))
      assert(written instanceof Promise)
      await written
      assert((await bytesOf(file, 0, mebibyte + 4096)).equals(Buffer.alloc(mebibyte + 4096, 3)))
    })

    it('leaves the turn while there is no room for dirty pages', async () => {
      let isFull = true
      let now = 0
      const full = { dirtyPages: 200, backgroundThresholdPages: 100, thresholdPages: 200 }
      const room = new DirtyRoom(
        () => (isFull ? full : { ...full, thresholdPages: 2 ** 20 }),
        () => now,
      )
      const path = join(temporaryFolder(), 'disk', 'web01.raw')
      const file = await new KernelFiles(bootId, room).createBlockFile(path, mebibyte)
      open.push(file)
      const source = Buffer.alloc(mebibyte, 1)
      assert(!file.takesAtOnce?.(0, source.length))
      const written = file.write(0, source)
      assert(written instanceof Promise)
      await written
      isFull = false
      now = 1000
      assert(file.takesAtOnce?.(0, source.length))
      assert.equal(file.write(0, source), undefined)
    })

    it('agrees with a plain buffer under random writes, zeroes and reads', async () => {
      const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
      const random = seededRandom(seed)
      const sizeBytes = 3 * mebibyte + 512
      const file = await blockFile(sizeBytes)
      const plain = Buffer.alloc(sizeBytes)
      for (let step = 0; step < 200; step++) {
        const unit = random.pick([1, 512, 4096])
        const offset = random.integer(sizeBytes / unit) * unit
        const length = Math.min(sizeBytes - offset, (1 + random.integer(random.pick([3, 40]))) * unit)
        if (random.chance(0.5)) {
          const source = Buffer.alloc(length, 1 + random.integer(255))
          await file.write(offset, source)
          source.copy(plain, offset)
        } else if (random.chance(0.4)) {
          await file.zero(offset, length, random.chance(0.5))
          plain.fill(0, offset, offset + length)
        } else {
          const found = await bytesOf(file, offset, length)
          assert(found.equals(plain.subarray(offset, offset + length)), `seed ${seed} step ${step}`)
        }
      }
      assert(readFileSync(file.path).equals(plain), `seed ${seed}`)
    })
  })

  describe('read', () => {
    it('is done at once when the bytes are in the page cache', async () => {
      const file = await blockFile(mebibyte)
      file.write(0, Buffer.alloc(8192, 5))
      const target = Buffer.alloc(100)
      assert.equal(file.read(3000, target), undefined)
      assert(target.equals(Buffer.alloc(100, 5)))
    })

    it('of a hole is zeros', async () => {
      const file = await blockFile(mebibyte)
      assert((await bytesOf(file, 5000, 10_000)).equals(Buffer.alloc(10_000)))
    })

    it('of a file that was made shorter says so, and does not answer zeros', async () => {
      const file = await blockFile(mebibyte)
      file.write(0, Buffer.alloc(mebibyte, 1))
      truncateSync(file.path, 10_000)
      await assert.rejects(async () => file.read(8192, Buffer.alloc(4096)), { name: 'StoreError', code: 'short-file' })
    })
  })

  describe('on a file system without zero range and reads that do not wait', () => {
    async function onTmpfs(context: Mocha.Context): Promise<BlockFile> {
      return blockFile(4 * mebibyte, temporaryFolderOnTmpfs(context))
    }

    it('bytes are read', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(8192, 5))
      assert((await bytesOf(file, 1000, 5000)).equals(Buffer.alloc(5000, 5)))
    })

    it('zeroes are written out, and no byte beside them', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(4 * mebibyte, 5))
      await file.zero(4096, 2 * mebibyte + 512, true)
      const expected = Buffer.alloc(4 * mebibyte, 5).fill(0, 4096, 4096 + 2 * mebibyte + 512)
      assert(readFileSync(file.path).equals(expected))
    })

    it('zeroes that must be fast are refused, and change nothing', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(mebibyte, 5))
      await assert.rejects(file.zero(0, mebibyte, true, true), { code: 'ENOTSUP' })
      assert((await bytesOf(file, 0, mebibyte)).equals(Buffer.alloc(mebibyte, 5)))
      await file.zero(0, mebibyte, false, true)
      assert((await bytesOf(file, 0, mebibyte)).equals(Buffer.alloc(mebibyte)))
    })

    it('holes are punched', async function () {
      const file = await onTmpfs(this)
      await file.write(0, Buffer.alloc(mebibyte, 5))
      await file.zero(0, mebibyte, false)
      assert.equal(statSync(file.path).blocks, 0)
    })
  })

  describe('zero', () => {
    it('punches a hole', async () => {
      const file = await blockFile(mebibyte)
      file.write(0, Buffer.alloc(mebibyte, 1))
      await file.zero(65536, 131072, false)
      assert.equal(statSync(file.path).blocks * 512, mebibyte - 131072)
      assert.equal(file.allocatedBytes(), mebibyte - 131072)
    })

    it('keeps the range allocated when it is to be', async () => {
      const file = await blockFile(mebibyte)
      file.write(0, Buffer.alloc(mebibyte, 1))
      await file.zero(65536, 131072, true)
      assert.equal(statSync(file.path).blocks * 512, mebibyte)
      assert((await bytesOf(file, 65536, 131072)).equals(Buffer.alloc(131072)))
    })

    it('allocates a range that was a hole when it is to be allocated', async () => {
      const file = await blockFile(mebibyte)
      await file.zero(0, 131072, true)
      assert.equal(statSync(file.path).blocks * 512, 131072)
    })

    it('zeroes ends that are no multiples of a page, and no byte beside them', async () => {
      const file = await blockFile(65536)
      for (const allocated of [true, false]) {
        await file.write(0, Buffer.alloc(65536, 1))
        await file.zero(1001, 20_002, allocated)
        assert((await bytesOf(file, 0, 65536)).equals(Buffer.alloc(65536, 1).fill(0, 1001, 21_003)), `${allocated}`)
      }
    })
  })

  describe('extents', () => {
    it('tell data and holes in order, and cover the range', async () => {
      const file = await blockFile(mebibyte)
      file.write(65536, Buffer.alloc(65536, 1))
      assert.deepEqual(file.extents(0, mebibyte, 10), [
        { offset: 0, length: 65536, kind: 'hole' },
        { offset: 65536, length: 65536, kind: 'data' },
        { offset: 131072, length: mebibyte - 131072, kind: 'hole' },
      ])
    })

    it('are cut to the range that was asked for', async () => {
      const file = await blockFile(mebibyte)
      file.write(65536, Buffer.alloc(65536, 1))
      assert.deepEqual(file.extents(70_000, 1000, 10), [{ offset: 70_000, length: 1000, kind: 'data' }])
      assert.deepEqual(file.extents(100, 5, 10), [{ offset: 100, length: 5, kind: 'hole' }])
    })

    it('are at most as many as asked for', async () => {
      const file = await blockFile(mebibyte)
      for (let at = 0; at < mebibyte; at += 131072) file.write(at, Buffer.alloc(65536, 1))
      assert.equal(file.extents(0, mebibyte, 3).length, 3)
      assert.equal(file.extents(0, mebibyte, 100).length, 16)
    })

    it('call what was punched a hole', async () => {
      const file = await blockFile(mebibyte)
      file.write(0, Buffer.alloc(mebibyte, 1))
      await file.zero(0, mebibyte, false)
      assert.deepEqual(file.extents(0, mebibyte, 10), [{ offset: 0, length: mebibyte, kind: 'hole' }])
    })
  })

  describe('image locks', () => {
    it('keep a second vmstore out, with a sentence', async () => {
      const file = await blockFile(mebibyte)
      await assert.rejects(files.openBlockFile(file.path, false), {
        name: 'StoreError',
        code: 'in-use',
        message: /web01\.raw is open in another program/,
      })
    })

    it('keep a reader out of a file that is written, and a writer out of one that is read', async () => {
      const written = await blockFile(mebibyte)
      await assert.rejects(files.openBlockFile(written.path, true), { code: 'in-use' })
      const read = await blockFile(mebibyte)
      await read.close()
      open.splice(open.indexOf(read), 1)
      await reopened(read.path, true)
      await assert.rejects(files.openBlockFile(read.path, false), { code: 'in-use' })
    })

    it('let two readers in', async () => {
      const file = await blockFile(mebibyte)
      await file.close()
      open.splice(open.indexOf(file), 1)
      await reopened(file.path, true)
      await reopened(file.path, true)
    })

    it('are gone when the file is closed', async () => {
      const file = await blockFile(mebibyte)
      await file.close()
      open.splice(open.indexOf(file), 1)
      await reopened(file.path)
    })

    it('make QEMU refuse a file that vmstore holds', async function () {
      needTool(this, 'qemu-io')
      const file = await blockFile(mebibyte)
      const done = spawnSync(findTool('qemu-io')!, ['-f', 'raw', '-c', 'write -P 1 0 4096', file.path], {
        encoding: 'utf8',
      })
      assert.match(done.stderr, /lock/)
      assert.notEqual(done.status, 0)
      assert((await bytesOf(file, 0, 4096)).equals(Buffer.alloc(4096)))
    })

    it('make qemu-img refuse to resize a file that vmstore only reads', async function () {
      needTool(this, 'qemu-img')
      const file = await blockFile(mebibyte)
      await file.close()
      open.splice(open.indexOf(file), 1)
      await reopened(file.path, true)
      const done = spawnSync(findTool('qemu-img')!, ['resize', '-f', 'raw', file.path, '2M'], { encoding: 'utf8' })
      assert.match(done.stderr, /lock/)
      assert.equal(statSync(file.path).size, mebibyte)
    })

    it('let qemu-img read a file that vmstore only reads', async function () {
      needTool(this, 'qemu-img')
      const file = await blockFile(mebibyte)
      await file.close()
      open.splice(open.indexOf(file), 1)
      await reopened(file.path, true)
      assert.match(execFileSync(findTool('qemu-img')!, ['info', file.path], { encoding: 'utf8' }), /1 MiB/)
    })

    describe('of a QEMU that runs', () => {
      let qemu: ChildProcess | undefined
      afterEach(() => {
        qemu?.kill('SIGKILL')
        qemu = undefined
      })

      async function heldByQemu(context: Mocha.Context, ...options: string[]): Promise<string> {
        needTool(context, 'qemu-io')
        const path = join(temporaryFolder(), 'web01.raw')
        writeFileSync(path, Buffer.alloc(mebibyte, 1))
        qemu = spawn(findTool('qemu-io')!, ['-f', 'raw', ...options, path], { stdio: ['pipe', 'pipe', 'inherit'] })
        qemu.stdin!.write('read -q 0 512\nlength\n')
        await once(qemu.stdout!, 'data') // It has opened the file.
        return path
      }

      it('keep vmstore out', async function () {
        const path = await heldByQemu(this)
        await assert.rejects(files.openBlockFile(path, false), { code: 'in-use' })
      })

      it('keep vmstore out even if it only reads', async function () {
        const path = await heldByQemu(this)
        await assert.rejects(files.openBlockFile(path, true), { code: 'in-use' })
      })

      it('are gone with it', async function () {
        const path = await heldByQemu(this)
        const exited = once(qemu!, 'exit')
        qemu!.kill('SIGKILL')
        await exited
        await reopened(path)
      })
    })
  })

  describe('replaceLog', () => {
    async function log(path: string, bytes: Uint8Array): Promise<LogFile> {
      const file = await files.replaceLog(path, bytes)
      open.push(file)
      return file
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
      for (const file of open.splice(0)) await file.close()
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
      open.push(log)
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
      open.push(opened.log)
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
