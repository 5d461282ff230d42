// A disk is claimed by one purpose at a time. What must not run beside another of its kind (to begin a migration, to delete,
// to come back, to accept a failed sync) claims it in the synchronous step in which it looked, and holds it until it is
// done, or durable.

import { Refusal } from './refusal.ts'

/** The purpose under which no session may open. */
export const deletion = 'it is being deleted'

export class Reservation {
  readonly #diskName: string
  #purpose: string | undefined

  constructor(diskName: string) {
    this.#diskName = diskName
  }

  get isForDeletion(): boolean {
    return this.#purpose === deletion
  }

  /** Dispose when it is over. @throws Refusal `disk-busy` */
  claim(purpose: string): Disposable {
    if (this.#purpose !== undefined) {
      throw new Refusal('disk-busy', `${this.#diskName} is busy: ${this.#purpose}`, {
        disk: this.#diskName,
        safe: 'Nothing was changed.',
        next: 'Try again in a moment.',
      })
    }
    this.#purpose = purpose
    return {
      [Symbol.dispose]: () => {
        this.#purpose = undefined
      },
    }
  }
}
