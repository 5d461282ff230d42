// `disk create --from FILE` of the formats that QEMU reads: the image's bytes, and those of no other file.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { copyFile, open, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openImageSource } from '../../src/daemon/image-opening.ts'
import { findTool, needTool } from '../tools.ts'
import {
  afterwards,
  attach,
  endSitesAfterEach,
  folder,
  must,
  readAll,
  refusalOf,
  Site,
  tool,
  until,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 24 * mebibyte

describe('a disk made from an image that QEMU reads', () => {
  endSitesAfterEach()
  let site: Site
  let files: string
  let raw: string
  let bytes: Buffer

  before(function () {
    needTool(this, 'qemu-img', 'qemu-nbd')
  })
  beforeEach(async () => {
    site = await Site.start('osaka')
    files = folder()
    raw = join(files, 'image.raw')
    bytes = Buffer.alloc(sizeBytes)
    for (const at of [0, 11 * mebibyte, sizeBytes - 65_536]) bytes.fill(`bytes at ${at} `, at, at + 65_536)
    await writeFile(raw, '')
    await truncate(raw, sizeBytes)
    const file = await open(raw, 'r+')
    for (const at of [0, 11 * mebibyte, sizeBytes - 65_536]) await file.write(bytes, at, 65_536, at)
    await file.close()
  })

  const create = (from: string, ...more: string[]) => vmstore(site, 'disk', 'create', 'web01', '--from', from, ...more)

  async function converted(driver: string, suffix: string, ...options: string[]): Promise<string> {
    const path = join(files, `image.${suffix}`)
    await tool('qemu-img', 'convert', '-f', 'raw', '-O', driver, ...options, raw, path)
    return path
  }

  async function assertNothingLeft(): Promise<void> {
    assert.deepEqual(await site.control.listDisks(), [])
    await until('the folder of disks is empty', () =>
      readdirSync(join(site.root, 'disks')).length === 0 ? true : undefined,
    )
    await until('no qemu-nbd has the image', () => (programsWith(files).length === 0 ? true : undefined))
  }

  const formats: [what: string, driver: string, suffix: string, ...options: string[]][] = [
    ['qcow2', 'qcow2', 'qcow2'],
    ['qcow2, compressed', 'qcow2', 'img', '-c'],
    ['qcow', 'qcow', 'qcow'],
    ['QED', 'qed', 'qed'],
    ['VMDK', 'vmdk', 'vmdk'],
    ['VMDK, stream optimized', 'vmdk', 'vmdk', '-o', 'subformat=streamOptimized'],
    ['VDI', 'vdi', 'vdi'],
    ['VHDX', 'vhdx', 'vhdx'],
    ['VHD', 'vpc', 'vhd', '-o', 'force_size=on'],
    ['VHD of fixed size', 'vpc', 'vhd', '-o', 'subformat=fixed,force_size=on'],
    ['Parallels', 'parallels', 'hdd'],
  ]
  it('every byte comes, of every format, and what is zero takes no room', async () => {
    for (const [what, driver, suffix, ...options] of formats) {
      const image = await converted(driver, suffix, ...options)
      const { exit, json } = await create(image)
      assert.equal(exit, 0, `${what}: ${JSON.stringify(json)}`)
      assert.equal(json.size, sizeBytes, what)
      assert(json.allocated < mebibyte, `${what}: ${json.allocated} bytes are allocated`)
      const client = await attach(site, 'web01')
      assert((await readAll(client)).equals(bytes), what)
      await client.disconnect()
      await must(site, 'disk', 'delete', 'web01')
      await assertNothingLeft()
    }
  })

  it('an image that names another file is refused: none of that file is read', async () => {
    const secret = join(files, 'secret')
    await copyFile(raw, secret)
    const inFiles = (name: string) => join(files, name)
    await tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', secret, '-F', 'raw', inFiles('backed.qcow2'))
    await tool(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      `data_file=${inFiles('data')}`,
      inFiles('apart.qcow2'),
      '1M',
    )
    await tool('qemu-img', 'create', '-q', '-f', 'vmdk', inFiles('base.vmdk'), '1M')
    await tool(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'vmdk',
      '-b',
      inFiles('base.vmdk'),
      '-F',
      'vmdk',
      inFiles('backed.vmdk'),
    )
    await tool('qemu-img', 'create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', inFiles('flat.vmdk'), '1M')
    await tool('qemu-img', 'create', '-q', '-f', 'qed', '-b', secret, '-F', 'raw', inFiles('backed.qed'))
    const hidden = await open(inFiles('hidden.vmdk'), 'w')
    const head = Buffer.alloc(mebibyte)
    head.write('KDMV')
    await hidden.write(head)
    await hidden.close()
    const expected: [file: string, why: RegExp][] = [
      ['backed.qcow2', /it has a backing file/],
      ['apart.qcow2', /its data lie in another file/],
      ['backed.vmdk', /it has a backing file/],
      ['flat.vmdk', /names the files of its extents/],
      ['hidden.vmdk', /names the files of its extents/],
      ['backed.qed', /it has a backing file/],
    ]
    for (const [file, why] of expected) {
      const view = refusalOf(await create(inFiles(file)), 3, 'image-not-alone')
      assert.match(view.message, why, file)
      assert.match(view.safe!, /no other file was read/)
    }
    await assertNothingLeft()
  })

  it('a raw image in which a guest wrote another header is not taken for what it says', async () => {
    const image = await converted('qcow2', 'qcow2')
    await rename(image, join(files, 'web01.raw'))
    const view = refusalOf(await create(join(files, 'web01.raw')), 3, 'not-raw')
    assert.match(view.message, /begins like a qcow2 image/)
    await assertNothingLeft()
  })

  it('an image that another program has open is refused', async function () {
    needTool(this, 'qemu-io')
    const image = await converted('qcow2', 'qcow2')
    const other = spawn(findTool('qemu-io')!, ['-f', 'qcow2', image], { stdio: ['pipe', 'pipe', 'inherit'] })
    afterwards(async () => {
      const exited = once(other, 'exit')
      other.stdin.end('quit\n')
      await exited
    })
    other.stdin.write('length\n')
    await once(other.stdout, 'data')
    refusalOf(await create(image), 3, 'in-use')
    await assertNothingLeft()
  })

  it('an image that is damaged is refused with what QEMU says', async () => {
    const image = await converted('qcow2', 'qcow2')
    const file = await open(image, 'r+')
    await file.write(Buffer.alloc(64, 0xff), 0, 64, 20)
    await file.close()
    const view = refusalOf(await create(image), 3, /image-unreadable|image-not-alone/)
    assert.match(view.message, /image\.qcow2/)
    await assertNothingLeft()
  })

  it('a copy that ends before its time leaves no program and no folder', async () => {
    const image = await converted('qcow2', 'qcow2')
    refusalOf(await create(image, '--size', '1M'), 3, 'wrong-size')
    await assertNothingLeft()
  })

  it('without QEMU the sentence says what to install', async () => {
    const file = await converted('qcow2', 'qcow2')
    const path = process.env['PATH']
    process.env['PATH'] = files
    try {
      const place = { folder: files, passingPrefix: '.passing-' }
      const image = openImageSource({ from: file, format: undefined }, place, new AbortController().signal)
      await assert.rejects(image, (error: Error & { code?: string; next?: string }) => {
        return error.code === 'no-qemu' && /apt-get install qemu-utils/.test(error.next!)
      })
    } finally {
      process.env['PATH'] = path
    }
  })
})

/** Programs whose command names a path below `folder`. */
function programsWith(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((id) => commandOf(id))
    .filter((command) => command.includes('qemu-nbd') && command.includes(folder))
}

function commandOf(id: string): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'utf8')
  } catch {
    return '' // It has ended meanwhile.
  }
}
