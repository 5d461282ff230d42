// A suite that cannot fail proves nothing: each driver that breaks the contract in one way fails the test of that duty.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')

/** The titles of the tests that failed. */
function failedWith(fault: string, grep: string): Promise<string[]> {
  const mocha = join(root, 'node_modules/mocha/bin/mocha.js')
  const file = join(import.meta.dirname, 'faulty-drivers.ts')
  const args = [mocha, '--no-config', '--exit', '--timeout', '3000', '--reporter', 'json', '--grep', grep, file]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd: root, env: { ...process.env, FAULT: fault } }, (_, stdout, stderr) => {
      try {
        const { failures } = JSON.parse(stdout) as { failures: { title: string }[] }
        resolve(failures.map(({ title }) => title))
      } catch (cause) {
        reject(new Error(`mocha said: ${stdout}${stderr}`, { cause }))
      }
    })
  })
}

const found: Readonly<Record<string, string>> = {
  'looks-then-puts': 'of many who put ifAbsent at once exactly one wins',
  'ignores-after': 'lists by a prefix that ends within a part, and after a key',
  'one-page': 'lists after a key, over more than a page',
  'ignores-signals': 'an aborted signal ends every request',
  'folders-hide-objects': 'takes keys as long as they may be, and an object beside others below its key',
  'no-back-pressure': 'pushes back when the other side does not read',
  'finishes-early': 'what was ended arrives, though its writer destroys the stream',
}

describe('the suite of the contract', () => {
  for (const [fault, title] of Object.entries(found)) {
    it(`finds a driver that ${fault}`, async () => {
      const failed = await failedWith(fault, title)
      assert.equal(failed.length, 1, `of the one test that was run: ${failed}`)
      assert.ok(failed[0]!.startsWith(title))
    })
  }
})
