// An import gives the image's bytes or is refused; nothing in between. What it is × what was done to it: cut, padded, renamed,
// chained, changed meanwhile. The images are qemu-img's, and those of test/image/builders.ts.

import assert from 'node:assert/strict'
import { type ExecFileException, execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { appendFile, copyFile, mkdir, open, rename, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openImageSource } from '../../src/daemon/image-opening.ts'
import type { CopyTarget } from '../../src/daemon/image-source.ts'
import { isLockSentence, sentenceOf } from '../../src/daemon/qemu-programs.ts'
import { Refusal } from '../../src/disk/refusal.ts'
import type { ImageFormat } from '../../src/image/image-formats.ts'
import type { Files } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { streamVmdkOf, vhdOf, writeGpt } from '../image/builders.ts'
import { seededRandom } from '../random.ts'
import { findTool, needTool } from '../tools.ts'

const mebibyte = 2 ** 20
const sector = 512

interface Kind {
  readonly what: string
  readonly ending: string
  readonly format: ImageFormat
  make(raw: string, path: string): Promise<unknown>
}

const byQemu = (what: string, driver: string, ending: string, format: ImageFormat, ...options: string[]): Kind => ({
  what,
  ending,
  format,
  make: (raw, path) => tool('qemu-img', 'convert', '-f', 'raw', '-O', driver, ...options, raw, path),
})
const built = (what: string, ending: string, format: ImageFormat, build: (disk: Buffer) => Buffer): Kind => ({
  what,
  ending,
  format,
  make: (raw, path) => writeFile(path, build(readFileSync(raw))),
})

const kinds: readonly Kind[] = [
  byQemu('qcow2', 'qcow2', 'qcow2', 'qcow2'),
  byQemu('qcow2 of version 2', 'qcow2', 'qcow2', 'qcow2', '-o', 'compat=0.10'),
  byQemu('qcow2, compressed', 'qcow2', 'qcow2', 'qcow2', '-c'),
  byQemu('qcow2, compressed with zstd', 'qcow2', 'qcow2', 'qcow2', '-c', '-o', 'compression_type=zstd'),
  byQemu('qcow2 with subclusters', 'qcow2', 'qcow2', 'qcow2', '-o', 'extended_l2=on'),
  byQemu('qcow', 'qcow', 'qcow', 'qcow'),
  byQemu('QED', 'qed', 'qed', 'qed'),
  byQemu('VMDK', 'vmdk', 'vmdk', 'vmdk'),
  byQemu('VMDK, stream optimized', 'vmdk', 'vmdk', 'vmdk', '-o', 'subformat=streamOptimized'),
  built('VMDK, stream optimized as by ESX', 'vmdk', 'vmdk', streamVmdkOf),
  byQemu('VDI', 'vdi', 'vdi', 'vdi'),
  byQemu('VDI of fixed size', 'vdi', 'vdi', 'vdi', '-o', 'static=on'),
  byQemu('VHDX', 'vhdx', 'vhdx', 'vhdx'),
  byQemu('VHD', 'vpc', 'vhd', 'vhd', '-o', 'force_size=on'),
  byQemu('VHD of fixed size', 'vpc', 'vhd', 'vhd', '-o', 'subformat=fixed,force_size=on'),
  built('VHD as by VirtualBox', 'vhd', 'vhd', (disk) => vhdOf(disk, { type: 'dynamic', creator: 'vbox' })),
  built('VHD of fixed size as by VirtualBox', 'vhd', 'vhd', (disk) => vhdOf(disk, { type: 'fixed', creator: 'vbox' })),
  byQemu('Parallels', 'parallels', 'hdd', 'parallels'),
  { what: 'raw with a GPT', ending: 'raw', format: 'raw', make: copyFile },
]

describe('an image that becomes a disk', function () {
  this.timeout(120_000)
  const files = new KernelFiles()
  let place: string
  let raw: string
  let disk: Buffer

  before(function () {
    needTool(this, 'qemu-img', 'qemu-nbd', 'qemu-io')
  })
  beforeEach(async () => {
    place = mkdtempSync(join(tmpdir(), 'vms-'))
    raw = join(place, 'source.raw')
    // No whole number of cylinders; text at the end, which shrinks, and before it what does not.
    disk = Buffer.alloc(9 * mebibyte + 65_536)
    const random = seededRandom(8)
    for (let at = 3 * mebibyte; at < 3 * mebibyte + 200_000; at++) disk[at] = random.integer(256)
    disk.fill('text at the end of the disk ', disk.length - 300_000)
    writeGpt(disk)
    await writeFile(raw, disk)
  })
  afterEach(() => rmSync(place, { recursive: true, force: true }))

  const target = (path: string, more: Partial<CopyTarget> = {}): CopyTarget => ({
    files,
    path,
    spareBytes: async () => 2 ** 40,
    progress: () => {},
    signal: new AbortController().signal,
    ...more,
  })

  async function take(from: string, format?: ImageFormat, more: Partial<CopyTarget> = {}) {
    const qemuPlace = { folder: place, passingPrefix: '.passing-' }
    await using image = await openImageSource({ from, format }, qemuPlace, new AbortController().signal)
    const folder = mkdtempSync(join(place, 'disk-'))
    const path = join(folder, 'disk', 'image')
    await (await files.createBlockFile(path, image.sizeBytes)).close()
    await image.copyTo(target(path, more))
    return { bytes: readFileSync(path), format: image.format, notes: image.notes }
  }

  /** The refusal, or undefined when the bytes came, which must be the disk's then. */
  async function refusalOf(from: string, what: string): Promise<Refusal | undefined> {
    try {
      const { bytes } = await take(from)
      assert(bytes.equals(disk), `${what}: was taken, and its bytes are not the disk's`)
      return undefined
    } catch (error) {
      if (error instanceof Refusal) return error
      throw error
    }
  }

  async function mustRefuse(from: string, code: string, what = from): Promise<Refusal> {
    const refusal = await refusalOf(from, what)
    assert(refusal, `${what}: was taken`)
    assert.equal(refusal.code, code, `${what}: ${refusal.message}`)
    assert.match(refusal.message, /\S+ \S+ \S+/)
    return refusal
  }

  async function copied(path: string, name: string): Promise<string> {
    const copy = join(place, name)
    await copyFile(path, copy)
    return copy
  }

  for (const kind of kinds) {
    it(`${kind.what}: all of its bytes come, or it is refused, whatever was done to it`, async () => {
      const path = join(place, `image.${kind.ending}`)
      await kind.make(raw, path)
      const { bytes, format, notes } = await take(path)
      assert(bytes.equals(disk), 'whole')
      assert.deepEqual([format, notes], [kind.format, []])
      const size = readFileSync(path).length

      const cuts = [1, sector - 1, sector, sector + 1, 1024, 1536, 4096, 65_536, 65_537, Math.floor(size / 3)]
      for (const cut of [...cuts, size - 65_536, size - 600, size - 513]) {
        const copy = await copied(path, `cut.${kind.ending}`)
        await truncate(copy, size - cut)
        const refusal = await refusalOf(copy, `cut by ${cut}`)
        const isSureToLose = cut >= Math.floor(size / 3)
        assert(refusal !== undefined || !isSureToLose, `cut by ${cut}: was taken`)
      }

      const padded = await copied(path, `padded.${kind.ending}`)
      await truncate(padded, size + mebibyte)
      if (kind.format !== 'raw') await refusalOf(padded, 'padded')

      const isFixed = /fixed/.test(kind.what) && kind.format === 'vhd'
      const named = await copied(path, 'renamed.img')
      const asImg = await refusalOf(named, 'called .img')
      assert.equal(asImg?.code, isFixed ? 'format-mismatch' : undefined, asImg?.message)
      const wrong = kind.format === 'vdi' ? 'qcow2' : 'vdi'
      await mustRefuse(await copied(path, `renamed.${wrong}`), 'format-mismatch')
      if (kind.format === 'raw') return
      await mustRefuse(await copied(path, 'renamed.raw'), 'not-raw')
      const plain = await take(path, 'raw').catch((error: Refusal) => error)
      // As raw bytes it is a disk of the file's size, if disks can have that.
      if (plain instanceof Refusal) assert.equal(plain.code, size % sector === 0 ? '' : 'not-raw', plain.message)
      else assert(plain.bytes.equals(readFileSync(path)))
    })
  }

  it('one that has only what differs from another file is refused, and what is advised does not lose its bytes', async () => {
    const at = (name: string) => join(place, name)
    await writeFile(at('delta.vhd'), vhdOf(disk, { type: 'differencing', creator: 'vbox' }))
    await copyFile(at('delta.vhd'), at('delta.avhd'))
    await copyFile(at('delta.vhd'), at('delta.img'))
    for (const name of ['delta.vhd', 'delta.avhd', 'delta.img']) {
      const { message, next } = await mustRefuse(at(name), 'image-not-alone')
      assert.match(message, /differencing VHD/)
      assert.doesNotMatch(next!, /qemu-img convert (?!is none)/, 'QEMU does not know that there is a parent')
    }
    await tool('qemu-img', 'convert', '-O', 'vdi', raw, at('delta.vdi'))
    await patch(at('delta.vdi'), 0x1a8, Buffer.alloc(16, 7))
    assert.match((await mustRefuse(at('delta.vdi'), 'image-not-alone')).message, /parent/)
    await tool('qemu-img', 'convert', '-O', 'vhdx', raw, at('delta.vhdx'))
    await patchVhdxParent(at('delta.vhdx'))
    assert.match((await mustRefuse(at('delta.vhdx'), 'image-not-alone')).message, /parent/)
    await tool('qemu-img', 'create', '-q', '-f', 'qcow', '-b', raw, '-F', 'raw', at('delta.qcow'))
    assert.match((await mustRefuse(at('delta.qcow'), 'image-not-alone')).message, /backing file/)
  })

  it('a VHD whose table was filled with zeros on the way does not give its headers for blocks', async () => {
    const path = join(place, 'image.vhd')
    await writeFile(path, vhdOf(disk, { type: 'dynamic', creator: 'vbox' }))
    await patch(path, 1536, Buffer.alloc(sector))
    assert.match((await mustRefuse(path, 'image-damaged')).message, /where its headers are/)
  })

  it('a VHD does not give what lies where its bitmap says that nothing was written, which its disk has zeros for', async () => {
    const path = join(place, 'image.vhd')
    const image = vhdOf(disk, { type: 'dynamic', creator: 'tap\0' })
    await writeFile(path, image)
    const at = image.readUInt32BE(1536 + 4) * sector
    await patch(path, at, Buffer.alloc(256)) // The first MiB of the second block, which is zeros.
    assert((await take(path)).bytes.equals(disk))
    await patch(path, at + 256, Buffer.from([0x7f])) // The first sector that is not.
    assert.match((await mustRefuse(path, 'image-damaged')).message, /its bitmap says that nothing was written/)
  })

  it('a VMDK of several files is refused, whichever of them is named', async () => {
    const at = (name: string) => join(place, name)
    await tool('qemu-img', 'convert', '-O', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', raw, at('split.vmdk'))
    assert.match((await mustRefuse(at('split.vmdk'), 'image-not-alone')).message, /names the files/)
    assert.match((await mustRefuse(at('split-s001.vmdk'), 'image-not-alone')).message, /one extent/)
    await rename(at('split-s001.vmdk'), at('renamed.vmdk'))
    assert.match((await mustRefuse(at('renamed.vmdk'), 'image-not-alone')).message, /one extent of a set/)
    await tool('qemu-img', 'convert', '-O', 'vmdk', '-o', 'subformat=monolithicFlat', raw, at('web01.vmdk'))
    assert((await take(at('web01-flat.vmdk'))).bytes.equals(disk), 'a flat extent has the bytes, and is raw')
  })

  it('a member of a chain of Parallels is known by its neighbour, a download under way by its own', async () => {
    const path = join(place, 'image.hdd')
    await tool('qemu-img', 'convert', '-O', 'parallels', raw, path)
    await writeFile(join(place, 'DiskDescriptor.xml'), '<Parallels_disk_image/>')
    await mustRefuse(path, 'image-not-alone')
    assert((await take(path, 'parallels')).bytes.equals(disk))
    await writeFile(`${raw}.aria2`, '')
    await mustRefuse(raw, 'image-cut')
  })

  it('an image that QEMU does not open for writing is refused: marked as corrupt, not closed', async () => {
    const path = join(place, 'image.qcow2')
    await tool('qemu-img', 'convert', '-O', 'qcow2', raw, path)
    await patch(path, 79, Buffer.from([2]))
    assert.match((await mustRefuse(path, 'image-damaged')).message, /marked it as corrupt/)
    await patch(path, 79, Buffer.from([1]))
    assert.match((await mustRefuse(path, 'image-unclosed')).next!, /qemu-img check -r all/)
  })

  it('what qemu-img check finds decides: faults are refused, clusters that nobody uses pass', async () => {
    const path = join(place, 'image.qcow2')
    await tool('qemu-img', 'convert', '-O', 'qcow2', raw, path)
    const head = readFileSync(path)
    const table = Number(head.readBigUInt64BE(48))
    const counts = Number(head.readBigUInt64BE(table))
    const clusters = head.length / 65_536
    await patch(path, counts + (clusters + 3) * 2, Buffer.from([0, 1]))
    assert((await take(path)).bytes.equals(disk), 'a leak')
    await patch(path, counts + (clusters - 1) * 2, Buffer.from([0, 0]))
    assert.match(
      (await mustRefuse(path, 'image-damaged')).message,
      /qemu-img check finds in it \d+ faults?: .*refcount=0/,
    )
  })

  it('internal snapshots stay behind, and the operator is told', async () => {
    const path = join(place, 'image.qcow2')
    await tool('qemu-img', 'convert', '-O', 'qcow2', raw, path)
    for (const name of ['monday', 'tuesday']) await tool('qemu-img', 'snapshot', '-c', name, path)
    const { bytes, notes } = await take(path)
    assert(bytes.equals(disk))
    assert.match(notes.join(), /^2 internal snapshots of the image stayed behind/)
  })

  it('an encrypted image is refused in a sentence', async () => {
    const path = join(place, 'image.qcow2')
    const secret = ['--object', 'secret,id=key,data=letmein']
    // AES: for LUKS qemu-img measures how fast the processor is, and gives up on a busy one.
    const options = 'encrypt.format=aes,encrypt.key-secret=key'
    await tool('qemu-img', 'create', '-q', ...secret, '-f', 'qcow2', '-o', options, path, '1M')
    const { message } = await mustRefuse(path, 'image-encrypted')
    assert.match(message, /is encrypted, and vmstore has no key/)
    assert.doesNotMatch(message, /json:|\{/)
  })

  it('a cluster that cannot be unpacked ends the copy, told as what it is and not as a server that is away', async () => {
    const path = join(place, 'image.qcow2')
    await writeFile(raw, Buffer.alloc(mebibyte, 'packs well '))
    await tool('qemu-img', 'convert', '-c', '-O', 'qcow2', raw, path)
    const image = readFileSync(path)
    const l2 = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(40))) & 0x00ff_ffff_ffff_fe00n)
    const at = Number(image.readBigUInt64BE(l2) & ((1n << 54n) - 1n))
    await patch(path, at, Buffer.alloc(64, 0xff))
    const { message, exit } = await mustRefuse(path, 'image-unreadable')
    assert.match(message, /QEMU cannot read all of/)
    assert.equal(exit, 1)
  })

  it('a qemu-nbd that dies in the middle is told as that', async () => {
    const path = join(place, 'image.qcow2')
    await writeFile(raw, Buffer.alloc(64 * mebibyte, 'enough of it '))
    await tool('qemu-img', 'convert', '-O', 'qcow2', raw, path)
    const killing = beforeFirstWrite(files, () => {
      for (const id of programsWith(place)) process.kill(id, 'SIGKILL')
    })
    await assert.rejects(take(path, undefined, { files: killing }), (error: Refusal) => {
      assert.equal(error.code, 'image-unreadable')
      assert.match(
        error.message,
        /qemu-nbd, which reads .*image\.qcow2 for vmstore, ended in the middle: ended by SIGKILL/,
      )
      assert.doesNotMatch(error.next!, /server/)
      return true
    })
  })

  it('storage that does not give a byte of a raw image is told as that', async () => {
    const failing: Files = {
      ...filesLike(files),
      async openBlockFile(path, readOnly) {
        const file = await files.openBlockFile(path, readOnly)
        if (!readOnly) return file
        const read = () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO', syscall: 'read' }))
        return Object.assign(file, { read })
      },
    }
    await assert.rejects(take(raw, undefined, { files: failing }), {
      code: 'image-unreadable',
      exit: 1,
      message: `not all of ${raw} can be read: EIO`,
    })
  })

  for (const format of ['raw', 'qcow2'] as const) {
    it(`${format}: a file that grows, or is written to, while it is copied gives no disk`, async () => {
      const path = join(place, `image.${format}`)
      await tool('qemu-img', 'convert', '-f', 'raw', '-O', format, raw, path)
      const growing = beforeFirstWrite(files, () => appendFile(path, Buffer.alloc(4096)))
      await assert.rejects(take(path, undefined, { files: growing }), (error: Refusal) => {
        assert.equal(error.code, 'source-changed')
        return /changed during the copy: it had \d+ bytes, and has \d+/.test(error.message)
      })
      await utimes(path, 1, 1) // A file system's clock is coarse.
      const written = beforeFirstWrite(files, () => patch(path, 4096, Buffer.alloc(1, 9)))
      await assert.rejects(take(path, undefined, { files: written }), { code: 'source-changed' })
    })
  }

  it('a guest that writes the header of another format to its disk gets its disk back', async () => {
    const qcow2 = join(place, 'image.qcow2')
    await tool('qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '1M')
    readFileSync(qcow2).copy(disk, 0, 0, 65_536)
    await writeFile(raw, disk)
    await mustRefuse(raw, 'not-raw')
    const { bytes, notes } = await take(raw, 'raw')
    assert(bytes.equals(disk))
    assert.match(notes.join(), /looks like a qcow2 image; its bytes were taken as they are/)
    const fixed = join(place, 'image.vhd')
    Buffer.from('conectix').copy(disk)
    await writeFile(fixed, vhdOf(disk, { type: 'fixed', creator: 'vbox' }))
    const image = await take(fixed, 'vhd')
    assert(image.bytes.equals(disk), 'in a VHD of fixed size, too')
  })

  it('a raw disk that ends before its GPT says is refused, unless it is said to be raw', async () => {
    await truncate(raw, disk.length - mebibyte)
    assert.match((await mustRefuse(raw, 'image-cut')).next!, /--format raw/)
    assert((await take(raw, 'raw')).bytes.equals(disk.subarray(0, disk.length - mebibyte)))
  })

  it('what is no file of bytes is refused by what it is', async () => {
    await mkdir(join(place, 'web01.hdd'))
    assert.match((await mustRefuse(join(place, 'web01.hdd'), 'not-raw')).message, /it is a folder/)
    assert.match((await mustRefuse('/dev/null', 'not-raw')).message, /device of characters/)
  })
})

describe("QEMU's messages", () => {
  it('only its own sentence about its lock says that an image is in use', () => {
    for (const line of [
      'Failed to get "write" lock',
      'Failed to get shared "write" lock',
      'Failed to get "consistent read" lock',
    ])
      assert(
        isLockSentence(
          sentenceOf(
            `qemu-img: Could not open 'json:{"driver":"qcow2"}': ${line}\nIs another process using the image [x]?`,
          ),
        ),
      )
    for (const line of [
      'VHDX: block size is not a power of two',
      "The image's clock is unlocked",
      'Could not read block 7',
    ])
      assert(!isLockSentence(sentenceOf(`qemu-img: Could not open 'json:{"driver":"vhdx"}': ${line}`)), line)
    assert(!isLockSentence(sentenceOf(`qemu-img: Could not open '/srv/lock/image': Invalid argument`)))
  })

  it('the options that it was given are left out of what the operator reads', () => {
    const options = `json:{"driver":"qcow2","file":{"driver":"file","filename":"/srv/it's: here"}}`
    assert.equal(sentenceOf(`qemu-nbd: Failed to blk_new_open '${options}': Image is corrupt`), 'Image is corrupt')
  })
})

function tool(name: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(findTool(name)!, args, (error: ExecFileException | null, stdout, stderr) =>
      error ? reject(new Error(`${name} ${args.join(' ')}: ${stderr}`)) : resolve(stdout),
    )
  })
}

