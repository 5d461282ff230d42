// npm run test:clients [-- [--renew] EDITION...]: runs the tests that use NBD clients and servers of others with those of
// each edition of Debian: `here` (this machine's), trixie, sid. Makes the root of an edition when it is missing, with
// --renew also when it is there. Ends with the versions that were tried. sid is left out, with a sentence, where it cannot
// be had, unless it was asked for by name.
// npm run test:clients -- --make EDITION: only makes the root, for `npm test`.
// Exits 1 when a test fails, or a root is missing.

import { parseArgs } from 'node:util'
import { mochaOf, runWith } from './enter.ts'
import { hindrance, isThere, makeRoot, newestStable, rootOf, suites } from './roots.ts'
import { allTests } from './tests.ts'
import { table, type Versions, versionsOf } from './versions.ts'

const here = 'here'
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { make: { type: 'string' }, renew: { type: 'boolean', default: false } },
})

function root(edition: string): string {
  if (values.renew || !isThere(edition)) {
    console.log(`\nmaking a root of Debian's ${edition}, which takes a minute or two …`)
    makeRoot(edition)
  }
  return rootOf(edition)
}

/** undefined: the edition cannot be had. */
function rootIfAny(edition: string): { path: string | undefined } | undefined {
  try {
    return { path: edition === here ? undefined : root(edition) }
  } catch (error) {
    if (edition === newestStable || positionals.length > 0) throw error
    console.log(`\n${edition} is left out: ${(error as Error).message}`)
    return undefined
  }
}

async function tryAll(editions: readonly string[]): Promise<boolean> {
  const versions = new Map<string, Versions>()
  const failed: string[] = []
  for (const edition of editions) {
    const found = rootIfAny(edition)
    if (found === undefined) continue
    versions.set(edition, versionsOf(found.path))
    console.log(`\n=== ${edition} ===`)
    const show = (text: string) => process.stdout.write(text)
    const { code } = await runWith(found.path, mochaOf(allTests()), { show })
    if (code !== 0) failed.push(edition)
  }
  console.log(`\nTried with:\n\n${table(versions)}`)
  if (failed.length > 0) console.error(`\nTests failed with the clients of: ${failed.join(', ')}`)
  return failed.length === 0
}

const known: readonly string[] = [here, ...suites]
const asked = values.make === undefined ? positionals : [values.make]
const unknown = asked.filter((edition) => !known.includes(edition))
const reason = asked.every((edition) => edition === here) && asked.length > 0 ? undefined : hindrance()
try {
  if (unknown.length > 0) throw new Error(`no edition is called ${unknown.join(', ')}: there are ${known.join(', ')}`)
  if (reason !== undefined) throw new Error(`only this machine's clients can be tried (\`${here}\`): ${reason}`)
  if (values.make !== undefined) root(values.make)
  else if (!(await tryAll(asked.length > 0 ? asked : known))) process.exitCode = 1
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
