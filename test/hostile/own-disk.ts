// A disk of the hostile site's own, which it moves to its victim as an honest source would: all that a source answers, from bytes in
// memory, and the disk's deed. A test puts a lie in the place of single answers.

import { createHash, randomUUID } from 'node:crypto'
import { headOf } from '../../src/deed/deed.ts'
import type { Deed } from '../../src/deed/entries.ts'
import { type SigningKey, signingKey } from '../../src/deed/keys.ts'
import { signGiven, signMade, signReleased } from '../../src/deed/signing.ts'
import { AnswerWithBody, type FetchRequest } from '../../src/link/channel.ts'
import { bytesOfImage } from '../e2e/guest.ts'
import type { HostileSite, Said } from './hostile-site.ts'
import { type Offered, offered, preparation, usualTerms } from './moves.ts'
import { sizeBytes } from './witness.ts'

interface Range {
  readonly offset: number
  readonly length: number
}

interface At {
  readonly disk: string
  readonly generation: number
}

export interface OwnDiskOptions {
  readonly name?: string
  readonly id?: string
  /** The size that it says; of a size of its own it has no bytes to give. */
  readonly saysBytes?: number
}

export const at = '2026-01-01T00:00:00.000Z'

export class OwnDisk {
  readonly id: string
  readonly migration = randomUUID()
  readonly name: string
  readonly bytes: Buffer
  readonly key: SigningKey
  /** As it stands at the source. */
  state: 'ready' | 'departed' | 'taken' | 'released' = 'ready'
  deed: Deed
  readonly #saysBytes: number
  readonly #hostile: HostileSite

  constructor(hostile: HostileSite, { name = 'web01', id = randomUUID(), saysBytes = sizeBytes }: OwnDiskOptions = {}) {
    this.#hostile = hostile
    this.id = id
    this.name = name
    this.#saysBytes = saysBytes
    this.bytes = saysBytes === sizeBytes ? bytesOfImage(0, sizeBytes) : Buffer.alloc(0)
    this.key = signingKey(hostile.identity.privateKeyPem)
    this.deed = signMade(this.key, id, at)
    this.isHonest()
  }

  /** From now on, whatever it said before. */
  isHonest(): void {
    Object.assign(this.#hostile.replies, this.#honest)
    this.#hostile.pieces = ({ runs }: FetchRequest) =>
      runs.map(({ offset, length }) => ({ offset, length, bytes: this.bytes.subarray(offset, offset + length) }))
  }

  get offer(): Offered {
    const { id, name, deed } = this
    const generation = deed.at(-1)!.generation
    return offered({
      id,
      name,
      generation,
      head: headOf(deed),
      sizeBytes: this.#saysBytes,
      allocatedBytes: this.bytes.length,
    })
  }

  /** Has the victim make an incoming disk of it. @throws what the victim answers */
  async prepare(terms: Partial<typeof usualTerms> = {}, changes: Partial<Offered> = {}): Promise<void> {
    const offer = { ...this.offer, ...changes }
    await this.#hostile.call('prepare', preparation([offer], this.migration, { ...usualTerms, ...terms }))
  }

  /** Gives the disk to the victim, once. */
  give(): void {
    if (this.state !== 'ready') return
    this.state = 'departed'
    const gift = { to: this.#hostile.victimKey, toSite: 'victim', move: this.migration }
    this.deed = signGiven(this.key, this.deed, gift, at)
  }

  /** `given`: the entry that it shows. */
  granted({ disks }: Said, given: unknown = this.deed.at(-1)): object {
    const granted = (disks as readonly At[]).map((each) => ({ ...each, given, powerLoss: null }))
    return { answer: 'granted', disks: granted, boot: 'boot-1', cutOff: [] }
  }

  get #honest() {
    return {
      deed: () => bodyOf(this.deed),
      inquire: () => ({ state: this.state, writersAreGone: true, sessions: 0, boot: 'boot-1' }),
      acquire: (said: Said) => {
        this.give()
        return this.granted(said)
      },
      flush: () => ({ boot: 'boot-1' }),
      taken: () => {
        this.state = 'taken'
        return {}
      },
      extents: (said: Said) => ({ extents: [{ length: Number(said['length']), data: true }] }),
      digests: ({ runs }: Said) => {
        const asked = runs as readonly Range[]
        const digests = asked.map(({ offset, length }) =>
          createHash('sha256')
            .update(this.bytes.subarray(offset, offset + length))
            .digest(),
        )
        return new AnswerWithBody({ digests: asked.length }, [Buffer.concat(digests)])
      },
      progress: () => ({ disks: [] }),
      guests: () => ({}),
      paused: () => ({}),
      complete: () => {
        if (this.state !== 'released') this.deed = signReleased(this.key, this.deed, at)
        this.state = 'released'
        return { disks: [], released: [this.deed.at(-1)] }
      },
      cancel: () => ({ cancelled: true, message: '' }),
    }
  }
}

/** A deed, or whatever is given for one, as the answer to `deed`. */
export function bodyOf(deed: unknown): AnswerWithBody {
  const bytes = typeof deed === 'string' ? Buffer.from(deed) : Buffer.from(JSON.stringify(deed))
  const parts: Buffer[] = []
  for (let start = 0; start < bytes.length; start += 65_536) parts.push(bytes.subarray(start, start + 65_536))
  return new AnswerWithBody({ bytes: bytes.length }, parts)
}
