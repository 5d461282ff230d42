// One bucket, in memory. A conditional put looks and commits in one synchronous step, so that of many exactly one wins; the
// ways in which real stores fall short of that are there to be chosen.

import { createHash, randomBytes } from 'node:crypto'
import { notImplemented, S3Failure } from './failure.ts'

export interface StoredObject {
  readonly bytes: Buffer
  readonly etag: string
  readonly changedAt: Date
}

export interface BucketTraits {
  /** Each answer to a put has a version; 'void': and puts under a condition all win, as Ceph 16 and 18 have it. */
  versions?: 'none' | 'kept' | 'void'
  /** 'unsupported': 501, as Swift; 'ignored': in silence, as npm's servers; 'racy': looked at before the body came, as SeaweedFS. */
  conditions?: 'kept' | 'unsupported' | 'ignored' | 'racy'
  /** False: DeleteObjects is not there, as at Google's. */
  deletesMany?: boolean
}

export interface Condition {
  readonly ifNoneMatch: boolean
  /** What was there when the request's head came. */
  readonly wasThere: boolean
}

export interface Page {
  readonly objects: readonly (readonly [string, StoredObject])[]
  readonly isTruncated: boolean
}

export class Bucket {
  readonly traits: BucketTraits
  readonly #objects = new Map<string, StoredObject>()
  /** In order of bytes; undefined: to be made. */
  #sorted: string[] | undefined
  /** What listings show while they lag. */
  #shown: ReadonlyMap<string, StoredObject> | undefined

  constructor(traits: BucketTraits = {}) {
    this.traits = traits
  }

  get keys(): readonly string[] {
    return this.#inOrder()
  }

  get(key: string): StoredObject | undefined {
    return this.#objects.get(key)
  }

  /** Answers the version, if there are versions. */
  put(key: string, bytes: Buffer, { ifNoneMatch, wasThere }: Condition): string | undefined {
    const { versions = 'none', conditions = 'kept' } = this.traits
    if (ifNoneMatch && conditions === 'unsupported') throw notImplemented('If-None-Match')
    const isThere = conditions === 'racy' ? wasThere : this.#objects.has(key)
    const looks = ifNoneMatch && conditions !== 'ignored' && versions !== 'void'
    if (looks && isThere) throw new S3Failure(412, 'PreconditionFailed', 'At least one of the conditions did not hold')
    const etag = `"${createHash('md5').update(bytes).digest('hex')}"`
    if (!this.#objects.has(key)) this.#sorted = undefined
    this.#objects.set(key, { bytes, etag, changedAt: new Date() })
    return versions === 'none' ? undefined : randomBytes(16).toString('hex')
  }

  delete(key: string): void {
    if (this.#objects.delete(key)) this.#sorted = undefined
  }

  list(prefix: string, after: string, most: number): Page {
    const shown = this.#shown ?? this.#objects
    const keys = this.#shown ? inOrder(this.#shown.keys()) : this.#inOrder()
    const wanted = keys.filter((key) => key.startsWith(prefix) && compare(key, after) > 0)
    const objects = wanted.slice(0, most).map((key) => [key, shown.get(key)!] as const)
    return { objects, isTruncated: wanted.length > objects.length }
  }

  /** From now on listings show what is there now, whatever comes and goes. */
  lag(): void {
    this.#shown = new Map(this.#objects)
  }

  catchUp(): void {
    this.#shown = undefined
  }

  #inOrder(): string[] {
    this.#sorted ??= inOrder(this.#objects.keys())
    return this.#sorted
  }
}

const inOrder = (keys: Iterable<string>): string[] => [...keys].sort(compare)

function compare(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other))
}
