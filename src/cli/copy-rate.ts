// How fast a copy goes, and how long it will take: told only once it was measured for a while, and no further ahead than
// what was measured bears. Pure.
//
// A copy begins with waiting (for a connection, a program, the first bytes), and walks over holes in no time: what its first
// seconds say of the rest is nothing.

const windowMs = 10_000
const sampleMs = 100
/** From the first report on. */
const leastMs = 3000
/** An estimate reaches so many times as far as what was measured. */
const reach = 100

export interface Estimate {
  /** Bytes a second, over the last seconds. */
  readonly rate: number
  /** null: nobody can tell. */
  readonly secondsLeft: number | null
}

export class CopyRate {
  #firstMs: number | undefined
  /** The latest of the last seconds; the first one may be older. */
  readonly #samples: { readonly atMs: number; readonly done: number }[] = []

  /** undefined: it was not measured for long enough. */
  at(nowMs: number, done: number, total: number): Estimate | undefined {
    this.#firstMs ??= nowMs
    const last = this.#samples.at(-1)
    if (last === undefined || nowMs - last.atMs >= sampleMs) this.#samples.push({ atMs: nowMs, done })
    while (this.#samples.length > 2 && this.#samples[1]!.atMs <= nowMs - windowMs) this.#samples.shift()
    const measuredMs = nowMs - this.#firstMs
    if (measuredMs < leastMs) return undefined
    const oldest = this.#samples[0]!
    const rate = ((done - oldest.done) * 1000) / (nowMs - oldest.atMs)
    if (rate <= 0) return undefined
    const secondsLeft = (total - done) / rate
    return { rate, secondsLeft: secondsLeft <= (reach * measuredMs) / 1000 ? secondsLeft : null }
  }
}
