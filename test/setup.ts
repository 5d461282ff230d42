// What every test run shares: what was skipped is told once, at its end. Files run in several processes beside one another
// (`npm test`), so that each notes what it skips in a file that the first made.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { skippedText, skipsVariable } from './tools.ts'

/** mocha calls it in the first process alone, before it starts others, which inherit the environment. */
export function mochaGlobalSetup(): void {
  const file = join(mkdtempSync(join(tmpdir(), 'vmstore-skips-')), 'skips')
  writeFileSync(file, '')
  process.env[skipsVariable] = file
}

export function mochaGlobalTeardown(): void {
  const file = process.env[skipsVariable]
  if (file === undefined) return
  const text = skippedText(readFileSync(file, 'utf8').split('\n').filter(Boolean))
  if (text !== '') console.error(text)
  rmSync(dirname(file), { recursive: true, force: true })
}
