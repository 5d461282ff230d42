// How many background bytes to have in flight: enough to fill the path, and no more than it holds, so that a demand fetch
// on the same path is not queued behind them. Grows while answers come as fast as the fastest ones, shrinks when they
// begin to queue (TCP Vegas's idea, on requests). Pure.

const smallest = 1 * 2 ** 20
const largest = 64 * 2 ** 20
/** Below this, a longer answer time says nothing: scheduling and disks vary by as much. */
const noiseMs = 10

export class Window {
  #bytes = smallest
  #fastestMs = Number.POSITIVE_INFINITY

  get bytes(): number {
    return this.#bytes
  }

  /** A request of `lengthBytes` was answered whole after `elapsedMs`. */
  answered(lengthBytes: number, elapsedMs: number): void {
    this.#fastestMs = Math.min(this.#fastestMs, elapsedMs)
    const queued = elapsedMs > 2 * this.#fastestMs + noiseMs
    this.#bytes = queued
      ? Math.max(smallest, this.#bytes - lengthBytes / 2)
      : Math.min(largest, this.#bytes + lengthBytes)
  }

  lost(): void {
    this.#bytes = smallest
    this.#fastestMs = Number.POSITIVE_INFINITY
  }
}
