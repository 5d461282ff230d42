// The metadata contexts that this server offers: the kinds of status that an export tells (guest/export.ts), under NBD's
// names and with NBD's flags; and which of them a client's queries name (proto.md, "Metadata querying"). Pure.
// Always: a context has its id for good, whether those before it are offered or not: it is the same for every session.

import type { StatusExtent, StatusKind, StatusWord } from '../../guest/export.ts'
import { AllocationFlag } from '../wire/constants.ts'
import type { ContextExtent } from '../wire/transmission-codecs.ts'

export interface MetaContext {
  readonly id: number
  readonly name: string
  /** What the export is asked for. */
  readonly kind: StatusKind
}

/** docs/nbd.md, "Contexts". The place of each is its id: a new one goes to the end. */
const contexts = [
  { id: 1, name: 'base:allocation', kind: 'allocation' },
  { id: 2, name: 'vmstore:present', kind: 'present' },
  { id: 3, name: 'vmstore:dirty', kind: 'dirty' },
] as const satisfies readonly MetaContext[]

const flagsOf: { readonly [Kind in StatusKind]: Readonly<Record<StatusWord<Kind>, number>> } = {
  allocation: { data: 0, hole: AllocationFlag.hole | AllocationFlag.zero, zero: AllocationFlag.zero },
  present: { absent: 0, present: 1 << 0 },
  dirty: { clean: 0, dirty: 1 << 0 },
}

/**
 * A query is a context's full name; when listing also a namespace ("base:"), and no query at all means every context.
 * A query that names nothing is not an error.
 */
export function matchContexts(
  told: readonly StatusKind[],
  queries: readonly string[],
  purpose: 'list' | 'set',
): readonly MetaContext[] {
  const wanted = new Set(queries)
  const offered = contexts.filter(({ kind }) => told.includes(kind))
  if (purpose === 'set') return offered.filter(({ name }) => wanted.has(name))
  return offered.filter(({ name }) => wanted.size === 0 || wanted.has(name) || wanted.has(namespaceOf(name)))
}

function namespaceOf(name: string): string {
  return name.slice(0, name.indexOf(':') + 1)
}

/**
 * What a handle said, in the context's flags, and cut to what was asked: at most `limit` extents within `lengthBytes`.
 * Throws if it said nothing, or what that kind of status does not say.
 */
export function contextExtents(
  { name, kind }: MetaContext,
  extents: readonly StatusExtent[],
  lengthBytes: number,
  limit: number,
): readonly ContextExtent[] {
  const flagsOfWord: Readonly<Record<string, number>> = flagsOf[kind]
  const told: ContextExtent[] = []
  let leftBytes = lengthBytes
  for (const extent of extents) {
    if (leftBytes === 0 || told.length === limit) break
    const partBytes = Math.min(extent.lengthBytes, leftBytes)
    if (partBytes <= 0) throw new Error(`${name}: an extent of ${extent.lengthBytes} bytes`)
    const flags = flagsOfWord[extent.status]
    if (flags === undefined) throw new Error(`${name}: an extent that is said to be ${extent.status}`)
    told.push({ lengthBytes: partBytes, flags })
    leftBytes -= partBytes
  }
  if (told.length === 0) throw new Error(`${name}: no extent for ${lengthBytes} bytes`)
  return told
}
