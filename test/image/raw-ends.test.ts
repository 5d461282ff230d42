// A raw disk that says where it ends is known when it is cut short; one that says nothing is taken as it is.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beyondEnd } from '../../src/image/raw-ends.ts'
import { findTool, needTool } from '../tools.ts'
import { writeGpt, writeMbr } from './builders.ts'

const mebibyte = 2 ** 20
const sizeBytes = 8 * mebibyte

const beyond = async (disk: Buffer): Promise<string | undefined> => {
  const read = async (at: number, lengthBytes: number) => disk.subarray(at, at + lengthBytes)
  return (await beyondEnd({ sizeBytes: disk.length, read }))?.what
}

async function assertKnown(disk: Buffer, what: RegExp): Promise<void> {
  assert.equal(await beyond(disk), undefined, 'whole')
  assert.equal(await beyond(Buffer.concat([disk, Buffer.alloc(mebibyte)])), undefined, 'padded')
  assert.match((await beyond(disk.subarray(0, disk.length - 512))) ?? '', what)
  assert.match((await beyond(disk.subarray(0, disk.length / 2))) ?? '', what)
}

describe('the end of a raw disk', () => {
  for (const unitBytes of [512, 4096]) {
    it(`a GPT knows it, for sectors of ${unitBytes} bytes`, async () => {
      const disk = Buffer.alloc(sizeBytes)
      writeGpt(disk, unitBytes)
      await assertKnown(disk, /GPT/)
    })
  }

  it('a header whose checksum is wrong is no GPT: a guest may write whatever it likes', async () => {
    const disk = Buffer.alloc(sizeBytes)
    writeGpt(disk)
    disk.writeUInt8(disk[516]! ^ 1, 516)
    assert.equal(await beyond(disk.subarray(0, mebibyte)), undefined)
  })

  it('an MBR knows it', async () => {
    const disk = Buffer.alloc(sizeBytes)
    writeMbr(disk)
    await assertKnown(disk, /MBR/)
  })

  it('the boot code of a file system of DOS is no table of partitions', async () => {
    const disk = Buffer.alloc(mebibyte)
    writeMbr(disk)
    disk.writeUInt32LE(2 ** 30, 458)
    disk.write('FAT32   ', 82)
    assert.equal(await beyond(disk), undefined)
  })

  it('an MBR whose partitions are not such says nothing', async () => {
    const disk = Buffer.alloc(mebibyte, 0xab)
    disk.writeUInt16LE(0xaa55, 510)
    assert.equal(await beyond(disk), undefined)
  })

  const systems: readonly (readonly [what: string, sizeMebibytes: number, program: string, ...words: string[]])[] = [
    ['ext', 8, 'mke2fs', '-q', '-F', '-t', 'ext4'],
    ['btrfs', 128, 'mkfs.btrfs', '-q'],
    ['FAT', 1, 'mkfs.fat', '-F', '12'],
    ['FAT', 32, 'mkfs.fat', '-F', '16'],
    ['FAT', 40, 'mkfs.fat', '-F', '32', '-s', '1'],
    ['exFAT', 8, 'mkfs.exfat'],
    ['swap', 8, 'mkswap'],
  ]
  for (const [what, sizeMebibytes, program, ...words] of systems) {
    it(`${[program, ...words].join(' ')}: what is in all of the disk knows it`, async function () {
      needTool(this, program)
      const place = await mkdtemp(join(tmpdir(), 'vms-'))
      const path = join(place, 'disk')
      try {
        writeFileSync(path, '')
        truncateSync(path, sizeMebibytes * mebibyte)
        await promisify(execFile)(findTool(program)!, [...words, path])
        await assertKnown(readFileSync(path), new RegExp(what))
      } finally {
        await rm(place, { recursive: true })
      }
    })
  }

  it('a physical volume of LVM knows it', async () => {
    const disk = Buffer.alloc(sizeBytes)
    disk.write('LABELONE', 512)
    disk.writeBigUInt64LE(1n, 520)
    disk.writeUInt32LE(32, 532)
    disk.write('LVM2 001', 536)
    disk.writeBigUInt64LE(BigInt(sizeBytes), 576)
    await assertKnown(disk, /LVM/)
  })

  it('a partition is told by its number, though one before it is empty', async () => {
    const disk = Buffer.alloc(sizeBytes)
    writeMbr(disk)
    disk.copy(disk, 462, 446, 462)
    disk.fill(0, 446, 462)
    assert.match((await beyond(disk.subarray(0, mebibyte))) ?? '', /^partition 2 /)
  })

  it('a disk of bytes that say nothing is taken as it is, and so is one shorter than a header', async () => {
    assert.equal(await beyond(Buffer.alloc(sizeBytes, 0x5a)), undefined)
    assert.equal(await beyond(Buffer.alloc(512)), undefined)
  })
})
