// A promise of time, held against a machine that may be busy. What a site does in the promised time it does in a few turns
// of its loop; how long a turn takes here and now is seen by asking sites meanwhile. On a machine with nothing else to do
// that adds some milliseconds to the promise. That the time is kept at all is proven where time is moved by hand
// (test/link/silence.test.ts).

/** Dials, their handshakes, a question and its answer take about so many turns, at either site. */
const turns = 10

export class Promptness {
  readonly #promisedMs: number
  readonly #sinceMs = performance.now()
  #slowestMs = 0

  /** Time begins to run. */
  constructor(promisedMs: number) {
    this.#promisedMs = promisedMs
  }

  get elapsedMs(): number {
    return performance.now() - this.#sinceMs
  }

  /** What the promise comes to on this machine. */
  get boundMs(): number {
    return this.#promisedMs + turns * this.#slowestMs
  }

  /** Asks a site something, and notes how long it took to answer. */
  async ask<T>(question: () => Promise<T>): Promise<T> {
    const askedMs = performance.now()
    const answer = await question()
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - askedMs)
    return answer
  }
}
