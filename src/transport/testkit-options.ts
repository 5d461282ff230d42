// What vmstore gives a driver, as the contract's suites give it.

import type { TransportOptions } from './contract.ts'

export function testOptions(options: Partial<TransportOptions> = {}): TransportOptions {
  const nothing = () => {}
  return {
    signal: new AbortController().signal,
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    purpose: 'control',
    settings: {},
    tune: nothing,
    ...options,
  }
}
