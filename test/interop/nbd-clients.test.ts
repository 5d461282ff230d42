// The server with the clients that people have: libnbd's tools, QEMU's, fio, nbd-client, and nbdsh for what no honest client
// sends. Each test runs a real program against a server in this process.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NbdError } from '../../src/nbd/export.ts'
import { serve, uriOf } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned, run, shell } from './clients.ts'

describe('nbd clients', () => {
  describe('nbdinfo', () => {
    before(function () {
      needTool(this, 'nbdinfo')
    })

    it('describes an export', async () => {
      const disk = new MemoryExport({ sizeBytes: 3 * mebibyte, description: 'the disk of web01' })
      await using site = await serve([disk])
      const { exports } = JSON.parse(await run('nbdinfo', '--json', uriOf(site, 'disk')))
      const [described] = exports
      assert.equal(described['export-size'], 3 * mebibyte)
      assert.equal(described.description, 'the disk of web01')
      assert.equal(described.can_multi_conn, true)
      assert.equal(described.can_df, true)
      assert.equal(described.can_fast_zero, true)
      assert.equal(described.block_size_minimum, 1)
      assert.equal(described.block_size_maximum, 32 * mebibyte)
      assert.deepEqual(described.contexts, ['base:allocation'])
      assertNoFailure(site)
    })

    it('lists all exports', async () => {
      await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'größe', readOnly: true })])
      const { exports } = JSON.parse(await run('nbdinfo', '--list', '--json', site.uri))
      assert.deepEqual(
        exports.map((entry: Record<string, unknown>) => [entry['export-name'], entry['is_read_only']]),
        [
          ['disk', false],
          ['größe', true],
        ],
      )
      assertNoFailure(site)
    })

    it('maps data and holes', async () => {
      const disk = new MemoryExport({ sizeBytes: mebibyte })
      disk.written.fill(1, 16, 32)
      await using site = await serve([disk])
      const map = JSON.parse(await run('nbdinfo', '--map', '--json', site.uri)) as Record<string, unknown>[]
      assert.deepEqual(
        map.map(({ offset, length, type }) => [offset, length, type]),
        [
          [0, 65536, 3],
          [65536, 65536, 0],
          [131072, mebibyte - 131072, 3],
        ],
      )
    })

    it('asks what an export can', async () => {
      await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'fixed', readOnly: true })])
      for (const ability of ['cache', 'df', 'fast-zero', 'flush', 'fua', 'multi-conn', 'trim', 'zero', 'write']) {
        await run('nbdinfo', '--can', ability, uriOf(site, 'disk'))
      }
      await run('nbdinfo', '--is', 'read-only', uriOf(site, 'fixed'))
      await assert.rejects(run('nbdinfo', '--can', 'trim', uriOf(site, 'fixed')), { code: 2 })
    })

    it('is told why an export is refused', async () => {
      const disk = new MemoryExport()
      disk.openFault = new NbdError('ESHUTDOWN', 'the disk departed to tokyo')
      await using site = await serve([disk])
      await assert.rejects(run('nbdinfo', uriOf(site, 'disk')), /departed to tokyo|shutdown/i)
      await assert.rejects(run('nbdinfo', uriOf(site, 'nothing')), /No such file or directory for export: nothing/)
    })
  })

  describe('nbdcopy', () => {
    before(function () {
      needTool(this, 'nbdcopy')
    })

    it('copies in and out over several connections, holes too', async () => {
      const bytes = patterned(12 * mebibyte + 512)
      bytes.fill(0, 4 * mebibyte, 7 * mebibyte)
      const disk = new MemoryExport({ sizeBytes: bytes.length })
      await using site = await serve([disk])
      const [input, output] = [join(site.folder, 'in.raw'), join(site.folder, 'out.raw')]
      writeFileSync(input, bytes)
      await run('nbdcopy', '--connections=4', '--threads=4', '--flush', input, site.uri)
      assert(disk.bytes.equals(bytes))
      assert(disk.opens > 1)
      await run('nbdcopy', '--connections=4', '--threads=4', site.uri, output)
      assert(readFileSync(output).equals(bytes))
      assertNoFailure(site)
    })
  })

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
        if (call.startsWith('write 4096 ')) throw new NbdError('ENOSPC', 'full')
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

  describe('qemu-img', () => {
    before(function () {
      needTool(this, 'qemu-img')
    })

    it('maps, converts both ways and compares', async () => {
      const bytes = patterned(6 * mebibyte)
      bytes.fill(0, 2 * mebibyte, 4 * mebibyte)
      const source = filled(bytes)
      source.written.fill(0, 512, 1024)
      const target = new MemoryExport({ name: 'target', sizeBytes: bytes.length })
      await using site = await serve([source, target])
      const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', uriOf(site, 'disk')))
      assert.deepEqual(
        map.map((part: { start: number; data: boolean }) => [part.start, part.data]),
        [
          [0, true],
          [2 * mebibyte, false],
          [4 * mebibyte, true],
        ],
      )
      const image = join(site.folder, 'disk.qcow2')
      await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uriOf(site, 'disk'), image)
      await run('qemu-img', 'convert', '-n', '-f', 'qcow2', '-O', 'raw', image, uriOf(site, 'target'))
      assert(target.bytes.equals(bytes))
      await run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', image, uriOf(site, 'target'))
      target.bytes[5_000_000]! ^= 1
      await assert.rejects(run('qemu-img', 'compare', '-F', 'raw', image, uriOf(site, 'target')), { code: 1 })
      assertNoFailure(site)
    })
  })

  describe('fio', () => {
    before(function () {
      needTool(this, 'fio')
    })

    it('verifies what it wrote, at depth 16 with simple replies', async () => {
      const disk = new MemoryExport({ sizeBytes: 16 * mebibyte })
      await using site = await serve([disk])
      const job = ['--rw=randwrite', '--bsrange=512-64k', '--blockalign=512', '--iodepth=16', '--size=16m']
      const options = ['--ioengine=nbd', `--uri=${site.uri}`, '--verify=crc32c', '--verify_fatal=1']
      const told = await run('fio', '--name=verify', ...options, ...job, '--output-format=json', '--randseed=7')
      const [result] = JSON.parse(told.slice(told.indexOf('{'))).jobs
      assert.equal(result.error, 0)
      assert(result.read.total_ios > 0)
      assertNoFailure(site)
    })
  })

  it('nbd-client lists the exports', async function () {
    needTool(this, 'nbd-client')
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'other' })])
    const told = await run('nbd-client', '-l', '-unix', site.path)
    assert.match(told, /disk\s+other/)
    assertNoFailure(site)
  })

  it('nbdkit’s nbd plugin serves an export on', async function () {
    needTool(this, 'nbdkit', 'nbdinfo')
    const disk = filled(patterned(mebibyte))
    await using site = await serve([disk])
    const told = await run(
      'nbdkit',
      '-U',
      '-',
      'nbd',
      site.uri,
      '--run',
      'nbdinfo --size "$uri" && nbdcopy "$uri" null:',
    )
    assert.match(told, /1048576/)
    assertNoFailure(site)
  })

  describe('nbdsh without strict mode', () => {
    before(function () {
      needTool(this, 'nbdsh')
    })

    it('gets the error that the protocol asks for, request by request', async () => {
      const disk = filled(patterned(mebibyte))
      const fixed = filled(patterned(mebibyte), { name: 'fixed', readOnly: true })
      await using site = await serve([disk, fixed])
      const script = `
import errno
def fails(code, act):
    try:
        act()
    except nbd.Error as error:
        assert error.errnum == code, (error.errnum, code, str(error))
    else:
        raise AssertionError("it succeeded")
size = h.get_size()
fails(errno.EINVAL, lambda: h.pread(512, size))
fails(errno.EINVAL, lambda: h.pread(512, 2**63 - 512))
fails(errno.ENOSPC, lambda: h.pwrite(b"x" * 512, size - 1))
fails(errno.ENOSPC, lambda: h.zero(512, size))
fails(errno.EINVAL, lambda: h.trim(2**32 - 1, 0))
fails(errno.EINVAL, lambda: h.cache(512, size))
fails(errno.EINVAL, lambda: h.pread(512, 0, flags=0x40))
fails(errno.EINVAL, lambda: h.trim(512, 0, flags=nbd.CMD_FLAG_DF))
h.pwrite(b"", 0)
h.trim(0, 0)
assert h.pread(4, 0) == bytes(${JSON.stringify([...patterned(4)])})
assert h.pread(512, size - 512) is not None
`
      await shell(uriOf(site, 'disk'), script)
      assert(disk.bytes.equals(patterned(mebibyte)))
      const readOnly = `
import errno
for act in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.trim(512, 0), lambda: h.zero(512, 0)):
    try:
        act()
        raise AssertionError("it succeeded")
    except nbd.Error as error:
        assert error.errnum == errno.EPERM, error.errnum
h.pread(512, 0)
`
      await shell(uriOf(site, 'fixed'), readOnly)
      assert(fixed.bytes.equals(patterned(mebibyte)))
      assertNoFailure(site)
    })

    it('reads a status with REQ_ONE, and none of zero length', async () => {
      const disk = new MemoryExport()
      disk.written.fill(1, 0, 4)
      await using site = await serve([disk])
      const script = `
import errno
seen = []
h.block_status(65536, 0, lambda context, offset, extents, error: seen.append(list(extents)))
assert seen == [[16384, 0, 49152, 3]], seen
seen.clear()
h.block_status(65536, 0, lambda context, offset, extents, error: seen.append(list(extents)), flags=nbd.CMD_FLAG_REQ_ONE)
assert seen == [[16384, 0]], seen
try:
    h.block_status(0, 0, lambda *arguments: 0)
    raise AssertionError("it succeeded")
except nbd.Error as error:
    assert error.errnum == errno.EINVAL, error.errnum
`
      await shell(site.uri, script, 'h.add_meta_context("base:allocation")')
    })

    it('takes 64 MiB though 32 are advertised', async () => {
      const disk = new MemoryExport({ sizeBytes: 64 * mebibyte })
      await using site = await serve([disk])
      const script = `
h.pwrite(b"y" * (64 * 1024 * 1024), 0)
assert h.pread(64 * 1024 * 1024, 0) == b"y" * (64 * 1024 * 1024)
`
      await shell(site.uri, script)
      assert.equal(disk.bytes[64 * mebibyte - 1], 'y'.charCodeAt(0))
      assertNoFailure(site)
    })
  })
})
