// The demo as scripts run it, and its client against disks that lie: a proof that cannot fail proves nothing.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { Area } from '../../src/demo/area.ts'
import { makeFolder, socketPathMaxBytes } from '../../src/demo/folder.ts'
import { Guest, type GuestDisk, WrongBytesError } from '../../src/demo/guest.ts'
import { parseExtents } from '../../src/demo/image.ts'
import { Model } from '../../src/demo/model.ts'
import { provenText } from '../../src/demo/report.ts'
import { fillStamp, sectorBytes } from '../../src/demo/stamp.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { Gate, serve, type TestServer, until } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { seededRandom } from '../random.ts'

const program = join(import.meta.dirname, '../../bin/run.js')
const mebibyte = 2 ** 20

describe('demo', () => {
  describe('as a process', () => {
    let folder: string
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'vmd-'))
    })
    afterEach(() => rmSync(folder, { recursive: true, force: true }))

    function start(...words: string[]): ChildProcess {
      const { VMSTORE_ROOT, VMSTORE_CONTROL, DEBUG, ...env } = process.env
      return spawn(process.execPath, [program, 'demo', ...words], { env: { ...env, TMPDIR: folder } })
    }

    it('moves a small disk, proves it in its last event, and leaves nothing behind', async () => {
      const child = start('--size', '32M', '--json')
      const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, 'close')])
      assert.deepEqual([child.exitCode, stderr], [0, ''])
      const events = stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
      assert.deepEqual(
        events.filter(({ type }) => !['note', 'progress'].includes(type)).map(({ type, step }) => step ?? type),
        ['disk', 'sites', 'work', 'move', 'ready', 'switchover', 'stop', 'verify', 'result'],
      )
      const result = events.at(-1)
      assert.deepEqual(
        [result.lost, result.stale, result.damaged, result.owner, result.generation, result.bytesVerified],
        [0, 0, 0, 'tokyo', 2, 32 * mebibyte],
      )
      assert(result.duringMove.reads > 100 && result.reads > result.duringMove.reads)
      assert(result.duringMove.writes > 100 && result.writes > result.duringMove.writes)
      assert(result.longestPauseMs > 0 && result.longestPauseMs < 60_000)
      assert(result.bytesMoved > 4 * mebibyte && result.bytesMoved < 64 * mebibyte)
      assert(result.fileSystemClean !== false)
      assert.match(
        provenText(result),
        /^Proven: .* reads and .* writes, .* none lost, none stale; longest pause \d+ ms; /,
      )
      assert.deepEqual(readdirSync(folder), [])
    })

    it('interrupted while the client works: both sites end, the folder goes, exit 1', async () => {
      const child = start('--size', '32M', '--json')
      const said = text(child.stderr!)
      const sites: number[] = []
      let last: { error?: { code: string } } = {}
      for await (const line of createInterface({ input: child.stdout! })) {
        last = JSON.parse(line)
        if ((last as { step?: string }).step !== 'work') continue
        sites.push(...childrenOf(child.pid!))
        child.kill('SIGINT')
      }
      if (child.exitCode === null) await once(child, 'exit')
      assert.deepEqual([child.exitCode, last.error?.code, await said], [1, 'interrupted', ''])
      assert.equal(sites.length, 2)
      for (const pid of sites) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
      assert.deepEqual(readdirSync(folder), [])
    })

    it('over a way that it does not know yet: refused, exit 3', async () => {
      const child = start('--via', 's3')
      const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, 'close')])
      assert.deepEqual([child.exitCode, stdout], [3, ''])
      assert.match(stderr, /^The demo over s3 comes in a later version\./)
    })

    it('a disk too small to show anything: usage, exit 2', async () => {
      const child = start('--size', '1M')
      await once(child, 'close')
      assert.equal(child.exitCode, 2)
    })
  })

  describe('its client', () => {
    const area = new Area([
      { offset: mebibyte, length: mebibyte / 2 },
      { offset: 2 * mebibyte, length: mebibyte / 2 },
    ])
    let disk: MemoryExport
    let original: Buffer
    let model: Model
    let server: TestServer
    let client: NbdClient
    let nowMs: number
    const seed = Math.floor(Math.random() * 2 ** 32)

    beforeEach(async () => {
      disk = new MemoryExport({ sizeBytes: 4 * mebibyte })
      fillStamp(disk.bytes, 0, 0)
      disk.written.fill(1) // Else the server takes it for a hole.
      original = Buffer.from(disk.bytes)
      model = new Model(disk.sizeBytes, (offset, target) =>
        target.set(original.subarray(offset, offset + target.length)),
      )
      server = await serve([disk])
      client = await NbdClient.connect(server.uri)
      nowMs = 0
    })
    afterEach(async function () {
      if (this.currentTest?.isFailed()) console.error(`    seed ${seed}`)
      client.destroy()
      await server[Symbol.asyncDispose]()
    })

    const guestOn = (connection: GuestDisk) =>
      new Guest(connection, { model, area, random: seededRandom(seed).next, nowMs: () => nowMs })
    const rangeOf = (call: string) => call.split(' ').slice(1, 3).map(Number) as [offset: number, lengthBytes: number]

    /** What the guest fails with, once the disk lies as `lie` says before each call. */
    async function foundOut(lie: (call: string) => void): Promise<WrongBytesError> {
      disk.gate = (call) => {
        lie(call)
        return undefined
      }
      const guest = guestOn(client)
      guest.start()
      const error = await guest.failed.catch((thrown: unknown) => thrown)
      assert(error instanceof WrongBytesError, String(error))
      return error
    }

    it('finds nothing wrong with an honest disk, and writes nowhere but in its area', async () => {
      const guest = guestOn(client)
      guest.start()
      await Promise.race([guest.failed, until(() => guest.counts.writes > 2000)])
      await guest.stop()
      assert.deepEqual(await guest.verify(client, () => {}), [])
      const isInArea = (call: string) => {
        const [offset, lengthBytes] = rangeOf(call)
        return area.runs.some((run) => offset >= run.offset && offset + lengthBytes <= run.offset + run.length)
      }
      const writes = disk.calls.filter((call) => /^(write|zero) /.test(call))
      assert.equal(writes.length, guest.counts.writes)
      assert.deepEqual(
        writes.filter((call) => !isInArea(call)),
        [],
      )
      assert(guest.counts.flushes > 1 && guest.counts.reads > 1000 && model.writtenSectors > 100)
    })

    it('names a write that was acknowledged and is not there: lost', async () => {
      const { findings } = await foundOut((call) => {
        const [offset, lengthBytes] = rangeOf(call)
        if (call.startsWith('read ')) original.copy(disk.bytes, offset, offset, offset + lengthBytes)
      })
      assert.equal(findings[0]!.kind, 'lost')
      assert(findings[0]!.expected > 0)
    })

    it('names a read of an older write: stale', async () => {
      const older = new Map<number, Buffer>()
      const { findings, message } = await foundOut((call) => {
        const [offset, lengthBytes] = rangeOf(call)
        if (lengthBytes !== sectorBytes) return
        const isWrittenBefore =
          original.compare(disk.bytes, offset, offset + sectorBytes, offset, offset + sectorBytes) !== 0
        const before = disk.bytes.subarray(offset, offset + sectorBytes)
        const isStamp = before.some((byte) => byte !== 0)
        if (call.startsWith('write ') && isWrittenBefore && isStamp) older.set(offset, Buffer.from(before))
        if (call.startsWith('read ')) older.get(offset)?.copy(disk.bytes, offset)
      })
      assert.equal(findings[0]!.kind, 'stale')
      assert(findings[0]!.found! > 0 && findings[0]!.found! < findings[0]!.expected)
      assert.match(message, /there is write \d+, although write \d+ had been acknowledged$/)
    })

    it('names a change where nobody ever wrote: damaged', async () => {
      const { findings } = await foundOut((call) => {
        const [offset] = rangeOf(call)
        if (call.startsWith('read ') && offset < mebibyte) disk.bytes[offset + 5]! ^= 1
      })
      assert.deepEqual([findings[0]!.kind, findings[0]!.expected], ['damaged', 0])
    })

    it('finds at the end what it never read: a bit in a block that was not written, a sector that fell back', async () => {
      const guest = guestOn(client)
      guest.start()
      await Promise.race([guest.failed, until(() => guest.counts.writes > 300)])
      await guest.stop()
      disk.bytes[4 * mebibyte - 1]! ^= 0x80
      const lastWrite = disk.calls.findLast((call) => call.startsWith('write '))!
      const [offset] = rangeOf(lastWrite)
      original.copy(disk.bytes, offset, offset, offset + sectorBytes)
      const findings = await guest.verify(client, () => {})
      assert.deepEqual(
        findings.map(({ kind, offset: at }) => [kind, at]),
        [
          ['lost', offset],
          ['damaged', 4 * mebibyte - sectorBytes],
        ],
      )
    })

    it('fails when a request fails', async () => {
      const guest = guestOn(client)
      guest.start()
      await until(() => guest.counts.reads > 10)
      client.destroy()
      await assert.rejects(guest.failed, { name: 'NbdConnectionError' })
    })

    it('counts a pause from the request to its answer', async () => {
      const gate = new Gate(/^read/)
      disk.gate = gate.enter
      const guest = guestOn(client)
      guest.start()
      await gate.reached(1)
      nowMs += 750
      disk.gate = undefined
      gate.releaseAll()
      await until(() => guest.counts.reads > 0)
      assert.equal(guest.counts.longestPausesMs.read, 750)
      await guest.stop()
    })

    it('held, it has nothing under way and has flushed; what it wants meanwhile counts as a pause', async () => {
      const guest = guestOn(client)
      guest.start()
      await until(() => guest.counts.writes > 100)
      await guest.hold()
      const answered = disk.calls.length
      assert.equal(disk.calls.at(-1), 'flush')
      nowMs += 321
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(disk.calls.length, answered)
      const other = await NbdClient.connect(server.uri)
      guest.resume(other)
      await until(() => guest.counts.writes > 200)
      await guest.stop()
      await other.disconnect()
      assert.equal(guest.counts.longestPauseMs, 321)
    })
  })

  it('the blocks of a file, as debugfs prints them', () => {
    const printed = `Level Entries       Logical          Physical Length Flags
 0/ 1   1/  1     0 - 12287   9000             12288
 1/ 1   1/  2     0 -  8191 34816 - 43007   8192
 1/ 1   2/  2  8192 - 12287 51200 - 55295   4096
`
    assert.deepEqual(parseExtents(printed), [
      { offset: 34816 * 4096, length: 8192 * 4096 },
      { offset: 51200 * 4096, length: 4096 * 4096 },
    ])
  })

  it('a folder whose path is too long for a socket, is full or is not there, is passed over', async () => {
    const long = join(tmpdir(), 'x'.repeat(socketPathMaxBytes))
    const folder = await makeFolder(1, [long, '/proc', join(tmpdir(), 'vmstore-is-not-there'), tmpdir()])
    try {
      assert(Buffer.byteLength(join(folder, 'tokyo', 'control.sock')) <= socketPathMaxBytes)
      assert.equal(join(folder, '..'), tmpdir())
    } finally {
      rmSync(folder, { recursive: true })
    }
    await assert.rejects(makeFolder(2 ** 60, [long, tmpdir()]), { code: 'no-room', exit: 3 })
  })
})

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === parent)
}

function parentOf(pid: number): number | undefined {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  } catch {
    return undefined // It has just ended.
  }
}
