// A deed in words. Pure.

import { isReleased, standingOf, standingsOf } from '../deed/deed.ts'
import type { Deed, DeedEntry } from '../deed/entries.ts'
import { fingerprintOfKey } from '../deed/keys.ts'
import { whenText } from './standing-text.ts'
import { table } from './table.ts'

/** What sites are called, by the fingerprints of their keys. */
export type SiteNames = Readonly<Record<string, string>>

/** Enough of a fingerprint to tell sites apart by eye; `--json` has all of it. */
const shownDigits = 16

const header = ['entry', 'generation', 'at', 'what', 'held by'] as const

/** One line an entry, the oldest first. */
export function deedTable(deed: Deed, names: SiteNames): string {
  const known = namesIn(deed, names)
  const standings = standingsOf(deed)
  const rows = deed.map((entry, index) => {
    const { generation, holder } = standings[index]!
    const at = whenText(entry.at)
    return [String(index + 1), String(generation), at, whatText(entry, known), siteText(holder, known)]
  })
  return table(header, rows, '')
}

/** 'tokyo (0123456789abcdef…) owns generation 3; it was released.' */
export function ownerText(deed: Deed, names: SiteNames): string {
  const { holder, generation, given } = standingOf(deed)
  const owner = `${siteText(holder, namesIn(deed, names))} owns generation ${generation}.`
  if (isReleased(deed)) return `${owner} Who gave it has let it go: it cannot be taken back.`
  return given ? `${owner} Who gave it has not let it go yet.` : owner
}

/** The facts of an entry, for `--json`. */
export function entryFacts(entry: DeedEntry): { by: string; to: string | null; move: string | null } {
  const to = 'to' in entry ? entry.to : null
  return { by: fingerprintOfKey(entry.by), to, move: entry.kind === 'given' ? entry.move : null }
}

function whatText(entry: DeedEntry, names: SiteNames): string {
  const by = siteText(fingerprintOfKey(entry.by), names)
  switch (entry.kind) {
    case 'made':
      return `made by ${by}`
    case 'adopted':
      return `had by ${by} before there were deeds`
    case 'given':
      return `given by ${by} to ${siteText(entry.to, names)}, in move ${entry.move}`
    case 'taken-back':
      return `taken back by ${by}: ${entry.word}`
    case 'released':
      return `let go by ${by}`
    case 'rekeyed':
      return `${by} has another key: ${siteText(entry.to, names)}`
  }
}

/** What the deed's givers called those to whom they gave, where nothing else is known. */
function namesIn(deed: Deed, names: SiteNames): SiteNames {
  const said = deed.flatMap((entry) => (entry.kind === 'given' ? [[entry.to, entry.toSite] as const] : []))
  return { ...Object.fromEntries(said), ...names }
}

function siteText(fingerprint: string, names: SiteNames): string {
  const short = `${fingerprint.slice(0, shownDigits)}…`
  const name = Object.hasOwn(names, fingerprint) ? names[fingerprint] : undefined
  return name ? `${name} (${short})` : short
}
