// Debians other than this machine's, each in a root folder of its own, for their NBD clients and servers: where the roots
// lie, what is in them, and how they are made. What always holds: a root that is there is whole, for it gets its name when
// it is; one that was made by another recipe does not count.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { clientPackages, findTool } from '../tools.ts'

/** The newest stable one first: its clients are tried in every run of the tests. */
export const suites = ['trixie', 'sid'] as const
export const newestStable = suites[0]

/** Also from an archive that stands still, as a mirror of some day does: what is in it is signed as ever. */
const evenIfOld = '--aptopt=Acquire::Check-Valid-Until "false"'
const recipe = ['--variant=apt', evenIfOld, `--include=${clientPackages.join(',')}`]
/** In the root: the recipe that it was made by. */
const noteName = 'made-by-vmstore'

const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vmstore-clients')

export function rootOf(suite: string): string {
  return join(cache, suite)
}

export function isThere(suite: string): boolean {
  const note = join(rootOf(suite), noteName)
  return existsSync(note) && readFileSync(note, 'utf8') === recipe.join('\n')
}

/** Why no other Debian's programs can be run by whoever runs this, as the end of a sentence; or undefined. */
export function hindrance(): string | undefined {
  if (process.getuid?.() !== 0) return 'programs of another Debian are run with chroot, which only root may do'
  const tried = spawnSync('unshare', ['--mount', 'true'], { encoding: 'utf8' })
  if (tried.status === 0) return undefined
  return `mount namespaces cannot be made here (${(tried.error?.message ?? tried.stderr).trim()})`
}

/** Makes the root, from the archive that apt knows by itself. A minute or two, 0.4 GB. Throws when it cannot be had. */
export function makeRoot(suite: string): void {
  const mmdebstrap = findTool('mmdebstrap')
  if (mmdebstrap === undefined) throw new Error('mmdebstrap makes a root of another Debian: apt-get install mmdebstrap')
  mkdirSync(cache, { recursive: true })
  const place = mkdtempSync(join(cache, `.${suite}-`))
  try {
    const root = join(place, suite)
    const { status } = spawnSync(mmdebstrap, [...recipe, suite, root], { stdio: ['ignore', 'inherit', 'inherit'] })
    if (status !== 0) throw new Error(`mmdebstrap made no root of ${suite}: exit code ${status}`)
    writeFileSync(join(root, noteName), recipe.join('\n'))
    rmSync(rootOf(suite), { recursive: true, force: true })
    renameSync(root, rootOf(suite))
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}
