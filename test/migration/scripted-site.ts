// The other site of a migration, of which a test says what it answers. What it does not say is never asked.

import assert from 'node:assert/strict'
import type { Counterpart, SourceDesk } from '../../src/migration/counterpart.ts'

const never = (what: string) => (): never => assert.fail(`${what} is not asked`)

export function scriptedSource(answers: Partial<SourceDesk>): SourceDesk {
  return {
    inquire: never('inquire'),
    acquire: never('acquire'),
    flush: never('flush'),
    taken: never('taken'),
    extents: never('extents'),
    digests: never('digests'),
    blocks: never('blocks'),
    progress: never('progress'),
    guests: never('guests'),
    paused: never('paused'),
    complete: never('complete'),
    cancel: never('cancel'),
    ...answers,
  }
}

/** A site that is the source of every migration. */
export function scriptedSite(source: Partial<SourceDesk>): Counterpart {
  return {
    peerId: 'peer',
    generations: never('generations'),
    deed: never('deed'),
    request: never('request'),
    prepare: never('prepare'),
    standing: never('standing'),
    source: () => scriptedSource(source),
    destination: never('destination'),
  }
}
