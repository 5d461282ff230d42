// Long reads of what the page cache has go to the client by reference. What must hold is what holds for copies: the right
// bytes behind the right head, in order, whatever the client takes at once, and no memory kept.

import assert from 'node:assert/strict'
import { closeSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Export, type ExportHandle, GuestError, type PageTaker } from '../../src/guest/export.ts'
import { ChunkFlag, ChunkType, Command, CommandFlag, ErrorNumber } from '../../src/nbd/wire/constants.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { RawClient, serve, until } from './harness.ts'

const mebibyte = 2 ** 20
const sizeBytes = 8 * mebibyte
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32))

/** What became of the calls. */
interface Counts {
  given: number
  refused: number
  copied: number
}

function exportOf(file: BlockFile, counts: Counts, refuses: (offset: number) => boolean = () => false): Export {
  const handle = {
    read: (offset: number, target: Uint8Array) => {
      counts.copied++
      return file.read(offset, target)
    },
    readPages: (offset: number, lengthBytes: number, pipe: PageTaker) => {
      const isGiven = !refuses(offset) && file.readPages!(offset, lengthBytes, pipe)
      counts[isGiven ? 'given' : 'refused']++
      return isGiven
    },
    write: (offset: number, source: Uint8Array) => file.write(offset, source),
    trim: () => undefined,
    writeZeroes: () => undefined,
    flush: () => file.sync(),
    cache: () => undefined,
    blockStatus: (_kind: string, offset: number, lengthBytes: number, limit: number) =>
      file.extents(offset, lengthBytes, limit).map(({ length, data }) => ({
        lengthBytes: length,
        status: data ? ('data' as const) : ('hole' as const),
      })),
    close: () => {},
  }
  const facts = { id: '', name: '', description: '', sizeBytes, readOnly: false, statuses: ['allocation' as const] }
  return { ...facts, open: () => handle }
}

