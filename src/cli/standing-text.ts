// What stands in the way of a migration, in sentences: a link that is down, a pause, guests that wait or were refused, and
// what the migration itself notes. Pure.

import type { LinkView, MigrationView } from '../control/types.ts'
import { formatSize } from './sizes.ts'

export interface Standing {
  readonly kind: 'link' | 'pause' | 'held' | 'refused' | 'note'
  /** One sentence or more, with a period. */
  readonly text: string
}

/** '2026-11-30T16:08:12Z', to the second. The two sites need not be in one time zone. */
export const whenText = (time: string): string => time.replace(/\.\d+Z$/, 'Z')

/** 'up since 2026-11-30T16:08:12Z', 'down since …: no route'; '' when nobody has tried. */
export function linkText({ state, since, why }: LinkView): string {
  if (state === 'untried' || since === null) return ''
  return `${state} since ${whenText(since)}${why === null ? '' : `: ${why}`}`
}

/** '310 MiB exist only at osaka, which is out of reach: reads of them wait' */
export function exposureOf({ bytes, link, connected, peer, role }: MigrationView): string | null {
  if (bytes.exposed === 0) return null
  const isAway = !connected || link.state === 'down'
  const amount = `${formatSize(bytes.exposed)} exist only at`
  if (role === 'source') return isAway ? `${amount} this site: reads of them wait there` : `${amount} this site`
  return isAway ? `${amount} ${peer}, which is out of reach: reads of them wait` : `${amount} ${peer}`
}

export function standingOf(view: MigrationView): Standing[] {
  if (['done', 'cancelled', 'failed'].includes(view.state)) return []
  const { link, peer, paused, held, refusedWrites, note } = view
  const standing: Standing[] = []
  if (link.state === 'down') {
    const exposed = exposureOf(view)
    const text = `The link to ${peer} is ${linkText(link)}.${exposed === null ? '' : ` ${exposed}.`}`
    standing.push({ kind: 'link', text })
  }
  if (paused) standing.push({ kind: 'pause', text: 'The background copy is paused.' })
  if (held !== null) standing.push({ kind: 'held', text: heldText(view, held) })
  if (refusedWrites !== null && isBeforeSwitchover(view))
    standing.push({ kind: 'refused', text: `${refusedText(view, refusedWrites)} ${switchoverAdvice(view)}` })
  if (note !== null) standing.push({ kind: 'note', text: asSentence(note) })
  return standing
}

/** '24 writes of 10.0.0.7:41234 at tokyo were refused (EPERM), the last at …: the source is busy.' */
export function refusedText(view: MigrationView, refused: NonNullable<MigrationView['refusedWrites']>): string {
  const { count, clients, last, why } = refused
  const writes = count === 1 ? '1 write' : `${count} writes`
  const were = count === 1 ? 'was' : 'were'
  const who = `${writes}${ofClients(clients)} ${placeOf(view)} ${were} refused (EPERM)`
  return asSentence(`${who}, the last at ${whenText(last)}: ${why}`)
}

/** As a sentence: notes begin like the middle of one. */
export function asSentence(text: string): string {
  if (text === '') return ''
  const begun = /^[a-z]+\b(?![-.])/.test(text) ? text[0]!.toUpperCase() + text.slice(1) : text
  return /[.!?]$/.test(begun) ? begun : `${begun}.`
}

function heldText(view: MigrationView, held: NonNullable<MigrationView['held']>): string {
  const since = `waits for switchover since ${whenText(held.since)}: ${held.why}`
  return asSentence(`a write${ofClients(held.clients)} ${placeOf(view)} ${since}`)
}

function switchoverAdvice({ id, role, peer }: MigrationView): string {
  const there = role === 'source' ? `at ${peer}` : 'here'
  return `If the machine runs ${there} now: vmstore migration switchover ${id}. If not, stop that client. With --switchover-wait 60s such writes wait for longer.`
}

const ofClients = (clients: readonly string[]): string => (clients.length === 0 ? '' : ` of ${clients.join(', ')}`)
const placeOf = ({ role, peer }: MigrationView): string => (role === 'source' ? `at ${peer}` : 'here')
const isBeforeSwitchover = ({ state }: MigrationView): boolean =>
  ['preparing', 'pre-copying', 'ready', 'switching'].includes(state)
