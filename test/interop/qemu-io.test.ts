// qemu-io: single requests of every kind, as QEMU's block layer sends them.

import assert from 'node:assert/strict'
import { GuestError } from '../../src/guest/export.ts'
import { serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, mebibyte, run } from './clients.ts'

describe('qemu-io', () => {
  before(function () {
    needTool(this, 'qemu-io')
  })
  const io = (uri: string, ...commands: string[]) =>
    run('qemu-io', '-f', 'raw', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), uri)

  it('writes patterns, zeroes, discards, flushes, and reads all of it back', async () => {
    const disk = new MemoryExport({ sizeBytes: 8 * mebibyte })
    await using site = await serve([disk])
    const told = await io(
      site.uri,
      'write -P 0xab 1M 256k',
      'write -f -P 0xcd 2M 64k',
      'write -z 1088k 64k',
      'write -z -u 2M 4k',
      'discard 1M 64k',
      'flush',
      'read -P 0 1M 128k',
      'read -P 0xab 1152k 128k',
      'read -P 0 2M 4k',
      'read -P 0xcd 2052k 60k',
      'aio_write -P 0x11 5M 1M',
      'aio_write -P 0x22 6M 1M',
      'aio_flush',
      'read -P 0x11 5M 1M',
      'read -P 0x22 6M 1M',
    )
    assert.doesNotMatch(told, /failed|error/i)
    assert(disk.calls.some((call) => /^write 2097152 65536 fua$/.test(call)))
    assert(disk.calls.some((call) => /^zero 1114112 65536 keep/.test(call)))
    assert(disk.calls.some((call) => /^zero 2097152 4096 punch/.test(call)))
    assert(disk.calls.some((call) => call.startsWith('trim 1048576 65536')))
    assert(disk.calls.includes('flush'))
    assertNoFailure(site)
  })

  it('gets an error, and goes on', async () => {
    const disk = new MemoryExport()
    disk.gate = (call) => {
      if (call.startsWith('write 4096 ')) throw new GuestError('no-space', 'full')
      return undefined
    }
    await using site = await serve([disk])
    const told = await io(site.uri, 'write 4096 512', 'write -P 7 8192 512', 'read -P 7 8192 512').catch(
      (error: { stdout: string; stderr: string }) => error.stdout + error.stderr,
    )
    assert.match(told, /No space left/)
    assert.match(told, /read 512\/512 bytes at offset 8192/)
  })
})
