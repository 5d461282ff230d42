// Copying an export out: every byte arrives, what is zero costs nothing, and what goes wrong ends the copy whole.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { GuestError } from '../../src/guest/export.ts'
import { allocationContext, type CopySource, copyOut } from '../../src/nbd/client/copy-out.ts'
import { NbdRequestError } from '../../src/nbd/client/errors.ts'
import type { NbdExportInfo } from '../../src/nbd/client/negotiation.ts'
import { SteadyNbdClient, type SteadyOptions } from '../../src/nbd/client/steady-client.ts'
import { AllocationFlag, ErrorNumber } from '../../src/nbd/wire/constants.ts'
import { seededRandom } from '../random.ts'
import { serve, type TestServer } from './harness.ts'
import { MemoryExport } from './memory-export.ts'
import { type RawServer, rawServer } from './raw-server.ts'
import { bytesAt, scriptedServer } from './scripted-server.ts'

const mebibyte = 2 ** 20

interface Copied {
  readonly bytes: Buffer
  readonly gives: readonly string[]
  readonly givenBytes: number
  readonly progress: readonly number[]
}

async function copied(uri: string, options: SteadyOptions = {}): Promise<Copied> {
  const client = await SteadyNbdClient.connect(uri, { metaContexts: [allocationContext], ...options })
  const bytes = Buffer.alloc(client.info().sizeBytes)
  const gives: string[] = []
  const progress: number[] = []
  const give = (offset: number, part: Uint8Array) => {
    gives.push(`${offset} ${part.length}`)
    bytes.set(part, offset)
  }
  const signal = new AbortController().signal
  try {
    const givenBytes = await copyOut(client, { signal, give, progress: (done) => progress.push(done) })
    return { bytes, gives, givenBytes, progress }
  } finally {
    client.destroy()
  }
}

function fill(disk: MemoryExport, offset: number, lengthBytes: number, value = 7): void {
  disk.bytes.fill(value, offset, offset + lengthBytes)
  disk.written.fill(1, Math.floor(offset / 4096), Math.ceil((offset + lengthBytes) / 4096))
}

const readsOf = (disk: MemoryExport) => disk.calls.filter((call) => call.startsWith('read'))

/** Stands before a server, and breaks each connection off once that many bytes have come over it. */
async function cuttingProxy(site: TestServer, cutAfterBytes: number): Promise<RawServer & { cuts(): number }> {
  let cuts = 0
  const server = await rawServer((near) => {
    const far = connect(site.path)
    let leftBytes = cutAfterBytes
    const end = () => {
      near.destroy()
      far.destroy()
    }
    for (const socket of [near, far]) socket.on('error', end).on('close', end)
    near.pipe(far)
    far.on('data', (chunk) => {
      const part = chunk.subarray(0, leftBytes)
      leftBytes -= part.length
      if (leftBytes > 0) {
        near.write(part)
        return
      }
      // The client gets what came before the cut.
      far.pause()
      cuts++
      near.end(part, end)
    })
  })
  return { ...server, cuts: () => cuts }
}

