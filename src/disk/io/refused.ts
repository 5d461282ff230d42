// Guest I/O on a disk that another site serves, or that is gone: a hypervisor may still negotiate and quit, so a flush
// succeeds, where nothing is left to flush; everything else is `not-served`.

import { GuestError, type StatusExtent } from '../../guest/export.ts'
import type { GuestIo } from './guest-io.ts'

export class RefusedIo implements GuestIo {
  readonly #sentence: string
  readonly #isFlushed: () => boolean

  /** `isFlushed`: whether all that was ever answered is durable, or void. */
  constructor(sentence: string, isFlushed: () => boolean) {
    this.#sentence = sentence
    this.#isFlushed = isFlushed
  }

  read(): void {
    throw this.#refusal()
  }

  takesAtOnce(): boolean {
    return true
  }

  write(): void {
    throw this.#refusal()
  }

  trim(): void {
    throw this.#refusal()
  }

  writeZeroes(): void {
    throw this.#refusal()
  }

  flush(): void {
    if (!this.#isFlushed()) throw this.#refusal()
  }

  cache(): void {
    throw this.#refusal()
  }

  status(): readonly StatusExtent[] {
    throw this.#refusal()
  }

  #refusal(): GuestError {
    return new GuestError('not-served', this.#sentence)
  }
}
