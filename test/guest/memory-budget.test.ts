import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type BudgetMember, MemoryBudget } from '../../src/guest/memory-budget.ts'

class Member implements BudgetMember {
  readonly clientHeldBytes = 1
  freed = 0
  memoryFreed(): void {
    this.freed++
  }
  memoryDenied(): void {
    assert.fail('nobody waited for long')
  }
}

describe('nbd memory budget', () => {
  const waitMs = 60_000
  let budget: MemoryBudget
  let member: Member

  beforeEach(() => {
    budget = new MemoryBudget(100, waitMs, 1)
    member = new Member()
    budget.join(member)
    assert(budget.tryTake(90, member))
  })

  it('tells who waits, once, when something was given back', async () => {
    assert(!budget.tryTake(20, member))
    budget.give(50)
    await nextTurn()
    budget.give(10)
    await nextTurn()
    assert.equal(member.freed, 1)
    assert(budget.tryTake(20, member))
    budget.leave(member)
  })

  it('tells nothing to who does not wait', async () => {
    assert(!budget.tryTake(20, undefined))
    budget.give(50)
    await nextTurn()
    assert.equal(member.freed, 0)
  })

  it('lets one alone go on, however much it needs', () => {
    budget.give(90)
    assert(budget.tryTake(1000, member))
    assert.equal(budget.usedBytes, 1000)
  })
})
