import assert from 'node:assert/strict'
import { BlockPool } from '../../src/guest/blocks.ts'
import { MemoryBudget } from '../../src/guest/memory-budget.ts'
import { headroomBytes, ReadBuffer } from '../../src/guest/wire.ts'
import { Input } from '../../src/nbd/server/input.ts'
import { seededRandom } from '../random.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32))

describe('nbd input', () => {
  it('gives every byte once, in order, however much is left for later each time', () => {
    const random = seededRandom(seed)
    const budget = new MemoryBudget(2 ** 30, 1000, 1)
    const input = new Input(budget, new BlockPool())
    const shared = new ReadBuffer()
    let sent = 0
    let taken = 0
    for (let round = 0; round < 300; round++) {
      const lengthBytes = 1 + random.integer(random.chance(0.5) ? 100 : shared.target.length)
      for (let at = 0; at < lengthBytes; at++) shared.target[at] = sent++ % 251
      input.push(shared.bytes, headroomBytes, headroomBytes + lengthBytes)
      const wanted = random.chance(0.3) ? input.availableBytes : random.integer(input.availableBytes + 1)
      for (let count = 0; count < wanted; count++) {
        if (input.bytes[input.at++] !== taken++ % 251) assert.fail(`byte ${taken - 1}, SEED=${seed}`)
      }
      input.keep()
      assert.equal(input.availableBytes, sent - taken)
      assert.equal(budget.usedBytes, input.keptBytes)
      // The socket's next bytes come to the same place.
      shared.bytes.fill(0xff)
    }
    input.clear()
    assert.equal(budget.usedBytes, 0)
  })

  it('keeps what is left in memory that was used before', () => {
    const input = new Input(new MemoryBudget(2 ** 30, 1000, 1), new BlockPool())
    const shared = new ReadBuffer()
    for (const leftBytes of [4000, 200_000]) {
      const places = [1, 2, 3].map(() => {
        input.push(shared.bytes, headroomBytes, headroomBytes + leftBytes)
        input.keep()
        const { buffer } = input.bytes
        input.clear()
        return buffer
      })
      assert.equal(new Set(places).size, 1, `${leftBytes} bytes`)
    }
  })
})
