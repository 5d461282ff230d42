// `disk export`: a raw file of the owner's bytes, whole or not there at all, and honest about what it is.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import fsPromises, { type FileHandle, open, truncate, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { type ExportRequest, exportDisk } from '../../src/cli/disk-export.ts'
import type { ControlError } from '../../src/control/errors.ts'
import { Authority, layOut } from '../nbd/certificates.ts'
import { needTool } from '../tools.ts'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  folder,
  must,
  refusalOf,
  Site,
  tool,
  twoSites,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 64 * mebibyte

/** Any that this host has; nothing is written to it. */
function blockDevice(): string | undefined {
  const paths = readdirSync('/dev').map((name) => join('/dev', name))
  return paths.find((path) => statSync(path, { throwIfNoEntry: false })?.isBlockDevice())
}

describe('disk export', () => {
  endSitesAfterEach()
  let site: Site
  let place: string
  let file: string
  beforeEach(() => {
    place = folder()
    file = join(place, 'web01.raw')
  })

  /** A disk with some data, and what it has. */
  async function withDisk(at: Site): Promise<Buffer> {
    const bytes = Buffer.alloc(sizeBytes)
    for (const offset of [0, 33 * mebibyte + 512, sizeBytes - 8192])
      bytes.fill(`from ${offset} `, offset, offset + 8192)
    await createDisk(at, 'web01', sizeBytes)
    const client = await attach(at, 'web01')
    for (const offset of [0, 33 * mebibyte + 512, sizeBytes - 8192]) {
      await client.write(offset, bytes.subarray(offset, offset + 8192))
    }
    await client.write(mebibyte, Buffer.alloc(65_536)) // Written, and zero.
    await client.flush()
    await client.disconnect()
    await untilDisk(at, 'web01', ({ sessions }) => sessions === 0)
    return bytes
  }

  /** As the command does, in this process, so that a test can act while it copies. */
  function exporting(more: Partial<ExportRequest> = {}): ReturnType<typeof exportDisk> {
    const { signal } = new AbortController()
    return exportDisk({ client: site.control, disk: 'web01', file, force: false, signal, progress: () => {}, ...more })
  }

  const failsWith = (code: string, promise: Promise<unknown>) =>
    assert.rejects(promise, (error: ControlError) => {
      assert.equal(error.code, code, error.message)
      assert.match(error.safe!, /The disk was not changed, and no file was made\./)
      return true
    })

  it('writes every byte, and what is zero takes no room', async function () {
    needTool(this, 'qemu-img')
    site = await Site.start('osaka')
    const bytes = await withDisk(site)
    const { exit, events } = await vmstore(site, 'disk', 'export', 'web01', file)
    const result = events.at(-1)
    assert.equal(exit, 0, JSON.stringify(result))
    assert(readFileSync(file).equals(bytes))
    assert(statSync(file).blocks * 512 < mebibyte)
    assert.equal(statSync(file).mode & 0o777, 0o600, "a machine's bytes are nobody else's")
    assert.deepEqual(events.at(-2), { type: 'progress', bytes: { done: sizeBytes, total: sizeBytes } })
    const { disk, generation, consistent, file: named, bytes: counts } = result
    assert.deepEqual([result.type, disk, generation, consistent, named], ['result', 'web01', 1, true, file])
    assert.deepEqual(counts, { disk: sizeBytes, data: 8192 + 12_288 + 8192 })
    assert.deepEqual(readdirSync(place), ['web01.raw'])
    await untilDisk(site, 'web01', ({ sessions }) => sessions === 0)
    await tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', file, site.uri('web01'))
    await must(site, 'disk', 'create', 'web02', '--from', file)
  })

  it('works wherever and however guests connect: over TCP alone, or only with TLS and a certificate', async () => {
    const authority = await Authority.make()
    const server = await authority.issue('server', { hosts: ['localhost'], purpose: 'server' })
    const pki = layOut(join(folder(), 'pki'), { authority: authority.certificate, server })
    const ways = [
      { nbd: ['nbd://127.0.0.1:0'], flags: [] },
      { nbd: ['nbds://127.0.0.1:0'], flags: ['--tls-certificates', pki, '--tls-verify-peer'] },
    ]
    const bytes = Buffer.alloc(mebibyte, 'what a machine wrote')
    for (const [index, way] of ways.entries()) {
      const image = join(place, `disk${index}.img`)
      writeFileSync(image, bytes)
      site = await Site.start('osaka', { files: [image], ...way })
      await must(site, 'disk', 'export', `disk${index}`, `${image}.copy`)
      assert(readFileSync(`${image}.copy`).equals(bytes))
    }
  })

  it('writes in calls of 64 KiB, so that on ext4 small writes to the file are not slow for whoever serves it', async () => {
    const image = join(place, 'image.raw')
    writeFileSync(image, Buffer.alloc(3 * mebibyte, 'what a machine wrote'))
    site = await Site.start('osaka', { files: [image] })
    const handle = await open(image)
    const kind = Object.getPrototypeOf(handle) as { write: FileHandle['write'] }
    await handle.close()
    const { write } = kind
    const lengths: unknown[] = []
    kind.write = function (this: FileHandle, ...call: unknown[]) {
      lengths.push(call[2])
      return Reflect.apply(write, this, call)
    } as FileHandle['write']
    try {
      await exporting({ disk: 'image' })
    } finally {
      kind.write = write
    }
    assert.deepEqual(new Set(lengths), new Set([65_536]))
    assert(readFileSync(file).equals(readFileSync(image)))
  })

  it('1 TiB of holes takes seconds', async () => {
    const large = join(place, 'large.raw')
    await writeFile(large, '')
    await truncate(large, 2 ** 40)
    site = await Site.start('osaka', { files: [large] })
    const startedMs = performance.now()
    const { bytes } = await exporting({ disk: 'large' })
    // To look at every byte would take longer, however fast the machine.
    assert(performance.now() - startedMs < 100_000)
    assert.deepEqual(bytes, { disk: 2 ** 40, data: 0 })
    assert.equal(statSync(file).size, 2 ** 40)
  })

  it('replaces nothing', async () => {
    site = await Site.start('osaka')
    await withDisk(site)
    await writeFile(file, 'precious')
    refusalOf(await vmstore(site, 'disk', 'export', 'web01', file, '--force'), 3, 'file-exists')
    assert.equal(readFileSync(file, 'utf8'), 'precious')
    assert.deepEqual(readdirSync(place), ['web01.raw'])
  })

  it('a folder, a device or a link is refused with what to do instead, and nobody is told to remove it', async () => {
    site = await Site.start('osaka')
    const { name } = await createDisk(site, 'web01', mebibyte)
    const link = join(place, 'link')
    symlinkSync(join(place, 'nothing'), link)
    const device = blockDevice()
    const targets: [file: string, next: RegExp][] = [
      [place, new RegExp(`Name a file in it: ${place}/web01\\.raw`)],
      ['/dev/null', /Name another/],
      [link, /Name the file itself/],
      ...(device === undefined ? [] : [[device, /nbdcopy URI \/dev\/.* at least 1048576 bytes/] as [string, RegExp]]),
    ]
    for (const [target, next] of targets) {
      await assert.rejects(exporting({ disk: name, file: target }), (error: ControlError) => {
        assert.equal(error.code, 'not-a-file', error.message)
        assert.match(error.next!, next)
        assert.doesNotMatch(`${error.message} ${error.next}`, /remove/)
        assert.equal(error.exit, 3)
        return true
      })
    }
    await failsWith('file-failed', exporting({ file: '/dev/null/web01' }))
    refusalOf(await vmstore(site, 'disk', 'export', 'web01', `${place}/web01/`), 2, 'usage')
    assert.deepEqual(readdirSync(place), ['link'])
  })

  it('a name that promises another format is refused, with how to convert', async () => {
    site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    for (const [target, next] of [
      ['web01.qcow2', /web01\.raw, then: qemu-img convert -f raw -O qcow2 web01\.raw web01\.qcow2/],
      ['web01.VHD', /-O vpc -o force_size=on web01\.raw web01\.VHD/],
      ['web01.vmdk', /-O vmdk/],
      ['web01.raw.xz', /web01\.raw, then pack it/],
    ] as const) {
      await assert.rejects(exporting({ file: join(place, target) }), (error: ControlError) => {
        assert.equal(error.code, 'not-raw-name', error.message)
        assert.equal(error.exit, 3)
        assert.match(error.next!, next)
        return true
      })
    }
    for (const target of ['web01', 'web01.img', 'web01.qcow2.raw', 'qcow2'])
      await exporting({ file: join(place, target) })
    assert.deepEqual(readdirSync(place).sort(), ['qcow2', 'web01', 'web01.img', 'web01.qcow2.raw'])
  })

  it('does not replace a file that came to be there meanwhile', async () => {
    site = await Site.start('osaka')
    await withDisk(site)
    const late = exporting({ progress: () => writeFileSync(file, 'precious') })
    await assert.rejects(late, (error: ControlError) => error.code === 'file-exists')
    assert.equal(readFileSync(file, 'utf8'), 'precious')
    assert.deepEqual(readdirSync(place), ['web01.raw'])
  })

  describe('into a file system that cannot do all', () => {
    const { link, open } = fsPromises
    afterEach(() => {
      Object.assign(fsPromises, { link, open })
      syncBuiltinESMExports()
    })
    const failing = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code, syscall: 'x' }))
    function without(call: 'link' | 'fsync of a folder', code: string): void {
      if (call === 'link') Object.assign(fsPromises, { link: failing(code) })
      else {
        const openFolder = async (...words: Parameters<typeof open>) => {
          const handle = await open(...words)
          return words[0] === place ? Object.assign(handle, { sync: failing(code) }) : handle
        }
        Object.assign(fsPromises, { open: openFolder })
      }
      syncBuiltinESMExports()
    }

    for (const [call, code] of [
      ['link', 'EPERM'],
      ['link', 'ENOTSUP'],
      ['link', 'ENOSYS'],
      ['fsync of a folder', 'EINVAL'],
    ] as const) {
      it(`${call}, ${code}: every byte is written all the same`, async () => {
        site = await Site.start('osaka')
        const bytes = await withDisk(site)
        without(call, code)
        await exporting()
        assert(readFileSync(file).equals(bytes))
        assert.deepEqual(readdirSync(place), ['web01.raw'])
      })
    }

    it('a folder that cannot be synced for its storage: there is no file, as is said', async () => {
      site = await Site.start('osaka')
      await withDisk(site)
      without('fsync of a folder', 'EIO')
      await failsWith('file-failed', exporting())
      assert.deepEqual(readdirSync(place), [])
    })
  })

  it('a disk in use is refused, and copied with --force as what it is', async () => {
    site = await Site.start('osaka')
    const bytes = await withDisk(site)
    const guest = await attach(site, 'web01')
    const view = refusalOf(await vmstore(site, 'disk', 'export', 'web01', file), 3, 'disk-in-use')
    assert.match(view.next!, /--force/)
    assert(!existsSync(file))
    const result = await must(site, 'disk', 'export', 'web01', file, '--force')
    assert.equal(result.consistent, false)
    assert(readFileSync(file).equals(bytes))
    await guest.disconnect()
  })

  it('a copy during which the disk was written to fails, and leaves no file', async () => {
    site = await Site.start('osaka')
    await withDisk(site)
    const write = async () => {
      const guest = await attach(site, 'web01')
      await guest.write(0, Buffer.alloc(512))
      await guest.disconnect()
    }
    const client = (atEnd: () => Promise<void>): ExportRequest['client'] => {
      let looks = 0
      return {
        openNbd: () => site.control.openNbd(),
        showDisk: async (name) => {
          if (++looks === 2) await atEnd()
          return site.control.showDisk(name)
        },
      }
    }
    await failsWith('disk-changed', exporting({ client: client(write) }))
    assert.deepEqual(readdirSync(place), [])
    assert.equal((await exporting({ client: client(write), force: true })).consistent, false)
  })

  it('an end before its time leaves no file: an abort, the death of the daemon, a folder that is not there', async () => {
    site = await Site.start('osaka')
    await withDisk(site)
    const controller = new AbortController()
    const aborting = exporting({ signal: controller.signal, progress: () => controller.abort(new Error('enough')) })
    await assert.rejects(aborting, /enough/)
    await failsWith('file-failed', exporting({ file: join(place, 'missing', 'web01.raw') }))
    let killing: Promise<void> | undefined
    const killed = {
      openNbd: () => site.control.openNbd(),
      showDisk: async (name: string) => {
        await killing
        return site.control.showDisk(name)
      },
    }
    await assert.rejects(exporting({ client: killed, progress: () => (killing ??= site.kill()) }))
    assert.deepEqual(readdirSync(place), [])
  })

  it('a daemon that is stopped while it waits for a byte ends the command with a sentence, and leaves no file', async () => {
    const { a, b } = await twoSites()
    await withDisk(a)
    await begin(a, b, 'web01', 'now', { maxRate: 4096 })
    await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
    await a.kill()
    const exported = vmstore(b, 'disk', 'export', 'web01', file)
    await untilDisk(b, 'web01', ({ sessions }) => sessions === 1)
    await b.stop()
    const view = refusalOf(await exported, 1)
    assert.match(view.safe!, /The disk was not changed, and no file was made\./)
    assert.deepEqual(readdirSync(place), [])
  })

  it("only the owner's bytes are exported, and those of an arriving disk are fetched", async () => {
    const { a, b } = await twoSites()
    site = a
    const bytes = await withDisk(a)
    const incoming = await begin(a, b, 'web01', 'manual', { maxRate: 4096 })
    await untilMigration(a, incoming.id, ({ state }) => state === 'ready')
    refusalOf(await vmstore(b, 'disk', 'export', 'web01', file), 3, 'not-owned')
    await must(b, 'migration', 'switchover', incoming.id)
    await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
    const result = await must(b, 'disk', 'export', 'web01', file)
    assert.deepEqual([result.generation, result.consistent], [2, true])
    assert(readFileSync(file).equals(bytes))
    const view = refusalOf(await vmstore(a, 'disk', 'export', 'web01', `${file}.old`), 3, 'not-owned')
    assert.match(view.message, /departed|released/)
    assert.match(view.next!, /tokyo/)
    assert(!existsSync(`${file}.old`))
  })

  it('stdout is no file', async () => {
    site = await Site.start('osaka')
    await withDisk(site)
    assert.match(refusalOf(await vmstore(site, 'disk', 'export', 'web01', '-'), 2, 'usage').next!, /nbdcopy/)
  })
})
