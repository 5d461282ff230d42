// Which format a file is taken for: its bytes and its name must agree, or the operator says it.

import assert from 'node:assert/strict'
import { decideFormat, Undecided } from '../../src/image/decision.ts'
import { type ImageFormat, imageFormats } from '../../src/image/image-formats.ts'
import { headBytes, tailBytes } from '../../src/image/recognition.ts'
import { vhdOf } from './builders.ts'

const mebibyte = 2 ** 20

const startingWith = (text: string, at = 0): Buffer => {
  const file = Buffer.alloc(mebibyte)
  file.write(text, at, 'latin1')
  return file
}

function decide(path: string, file: Buffer, said?: ImageFormat) {
  const head = file.subarray(0, headBytes)
  const tail = file.subarray(Math.max(0, file.length - tailBytes))
  return decideFormat(path, { head, tail, sizeBytes: file.length }, said)
}

function refused(path: string, file: Buffer, said?: ImageFormat): Undecided {
  try {
    const { format } = decide(path, file, said)
    return assert.fail(`${path} was taken for ${format}`)
  } catch (error) {
    if (!(error instanceof Undecided)) throw error
    return error
  }
}

const raw = Buffer.alloc(mebibyte, 0x5a)
const headers: Record<Exclude<ImageFormat, 'raw'>, Buffer> = {
  qcow2: startingWith('QFI\xfb\0\0\0\x03'),
  qcow: startingWith('QFI\xfb\0\0\0\x01'),
  qed: startingWith('QED\0'),
  vmdk: startingWith('KDMV'),
  vdi: startingWith('\x7f\x10\xda\xbe', 0x40),
  vhd: startingWith('conectix'),
  vhdx: startingWith('vhdxfile'),
  parallels: startingWith('WithoutFreeSpace'),
}
const endings: Record<string, readonly ImageFormat[]> = {
  raw: ['raw'],
  img: imageFormats,
  qcow2: ['qcow2'],
  qcow: ['qcow', 'qcow2'],
  qed: ['qed'],
  vmdk: ['vmdk'],
  vdi: ['vdi'],
  vhd: ['vhd'],
  avhd: ['vhd'],
  vhdx: ['vhdx'],
  avhdx: ['vhdx'],
  hdd: ['parallels'],
  gz: [],
  ova: [],
  E01: [],
}

