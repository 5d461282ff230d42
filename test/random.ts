// Random numbers from a seed, for tests: the same seed gives the same run. A test prints its seed when it fails.

export interface Random {
  /** 0 <= value < 1 */
  next(): number
  /** 0 <= value < bound */
  integer(bound: number): number
  chance(probability: number): boolean
  pick<T>(from: readonly T[]): T
}

/** mulberry32: small, fast, good enough to choose tests by. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const integer = (bound: number) => Math.floor(next() * bound)
  return {
    next,
    integer,
    chance: (probability) => next() < probability,
    pick: (from) => from[integer(from.length)]!,
  }
}
