// Counts the bytes that the server holds for all its connections: blocks for payloads and replies, and what arrived and
// waits to be taken. Whoever needs more than is left waits; if nothing was given back for a while, the connection that holds
// the most on behalf of its client (bytes that wait, and replies that were not read, which only that client can move) is
// dropped. So memory is bounded, stalled clients alone can hold nobody up for longer, and the one who took most pays. (While
// others give memory back, whoever waits goes on waiting: a slow client that is healthy is not dropped for a large request.)
// Whoever holds less than half of its share of the memory is never dropped: if clients alone fill the memory, one of them
// holds more than that; if requests in flight fill it (on a disk that freezes, or whose source is away), no client is at fault.

export interface BudgetMember {
  /** Bytes that only this connection's client can bring to an end. */
  readonly clientHeldBytes: number
  /** Memory may be there again: try once more. */
  memoryFreed(): void
  /** Too much was held for too long: the connection ends. Its bytes come back as what is under way for it settles. */
  memoryDenied(): void
}

export class MemoryBudget {
  readonly #maxBytes: number
  readonly #waitMs: number
  #harmlessBytes: number
  readonly #members = new Set<BudgetMember>()
  readonly #waiting = new Set<BudgetMember>()
  #usedBytes = 0
  #timer: NodeJS.Timeout | undefined

  constructor(maxBytes: number, waitMs: number, maxMembers: number) {
    this.#maxBytes = maxBytes
    this.#harmlessBytes = maxBytes / maxMembers / 2
    this.#waitMs = waitMs
  }

  /** There may be more members, or fewer, from now on. */
  expect(maxMembers: number): void {
    this.#harmlessBytes = this.#maxBytes / maxMembers / 2
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  join(member: BudgetMember): void {
    this.#members.add(member)
  }

  leave(member: BudgetMember): void {
    this.#members.delete(member)
    this.#waiting.delete(member)
  }

  /** True and counted; or false, and `waiter`, if there is one, is told when to try again. One alone may always go on. */
  tryTake(bytes: number, waiter: BudgetMember | undefined): boolean {
    if (this.#usedBytes + bytes <= this.#maxBytes || this.#usedBytes === 0) {
      this.#usedBytes += bytes
      return true
    }
    if (waiter === undefined) return false
    this.#waiting.add(waiter)
    this.#startTimer()
    return false
  }

  /** Counts what is there already and cannot wait. */
  take(bytes: number): void {
    this.#usedBytes += bytes
  }

  give(bytes: number): void {
    if (bytes === 0) return
    this.#usedBytes -= bytes
    if (this.#waiting.size === 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    const woken = [...this.#waiting]
    this.#waiting.clear()
    // Not here: whoever gives back is in the midst of its own step.
    setImmediate(() => {
      for (const member of woken) if (this.#members.has(member)) member.memoryFreed()
    })
  }

  #startTimer(): void {
    this.#timer ??= setTimeout(() => this.#dropTheLargest(), this.#waitMs).unref()
  }

  #dropTheLargest(): void {
    this.#timer = undefined
    if (this.#waiting.size === 0) return
    let largest: BudgetMember | undefined
    for (const member of this.#members) {
      if (member.clientHeldBytes > (largest?.clientHeldBytes ?? this.#harmlessBytes)) largest = member
    }
    // Nobody's client holds much: the requests in flight will end by themselves.
    if (largest === undefined) this.#startTimer()
    else largest.memoryDenied()
  }
}