describe('copying an export out', () => {
  it('reads data only, and gives only the blocks of it that are not zero', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    fill(disk, 0, 8192)
    fill(disk, 4096, 4096, 0) // Written, and zero.
    fill(disk, 3 * mebibyte + 4096, 512)
    await using site = await serve([disk])
    const { bytes, gives, givenBytes, progress } = await copied(site.uri)
    assert(bytes.equals(disk.bytes))
    assert.deepEqual(readsOf(disk), ['read 0 8192', `read ${3 * mebibyte + 4096} 4096`])
    assert.deepEqual(gives.toSorted(), ['0 4096', `${3 * mebibyte + 4096} 4096`])
    assert.equal(givenBytes, 8192)
    assert.equal(progress.at(-1), 8 * mebibyte)
    assert.deepEqual(
      progress,
      progress.toSorted((a, b) => a - b),
    )
  })

  it('brings every byte of disks at random, over simple and structured replies', async () => {
    const seed = Math.floor(Math.random() * 2 ** 32)
    const text = `seed ${seed}`
    const random = seededRandom(seed).next
    for (let round = 0; round < 20; round++) {
      const sizeBytes = 512 * (1 + Math.floor(random() * 12_000))
      const disk = new MemoryExport({ sizeBytes })
      for (let index = 0; index < 30; index++) {
        const offset = Math.floor(random() * sizeBytes)
        const lengthBytes = Math.min(sizeBytes - offset, Math.ceil(random() * 200_000))
        fill(disk, offset, lengthBytes, Math.floor(random() * 3))
      }
      await using site = await serve([disk], { extents: 1 + Math.floor(random() * 5) })
      const structuredReplies = random() < 0.7
      const { bytes, progress } = await copied(site.uri, {
        structuredReplies,
        connections: 1 + Math.floor(random() * 3),
      })
      assert(bytes.equals(disk.bytes), `round ${round}, ${text}`)
      assert.equal(progress.at(-1), sizeBytes, text)
    }
  })

  it('reads all of an export whose server says nothing of holes', async () => {
    await using server = await scriptedServer({ sizeBytes: 3 * mebibyte + 512 })
    const { bytes, progress } = await copied(server.uri)
    assert.deepEqual(bytes, bytesAt(0, 3 * mebibyte + 512))
    assert.deepEqual(server.requests.toSorted(), [
      'read 0 1048576',
      'read 1048576 1048576',
      'read 2097152 1048576',
      'read 3145728 512',
    ])
    assert.equal(progress.at(-1), 3 * mebibyte + 512)
  })

  it('reads all of an export whose server fails to say where its holes are', async () => {
    const reads: string[] = []
    const source: CopySource = {
      info: () => ({ sizeBytes: mebibyte + 512 }) as NbdExportInfo,
      contexts: [allocationContext],
      blockStatus: async () => {
        throw new NbdRequestError('no map today', ErrorNumber.EIO)
      },
      read: async (offset, lengthBytes) => {
        reads.push(`${offset} ${lengthBytes}`)
        return Buffer.alloc(lengthBytes)
      },
    }
    const { signal } = new AbortController()
    await copyOut(source, { signal, give: () => assert.fail('all is zero'), progress: () => {} })
    assert.deepEqual(reads.toSorted(), ['0 1048576', '1048576 512'])
  })

  it('reads a hole that is not said to read as zeros, and believes no extent beyond the end', async () => {
    const disk = new MemoryExport({ sizeBytes: mebibyte })
    fill(disk, 8192, 4096)
    await using site = await serve([disk])
    const client = await SteadyNbdClient.connect(site.uri)
    const told = [
      { lengthBytes: 16_384, flags: AllocationFlag.hole },
      { lengthBytes: 2 ** 31, flags: AllocationFlag.zero | AllocationFlag.hole },
    ]
    const source: CopySource = {
      info: () => client.info(),
      contexts: [allocationContext],
      blockStatus: async () => new Map([[allocationContext, told]]),
      read: (offset, lengthBytes) => client.read(offset, lengthBytes),
    }
    const bytes = Buffer.alloc(mebibyte)
    const give = (offset: number, part: Uint8Array) => void bytes.set(part, offset)
    await copyOut(source, { signal: new AbortController().signal, give, progress: () => {} })
    client.destroy()
    assert(bytes.equals(disk.bytes))
    assert.deepEqual(readsOf(disk), ['read 0 16384'])
  })

  it('keeps a bounded number of reads in flight, and of bytes that nobody has taken yet', async () => {
    const taken = Promise.withResolvers<void>()
    let held = 0
    let heldMost = 0
    const source: CopySource = {
      info: () => ({ sizeBytes: 40 * mebibyte }) as NbdExportInfo,
      contexts: [],
      blockStatus: () => assert.fail('there is no context'),
      read: async (_offset, lengthBytes) => {
        assert(lengthBytes <= mebibyte)
        heldMost = Math.max(heldMost, ++held)
        if (held === 16) taken.resolve()
        return Buffer.alloc(lengthBytes, 1)
      },
    }
    const give = async () => {
      await taken.promise
      await turn()
      held--
    }
    const { signal } = new AbortController()
    assert.equal(await copyOut(source, { signal, give, progress: () => {} }), 40 * mebibyte)
    assert.equal(heldMost, 16)
  })

  it('ends at the first failed read, taker or signal, and has nothing under way then', async () => {
    const disk = new MemoryExport({ sizeBytes: 40 * mebibyte })
    fill(disk, 0, 40 * mebibyte)
    await using site = await serve([disk])
    const ends: [string, RegExp][] = [
      ['read', /the platter is scratched/],
      ['give', /the file system is full/],
      ['signal', /enough/],
    ]
    for (const [how, message] of ends) {
      let giving = 0
      const controller = new AbortController()
      disk.gate = (call) =>
        how === 'read' && call.startsWith(`read ${20 * mebibyte} `)
          ? Promise.reject(new GuestError('io', 'the platter is scratched'))
          : undefined
      const client = await SteadyNbdClient.connect(site.uri, { metaContexts: [allocationContext] })
      const give = async (offset: number) => {
        giving++
        await turn()
        giving--
        if (offset < 10 * mebibyte) return
        if (how === 'give') throw new Error('the file system is full')
        if (how === 'signal') controller.abort(new Error('enough'))
      }
      await assert.rejects(copyOut(client, { signal: controller.signal, give, progress: () => {} }), message)
      assert.equal(giving, 0)
      client.destroy()
    }
  })

  it('goes on where it was when the server breaks every connection again and again', async () => {
    const disk = new MemoryExport({ sizeBytes: 20 * mebibyte })
    fill(disk, 0, 20 * mebibyte)
    for (let at = 0; at < disk.sizeBytes; at += 4) disk.bytes.writeUInt32LE(at, at)
    await using site = await serve([disk])
    await using proxy = await cuttingProxy(site, 3 * mebibyte)
    const { bytes } = await copied(proxy.uri)
    assert(bytes.equals(disk.bytes))
    assert(proxy.cuts() >= 3, `${proxy.cuts()} cuts`)
  })

  it('keeps the block sizes of the server', async () => {
    await using server = await scriptedServer({ sizeBytes: 64 * 1024, blockSize: [512, 4096, 8192] })
    const { bytes } = await copied(server.uri)
    assert.deepEqual(bytes, bytesAt(0, 64 * 1024))
    assert(server.requests.every((request) => Number(request.split(' ')[2]) <= 8192))
  })
})
