// Which metadata contexts a client's queries name (proto.md, "Metadata querying"). Pure. A context's id is its place in the
// export's list, from 1 on: the same for every session of the export.

export interface MetaContext {
  readonly id: number
  readonly name: string
}

/**
 * A query is a context's full name; when listing also a namespace ("base:"), and no query at all means every context.
 * A query that names nothing is not an error.
 */
export function matchContexts(
  offered: readonly string[],
  queries: readonly string[],
  purpose: 'list' | 'set',
): readonly MetaContext[] {
  const wanted = new Set(queries)
  const contexts = offered.map((name, index) => ({ id: index + 1, name }))
  if (purpose === 'set') return contexts.filter(({ name }) => wanted.has(name))
  return contexts.filter(({ name }) => wanted.size === 0 || wanted.has(name) || wanted.has(namespaceOf(name)))
}

function namespaceOf(name: string): string {
  return name.slice(0, name.indexOf(':') + 1)
}
