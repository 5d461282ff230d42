// migrate --seed: what the destination's site has, and lends, is not sent. And --as: another name there.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { attach, endSitesAfterEach, folder, must, pair, readAll, refusalOf, Site, untilDisk, vmstore } from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const sizeBytes = 32 * mebibyte

interface Scene {
  readonly a: Site
  readonly b: Site
  /** What web01 is at A: the image, of which a block in each mebibyte is another. */
  readonly bytes: Buffer
  readonly image: string
  readonly changed: number
}

/** A disk at A that was cloned from an image which B has in a folder; nobody is attached to it. */
async function scene(flagsOf: (images: string) => readonly string[]): Promise<Scene> {
  const images = folder()
  const image = join(images, 'debian.raw')
  const bytes = randomFillSync(Buffer.alloc(sizeBytes))
  writeFileSync(image, bytes)
  const [a, b] = [await Site.start('osaka'), await Site.start('tokyo', { flags: flagsOf(images) })]
  await pair(a, b)
  await must(a, 'disk', 'create', 'web01', '--from', image)
  const offsets = Array.from({ length: 32 }, (_, index) => index * mebibyte + 3 * block)
  const guest = await attach(a, 'web01')
  for (const at of offsets) await guest.write(at, randomFillSync(bytes, at, block).subarray(at, at + block))
  await guest.flush()
  await guest.disconnect()
  await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)
  return { a, b, bytes, image, changed: offsets.length * block }
}

const lent = (images: string) => ['--seed-folder', images]
const move = (to: Site, seed: string, ...more: string[]) =>
  ['migrate', 'web01', '--to', to.name, '--switchover', 'now', '--seed', seed, ...more] as const

describe('a seed at the destination', function () {
  this.timeout(120_000)
  endSitesAfterEach()

  it('that is the image of which the disk is a clone: what differs is sent, under another name too', async () => {
    const { a, b, bytes, changed } = await scene(lent)
    const { bytes: counts, verified } = await must(a, ...move(b, 'debian.raw', '--as', 'web02'))
    assert.deepEqual([counts.sent, counts.spared, verified], [changed, sizeBytes - changed, true])
    const guest = await attach(b, 'web02')
    assert((await readAll(guest)).equals(bytes))
    await assert.rejects(b.control.showDisk('web01'), { code: 'disk-unknown' })
    assert.equal((await a.control.showDisk('web01')).state, 'released')
  })

  it('that is a disk there, which its operator lends', async () => {
    const { a, b, image, changed } = await scene(() => ['--seed-disk', 'golden'])
    await must(b, 'disk', 'create', 'golden', '--from', image)
    const { bytes: counts } = await must(a, ...move(b, 'golden'))
    assert.equal(counts.sent, changed)
    assert.equal((await b.control.showDisk('golden')).state, 'owned')
  })

  it('promise 10: that its operator did not lend is refused, and whether it exists is not told', async () => {
    const { a, b, image } = await scene(lent)
    await must(b, 'disk', 'create', 'golden', '--from', image)
    const outside = join(folder(), 'secret.raw')
    writeFileSync(outside, Buffer.alloc(sizeBytes, 7))
    const inside = (name: string) => join(image, '..', name)
    symlinkSync(outside, inside('link.raw'))
    const sentences: string[] = []
    for (const seed of ['golden', 'nothing', 'link.raw', '../secret.raw', outside, '/etc/hostname', inside('.')]) {
      const { message, safe } = refusalOf(await vmstore(a, ...move(b, seed)), 3, 'seed-unknown')
      assert.match(`${message} ${safe}`, /--seed-folder DIR.*Nothing was changed/)
      sentences.push(message.replace(/no seed \S+ there/, 'no seed there'))
    }
    assert.equal(new Set(sentences).size, 1, sentences.join('\n'))
    assert.equal((await a.control.showDisk('web01')).migration, null)
  })

  it('may be a disk that came from the same peer, or went to it', async () => {
    const { a, b, bytes } = await scene(() => [])
    await must(a, 'migrate', 'web01', '--to', b.name, '--switchover', 'now')
    await must(a, 'disk', 'delete', 'web01')
    const copy = join(folder(), 'copy.raw')
    writeFileSync(copy, bytes)
    await must(a, 'disk', 'create', 'web03', '--from', copy)
    const there = ['migrate', 'web03', '--to', b.name, '--switchover', 'now', '--seed', 'web01']
    const { bytes: counts } = await must(a, ...there)
    assert.deepEqual([counts.sent, counts.spared], [0, sizeBytes])
  })

  it('is named by the operator of the destination himself, who fetches: any image there', async () => {
    const { a, b, image, changed } = await scene(() => [])
    const fetching = ['migrate', 'web01', '--from', a.name, '--switchover', 'now', '--seed', image]
    const { bytes: counts } = await must(b, ...fetching)
    assert.equal(counts.sent, changed)
  })
})
