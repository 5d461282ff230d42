// `vmstore attach` as it is typed: what is said before anything is asked of the kernel. test/qemu/attach.test.ts attaches.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { program } from '../e2e/sites.ts'

const runFile = join(import.meta.dirname, '../../bin/run.js')

describe('vmstore attach', () => {
  const misunderstood: [string, readonly string[], RegExp][] = [
    ['nothing', [], /A disk and a device/],
    ['no device', ['web01'], /A disk and a device/],
    ['a device of another kind', ['web01', '/dev/sda'], /\/dev\/sda is no device of the kernel's NBD client/],
    ['a partition', ['web01', '/dev/nbd0p1'], /nbd0p1 is no device/],
    ['a disk to detach', ['--detach', '/dev/nbd0', 'web01'], /--detach names the device/],
    ['--force without --detach', ['web01', '/dev/nbd0', '--force'], /--detach/],
    ['no connections', ['web01', '/dev/nbd0', '--connections', '0'], /0/],
    ['no URI', ['nbd:unix:/run/nbd.sock', '/dev/nbd0'], /is not an NBD URI/],
  ]
  for (const [what, words, message] of misunderstood) {
    it(`${what}: exit 2, with a sentence`, async () => {
      const { code, stdout } = await program(process.execPath, [runFile, 'attach', ...words, '--json'])
      const { type, error } = JSON.parse(stdout)
      assert.deepEqual([code, type, error.exit], [2, 'error', 2])
      assert.match(error.message, message)
    })
  }
})
