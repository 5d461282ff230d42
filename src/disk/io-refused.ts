// Guest I/O on a disk that another site serves, or that is gone: a hypervisor may still negotiate and quit, so a flush
// succeeds (nothing is left to flush); everything else gets NBD_ESHUTDOWN.

import { NbdError, type StatusExtent } from '../nbd/export.ts'
import type { GuestIo } from './guest-io.ts'

export class RefusedIo implements GuestIo {
  readonly #sentence: string

  constructor(sentence: string) {
    this.#sentence = sentence
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

  flush(): void {}

  cache(): void {
    throw this.#refusal()
  }

  status(): readonly StatusExtent[] {
    throw this.#refusal()
  }

  #refusal(): NbdError {
    return new NbdError('ESHUTDOWN', this.#sentence)
  }
}
