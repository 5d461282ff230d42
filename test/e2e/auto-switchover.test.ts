// When the right to a disk passes on: at the destination's first guest write and a quiet source, at the operator's word,
// at once, or when only a reader is left. And when it does not.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { NbdClient } from '../../src/nbd/client/client.ts'
import { seededRandom } from '../random.ts'
import { needTool } from '../tools.ts'
import { sitesWithDisk } from './scenes.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  must,
  refusalOf,
  refusedWith,
  type Site,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const sizeBytes = 32 * 2 ** 20
const filled = (byte: number, lengthBytes = block) => Buffer.alloc(lengthBytes, byte)

describe('switchover', () => {
  endSitesAfterEach()

  describe('auto', () => {
    it('promise 1: the first write at the destination, after the source was flushed, moves the disk', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1, 8 * block))
      await guest.flush()
      const { id } = await begin(a, b, 'web01', 'auto')
      const moved = await attach(b, 'web01')
      assert((await moved.read(0, block)).equals(filled(1)))
      await sourceOwns(a, b)

      await moved.write(block, filled(2))
      await destinationOwns(a, b)
      assert((await moved.read(0, 3 * block)).equals(Buffer.concat([filled(1), filled(2), filled(1)])))
      await refusedWith('ESHUTDOWN', guest.read(0, block))
      await refusedWith('ESHUTDOWN', guest.write(0, filled(3)))
      await guest.flush()
      await guest.disconnect()
      await untilMigration(a, id, ({ state }) => state === 'done')
    })

    it('promise 1: a write at the destination is refused while the source has unflushed writes, and changes nothing', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1))
      const { id } = await begin(a, b, 'web01', 'auto', { switchoverWaitMs: 700 })
      const stray = await attach(b, 'web01')
      const startedMs = performance.now()
      await refusedWith('EPERM', stray.write(0, filled(9)))
      const heldMs = performance.now() - startedMs
      assert(heldMs >= 690, `the write was held for ${heldMs} ms`)
      await refusedWith('EPERM', stray.trim(0, block))
      await refusedWith('EPERM', stray.writeZeroes(0, block))

      await sourceOwns(a, b)
      await guest.write(block, filled(2))
      assert((await guest.read(0, 2 * block)).equals(Buffer.concat([filled(1), filled(2)])))
      assert((await stray.read(0, 2 * block)).equals(Buffer.concat([filled(1), filled(2)])))
      assert.equal((await a.control.showMigration(id)).state, 'ready')
    })

    it('a write at the destination that waits goes on as soon as the source is flushed', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      const other = await attach(a, 'web01')
      await guest.write(0, filled(1))
      await other.write(block, filled(2))
      const { id } = await begin(a, b, 'web01', 'auto', { switchoverWaitMs: 60_000 })
      const moved = await attach(b, 'web01')
      const written = moved.write(2 * block, filled(3))
      const note = await untilMigration(b, id, (view) => view.note !== null)
      assert.match(note.note!, /has not flushed/)
      await other.flush()
      await sourceOwns(a, b) // One of two writers is not flushed yet.
      await guest.flush()
      await written
      await destinationOwns(a, b)
      assert((await moved.read(0, 3 * block)).equals(Buffer.concat([filled(1), filled(2), filled(3)])))
    })

    it('a write whose client has gone while it waited brings no switchover about', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1))
      const { id } = await begin(a, b, 'web01', 'auto', { switchoverWaitMs: 60_000 })
      const stray = await attach(b, 'web01')
      stray.write(0, filled(9)).catch(() => {})
      await untilMigration(b, id, ({ state, note }) => state === 'switching' && note !== null)
      stray.destroy()
      await untilDisk(b, 'web01', ({ sessions }) => sessions === 0)
      await untilMigration(b, id, ({ state }) => state === 'ready')
      await guest.flush()
      const reader = await attach(b, 'web01')
      for (let round = 0; round < 5; round++) {
        await guest.flush()
        assert((await reader.read(0, block)).equals(filled(1)))
      }
      await sourceOwns(a, b)
      await guest.write(0, filled(2))
    })

    it('a session that broke before it flushed keeps the source busy, and the operator can overrule it', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1))
      guest.destroy()
      await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)
      const { id } = await begin(a, b, 'web01', 'auto', { switchoverWaitMs: 300 })
      const moved = await attach(b, 'web01')
      await refusedWith('EPERM', moved.write(0, filled(2)))
      await sourceOwns(a, b)
      await must(a, 'migration', 'switchover', id) // Nobody is attached who would be cut off.
      await untilDisk(b, 'web01', ({ generation }) => generation === 2)
      await moved.write(0, filled(2))
      await destinationOwns(a, b)
    })

    it('promise 6: a flush at the destination waits until the source, which hangs, has synced what it had answered', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1))
      await begin(a, b, 'web01', 'auto')
      const moved = await attach(b, 'web01')
      process.kill(a.pid, 'SIGSTOP')
      let isAnswered = false
      const flushed = moved.flush().then(() => {
        isAnswered = true
      })
      // The destination answers what it can by itself, and has had the flush before.
      for (let round = 0; round < 20; round++) await b.control.showDisk('web01')
      assert.equal(isAnswered, false)
      process.kill(a.pid, 'SIGCONT')
      await flushed
      await sourceOwns(a, b)
    })

    it('flushes, reads and maps at the destination do not move the disk', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1))
      await guest.flush()
      await begin(a, b, 'web01', 'auto')
      const reader = await attach(b, 'web01', { metaContexts: ['base:allocation'] })
      await reader.flush()
      await reader.cache(0, block)
      await reader.read(0, block)
      const status = await reader.blockStatus(0, sizeBytes)
      const flags = [...status.values()].flat().map((extent) => extent.flags)
      assert.deepEqual(new Set(flags), new Set([0]), 'what has not come yet is never called a hole')
      await sourceOwns(a, b)
    })
  })

  it('promise 3: before switchover a read at the destination returns the newest write of the source', async () => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
    const random = seededRandom(seed)
    const { a, b } = await sitesWithDisk(sizeBytes)
    await begin(a, b, 'web01', 'manual')
    const guest = await attach(a, 'web01')
    const reader = await attach(b, 'web01')
    for (let round = 0; round < 200; round++) {
      const lengthBytes = 512 * (1 + random.integer(64))
      const offset = 512 * random.integer((sizeBytes - lengthBytes) / 512)
      await guest.write(offset, filled(1 + random.integer(255), lengthBytes))
      const from = Math.max(0, offset - 512 * random.integer(8))
      const [here, there] = await Promise.all([
        guest.read(from, lengthBytes + offset - from),
        reader.read(from, lengthBytes + offset - from),
      ])
      assert(here.equals(there), `SEED=${seed} round ${round}: ${lengthBytes} bytes at ${offset}`)
    }
    await sourceOwns(a, b)
  })

  it('promise 3: what a busy source acknowledged until it was fenced is what the destination reads', async () => {
    const { a, b } = await sitesWithDisk(sizeBytes)
    const guest = await attach(a, 'web01')
    const newest = writeUntilFenced(guest)
    await until('the guest writes', () => (newest.count > 500 ? true : undefined))
    await begin(a, b, 'web01', 'now')
    const acknowledged = await newest.fenced
    await untilDisk(b, 'web01', ({ generation }) => generation === 2)
    await destinationOwns(a, b)
    const moved = await attach(b, 'web01')
    for (const [slot, version] of acknowledged.entries()) {
      const seen = (await moved.read(slot * block, block)).readUInt32LE(0)
      assert.equal(seen, version, `slot ${slot}`)
    }
  })

  describe('manual', () => {
    for (const side of ['source', 'destination'] as const) {
      it(`a write at the destination waits for the word, which is given at the ${side}`, async () => {
        const { a, b } = await sitesWithDisk(sizeBytes)
        const { id } = await begin(a, b, 'web01', 'manual', { switchoverWaitMs: 60_000 })
        const moved = await attach(b, 'web01')
        let isWritten = false
        const written = moved.write(0, filled(1)).then(() => (isWritten = true))
        for (let round = 0; round < 5; round++) await moved.read(0, block)
        assert(!isWritten)
        await sourceOwns(a, b)
        await must(side === 'source' ? a : b, 'migration', 'switchover', id)
        await written
        await destinationOwns(a, b)
        assert((await moved.read(0, block)).equals(filled(1)))
      })
    }

    it('a write is refused with EPERM when the word does not come in time', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      await begin(a, b, 'web01', 'manual', { switchoverWaitMs: 300 })
      const moved = await attach(b, 'web01')
      await refusedWith('EPERM', moved.write(0, filled(1)))
      await sourceOwns(a, b)
    })
  })

  it('now: the disk moves though nobody is at the destination, and a silent client at the source', async () => {
    const { a, b } = await sitesWithDisk(sizeBytes)
    const guest = await attach(a, 'web01')
    await guest.write(0, filled(1))
    await guest.flush()
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(b, id, ({ state }) => state === 'done')
    await destinationOwns(a, b)
    await refusedWith('ESHUTDOWN', guest.write(0, filled(2)))
    assert((await (await attach(b, 'web01')).read(0, block)).equals(filled(1)))
  })

  describe('by the word of an operator, while a client works at the source', () => {
    for (const [side, other] of [
      ['source', '--to'],
      ['destination', '--from'],
    ] as const) {
      it(`migrate --switchover now at the ${side} is refused, begins nothing, and names the client; --force cuts it off`, async () => {
        const { a, b } = await sitesWithDisk(sizeBytes)
        const guest = await attach(a, 'web01')
        await guest.write(0, filled(1))
        const [here, there] = side === 'source' ? [a, b] : [b, a]
        const migrate = ['migrate', 'web01', other, there.name, '--switchover', 'now']
        const view = refusalOf(await vmstore(here, ...migrate), 3, 'client-at-work')
        assert.match(view.message, /the session of unix has written and has not flushed since/)
        assert.match(view.next!, /--force/)
        assert.deepEqual(await b.control.listDisks(), [])
        assert.equal((await a.control.showDisk('web01')).migration, null)
        await guest.write(0, filled(2))

        // Whose disk it is says alone that its client is cut off.
        if (side === 'destination') refusalOf(await vmstore(here, ...migrate, '--force'), 3, 'owners-word')
        const byOwner = ['migrate', 'web01', '--to', b.name, '--switchover', 'now', '--force']
        const { exit, events } = await vmstore(a, ...byOwner)
        const result = events.at(-1)!
        assert.deepEqual([exit, result.state, result.cutOff], [0, 'done', ['unix']])
        await destinationOwns(a, b)
        await refusedWith('ESHUTDOWN', guest.write(0, filled(3)))
        assert((await (await attach(b, 'web01')).read(0, block)).equals(filled(2)))
      })

      it(`migration switchover at the ${side} is refused and changes nothing; --force cuts it off, and says whom`, async () => {
        const { a, b } = await sitesWithDisk(sizeBytes)
        const { id } = await begin(a, b, 'web01', 'manual')
        const guest = await attach(a, 'web01')
        await guest.write(0, filled(1))
        const here = side === 'source' ? a : b
        const view = refusalOf(await vmstore(here, 'migration', 'switchover', id), 3, 'client-at-work')
        assert.match(view.message, /the session of unix has written and has not flushed since/)
        assert.match(view.next!, /--force/)
        await sourceOwns(a, b)
        for (const site of [a, b]) assert.equal((await site.control.showMigration(id)).state, 'ready')
        await guest.write(0, filled(2))

        if (side === 'destination')
          refusalOf(await vmstore(here, 'migration', 'switchover', id, '--force'), 3, 'owners-word')
        await must(a, 'migration', 'switchover', id, '--force')
        for (const site of [a, b]) {
          const { cutOff } = await untilMigration(site, id, ({ state }) => state === 'done')
          assert.deepEqual(cutOff, ['unix'], site.name)
        }
        await refusedWith('ESHUTDOWN', guest.read(0, block))
        assert((await (await attach(b, 'web01')).read(0, block)).equals(filled(2)))
      })
    }

    it("a client that has flushed is in nobody's way", async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const guest = await attach(a, 'web01')
      await guest.write(0, filled(1))
      await guest.flush()
      const { id } = await begin(a, b, 'web01', 'manual')
      await must(b, 'migration', 'switchover', id)
      const { cutOff } = await untilMigration(b, id, ({ state }) => state === 'done')
      assert.deepEqual(cutOff, [])
    })
  })

  it('promise 1: a client whose source was killed, and that only reads when it is back, keeps the disk until it flushes', async () => {
    const { a, b } = await sitesWithDisk(sizeBytes)
    const { id } = await begin(a, b, 'web01', 'auto', { switchoverWaitMs: 300 })
    const guest = await attach(a, 'web01')
    await guest.write(0, filled(1))
    await a.kill()
    await a.restart()
    const back = await attach(a, 'web01')
    assert((await back.read(0, block)).equals(filled(1)))
    const moved = await attach(b, 'web01')
    // The source gives clients a while to come back: then it is this one that it waits for.
    const isHeld = /the session of unix has not flushed yet, and may have written before/
    await until('it is named', async () => {
      await refusedWith('EPERM', moved.write(0, filled(2)))
      return isHeld.test((await b.control.showMigration(id)).refusedWrites?.why ?? '') || undefined
    })
    await sourceOwns(a, b)
    await back.flush()
    await moved.write(0, filled(2))
    await destinationOwns(a, b)
  })

  describe('only a reader is left', () => {
    for (const probe of [['nbdinfo'], ['qemu-img', 'info', '-f', 'raw']]) {
      it(`the disk stays when ${probe.join(' ')} looks at the destination`, async function () {
        needTool(this, probe[0]!)
        const { a, b } = await sitesWithDisk(sizeBytes)
        const writer = await attach(a, 'web01')
        await writer.write(0, filled(1))
        await begin(a, b, 'web01', 'auto')
        await writer.disconnect()
        await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)
        for (let time = 1; time <= 3; time++) await promisify(execFile)(probe[0]!, [...probe.slice(1), b.uri('web01')])
        await untilDisk(b, 'web01', ({ sessions }) => sessions === 0)
        await sourceOwns(a, b)
      })
    }

    it('the disk moves when the writer at the source disconnects while a reader is open at the destination', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const writer = await attach(a, 'web01')
      await writer.write(0, filled(1))
      await begin(a, b, 'web01', 'auto')
      const reader = await attach(b, 'web01')
      assert((await reader.read(0, block)).equals(filled(1)))
      await sourceOwns(a, b)
      await writer.disconnect()
      await untilDisk(b, 'web01', ({ state }) => state === 'owned')
      await destinationOwns(a, b)
      assert((await reader.read(0, block)).equals(filled(1)))
    })

    it('the disk moves when the reader comes after the writer has gone', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const writer = await attach(a, 'web01')
      await writer.write(0, filled(1))
      await begin(a, b, 'web01', 'auto')
      await writer.disconnect()
      await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)
      await sourceOwns(a, b)
      const reader = await attach(b, 'web01')
      assert((await reader.read(0, block)).equals(filled(1)))
      await untilDisk(b, 'web01', ({ state }) => state === 'owned')
      assert((await reader.read(0, block)).equals(filled(1)))
    })

    it('the disk stays while another writer is at the source', async () => {
      const { a, b } = await sitesWithDisk(sizeBytes)
      const [writer, other] = [await attach(a, 'web01'), await attach(a, 'web01')]
      await writer.write(0, filled(1))
      await other.write(block, filled(2))
      await begin(a, b, 'web01', 'auto')
      const reader = await attach(b, 'web01')
      await writer.disconnect()
      await untilDisk(a, 'web01', ({ sessions }) => sessions === 1)
      for (let round = 0; round < 10; round++) assert((await reader.read(block, block)).equals(filled(2)))
      await sourceOwns(a, b)
      await other.write(block, filled(3))
      await other.disconnect()
      await untilDisk(b, 'web01', ({ state }) => state === 'owned')
      assert((await reader.read(block, block)).equals(filled(3)))
    })
  })
})