describe('the format of an image', () => {
  it('is what its bytes say, where its name agrees or promises nothing; else it is refused', () => {
    for (const [ending, fitting] of Object.entries(endings)) {
      for (const format of imageFormats) {
        const file = format === 'raw' ? raw : headers[format]
        const path = `/srv/web01.${ending}`
        if (fitting.includes(format)) assert.equal(decide(path, file).format, format, path)
        else assert.match(refused(path, file).code, /^(format-mismatch|not-raw)$/, `${path} with bytes of ${format}`)
      }
    }
  })

  it('is what the operator says, where the bytes have it; and raw bytes whatever they look like', () => {
    for (const format of imageFormats) {
      const file = format === 'raw' ? raw : headers[format]
      for (const path of ['/srv/web01.raw', '/srv/web01.qcow2', '/srv/web01.part']) {
        assert.equal(decide(path, file, format).format, format)
        const { notes } = decide(path, file, 'raw')
        assert.equal(notes.length, format === 'raw' ? 0 : 1)
        if (format !== 'vdi') assert.equal(refused(path, file, 'vdi').code, 'format-mismatch')
      }
    }
  })

  it('a VHD of fixed size is told by its name only; its footer makes any other name doubtful', () => {
    const file = vhdOf(raw, { type: 'fixed', creator: 'vbox' })
    assert.equal(decide('/srv/web01.vhd', file).format, 'vhd')
    for (const name of ['web01.raw', 'web01.img', 'web01']) {
      assert.match(refused(`/srv/${name}`, file).next, /--format vhd.*--format raw/)
      assert.equal(decide(`/srv/${name}`, file, 'vhd').format, 'vhd')
      assert.equal(decide(`/srv/${name}`, file, 'raw').format, 'raw')
    }
  })

  const strangers: readonly (readonly [title: RegExp, file: Buffer])[] = [
    [/gzip/, startingWith('\x1f\x8b\x08')],
    [/xz/, startingWith('\xfd7zXZ\0')],
    [/zstd/, startingWith('\x28\xb5\x2f\xfd')],
    [/bzip2/, startingWith('BZh91AY&SY')],
    [/lz4/, startingWith('\x04\x22\x4d\x18')],
    [/zip archive/, startingWith('PK\x03\x04')],
    [/7-Zip/, startingWith('7z\xbc\xaf\x27\x1c')],
    [/RAR/, startingWith('Rar!\x1a\x07\x01\0')],
    [/cpio/, startingWith('070701')],
    [/Windows image/, startingWith('MSWIM\0\0\0')],
    [/Proxmox/, startingWith('VMA\0\0\0\0\x01')],
    [/Android/, startingWith('\x3a\xff\x26\xed')],
    [/EWF/, startingWith('EVF\x09\r\n\xff\0')],
    [/AFF/, startingWith('AFF10\r\n\0')],
    [/ASIF/, startingWith('shdw')],
    [/Git LFS/, startingWith('version https://git-lfs.github.com/spec/v1')],
    [/OVF/, startingWith('<?xml version="1.0"?>\r\n<Envelope vmw:buildId="build-1"')],
    [/Parallels/, startingWith('<?xml version="1.0"?>\n<Parallels_disk_image Version="1.0">')],
    [/web page/, startingWith('\n<!DOCTYPE html>\n<html>')],
    [/vmfsSparse/, startingWith('COWD')],
    [/SEsparse/, startingWith('\xbe\xba\xfe\xca')],
  ]
  for (const [title, file] of strangers) {
    it(`${title.source}: no image by itself, whatever its name`, () => {
      for (const name of ['web01.raw', 'web01.img', 'web01.vmdk', 'web01']) {
        const error = refused(`/srv/${name}`, file)
        assert.match(error.message, title)
        assert.match(error.code, /^(not-raw|image-not-alone)$/)
        assert.equal(decide(`/srv/${name}`, file, 'raw').format, 'raw')
      }
    })
  }

  it('DMG is known by its trailer', () => {
    const file = Buffer.alloc(mebibyte)
    file.write('koly', mebibyte - 512)
    file.writeUInt32BE(512, mebibyte - 512 + 8)
    assert.match(refused('/srv/web01.img', file).message, /DMG/)
  })

  it('the descriptor of a VMDK is known with any line ends, comments and blank lines', () => {
    const extent = 'RW 131072 FLAT "web01-flat.vmdk" 0'
    for (const text of [
      `# Disk DescriptorFile\nversion=1\n${extent}\n`,
      `# Disk DescriptorFile\r\nversion=1\r\n${extent}\r\n`,
      `\xef\xbb\xbf# Disk DescriptorFile\nversion=1\n${extent}\n`,
      `\n\n  # Disk DescriptorFile\n${extent}\n`,
      `#disk descriptorfile\nversion=1\n${extent}\n`,
      `# made by hand\n# Disk DescriptorFile\n${extent}\n`,
      `version=1\nCID=fffffffe\n${extent}\n`,
      `# made by hand\r\n\r\nversion = 2\r\nCID=fffffffe\r\n${extent}\r\n`,
    ]) {
      for (const name of ['web01.vmdk', 'web01.img']) {
        const error = refused(`/srv/${name}`, startingWith(text))
        assert.equal(error.code, 'image-not-alone', text)
        assert.match(error.message, /names the files of its extents/)
      }
    }
  })

  it('a part of an image is known by its name', () => {
    for (const name of ['web01-s001.vmdk', 'web01-f002.vmdk', 'web01-delta.vmdk', 'web01-sesparse.vmdk'])
      assert.equal(refused(`/srv/${name}`, headers.vmdk).code, 'image-not-alone', name)
    for (const name of ['web01.img.001', 'web01.img.part', 'web01.raw.crdownload', 'web01.aa', 'xaa', 'web01.part-1'])
      assert.equal(refused(`/srv/${name}`, raw).code, 'image-not-alone', name)
    for (const name of [
      'web01.raw.00',
      'web01.raw01',
      'web01.imgab',
      'web01.qcow2-aa',
      'web01.img.gz.03',
      'x00',
      'x01',
    ])
      assert.equal(refused(`/srv/${name}`, raw).code, 'image-not-alone', name)
    for (const name of ['ubuntu-24.04', 'web01.10', 'web01', 'x86', 'img01', 'web01-aa'])
      assert.equal(decide(`/srv/${name}`, raw).format, 'raw', name)
    assert.equal(decide('/srv/web01-flat.vmdk', raw).format, 'raw')
  })

  it('raw disks that begin with a file system, a volume or a key are raw disks', () => {
    const iso = Buffer.alloc(mebibyte)
    iso.write('\x01CD001', 32_768, 'latin1')
    for (const file of [iso, startingWith('LUKS\xba\xbe'), startingWith('XFSB'), startingWith('LABELONE', 512), raw])
      assert.equal(decide('/srv/web01.img', file).format, 'raw')
  })
})
