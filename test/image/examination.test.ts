// Whatever lies in an image's headers and tables, looking it through ends with what is wrong in a sentence, or with none.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { examine } from '../../src/image/examination.ts'
import { ImageFault } from '../../src/image/image-fault.ts'
import type { ForeignFormat } from '../../src/image/image-formats.ts'
import { seededRandom } from '../random.ts'
import { findTool, needTool } from '../tools.ts'
import { streamVmdkOf, vhdOf } from './builders.ts'

const mebibyte = 2 ** 20
const rounds = 150

describe('an image that is looked through', () => {
  let place: string
  let disk: Buffer
  before(() => {
    place = mkdtempSync(join(tmpdir(), 'vms-'))
    disk = Buffer.alloc(4 * mebibyte)
    disk.fill('some bytes ', mebibyte, mebibyte + 300_000)
    writeFileSync(join(place, 'disk.raw'), disk)
  })
  after(() => rmSync(place, { recursive: true }))

  async function converted(driver: string, ...options: string[]): Promise<Buffer> {
    const path = join(place, `image.${driver}`)
    const args = ['convert', '-f', 'raw', '-O', driver, ...options, join(place, 'disk.raw'), path]
    await promisify(execFile)(findTool('qemu-img')!, args)
    return readFileSync(path)
  }

  const look = (format: ForeignFormat, image: Buffer) =>
    examine(format, {
      sizeBytes: image.length,
      read: async (at, lengthBytes) => image.subarray(at, Math.max(at, at + lengthBytes)),
    })

  const made: readonly (readonly [what: string, format: ForeignFormat, make: () => Promise<Buffer> | Buffer])[] = [
    ['qcow2', 'qcow2', () => converted('qcow2', '-c')],
    ['qcow2 with subclusters', 'qcow2', () => converted('qcow2', '-o', 'extended_l2=on')],
    ['qcow', 'qcow', () => converted('qcow')],
    ['QED', 'qed', () => converted('qed')],
    ['VMDK', 'vmdk', () => converted('vmdk')],
    ['VMDK of ESX', 'vmdk', () => streamVmdkOf(disk)],
    ['VDI', 'vdi', () => converted('vdi')],
    ['VHD', 'vhd', () => vhdOf(disk, { type: 'dynamic', creator: 'vbox' })],
    ['VHD of fixed size', 'vhd', () => vhdOf(disk, { type: 'fixed', creator: 'vbox' })],
    ['VHDX', 'vhdx', () => converted('vhdx')],
    ['Parallels', 'parallels', () => converted('parallels')],
  ]
  for (const [what, format, make] of made) {
    it(`${what}: is whole, and with wrong bytes or an early end it is no crash`, async function () {
      this.timeout(60_000)
      needTool(this, 'qemu-img')
      const image = await make()
      assert.equal((await look(format, image)).sizeBytes, disk.length)
      const random = seededRandom(rounds)
      // Where something is written at all: headers and tables, and some of the disk.
      const places = [...image.keys()].filter((at) => at < mebibyte && image[at] !== 0)
      for (let round = 0; round < rounds; round++) {
        const wrong = Buffer.from(random.integer(2) === 0 ? image : image.subarray(0, random.integer(image.length)))
        for (let count = random.integer(4); count >= 0; count--) {
          const at = random.integer(2) === 0 ? places[random.integer(places.length)]! : random.integer(512)
          if (at < wrong.length) wrong[at] = random.integer(256)
        }
        await look(format, wrong).catch((error: unknown) => {
          if (!(error instanceof ImageFault)) throw new Error(`round ${round}`, { cause: error })
        })
      }
    })
  }
})
