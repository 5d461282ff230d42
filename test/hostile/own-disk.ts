// A disk of the hostile site's own, which it moves to its victim as an honest source would: all that a source answers, from bytes in
// memory. A test puts a lie in the place of single answers.

import { createHash, randomUUID } from 'node:crypto'
import { AnswerWithBody, type FetchRequest } from '../../src/link/channel.ts'
import { bytesOfImage } from '../e2e/guest.ts'
import type { HostileSite, Said } from './hostile-site.ts'
import { type Offered, offered, preparation, usualTerms } from './moves.ts'
import { sizeBytes } from './witness.ts'

interface Range {
  readonly offset: number
  readonly length: number
}

export class OwnDisk {
  readonly id: string
  readonly migration = randomUUID()
  readonly name: string
  readonly bytes: Buffer
  readonly #sizeBytes: number
  readonly #hostile: HostileSite
  /** As it stands at the source. */
  state: 'ready' | 'departed' | 'taken' | 'released' = 'ready'

  /** `sayBytes`: the size that it says; of a size of its own it has no bytes to give. */
  constructor(hostile: HostileSite, name = 'web01', sayBytes = sizeBytes, id: string = randomUUID()) {
    this.id = id
    this.#hostile = hostile
    this.name = name
    this.#sizeBytes = sayBytes
    this.bytes = sayBytes === sizeBytes ? bytesOfImage(0, sizeBytes) : Buffer.alloc(0)
    Object.assign(hostile.replies, this.#honest)
    hostile.pieces = ({ runs }: FetchRequest) =>
      runs.map(({ offset, length }) => ({ offset, length, bytes: this.bytes.subarray(offset, offset + length) }))
  }

  get offer(): Offered {
    return offered({ id: this.id, name: this.name, sizeBytes: this.#sizeBytes, allocatedBytes: this.bytes.length })
  }

  /** Has the victim make an incoming disk of it. */
  async prepare(terms: Partial<typeof usualTerms> = {}): Promise<void> {
    await this.#hostile.call('prepare', preparation([this.offer], this.migration, { ...usualTerms, ...terms }))
  }

  grant({ disks }: Said): object {
    this.state = 'departed'
    const given = (disks as readonly object[]).map((each) => ({ ...each, powerLoss: null }))
    return { answer: 'granted', disks: given, boot: 'boot-1', cutOff: [] }
  }

  get #honest() {
    return {
      inquire: () => ({ state: this.state, writersAreGone: true, sessions: 0, boot: 'boot-1' }),
      acquire: (said: Said) => this.grant(said),
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
        this.state = 'released'
        return { disks: [] }
      },
      cancel: () => ({ cancelled: true, message: '' }),
    }
  }
}
