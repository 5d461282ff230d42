// Small aligned tables and lists of facts. Pure. A cell or a value is one line, whatever it holds.

import { printable } from './terminal.ts'

/** Columns are as wide as their widest cell; the last is not padded. No rows: `empty`. */
export function table(header: readonly string[], rows: readonly (readonly string[])[], empty: string): string {
  if (rows.length === 0) return empty
  const lines = [header.map((title) => title.toUpperCase()), ...rows.map((row) => row.map(printable))]
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)))
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** One fact a line, `name: value`, values aligned; facts without a value are left out. */
export function facts(entries: Readonly<Record<string, string | number | null | undefined>>): string {
  const known = Object.entries(entries).filter(([, value]) => value !== null && value !== undefined)
  const width = Math.max(0, ...known.map(([name]) => name.length + 1))
  return known.map(([name, value]) => `${`${name}:`.padEnd(width)} ${printable(String(value))}`).join('\n')
}
