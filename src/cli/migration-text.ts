// A migration in words. Pure.

import type { MigrationView, MovedDiskView, RangeView } from '../control/types.ts'
import { exactSize, formatRate, formatSeconds, formatSize } from './sizes.ts'
import { exposureOf, linkText, refusedText, type Standing, standingOf, whenText } from './standing-text.ts'
import { facts } from './table.ts'

/** '310 MiB of 512 MiB (60%), 41.2 MiB/s, 5 s left' */
export function progressOf({ bytes, rate, secondsLeft }: MigrationView): string {
  const amounts = { done: bytes.disk - bytes.missing, total: bytes.disk }
  return progressText(bytes.missing === 0 ? amounts : { ...amounts, rate, secondsLeft })
}

/** A line for each disk of several, and none of one alone. */
export function progressLines({ disks }: MigrationView): readonly string[] {
  if (disks.length < 2) return []
  const width = Math.max(...disks.map(({ name }) => name.length))
  return disks.map((disk) => `${disk.name.padEnd(width)}  ${diskProgress(disk)}`)
}

/** '310 MiB of 512 MiB (60%)' */
function diskProgress({ bytes, hasLeft, ownerName }: MovedDiskView): string {
  if (hasLeft) return `has left the migration: ${ownerName} owns it`
  return progressText({ done: bytes.disk - bytes.missing, total: bytes.disk })
}

/** '310 MiB of 512 MiB (60%), 41.2 MiB/s, 5 s left'; once it was gone over: '4 MiB are to be copied still, pass 3'. null: nothing is copied ahead. */
export function aheadOf(view: MigrationView): string | null {
  const { ahead, rate, state } = view
  if (ahead === null) return null
  if (ahead.passes === 0) return progressOf(view)
  const left = ahead.leftBytes === null ? 'not known yet' : formatSize(ahead.leftBytes)
  if (state === 'ready') return `in step, ${left} to be copied still`
  const parts = [`${left} to be copied still, pass ${ahead.passes + 1}`]
  if (rate > 0) parts.push(formatRate(rate))
  return parts.join(', ')
}

export function progressText(progress: {
  done: number
  total: number
  rate?: number
  secondsLeft?: number | null
}): string {
  const { done, total, rate = 0, secondsLeft } = progress
  const parts = [`${formatSize(done)} of ${formatSize(total)} (${percent(done, total)}%)`]
  if (rate > 0) parts.push(formatRate(rate))
  if (secondsLeft !== null && secondsLeft !== undefined) parts.push(`${formatSeconds(Math.ceil(secondsLeft))} left`)
  return parts.join(', ')
}

/** Rounded down: 100 is said when nothing is missing. */
export function percent(done: number, total: number): number {
  return total === 0 ? 100 : Math.floor((100 * done) / total)
}

/** `web01 to tokyo`, whichever side is asked. */
export function course({ disk, role, peer }: MigrationView): string {
  return role === 'source' ? `${disk} to ${peer}` : `${disk} from ${peer}`
}

/** The last words of `migrate`. */
export function reportOf(view: MigrationView): string {
  const { bytes, seconds, disks } = view
  const where = view.role === 'source' ? `moved to ${view.peer}` : `moved here from ${view.peer}`
  const average = seconds.copying > 0 ? ` (${formatRate(bytes.sent / seconds.copying)})` : ''
  const held = seconds.postcopy - seconds.copying >= 1 && seconds.copying > 0
  return [
    `${view.disk} ${disks.length > 1 ? 'have' : 'has'} ${where}, as generation ${generationsOf(view)}, in ${formatSeconds(seconds.total)}.`,
    facts({
      '  disk': `${formatSize(bytes.disk)}, of which ${formatSize(bytes.data)} data`,
      '  sent': `${formatSize(bytes.sent)}${average}, again: ${formatSize(bytes.resent)}`,
      '  spared': bytes.spared > 0 ? `${formatSize(bytes.spared)} were at the destination already` : null,
      '  skipped as zero': formatSize(bytes.skippedZero),
      '  copied ahead': seconds.precopy > 0 ? formatSeconds(seconds.precopy) : null,
      '  switchover': formatSeconds(seconds.switchover),
      '  copy after it': `${formatSeconds(seconds.postcopy)}${held ? `, of which it copied for ${formatSeconds(seconds.copying)}` : ''}`,
      '  refused writes': view.refusedWrites && refusedText(view, view.refusedWrites),
      '  cut off by --force': cutOffOf(view),
      '  verified': view.verified ? 'yes, every block that the guest did not write since' : 'no',
      '  differed, and fetched again': rangesOf(view.differed),
      '  note': view.note,
    }),
    ...reportLines(view),
  ].join('\n')
}

