// Who is dropped when the server's memory is used up, and who is not.

import assert from 'node:assert/strict'
import { type BudgetMember, MemoryBudget } from '../../src/guest/memory-budget.ts'
import { until } from './harness.ts'

const maxBytes = 1000
const maxMembers = 5
const waitMs = 1
const looksMin = 5

class Member implements BudgetMember {
  isDenied = false
  looks = 0
  readonly #heldBytes: number

  constructor(heldBytes: number) {
    this.#heldBytes = heldBytes
  }

  get clientHeldBytes(): number {
    this.looks++
    return this.#heldBytes
  }
  memoryFreed(): void {}
  memoryDenied(): void {
    this.isDenied = true
  }
}

/** A full budget for which one more waits. */
function full(...heldBytes: number[]): { budget: MemoryBudget; members: Member[] } {
  const budget = new MemoryBudget(maxBytes, waitMs, maxMembers)
  const members = heldBytes.map((bytes) => new Member(bytes))
  const waiting = new Member(0)
  for (const member of [...members, waiting]) budget.join(member)
  assert(budget.tryTake(maxBytes, members[0]))
  assert(!budget.tryTake(1, waiting))
  return { budget, members }
}

describe('nbd memory that is used up', () => {
  it('drops the client that holds the most', async () => {
    const { members } = full(150, 400, 300)
    await until(() => members[1]!.isDenied)
    assert.deepEqual([members[0]!.isDenied, members[2]!.isDenied], [false, false])
  })

  it('drops nobody while requests in flight fill it, whatever little the clients hold', async () => {
    const { budget, members } = full(99, 12, 0)
    await until(() => members[0]!.looks > looksMin || members[0]!.isDenied)
    assert(!members.some(({ isDenied }) => isDenied))
    budget.give(maxBytes)
  })

  it('finds somebody to drop when clients alone fill it', async () => {
    const { members } = full(...Array.from({ length: maxMembers }, () => maxBytes / maxMembers))
    await until(() => members.some(({ isDenied }) => isDenied))
  })
})