async function patch(path: string, at: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(bytes, 0, bytes.length, at)
  await file.close()
}

/** "File Parameters" of the metadata: the bit "HasParent". */
async function patchVhdxParent(path: string): Promise<void> {
  const image = readFileSync(path)
  const id = Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex')
  const entry = image.indexOf(id)
  const metadata = image.lastIndexOf('metadata', entry)
  await patch(path, metadata + image.readUInt32LE(entry + 16) + 4, Buffer.from([2]))
}

const filesLike = (files: Files): Files => ({
  bootId: files.bootId,
  createBlockFile: (path, sizeBytes) => files.createBlockFile(path, sizeBytes),
  openBlockFile: (path, readOnly) => files.openBlockFile(path, readOnly),
  readFile: (path) => files.readFile(path),
  replaceLog: (path, bytes) => files.replaceLog(path, bytes),
  openPages: (path) => files.openPages(path),
  rename: (from, to) => files.rename(from, to),
  remove: (path) => files.remove(path),
})

/** Files in which `act` is done, once, before a block file is first written to. */
function beforeFirstWrite(files: Files, act: () => unknown): Files {
  let isDone = false
  return {
    ...filesLike(files),
    async openBlockFile(path, readOnly) {
      const file = await files.openBlockFile(path, readOnly)
      const write = file.write.bind(file)
      return Object.assign(file, {
        async write(offset: number, source: Uint8Array) {
          if (!isDone) {
            isDone = true
            await act()
          }
          await write(offset, source)
        },
      })
    },
  }
}

/** qemu-nbd whose command names a path below `folder`. */
function programsWith(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((id) => {
      try {
        const command = readFileSync(`/proc/${id}/cmdline`, 'utf8')
        return command.includes('qemu-nbd') && command.includes(folder)
      } catch {
        return false // It has ended meanwhile.
      }
    })
    .map(Number)
}