describe('nbd pages', () => {
  removeFoldersAfterEach()
  const bytes = Buffer.alloc(sizeBytes)
  let file: BlockFile
  let counts: Counts

  beforeEach(async () => {
    file = await new KernelFiles().createBlockFile(join(temporaryFolder(), 'disk', 'pages.raw'), sizeBytes)
    for (let at = 0; at + 4 <= sizeBytes; at += 4) bytes.writeUInt32BE(at, at)
    for (let at = 0; at < sizeBytes; at += mebibyte) await file.write(at, bytes.subarray(at, at + mebibyte))
    counts = { given: 0, refused: 0, copied: 0 }
  })
  afterEach(() => file.close())

  it('of a long read leave without a copy, as one chunk of up to a mebibyte', async () => {
    await using site = await serve([exportOf(file, counts)])
    const client = await RawClient.open(site.path, { structured: true })
    client.request({ type: Command.read, cookie: 7, offset: mebibyte, lengthBytes: mebibyte })
    const { type, flags, cookieLow, payload } = await client.chunk()
    assert.deepEqual([type, flags, cookieLow], [ChunkType.offsetData, ChunkFlag.done, 7])
    assert.equal(payload.readBigUInt64BE(0), BigInt(mebibyte))
    assert(payload.subarray(8).equals(bytes.subarray(mebibyte, 2 * mebibyte)))
    assert.deepEqual(counts, { given: 1, refused: 0, copied: 0 })
    client.destroy()
  })

  it('answer simple reads and reads with DF too, when the whole of them fits', async () => {
    await using site = await serve([exportOf(file, counts)])
    const simple = await RawClient.open(site.path)
    simple.request({ type: Command.read, offset: 12, lengthBytes: 300_000 })
    assert.equal((await simple.reply()).errorNumber, 0)
    assert((await simple.take(300_000)).equals(bytes.subarray(12, 300_012)))
    const structured = await RawClient.open(site.path, { structured: true })
    structured.request({ type: Command.read, flags: CommandFlag.df, offset: 12, lengthBytes: 300_000 })
    const { flags, payload } = await structured.chunk()
    assert.equal(flags, ChunkFlag.done)
    assert(payload.subarray(8).equals(bytes.subarray(12, 300_012)))
    assert.deepEqual(counts, { given: 2, refused: 0, copied: 0 })
    simple.request({ type: Command.read, offset: 0, lengthBytes: 3 * mebibyte })
    assert.equal((await simple.reply()).errorNumber, 0)
    assert((await simple.take(3 * mebibyte)).equals(bytes.subarray(0, 3 * mebibyte)))
    assert.equal(counts.given, 2)
    simple.destroy()
    structured.destroy()
  })

  it('that a client does not take at once are kept for it, within the bounds, and given back', async () => {
    await using site = await serve([exportOf(file, counts)])
    const client = await RawClient.open(site.path, { structured: true })
    client.socket.pause()
    const reads = 24
    for (let cookie = 1; cookie <= reads; cookie++) {
      client.request({ type: Command.read, cookie, offset: (cookie % 7) * mebibyte, lengthBytes: mebibyte })
    }
    await until(() => site.server.heldBytes > 0)
    assert(site.server.heldBytes < 3 * mebibyte, `${site.server.heldBytes} bytes are held`)
    client.socket.resume()
    for (let cookie = 1; cookie <= reads; cookie++) {
      const offset = (cookie % 7) * mebibyte
      assert((await client.dataChunks()).equals(bytes.subarray(offset, offset + mebibyte)), `read ${cookie}`)
    }
    await until(() => site.server.heldBytes === 0)
    assert(counts.given > 0)
    client.destroy()
  })

  it('of a client that goes away are given back', async () => {
    await using site = await serve([exportOf(file, counts)])
    const client = await RawClient.open(site.path, { structured: true })
    client.socket.pause()
    for (let cookie = 1; cookie <= 24; cookie++) client.request({ type: Command.read, cookie, lengthBytes: mebibyte })
    await until(() => site.server.heldBytes > 0)
    client.destroy()
    await until(() => site.server.sessions === 0)
    assert.equal(site.server.heldBytes, 0)
  })

  it('that the export does not give are copied, in the same read', async () => {
    await using site = await serve([exportOf(file, counts, (offset) => offset === mebibyte)])
    const client = await RawClient.open(site.path, { structured: true })
    client.request({ type: Command.read, lengthBytes: 3 * mebibyte })
    assert((await client.dataChunks()).equals(bytes.subarray(0, 3 * mebibyte)))
    assert(counts.given > 0 && counts.refused > 0 && counts.copied > 0)
    client.destroy()
  })

  it('whose handle throws halfway are answered with its error, and reach no other client', async () => {
    const other = exportOf(file, counts)
    const open = (): ExportHandle => {
      const handle = other.open('', false)
      const readPages = (offset: number, lengthBytes: number, pipe: PageTaker): boolean => {
        handle.readPages!(offset, lengthBytes, pipe)
        throw new GuestError('not-served', 'the disk departed')
      }
      return { ...handle, readPages }
    }
    const partBytes = 128 * 1024 // The pipe has room for more than one.
    await using site = await serve([other, { ...other, name: 'throws', open }])
    for (const structured of [true, false]) {
      const failing = await RawClient.open(site.path, { structured, exportName: 'throws' })
      failing.request({ type: Command.read, cookie: 3, offset: 0, lengthBytes: partBytes })
      if (structured) {
        const { type, flags, payload } = await failing.chunk()
        assert.deepEqual([type, flags], [ChunkType.error, ChunkFlag.done])
        assert.equal(payload.readUInt32BE(0), ErrorNumber.ESHUTDOWN)
      } else assert.equal((await failing.reply()).errorNumber, ErrorNumber.ESHUTDOWN)
      assert.equal(site.server.heldBytes, 0)
      const client = await RawClient.open(site.path, { structured: true })
      client.request({ type: Command.read, offset: mebibyte, lengthBytes: partBytes })
      assert((await client.dataChunks()).equals(bytes.subarray(mebibyte, mebibyte + partBytes)))
      failing.destroy()
      client.destroy()
    }
  })

  it('never go to a descriptor that was closed meanwhile, whatever has its number now', async () => {
    const opened: number[] = []
    const path = join(temporaryFolder(), 'bystander')
    await using site = await serve([
      exportOf(file, counts, () => {
        void site.server.stop({ drain: false })
        while (opened.length < 4) opened.push(openSync(path, 'w'))
        return false
      }),
    ])
    const client = await RawClient.open(site.path, { structured: true })
    client.request({ type: Command.read, offset: 0, lengthBytes: mebibyte })
    await until(() => site.server.sessions === 0)
    assert.equal(counts.given, 1)
    assert.equal(statSync(path).size, 0)
    for (const fd of opened) closeSync(fd)
    client.destroy()
  })

  it('are right in any mix of reads, lengths and holes', async () => {
    const random = seededRandom(seed)
    await file.zero(2 * mebibyte + 65_536, 400_000 - (400_000 % 4096), false)
    bytes.fill(0, 2 * mebibyte + 65_536, 2 * mebibyte + 65_536 + 400_000 - (400_000 % 4096))
    await using site = await serve([exportOf(file, counts, () => random.chance(0.2))])
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
    const wanted = new Map<number, Buffer>()
    for (let cookie = 1; cookie <= 60; cookie++) {
      const lengthBytes = 1 + random.integer(random.chance(0.5) ? 200_000 : 3 * mebibyte)
      const offset = random.integer(sizeBytes - lengthBytes)
      wanted.set(cookie, bytes.subarray(offset, offset + lengthBytes))
      client.request({ type: Command.read, cookie, offset, lengthBytes })
      const got = Buffer.alloc(lengthBytes, 0xee)
      for (let isDone = false; !isDone; ) {
        const { type, flags, payload, cookieLow } = await client.chunk()
        assert.equal(cookieLow, cookie)
        const at = Number(payload.readBigUInt64BE(0)) - offset
        if (type === ChunkType.offsetHole) got.fill(0, at, at + payload.readUInt32BE(8))
        else payload.copy(got, at, 8)
        isDone = (flags & ChunkFlag.done) !== 0
      }
      assert(got.equals(wanted.get(cookie)!), `read ${cookie}: ${lengthBytes} at ${offset}, SEED=${seed}`)
    }
    assert(counts.given > 0 && counts.copied > 0)
    client.destroy()
  })
})
