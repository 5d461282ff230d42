// A site at a glance, in words: what is wrong first, then what it has and does. Pure.

import type { SessionView, StatusView } from '../control/types.ts'
import { countText, diskHeader, diskRow, troublesText } from './disk-text.ts'
import { isOver, migrationHeader, migrationRow } from './migration-text.ts'
import { peerHeader, peerRow, reachedText } from './peer-text.ts'
import { clientText, deadlinesText, doorHeader, doorRow } from './session-text.ts'
import { formatRate } from './sizes.ts'
import { exposureOf, standingOf } from './standing-text.ts'
import { facts, table } from './table.ts'

export function statusText({ site, doors, deadlines, refusedConnections, ...status }: StatusView): string {
  const { name, id, version, root, nbd, peer } = site
  const { disks, peers, migrations } = status
  const sections = [
    facts({
      site: `${name} (${id})`,
      version,
      root,
      nbd: nbd.join(', ') || 'none',
      peers: peer ?? 'not listening',
      'refused connections': refusedConnections && countText(refusedConnections),
      deadlines: deadlinesText(deadlines),
    }),
    table(doorHeader, doors.map(doorRow), 'No listeners.'),
    table(diskHeader, disks.map(diskRow), 'No disks.'),
    table(peerHeader, peers.map(peerRow), 'No peers.'),
    table(migrationHeader, migrations.map(migrationRow), 'No migrations.'),
  ]
  return [...sections, ...troublesText(disks), ...reachedText(peers)].join('\n\n')
}

/** What an operator would want to be woken for, a line each. */
export function troubleLines({ disks, peers, migrations, refusedConnections }: StatusView): readonly string[] {
  const standing = migrations.flatMap((view) => standingOf(view).map(({ text }) => `${view.disk}: ${text}`))
  const exposed = migrations.flatMap((view) => {
    const text = exposureOf(view)
    return text === null || isOver(view.state) ? [] : [`${view.disk}: ${text}`]
  })
  const away = peers
    .filter(({ link }) => link.state === 'down')
    .map(({ name, link }) => `${name}: down, ${link.why ?? 'no reason is known'}`)
  const refused = refusedConnections === null ? [] : [`clients were refused ${countText(refusedConnections)}`]
  return [...new Set([...troublesText(disks), ...standing, ...exposed, ...away, ...reachedText(peers), ...refused])]
}

/** A site and its clients at one moment. */
export interface Snapshot {
  readonly status: StatusView
  readonly sessions: readonly SessionView[]
  readonly atMs: number
}

/** The frame of `status --watch`: `before` is what the rates are since. */
export function watchText(now: Snapshot, before: Snapshot | undefined): string {
  const { site, disks, peers, migrations } = now.status
  const troubles = troubleLines(now.status)
  const active = migrations.filter(({ state }) => !isOver(state))
  return [
    `${site.name}, ${new Date(now.atMs).toISOString().replace(/\.\d+Z$/, 'Z')}; Ctrl-C ends`,
    troubles.length === 0 ? 'Nothing is wrong.' : troubles.map((line) => `! ${line}`).join('\n'),
    table(diskHeader, disks.map(diskRow), 'No disks.'),
    table(
      clientHeader,
      now.sessions.map((session) => clientRow(session, now, before)),
      'No client is attached.',
    ),
    table(peerHeader, peers.map(peerRow), 'No peers.'),
    table(migrationHeader, active.map(migrationRow), 'Nothing is on its way.'),
  ].join('\n\n')
}

const clientHeader = ['client', 'disk', 'reads/s', 'writes/s', 'read', 'written', 'in flight', 'unflushed'] as const

function clientRow(session: SessionView, now: Snapshot, before: Snapshot | undefined): readonly string[] {
  const { id, disk, reads, writes, inFlight, unflushed } = session
  const earlier = before?.sessions.find((each) => each.id === id)
  const seconds = before === undefined ? 0 : (now.atMs - before.atMs) / 1000
  const rate = (amount: number, was: number | undefined) =>
    was === undefined || seconds <= 0 ? null : (amount - was) / seconds
  const count = (value: number | null) => (value === null ? '' : String(Math.round(value)))
  const bytes = (value: number | null) => (value === null ? '' : formatRate(value))
  return [
    ...[clientText(session), disk],
    ...[count(rate(reads.count, earlier?.reads.count)), count(rate(writes.count, earlier?.writes.count))],
    ...[bytes(rate(reads.bytes, earlier?.reads.bytes)), bytes(rate(writes.bytes, earlier?.writes.bytes))],
    ...[String(inFlight), unflushed ? 'yes' : 'no'],
  ]
}
