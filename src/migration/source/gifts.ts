// The entries of deeds by which disks are given away: signed once for a grant, before anything freezes, and put on record with it.

import assert from 'node:assert/strict'
import { DeedError } from '../../deed/deed.ts'
import type { Deed } from '../../deed/entries.ts'
import type { SigningKey } from '../../deed/keys.ts'
import { signGiven } from '../../deed/signing.ts'
import type { Disk } from '../../disk/disk.ts'
import type { AcquireAnswer } from '../counterpart.ts'
import type { Course } from '../course.ts'

const notSignedCode = 'deed-not-signed'

export class Gifts {
  readonly #key: SigningKey
  /** With the entries, by the ids of the disks. */
  readonly #deeds = new Map<string, Deed>()

  constructor(key: SigningKey) {
    this.#key = key
  }

  /** What cannot be signed is not given: returns the refusal. `at`: time of day. */
  sign(course: Pick<Course, 'inMove' | 'record' | 'moved'>, at: string): AcquireAnswer | undefined {
    const { peerId: to, peerSite: toSite, id: move } = course.record
    this.#deeds.clear()
    for (const disk of course.inMove) {
      const { deed } = disk.record
      assert(deed, `${disk.name} is owned, and has no deed`)
      try {
        const gone = signGiven(this.#key, deed, { to, toSite, move }, at)
        assert.equal(gone.at(-1)!.generation, course.moved(disk).generation)
        this.#deeds.set(disk.id, gone)
      } catch (error) {
        if (!(error instanceof DeedError)) throw error
        return { answer: 'refused', code: notSignedCode, message: `${disk.name} cannot be given: ${error.message}` }
      }
    }
    return undefined
  }

  of({ id }: Disk): Deed {
    const deed = this.#deeds.get(id)
    assert(deed)
    return deed
  }
}

/** It was given before disks had deeds, to a site whose key is not on record. */
export function undeeded({ name }: Disk): AcquireAnswer {
  const message = `${name} was given before disks had deeds, to a key that is not on record here`
  return { answer: 'refused', code: notSignedCode, message }
}
