import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { spanOf } from '../../src/block/span.ts'
import { Arrival } from '../../src/disk/arrival/arrival.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import { seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { block, bootId, isSettled } from './hand.ts'

const sector = 512

describe('arrival', () => {
  removeFoldersAfterEach()
  const logs: MapLog[] = []
  afterEach(async () => {
    for (const log of logs.splice(0)) await log.close()
  })

  async function arrivalOf(sizeBytes: number): Promise<Arrival> {
    const identity = { diskId: '33333333-3333-4333-8333-333333333333', generation: 2, sizeBytes }
    const { log, maps } = await MapLog.create(new KernelFiles(bootId), `${temporaryFolder()}/maps.log`, identity)
    logs.push(log)
    return new Arrival(maps, log, sizeBytes)
  }

  function write(arrival: Arrival, offset: number, lengthBytes: number): void {
    const ticket = arrival.beginWrite(spanOf(offset, lengthBytes))
    ticket.done(offset, lengthBytes)
    ticket.release()
  }

  function land(arrival: Arrival, first: number, end: number): number {
    const claim = arrival.claimMissing({ first, end })
    claim?.done()
    claim?.release()
    return claim?.bytes ?? 0
  }

  describe('claims', () => {
    it('are of the missing blocks only', async () => {
      const arrival = await arrivalOf(10 * block)
      land(arrival, 2, 4)
      const claim = arrival.claimMissing({ first: 0, end: 10 })!
      assert.deepEqual(claim.parts, [
        { offset: 0, length: 2 * block },
        { offset: 4 * block, length: 6 * block },
      ])
      assert.equal(claim.bytes, 8 * block)
      claim.release()
    })

    it('are none where everything is here', async () => {
      const arrival = await arrivalOf(4 * block)
      land(arrival, 0, 4)
      assert.equal(arrival.claimMissing({ first: 0, end: 4 }), undefined)
    })

    it('promise 5: are none where the guest wrote', async () => {
      const arrival = await arrivalOf(4 * block)
      write(arrival, block, block)
      assert.deepEqual(arrival.claimMissing({ first: 0, end: 4 })!.parts, [
        { offset: 0, length: block },
        { offset: 2 * block, length: 2 * block },
      ])
    })

    it('promise 5: are none where a guest write is in flight', async () => {
      const arrival = await arrivalOf(4 * block)
      const ticket = arrival.beginWrite({ first: 1, end: 2 })
      assert.equal(arrival.claimMissing({ first: 1, end: 2 }), undefined)
      ticket.release()
      assert(arrival.claimMissing({ first: 1, end: 2 }))
    })

    it('are never of two landings at once', async () => {
      const arrival = await arrivalOf(4 * block)
      const first = arrival.claimMissing({ first: 0, end: 2 })!
      assert.deepEqual(arrival.claimMissing({ first: 0, end: 4 })!.parts, [{ offset: 2 * block, length: 2 * block }])
      first.release()
    })

    it('promise 5: make a guest write wait until the landing has ended', async () => {
      const arrival = await arrivalOf(4 * block)
      const claim = arrival.claimMissing({ first: 0, end: 2 })!
      const ended = arrival.claimOver({ first: 1, end: 3 })
      assert(ended)
      assert.equal(await isSettled(ended), false)
      claim.release()
      assert.equal(await isSettled(ended), true)
      assert.equal(arrival.claimOver({ first: 1, end: 3 }), undefined)
    })

    it('do not hold up a write beside them', async () => {
      const arrival = await arrivalOf(4 * block)
      arrival.claimMissing({ first: 0, end: 2 })
      assert.equal(arrival.claimOver({ first: 2, end: 4 }), undefined)
    })

    it('promise 5: a guest write that does not wait for one is a bug', async () => {
      const arrival = await arrivalOf(4 * block)
      arrival.claimMissing({ first: 0, end: 2 })
      assert.throws(() => arrival.beginWrite({ first: 1, end: 2 }), { name: 'AssertionError' })
    })

    it('given back without being done make nothing present', async () => {
      const arrival = await arrivalOf(4 * block)
      arrival.claimMissing({ first: 0, end: 4 })!.release()
      assert.equal(arrival.presentBlocks, 0)
      assert(arrival.claimMissing({ first: 0, end: 4 }))
    })
  })

  describe('partial blocks', () => {
    it('promise 5: a landing fills only the sectors that the guest did not write', async () => {
      const arrival = await arrivalOf(4 * block)
      write(arrival, block + 2 * sector, sector)
      write(arrival, block + 5 * sector, 2 * sector)
      assert.deepEqual(arrival.claimMissing({ first: 0, end: 4 })!.parts, [
        { offset: 0, length: block + 2 * sector },
        { offset: block + 3 * sector, length: 2 * sector },
        { offset: block + 7 * sector, length: 2 * block + sector },
      ])
    })

    it('are present once every sector was written', async () => {
      const arrival = await arrivalOf(4 * block)
      for (let index = 0; index < 8; index++) {
        assert.equal(arrival.isPresent({ first: 1, end: 2 }), false)
        write(arrival, block + ((index * 3) % 8) * sector, sector)
      }
      assert.equal(arrival.isPresent({ first: 1, end: 2 }), true)
    })

    it('are present after a landing', async () => {
      const arrival = await arrivalOf(4 * block)
      write(arrival, block, sector)
      assert.equal(land(arrival, 1, 2), block - sector)
      assert.equal(arrival.isPresent({ first: 1, end: 2 }), true)
    })

    it('of a write over several blocks are those at its ends', async () => {
      const arrival = await arrivalOf(6 * block)
      write(arrival, block + 3 * sector, 3 * block)
      assert.deepEqual(
        [1, 2, 3, 4].map((first) => arrival.isPresent({ first, end: first + 1 })),
        [false, true, true, false],
      )
      assert.deepEqual(arrival.claimMissing({ first: 1, end: 5 })!.parts, [
        { offset: block, length: 3 * sector },
        { offset: 4 * block + 3 * sector, length: 5 * sector },
      ])
    })
  })

  describe('lacking', () => {
    it('tells whole blocks that must come before a range can be read', async () => {
      const arrival = await arrivalOf(10 * block)
      land(arrival, 3, 5)
      assert.deepEqual(arrival.lacking(2 * block + 100, 4 * block), [
        { offset: 2 * block, length: block },
        { offset: 5 * block, length: 2 * block },
      ])
    })

    it('is nothing for sectors that the guest wrote in a partial block', async () => {
      const arrival = await arrivalOf(10 * block)
      write(arrival, block + sector, 2 * sector)
      assert.deepEqual(arrival.lacking(block + sector, 2 * sector), [])
      assert.deepEqual(arrival.lacking(block + sector + 100, 300), [])
    })

    it('is the block when a byte outside of the written sectors is read', async () => {
      const arrival = await arrivalOf(10 * block)
      write(arrival, block + sector, 2 * sector)
      assert.deepEqual(arrival.lacking(block + sector, 2 * sector + 1), [{ offset: block, length: block }])
      assert.deepEqual(arrival.lacking(block + sector - 1, 2), [{ offset: block, length: block }])
    })

    it('ends with the disk', async () => {
      const arrival = await arrivalOf(2 * block + 3 * sector)
      assert.deepEqual(arrival.lacking(block, block + 3 * sector), [{ offset: block, length: block + 3 * sector }])
    })
  })

  describe('firstMissing', () => {
    it('is the next run of missing blocks, up to its limit', async () => {
      const arrival = await arrivalOf(10 * block)
      land(arrival, 2, 4)
      assert.deepEqual(arrival.firstMissing(0, 100), { first: 0, end: 2 })
      assert.deepEqual(arrival.firstMissing(1, 100), { first: 1, end: 2 })
      assert.deepEqual(arrival.firstMissing(2, 3), { first: 4, end: 7 })
    })

    it('counts partial blocks', async () => {
      const arrival = await arrivalOf(2 * block)
      land(arrival, 0, 1)
      write(arrival, block, sector)
      assert.deepEqual(arrival.firstMissing(0, 100), { first: 1, end: 2 })
      assert.equal(arrival.missingBlocks, 1)
    })

    it('is nothing when everything is here', async () => {
      const arrival = await arrivalOf(2 * block)
      land(arrival, 0, 2)
      assert.equal(arrival.firstMissing(0, 100), undefined)
    })
  })

  describe('absentParts', () => {
    it('are the bytes of a range that are neither here nor written, and no others', async () => {
      const arrival = await arrivalOf(10 * block)
      land(arrival, 3, 5)
      write(arrival, block + sector, 2 * sector)
      assert.deepEqual(arrival.absentParts(block + 100, 4 * block), [
        { offset: block + 100, length: sector - 100 },
        { offset: block + 3 * sector, length: 2 * block - 3 * sector },
        { offset: 5 * block, length: 100 },
      ])
    })
  })

  describe('the last block of a disk whose size is no multiple of a block', () => {
    const sizeBytes = 2 * block + 3 * sector

    it('is missing, and is claimed up to the end of the disk', async () => {
      const arrival = await arrivalOf(sizeBytes)
      assert.equal(arrival.missingBlocks, 3)
      assert.deepEqual(arrival.claimMissing({ first: 2, end: 3 })!.parts, [{ offset: 2 * block, length: 3 * sector }])
    })

    it('is whole once its few sectors were written', async () => {
      const arrival = await arrivalOf(sizeBytes)
      write(arrival, 2 * block, sector)
      assert.equal(arrival.isPresent({ first: 2, end: 3 }), false)
      write(arrival, 2 * block + sector, 2 * sector)
      assert.equal(arrival.isPresent({ first: 2, end: 3 }), true)
    })

    it('is whole after one write to the end of the disk', async () => {
      const arrival = await arrivalOf(sizeBytes)
      write(arrival, block + sector, block + 2 * sector)
      assert.equal(arrival.isPresent({ first: 2, end: 3 }), true)
      assert.equal(arrival.isPresent({ first: 1, end: 2 }), false)
    })

    it('counts with its own size', async () => {
      const arrival = await arrivalOf(sizeBytes)
      land(arrival, 2, 3)
      assert.equal(arrival.presentBytes, 3 * sector)
      land(arrival, 0, 2)
      assert.equal(arrival.presentBytes, sizeBytes)
      assert.equal(arrival.missingBlocks, 0)
    })
  })

  it('a guest write whose record finds no room did not happen', async () => {
    const sizeBytes = 4 * block
    const identity = { diskId: '33333333-3333-4333-8333-333333333333', generation: 2, sizeBytes }
    const { log, maps } = await MapLog.create(new KernelFiles(bootId), `${temporaryFolder()}/maps.log`, identity)
    await log.close() // Appends fail from here on.
    const arrival = new Arrival(maps, log, sizeBytes)
    const ticket = arrival.beginWrite({ first: 0, end: 1 })
    assert.throws(() => ticket.done(0, block))
    ticket.release()
    assert.equal(arrival.presentBlocks, 0)
  })

  it('unsettled waits for the landings and writes that touch the span now, and for no others', async () => {
    const arrival = await arrivalOf(10 * block)
    const claim = arrival.claimMissing({ first: 0, end: 2 })!
    const ticket = arrival.beginWrite({ first: 3, end: 4 })
    const other = arrival.claimMissing({ first: 8, end: 9 })!
    const waiting = arrival.unsettled({ first: 1, end: 5 })
    assert(waiting)
    claim.release()
    assert.equal(await isSettled(waiting), false)
    ticket.release()
    assert.equal(await isSettled(waiting), true)
    assert.equal(arrival.unsettled({ first: 1, end: 5 }), undefined)
    other.release()
  })

  it('promise 5: under random writes and landings no landing is given a byte that the guest wrote', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    for (let round = 0; round < 20; round++) {
      const sectors = 1 + random.integer(160)
      const arrival = await arrivalOf(sectors * sector)
      const blocks = Math.ceil(sectors / 8)
      const written = new Uint8Array(sectors)
      const known = new Uint8Array(sectors)
      for (let step = 0; step < 80; step++) {
        const facts = `seed ${seed} round ${round} step ${step}`
        const from = random.integer(sectors)
        const to = Math.min(sectors, from + 1 + random.integer(20))
        if (random.chance(0.5)) {
          write(arrival, from * sector, (to - from) * sector)
          written.fill(1, from, to)
          known.fill(1, from, to)
        } else {
          const first = random.integer(blocks)
          const claim = arrival.claimMissing({ first, end: Math.min(blocks, first + 1 + random.integer(4)) })
          for (const part of claim?.parts ?? []) {
            for (let at = part.offset / sector; at < (part.offset + part.length) / sector; at++) {
              assert.equal(written[at], 0, `${facts}: sector ${at}`)
              known[at] = 1
            }
          }
          claim?.done()
          claim?.release()
        }
        const readable = known.subarray(from, to).every((bit) => bit === 1)
        const lacking = arrival.lacking(from * sector, (to - from) * sector)
        assert.equal(lacking.length === 0, readable, facts)
        const whole = (index: number) => known.subarray(index * 8, index * 8 + 8).every((bit) => bit === 1)
        const count = Array.from({ length: blocks }, (_, index) => whole(index)).filter(Boolean).length
        assert.equal(arrival.presentBlocks, count, facts)
      }
    }
  })
})
