// NBD clients and the ways in, in words. Pure.

import type { AmountView, DeadlinesView, DoorView, SessionView } from '../control/types.ts'
import { countText } from './disk-text.ts'
import { formatSeconds, formatSize } from './sizes.ts'
import { whenText } from './standing-text.ts'

export const sessionHeader = [
  'id',
  'disk',
  'client',
  'since',
  'reads',
  'writes',
  'flushes',
  'in flight',
  'unflushed',
  'state',
]

export function sessionRow(session: SessionView): readonly string[] {
  const { id, disk, since, reads, writes, flushes, inFlight, unflushed, state, unread } = session
  const standing = unread > 0 ? `${state}, ${formatSize(unread)} unread` : state
  return [
    ...[id, disk, clientText(session), whenText(since), amountText(reads), amountText(writes)],
    ...[String(flushes), String(inFlight), unflushed ? 'yes' : 'no', standing],
  ]
}

/** '192.0.2.7:41234 (TLSv1.3)', 'unix (process 4711)' */
export function clientText({ client, pid, tls }: SessionView): string {
  if (tls !== null) return `${client} (${tls})`
  return pid === null ? client : `${client} (process ${pid})`
}

/** '3 (12 KiB)' */
function amountText({ count, bytes }: AmountView): string {
  return count === 0 ? '0' : `${count} (${formatSize(bytes)})`
}

export const doorHeader = ['listener', 'clients', 'in negotiation', 'of one address', 'turned away'] as const

export function doorRow(door: DoorView): readonly string[] {
  const { kind, address, sessions, newcomers } = door
  return [
    kind === 'nbd' ? address : `${kind} ${address}`,
    sessions === null ? '' : `${sessions.now} of ${sessions.most}`,
    `${newcomers.now} of ${newcomers.most}`,
    `at most ${newcomers.mostOfOneAddress}`,
    turnedAwayText(door),
  ]
}

/** 'the oldest for a newer one 12 times, the last at …; silent once, at …' */
function turnedAwayText({ refused, pushedOut, silent, slow }: DoorView): string {
  const words = { 'too many clients': refused, 'the oldest for a newer one': pushedOut, silent, slow }
  const told = Object.entries(words).flatMap(([word, count]) => (count === null ? [] : [`${word} ${countText(count)}`]))
  return told.length === 0 ? 'nobody' : told.join('; ')
}

export function deadlinesText({ firstByteSeconds, negotiationSeconds, deadHostSeconds }: DeadlinesView): string {
  const dead = deadHostSeconds === null ? 'when the system does' : `after ${formatSeconds(deadHostSeconds)}`
  const [first, whole] = [formatSeconds(firstByteSeconds), formatSeconds(negotiationSeconds)]
  return `first byte within ${first}, negotiation within ${whole}, a dead host is given up ${dead}`
}
