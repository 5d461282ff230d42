// Keeps one source of noise from filling the log: a client that connects in a loop, a peer that talks nonsense. Each source,
// which is a sentence and who it is about, may say so much at once and a line every so often; what is left out is counted, and
// told with the next line that may be said. All sources together are bounded too, for whoever comes under ever new names.
// Pure: time is given.

interface Allowance {
  /** Lines at once, and then one in so many milliseconds. */
  readonly burstLines: number
  readonly refillMs: number
}

const ofOne: Allowance = { burstLines: 60, refillMs: 1000 }
const ofAll: Allowance = { burstLines: 3000, refillMs: 50 }
/** Sources that are kept apart; beyond these the one that was silent longest is forgotten. */
const sourcesKept = 1000

interface Bucket {
  lines: number
  atMs: number
  leftOut: number
}

export class LogNoise {
  readonly #buckets = new Map<string, Bucket>()
  readonly #all = fresh(ofAll, 0)

  /** undefined: the line is left out. Else how many lines of its source were left out before it. */
  admit(source: string, nowMs: number): number | undefined {
    const bucket = this.#buckets.get(source) ?? fresh(ofOne, nowMs)
    this.#buckets.delete(source)
    this.#buckets.set(source, bucket) // The latest comes last.
    if (this.#buckets.size > sourcesKept) this.#buckets.delete(this.#buckets.keys().next().value!)
    refill(bucket, ofOne, nowMs)
    refill(this.#all, ofAll, nowMs)
    if (bucket.lines < 1 || this.#all.lines < 1) {
      bucket.leftOut++
      return undefined
    }
    bucket.lines -= 1
    this.#all.lines -= 1
    const { leftOut } = bucket
    bucket.leftOut = 0
    return leftOut
  }
}

const fresh = ({ burstLines }: Allowance, nowMs: number): Bucket => ({ lines: burstLines, atMs: nowMs, leftOut: 0 })

function refill(bucket: Bucket, { burstLines, refillMs }: Allowance, nowMs: number): void {
  bucket.lines = Math.min(burstLines, bucket.lines + (nowMs - bucket.atMs) / refillMs)
  bucket.atMs = nowMs
}

/** Whom a line is about: numbers in the sentence, and a client's port, make no other source. */
export function sourceOf(facts: unknown, sentence: string): string {
  const { client, export: name, peer, site, disk } = (facts ?? {}) as Record<string, unknown>
  const who = [client, name, peer, site, disk].filter((each) => typeof each === 'string')
  return `${who.join(' ').replace(/:\d+(?= |$)/, '')} ${sentence.replaceAll(/\d+/g, '#')}`
}
