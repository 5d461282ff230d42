// nbdkit's nbd plugin: nbdkit is the client and serves on what it gets, through filters that delay, fail and record.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { GuestError } from '../../src/guest/export.ts'
import { serve, type TestServer } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned, run } from './clients.ts'

describe('nbdkit’s nbd plugin', () => {
  before(function () {
    needTool(this, 'nbdkit', 'nbdinfo', 'nbdcopy', 'qemu-io')
  })

  /** Runs `command` with nbdkit's own URI as $uri. */
  function through(site: TestServer, command: string, ...words: string[]): Promise<string> {
    const filters = words.filter((word) => word.startsWith('--filter'))
    const parameters = words.filter((word) => !word.startsWith('--filter'))
    return run('nbdkit', '-U', '-', ...filters, 'nbd', site.uri, ...parameters, '--run', command)
  }

  it('serves an export on', async () => {
    await using site = await serve([filled(patterned(mebibyte))])
    assert.match(await through(site, 'nbdinfo --size "$uri" && nbdcopy "$uri" null:'), /1048576/)
    assertNoFailure(site)
  })

  it('with the delay filter: many slow requests at once all come right', async () => {
    const bytes = patterned(2 * mebibyte)
    const disk = new MemoryExport({ sizeBytes: bytes.length })
    await using site = await serve([disk])
    const input = join(site.folder, 'in.raw')
    const output = join(site.folder, 'out.raw')
    writeFileSync(input, bytes)
    const copies = `nbdcopy --request-size=65536 '${input}' "$uri" && nbdcopy --request-size=65536 "$uri" '${output}'`
    await through(site, copies, '--filter=delay', 'rdelay=20ms', 'wdelay=20ms')
    assert(disk.bytes.equals(bytes))
    assert(readFileSync(output).equals(bytes))
    assertNoFailure(site)
  })

  it('with the error filter: what it fails never reaches us, and what it lets through is right', async () => {
    const disk = filled(patterned(mebibyte))
    await using site = await serve([disk])
    const failing = ['error-pwrite=ENOSPC', 'error-pwrite-rate=100%']
    const io = `qemu-io -f raw -c 'write 0 4k' -c 'read 0 64k' "$uri" 2>&1; true`
    const told = await through(site, io, '--filter=error', ...failing)
    assert.match(told, /write failed: No space left on device/)
    assert.match(told, /read 65536\/65536/)
    assert(!disk.calls.some((call) => call.startsWith('write ')))
    assertNoFailure(site)
  })

  it('with the log filter: our errors come through as what they are', async () => {
    const disk = new MemoryExport()
    disk.gate = (call) => {
      if (call.startsWith('write 4096 ')) throw new GuestError('no-space', 'full')
      if (call.startsWith('read 8192 ')) throw new GuestError('io', 'unreadable')
      return undefined
    }
    await using site = await serve([disk])
    const logfile = join(site.folder, 'nbdkit.log')
    const io = `qemu-io -f raw -c 'write 4k 4k' -c 'read 8k 4k' -c 'write -P 5 0 4k' -c flush "$uri" >/dev/null 2>&1; true`
    await through(site, io, '--filter=log', `logfile=${logfile}`)
    const log = readFileSync(logfile, 'utf8')
    assert.match(log, /\.\.\.Write id=\d+ return=-1 error=ENOSPC/)
    assert.match(log, /\.\.\.Read id=\d+ return=-1 error=EIO/)
    assert.match(log, /\.\.\.Write id=\d+ return=0/)
    assert.match(log, /\.\.\.Flush id=\d+ return=0/)
    assert.equal(disk.bytes[0], 5)
  })
})
