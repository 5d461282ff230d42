// The main job on real input: a disk with a file system, written and verified by fio, moves while fio goes on with it.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { open, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { findTool, needTool } from '../tools.ts'
import {
  attach,
  endSitesAfterEach,
  fetchRest,
  folder,
  must,
  program,
  type Ran,
  refusedWith,
  Site,
  tool,
  until,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const diskBytes = 512 * mebibyte
/** The file system ends here; what is behind it is fio's. */
const fileSystemBytes = 256 * mebibyte
/** What fio writes at the source, and what it writes on at the destination: half of it over bytes that it wrote before. */
const first = { offset: 288 * mebibyte, length: 64 * mebibyte }
const second = { offset: 320 * mebibyte, length: 48 * mebibyte }
/** So slow that the copy cannot be over while fio works: most of the disk is left, and comes at the test's word. */
const maxRate = '256K'

/** A real tree of files, of a size that fits. */
const trees = ['/usr/include', '/usr/share/doc', join(import.meta.dirname, '../../node_modules')]

describe('the main job on real input', () => {
  before(function () {
    needTool(this, 'fio', 'nbdinfo', 'nbdcopy', 'mke2fs', 'e2fsck')
  })
  endSitesAfterEach()

  it('a disk with ext4 under fio moves by post-copy: nothing is lost, the source is fenced and needed no more', async () => {
    const image = await makeImage()
    const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo')])
    const { token } = await must(a, 'peer', 'invite', '--name', b.name)
    await must(b, 'peer', 'join', token, '--name', a.name)
    await must(a, 'disk', 'create', 'web01', '--from', image)
    await fio(a, first, 'write')
    const mapBefore = await dataBytes(a)
    const shownBefore: DiskView = await a.control.showDisk('web01')
    assert.equal(shownBefore.generation, 1)

    const terms = ['--mode', 'post-copy', '--switchover', 'now', '--max-rate', maxRate]
    const command = vmstore(a, 'migrate', 'web01', '--to', b.name, ...terms)
    const { id } = await until('the migration has begun', async () => (await b.control.listMigrations())[0])
    await untilMigration(b, id, ({ state }) => state === 'copying')
    await fio(b, first, 'verify')
    await fio(b, second, 'write')
    await fio(b, second, 'verify')
    const meanwhile = await b.control.showMigration(id)
    assert.equal(meanwhile.state, 'copying', 'fio verified and wrote while the copy ran')
    assert(meanwhile.bytes.missing > 0)
    await sourceIsFenced(a)

    await Promise.all([fetchRest(b, 'web01'), fio(b, second, 'verify')])
    resultIsWhole(await command)
    await untilMigration(b, id, ({ state }) => state === 'done')
    await ownersAgree(a, b)
    await sourceIsFenced(a)
    const mapAfter = await dataBytes(b)
    const written = second.offset + second.length - (first.offset + first.length)
    assert(
      mapAfter <= mapBefore + written + mebibyte,
      `sparse stays sparse: ${mapBefore} bytes of data became ${mapAfter}`,
    )

    assert.equal(await a.stop(), 0)
    await wholeAtDestination(b, image)
    await fio(b, second, 'verify')
    await fio(b, { offset: first.offset, length: second.offset - first.offset }, 'verify')
    await fio(b, { offset: 400 * mebibyte, length: 16 * mebibyte }, 'write')
    await fio(b, { offset: 400 * mebibyte, length: 16 * mebibyte }, 'verify')
  })
})

async function makeImage(): Promise<string> {
  const image = join(folder(), 'web01.img')
  await (await open(image, 'w')).close()
  await truncate(image, diskBytes)
  const tree = trees.find((path) => existsSync(path))!
  await tool('mke2fs', '-q', '-F', '-t', 'ext4', '-d', tree, image, `${fileSystemBytes / 1024}k`)
  return image
}

/** Random writes of mixed sizes, each with its checksum, or the check of what the same call wrote. */
async function fio(site: Site, region: { offset: number; length: number }, what: 'write' | 'verify'): Promise<void> {
  await tool(
    'fio',
    ...['--name=guest', '--ioengine=nbd', `--uri=${site.uri('web01')}`, '--iodepth=8', '--randseed=7'],
    ...['--rw=randwrite', '--bssplit=512/10:4k/40:16k/30:64k/20', '--verify=crc32c', '--verify_fatal=1'],
    ...['--verify_state_save=0', `--offset=${region.offset}`, `--size=${region.length}`, '--output-format=json'],
    what === 'write' ? '--do_verify=0' : '--verify_only=1',
  )
}

/** What DESIGN.md promises to scripts. */
function resultIsWhole({ exit, json, events, stderr }: Ran): void {
  assert.equal(exit, 0, `${JSON.stringify(json)}\n${stderr}`)
  assert.deepEqual(
    [json.type, json.disk, json.state, json.mode, json.transport, json.generation],
    ['result', 'web01', 'done', 'post-copy', 'tcp', 2],
  )
  assert.equal(json.bytes.disk, diskBytes)
  assert.equal(json.bytes.missing, 0)
  assert(json.bytes.data > 0 && json.bytes.skippedZero > 0 && json.bytes.sent >= json.bytes.data)
  assert(json.bytes.resent < 64 * mebibyte)
  for (const phase of ['total', 'precopy', 'switchover', 'postcopy']) assert.equal(typeof json.seconds[phase], 'number')
  assert.equal(typeof json.verified, 'boolean')
  const types = new Set(events.map(({ type }) => type))
  for (const type of ['step', 'progress', 'switchover', 'result']) assert(types.has(type), `an event ${type} came`)
}

/** Bytes that the disk's map calls data. */
async function dataBytes(site: Site): Promise<number> {
  const map = JSON.parse(await tool('nbdinfo', '--map', '--json', site.uri('web01'))) as {
    length: number
    description: string
  }[]
  assert.equal(
    map.reduce((sum, { length }) => sum + length, 0),
    diskBytes,
    'the map covers the disk',
  )
  return map.filter(({ description }) => description === 'data').reduce((sum, { length }) => sum + length, 0)
}

/** It may be opened, so that a hypervisor can reconnect and quit, and does nothing but flush. */
async function sourceIsFenced(a: Site): Promise<void> {
  const client = await attach(a, 'web01')
  await refusedWith('ESHUTDOWN', client.read(0, 4096))
  await refusedWith('ESHUTDOWN', client.write(fileSystemBytes, Buffer.alloc(4096)))
  await refusedWith('ESHUTDOWN', client.trim(fileSystemBytes, 4096))
  await refusedWith('ESHUTDOWN', client.writeZeroes(fileSystemBytes, 4096))
  await client.flush()
  await client.disconnect()
  assert.deepEqual(await NbdClient.list(a.uri('')), [])
  const { code } = await program(findTool('nbdcopy')!, [a.uri('web01'), 'null:'])
  assert.notEqual(code, 0, 'nbdcopy cannot read at the source')
}

async function ownersAgree(a: Site, b: Site): Promise<void> {
  const atA: DiskView = await must(a, 'disk', 'show', 'web01')
  const atB: DiskView = await must(b, 'disk', 'show', 'web01')
  assert.deepEqual(
    [atA.id, atA.size, atA.generation, atA.owner],
    [atB.id, atB.size, 2, (await b.control.describe()).id],
    'both sites know one owner and one generation',
  )
  assert.deepEqual([atA.state, atB.state, atB.ownerName], ['released', 'owned', 'this site'])
  assert.deepEqual([atA.ownerName, atA.migration, atB.migration], [b.name, null, null])
  assert.equal(atB.present.bytes, diskBytes)
}

/** The file system is clean, and every byte outside fio's regions is the image's. */
async function wholeAtDestination(b: Site, image: string): Promise<void> {
  const copy = join(folder(), 'copy.img')
  await tool('nbdcopy', b.uri('web01'), copy)
  const checked = await program(findTool('e2fsck')!, ['-fn', copy])
  assert.equal(checked.code, 0, `${checked.stdout}${checked.stderr}`)
  const fioFrom = first.offset
  const fioTo = second.offset + second.length
  const [original, moved] = await Promise.all([open(image), open(copy)])
  try {
    assert.equal((await moved.stat()).size, diskBytes)
    const [expected, actual] = [Buffer.alloc(mebibyte), Buffer.alloc(mebibyte)]
    for (let at = 0; at < diskBytes; at += mebibyte) {
      if (at >= fioFrom && at < fioTo) continue
      await original.read(expected, 0, mebibyte, at)
      await moved.read(actual, 0, mebibyte, at)
      assert(expected.equals(actual), `the mebibyte at ${at} is another than the image's`)
    }
  } finally {
    await Promise.all([original.close(), moved.close()])
  }
}
