// nbddump: a disk as hexadecimal digits, its holes skipped.

import assert from 'node:assert/strict'
import { serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, mebibyte, run } from './clients.ts'

it('nbddump shows the bytes and folds what repeats', async function () {
  needTool(this, 'nbddump')
  const disk = new MemoryExport({ sizeBytes: mebibyte })
  disk.bytes.write('hello', 65536)
  disk.written.fill(1, 16, 17)
  await using site = await serve([disk])
  const lines = (await run('nbddump', site.uri)).split('\n')
  assert.match(lines[0]!, /^0000000000: 00 00/)
  assert.equal(lines[1], '*')
  assert.match(lines[2]!, /^0000010000: 68 65 6c 6c 6f 00 .*\|hello\.+\|$/)
  const reads = disk.calls.filter((call) => call.startsWith('read '))
  assert(reads.length < 4, `holes are not read: ${reads}`)
  assertNoFailure(site)
})
