// What is answered about deeds: who owns a disk, as its givers have signed it.

import type { DeedEntry } from '../../deed/entries.ts'

export interface DeedView {
  /** UUID. */
  readonly disk: string
  /** What this site calls it. */
  readonly name: string
  readonly generation: number
  /** Fingerprint of the key that may serve this generation. */
  readonly holder: string
  /** What this site calls the sites whose keys it knows, by fingerprint: for people, and not signed. */
  readonly names: Readonly<Record<string, string>>
  /** The deed itself. */
  readonly entries: readonly DeedEntry[]
}
