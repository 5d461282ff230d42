// The versions of the packages that were tried, as a table for docs/nbd.md.

import { spawnSync } from 'node:child_process'
import { clientPackages } from '../tools.ts'

/** What was not installed is not in it. */
export type Versions = ReadonlyMap<string, string>

/** Of a root, or of this machine. */
export function versionsOf(root: string | undefined): Versions {
  const query = ['dpkg-query', '--show', ...clientPackages]
  const [program, ...words] = root === undefined ? query : ['chroot', root, ...query]
  const { stdout } = spawnSync(program!, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const lines = (stdout ?? '').split('\n').filter((line) => /^\S+\t\S/.test(line))
  return new Map(lines.map((line) => line.split('\t') as [string, string]))
}

/** Without packages that are in none: Debian's libnbd-bin stands for nbdfuse too. */
export function table(tried: ReadonlyMap<string, Versions>): string {
  const editions = [...tried.keys()]
  const found = clientPackages.filter((name) => editions.some((edition) => tried.get(edition)!.has(name)))
  const rows = found.map((name) => [name, ...editions.map((edition) => tried.get(edition)!.get(name) ?? '–')])
  const lines = [['package', ...editions], ['---', ...editions.map(() => '---')], ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}