/** Of several disks, what each of them was. */
function reportLines({ disks }: MigrationView): readonly string[] {
  if (disks.length < 2) return []
  const lines = disks.map(({ name, bytes, verified, hasLeft, ownerName }) => {
    if (hasLeft) return [`  ${name}`, `has left the migration: ${ownerName} owns it`]
    const sent = `${formatSize(bytes.disk)}, of which ${formatSize(bytes.data)} data, ${formatSize(bytes.sent)} sent`
    return [`  ${name}`, `${sent}, ${verified ? 'verified' : 'not verified'}`]
  })
  return [facts(Object.fromEntries(lines))]
}

/** '2', or '2 of web01, 5 of db01' where they differ. */
export function generationsOf({ generation, disks }: MigrationView): string {
  if (disks.every((disk) => disk.generation === generation)) return String(generation)
  return disks.map((disk) => `${disk.generation} of ${disk.name}`).join(', ')
}

/** What `migration show` prints. */
export function detailsOf(view: MigrationView): string {
  return facts({
    id: view.id,
    disk: view.disk,
    role: view.role,
    peer: view.peer,
    state: stateOf(view),
    mode: view.mode,
    switchover: view.switchover,
    'max rate': view.maxRate === null ? null : formatRate(view.maxRate),
    transport: view.transport,
    generation: generationsOf(view),
    owner: view.ownerName === view.owner ? view.owner : `${view.ownerName} (${view.owner})`,
    link: linkText(view.link) || null,
    copied: progressOf(view),
    ...Object.fromEntries(disksOf(view).map((disk) => [`  ${disk.name}`, diskProgress(disk)])),
    ahead: aheadOf(view),
    'ready since': view.ahead?.readyAt ?? null,
    sent: sentOf(view),
    started: whenText(view.startedAt),
    ended: view.endedAt && whenText(view.endedAt),
    took: formatSeconds(view.seconds.total),
    verified: view.verified ? 'yes' : 'no',
    exposed: exposureOf(view),
    unreadable: rangesOf(view.unreadable),
    differed: rangesOf(view.differed),
    'refused writes': isOver(view.state) && view.refusedWrites ? refusedText(view, view.refusedWrites) : null,
    'cut off by --force': cutOffOf(view),
    note: isOver(view.state) ? view.note : null,
    ...Object.fromEntries(standingOf(view).map(({ kind, text }) => [titleOf[kind], text])),
  })
}

const disksOf = ({ disks }: MigrationView): readonly MovedDiskView[] => (disks.length > 1 ? disks : [])

function sentOf({ bytes }: MigrationView): string {
  const { sent, resent, skippedZero, spared } = bytes
  const parts = [formatSize(sent), `again: ${formatSize(resent)}`, `skipped as zero: ${formatSize(skippedZero)}`]
  return [...parts, ...(spared > 0 ? [`at the destination already: ${formatSize(spared)}`] : [])].join(', ')
}

const titleOf = {
  link: 'link',
  pause: 'pause',
  held: 'held writes',
  refused: 'refused writes',
  note: 'note',
} as const satisfies Record<Standing['kind'], string>

export const isOver = (state: MigrationView['state']): boolean => ['done', 'cancelled', 'failed'].includes(state)

/** '4 KiB at 1 MiB' */
export const rangeText = ({ offset, length }: RangeView): string => `${exactSize(length)} at ${exactSize(offset)}`

/** Clients that were at work at the source. */
export const cutOffOf = ({ cutOff }: MigrationView): string | null => (cutOff.length === 0 ? null : cutOff.join(', '))

function rangesOf(ranges: readonly RangeView[]): string | null {
  return ranges.length === 0 ? null : ranges.map(rangeText).join(', ')
}

/** 'copying, paused' */
export const stateOf = ({ state, paused }: MigrationView): string => (paused ? `${state}, paused` : state)

export const migrationHeader = ['id', 'disk', 'course', 'state', 'copied', 'started', 'took', 'note'] as const

export function migrationRow(view: MigrationView): readonly string[] {
  const copied = `${percent(view.bytes.disk - view.bytes.missing, view.bytes.disk)}%`
  const arrow = view.role === 'source' ? `to ${view.peer}` : `from ${view.peer}`
  const standing = standingOf(view).map(({ text }) => text)
  const note = standing.length > 0 ? standing.join(' ') : (view.note ?? exposureOf(view) ?? '')
  const took = formatSeconds(view.seconds.total)
  return [view.id, view.disk, arrow, stateOf(view), copied, whenText(view.startedAt), took, note]
}

/** How to come back to a migration that goes on by itself. */
export const wayBack = (id: string): string =>
  `see it with vmstore migration watch ${id}; before its switchover, end it with vmstore migration cancel ${id}`
