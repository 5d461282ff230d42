// Operators who have said "now", and wait for what the source says to it.

import type { Clock } from '../../block/clock.ts'
import type { AcquireAnswer } from '../counterpart.ts'

/** How long an operator waits for the source's answer. */
const orderTimeoutMs = 5000

/** What the source says to the operator; undefined: it is asked on. */
export type OrderAnswer = AcquireAnswer | undefined

export interface Order {
  readonly force: boolean
  readonly settle: PromiseWithResolvers<OrderAnswer>
}

export class Orders {
  readonly #waiting = new Set<Order>()

  get all(): readonly Order[] {
    return [...this.#waiting]
  }

  /** `placed` is called once the order waits. Resolves to the answer, or when none came in time. @throws the signal's reason */
  async place(force: boolean, clock: Clock, signal: AbortSignal, placed: () => void): Promise<OrderAnswer> {
    const order = { force, settle: Promise.withResolvers<OrderAnswer>() }
    const answered = new AbortController()
    this.#waiting.add(order)
    placed()
    const late = clock.sleep(orderTimeoutMs, AbortSignal.any([signal, answered.signal])).then(
      () => undefined,
      () => signal.throwIfAborted(),
    )
    try {
      return await Promise.race([order.settle.promise, late.then(() => undefined)])
    } finally {
      answered.abort()
      this.#waiting.delete(order)
    }
  }

  tell(orders: readonly Order[], answer: OrderAnswer): void {
    for (const order of orders) {
      order.settle.resolve(answer)
      this.#waiting.delete(order)
    }
  }
}
