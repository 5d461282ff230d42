// The NBD clients of a site as its operators see them: who is attached, and dropped on their word.

import type { ServiceOf } from '../control/service.ts'
import type { DoorView, DroppedSessionView, SessionView } from '../control/types.ts'
import { Refusal } from '../disk/refusal.ts'
import type { Newcomers } from '../entrance/newcomers.ts'
import type { Door } from '../nbd/server/door.ts'
import type { NbdServer } from '../nbd/server/server.ts'
import type { SessionFacts } from '../nbd/server/session.ts'

/** How long requests in flight may take when a session is dropped; what waits for a peer may never end. */
export const drainLimitMs = 5000

export class LocalSessions implements ServiceOf<'sessions'> {
  readonly #nbd: NbdServer

  constructor(nbd: NbdServer) {
    this.#nbd = nbd
  }

  list(): SessionView[] {
    return this.#nbd.open.map(sessionView).sort((a, b) => compare(a.disk, b.disk) || compare(a.since, b.since))
  }

  async drop(id: string): Promise<DroppedSessionView> {
    const found = this.#nbd.open.find((facts) => facts.id === id)
    const before = found && sessionView(found)
    if (before === undefined || !(await this.#nbd.drop(id, drainLimitMs))) {
      throw new Refusal('session-unknown', `there is no session ${id} here (any more)`, {
        safe: 'Nobody was dropped.',
        next: 'See those that there are: vmstore session list.',
      })
    }
    return { ...before, ...meaningOf(before) }
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

function meaningOf({ disk, client, listener, unflushed }: SessionView): { safe: string; next: string } {
  const answered = `All that ${client} was answered stays as it was answered.`
  const pending = `It had written to ${disk} what no flush covers yet: that is kept too, but for a loss of power at this host.`
  const back = 'A client that reconnects comes back by itself, and sees a pause; one that does not sees its disk fail.'
  const moving = `Until it is back and has flushed, a move of ${disk} does not take it for quiet.`
  const keptOut =
    listener === 'control' ? 'To keep it out, stop that command.' : 'To keep it out, stop it, or take its way here.'
  return {
    safe: unflushed ? `${answered} ${pending}` : answered,
    next: unflushed ? `${back} ${moving} ${keptOut}` : `${back} ${keptOut}`,
  }
}

export function sessionView(facts: SessionFacts): SessionView {
  const { id, client, tally } = facts
  return {
    id,
    disk: facts.exportName,
    diskId: facts.exportId,
    client: client.name,
    pid: client.pid ?? null,
    listener: facts.door,
    tls: facts.tlsVersion ?? null,
    since: facts.since.toISOString(),
    state: facts.state,
    reads: { count: tally.reads, bytes: tally.readBytes },
    writes: { count: tally.writes, bytes: tally.writtenBytes },
    flushes: tally.flushes,
    inFlight: facts.inFlight,
    unread: facts.unreadBytes,
    unflushed: facts.hasUnflushed,
  }
}

export function nbdDoorView(door: Door, control: string): DoorView {
  const isControl = door.name === 'control'
  return {
    kind: isControl ? 'control' : 'nbd',
    address: isControl ? control : door.name,
    sessions: { now: door.sessions, most: door.sessionsMost },
    ...newcomersView(door.newcomers),
    refused: door.refused,
  }
}

export function peerDoorView(address: string, newcomers: Newcomers): DoorView {
  return { kind: 'peer', address, sessions: null, ...newcomersView(newcomers), refused: null }
}

function newcomersView(newcomers: Newcomers): Omit<DoorView, 'kind' | 'address' | 'sessions' | 'refused'> {
  const { size, limits, counts } = newcomers
  return {
    newcomers: { now: size, most: limits.newcomers, mostOfOneAddress: limits.newcomersPerAddress },
    ...counts,
  }
}
