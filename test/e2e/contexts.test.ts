// The metadata contexts of a move, as the tools that people have see them: before, during and after.

import assert from 'node:assert/strict'
import type { NbdClient } from '../../src/nbd/client/client.ts'
import { run, shell } from '../interop/clients.ts'
import { needTool } from '../tools.ts'
import { sitesWithData } from './scenes.ts'
import { attach, begin, endSitesAfterEach, fetchRest, must, type Site, tool, untilMigration } from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const sizeBytes = 4 * mebibyte
const present = 'vmstore:present'
const dirty = 'vmstore:dirty'

type Mapped = readonly [offset: number, length: number, type: number]

/** Extents of a context as nbdinfo draws them. */
async function map(site: Site, context: string): Promise<Mapped[]> {
  const extents = JSON.parse(await tool('nbdinfo', '--json', `--map=${context}`, site.uri('web01')))
  return extents.map(({ offset, length, type }: Record<string, number>) => [offset, length, type])
}

async function contextsOf(site: Site): Promise<string[]> {
  return JSON.parse(await tool('nbdinfo', '--json', site.uri('web01'))).exports[0].contexts
}

function bytesOf(extents: readonly Mapped[], type: number): number {
  return extents.filter((extent) => extent[2] === type).reduce((sum, [, length]) => sum + length, 0)
}

/** What a session of ours is told of both contexts, whatever its number of answers. */
async function toldBytes(client: NbdClient, context: string): Promise<number> {
  let bytes = 0
  for (let at = 0; at < sizeBytes; ) {
    const extents = (await client.blockStatus(at, sizeBytes - at)).get(context)!
    for (const { lengthBytes, flags } of extents) {
      if (flags === 1) bytes += lengthBytes
      at += lengthBytes
    }
  }
  return bytes
}

/** Both contexts of the namespace are listed, and a status of one has the flags as numbers. */
async function assertSeenInNbdsh(site: Site): Promise<void> {
  const list = `
h.set_opt_mode(True)
h.add_meta_context("vmstore:")
h.connect_uri("${site.uri('web01')}")
names = []
h.opt_list_meta_context(lambda name: names.append(name) or 0)
assert names == ["${present}", "${dirty}"], names
h.opt_abort()
`
  await run('nbdsh', '-c', list)
  const status = `
seen = []
h.block_status(16384, 1024 * 1024 - 4096, lambda context, at, entries, error: seen.append((context, at, entries)) or 0)
assert seen == [("${dirty}", 1044480, [4096, 0, 4096, 1, 8192, 0])], seen
`
  await shell(site.uri('web01'), status, `h.add_meta_context("${dirty}")`)
}

/** What a backup program that asks QEMU for a dirty bitmap finds: QEMU calls "no data" what has the flag 1. */
async function changedInQemu(site: Site): Promise<[number, number][]> {
  const options = `driver=nbd,export=web01,server.type=unix,server.path=${site.nbdSocket},x-dirty-bitmap=${dirty}`
  const extents = JSON.parse(await tool('qemu-img', 'map', '--output=json', '--image-opts', options))
  return extents
    .filter(({ data }: { data: boolean }) => !data)
    .map(({ start, length }: Record<string, number>) => [start, length])
}

describe('metadata contexts of a move', () => {
  endSitesAfterEach()

  it('nbdinfo, nbdsh and QEMU see what has come and what the guest wrote, and a session that saw the disk come sees it whole', async function () {
    needTool(this, 'nbdinfo', 'nbdsh', 'qemu-img')
    const { a, b } = await sitesWithData(sizeBytes)
    assert.deepEqual(await contextsOf(a), ['base:allocation'])

    const { id } = await begin(a, b, 'web01', 'manual', { maxRate: 64 * 1024 })
    await untilMigration(a, id, ({ state }) => state === 'ready')
    for (const site of [a, b]) assert.deepEqual(await contextsOf(site), ['base:allocation', present, dirty])
    assert.deepEqual(await map(a, present), [[0, sizeBytes, 1]])
    assert.deepEqual(await map(b, present), [[0, sizeBytes, 0]])
    assert.deepEqual(await map(b, dirty), [[0, sizeBytes, 0]])
    const moved = await attach(b, 'web01', { metaContexts: [dirty, present], extendedHeaders: true })
    assert.equal(await toldBytes(moved, present), 0)

    await must(b, 'migration', 'switchover', id)
    await moved.write(mebibyte + 512, Buffer.alloc(512, 2))
    await moved.write(2 * mebibyte, Buffer.alloc(65_536, 2))
    await a.kill() // Nothing more comes.
    assert.deepEqual(await map(b, dirty), [
      [0, mebibyte, 0],
      [mebibyte, block, 1],
      [mebibyte + block, mebibyte - block, 0],
      [2 * mebibyte, 65_536, 1],
      [2 * mebibyte + 65_536, 2 * mebibyte - 65_536, 0],
    ])
    const here = bytesOf(await map(b, present), 1)
    assert(here >= 65_536 && here < sizeBytes, `${here} bytes are present`)
    assert.equal(here, (await b.control.showDisk('web01')).present.bytes)
    assert.equal(await toldBytes(moved, present), here)
    await assertSeenInNbdsh(b)
    assert.deepEqual(await changedInQemu(b), [
      [mebibyte, block],
      [2 * mebibyte, 65_536],
    ])

    await a.restart()
    await fetchRest(b, 'web01')
    await untilMigration(b, id, ({ state }) => state === 'done')
    for (const context of [present, dirty]) {
      assert.deepEqual(await map(b, context), [[0, sizeBytes, 1]])
      assert.equal(await toldBytes(moved, context), sizeBytes)
    }
    assert.deepEqual(await contextsOf(b), ['base:allocation', present, dirty])
  })
})