async function sourceOwns(a: Site, b: Site): Promise<void> {
  const [atA, atB] = await Promise.all([a.control.showDisk('web01'), b.control.showDisk('web01')])
  assert.deepEqual([atA.state, atA.generation, atA.ownerName], ['owned', 1, 'this site'])
  assert.deepEqual([atB.state, atB.generation], ['incoming', 1])
  assert([atA.owner, 'unknown'].includes(atB.owner), 'while a question is open the destination says unknown')
}

async function destinationOwns(a: Site, b: Site): Promise<void> {
  const [atA, atB] = await Promise.all([a.control.showDisk('web01'), b.control.showDisk('web01')])
  const { id } = await b.control.describe()
  assert.deepEqual([atA.owner, atA.generation, atB.owner, atB.generation], [id, 2, id, 2])
  assert.match(atA.state, /^(departed|released)$/)
  assert.match(atB.state, /^(arriving|owned)$/)
}

/** Writes version after version into a few blocks, several at a time, until the site says that it serves no more. */
function writeUntilFenced(guest: NbdClient): { count: number; fenced: Promise<number[]> } {
  const slots = 8
  const acknowledged = new Array<number>(slots).fill(0)
  const progress = { count: 0, fenced: Promise.resolve(acknowledged) }
  const writer = async (slot: number) => {
    for (let version = 1; ; version++) {
      const bytes = filled(0)
      bytes.writeUInt32LE(version)
      try {
        await guest.write(slot * block, bytes)
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ESHUTDOWN')
        return
      }
      acknowledged[slot] = version
      progress.count++
    }
  }
  progress.fenced = Promise.all(acknowledged.map((_, slot) => writer(slot))).then(() => acknowledged)
  return progress
}
