// nbdsh, with libnbd's own checks off: what no honest client sends gets the error that the protocol asks for.

import assert from 'node:assert/strict'
import { GuestError } from '../../src/guest/export.ts'
import { serve, uriOf } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { needTool } from '../tools.ts'
import { assertNoFailure, filled, mebibyte, patterned, run, shell } from './clients.ts'

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

  it('a status without its context negotiated, and flags where they do not belong, are EINVAL each', async () => {
    const disk = filled(patterned(mebibyte))
    await using site = await serve([disk])
    const script = `
import errno
unknown = 0x8000
for act in (
    lambda: h.block_status(4096, 0, lambda *arguments: 0),
    lambda: h.pread(512, 0, flags=nbd.CMD_FLAG_FUA | unknown),
    lambda: h.pwrite(b"x" * 512, 0, flags=unknown),
    lambda: h.pwrite(b"x" * 512, 0, flags=nbd.CMD_FLAG_DF),
    lambda: h.flush(flags=unknown),
    lambda: h.zero(512, 0, flags=unknown),
    lambda: h.cache(512, 0, flags=unknown),
):
    try:
        act()
        raise AssertionError("it succeeded")
    except nbd.Error as error:
        assert error.errnum == errno.EINVAL, (error.errnum, str(error))
assert len(h.pread(512, 0)) == 512
`
    await shell(site.uri, script)
    assert(disk.bytes.equals(patterned(mebibyte)))
    assertNoFailure(site)
  })

  it('negotiates step by step: lists, asks about one export after another, and goes to none of the refused', async () => {
    await using site = await serve([new MemoryExport(), new MemoryExport({ name: 'other', readOnly: true })])
    const script = `
import errno
h.set_opt_mode(True)
h.connect_uri("${site.uri}")
names = []
h.opt_list(lambda name, description: names.append(name))
assert names == ["disk", "other"], names
h.set_export_name("other")
h.opt_info()
assert h.is_read_only()
h.set_export_name("nothing")
for ask in (h.opt_info, h.opt_go):
    try:
        ask()
        raise AssertionError("it succeeded")
    except nbd.Error as error:
        assert error.errnum == errno.ENOENT, (error.errnum, str(error))
h.set_export_name("disk")
h.add_meta_context("base:allocation")
h.add_meta_context("elsewhere:unknown")
h.opt_go()
assert h.can_meta_context("base:allocation")
assert not h.can_meta_context("elsewhere:unknown")
assert not h.is_read_only()
`
    await run('nbdsh', '-c', script)
    assertNoFailure(site)
  })

  it('leaves in the middle of the negotiation', async () => {
    await using site = await serve([new MemoryExport()])
    const script = `
h.set_opt_mode(True)
h.connect_uri("${site.uri}")
h.opt_abort()
assert h.aio_is_closed() or h.aio_is_dead()
`
    await run('nbdsh', '-c', script)
    assertNoFailure(site)
  })

  it('keeps many requests in flight, and gets each its own answer', async () => {
    const disk = filled(patterned(mebibyte))
    await using site = await serve([disk])
    const script = `
want = h.pread(1024 * 1024, 0)
buffers = [(at * 4096, nbd.Buffer(4096)) for at in range(256)]
cookies = [h.aio_pread(buffer, offset) for offset, buffer in reversed(buffers)]
while h.aio_in_flight() > 0:
    h.poll(-1)
assert all(h.aio_command_completed(cookie) for cookie in cookies)
assert all(buffer.to_bytearray() == want[offset:offset + 4096] for offset, buffer in buffers)
`
    await shell(site.uri, script)
    assertNoFailure(site)
  })

  /** libnbd has them from 1.18 on. Compact requests, which an older one sends, have the same outcome where they can ask. */
  const extended = `
import errno
isExtended = hasattr(h, "get_extended_headers_negotiated")
assert not isExtended or h.get_extended_headers_negotiated()
def fails(code, act):
    try:
        act()
    except nbd.Error as error:
        assert error.errnum == code, (error.errnum, code, str(error))
    else:
        raise AssertionError("it succeeded")
`

  it('trap 17: with extended headers, writes with PAYLOAD_LEN and without are written; a status with one is EINVAL', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const script = `${extended}
payloadLen = nbd.CMD_FLAG_PAYLOAD_LEN if isExtended else 0
h.pwrite(b"a" * 512, 0, flags=payloadLen)
h.pwrite(b"b" * 512, 512, flags=0)
h.pwrite(b"c" * 512, 1024, flags=nbd.CMD_FLAG_FUA)
fails(errno.ENOSPC, lambda: h.pwrite(b"x" * 512, h.get_size(), flags=0))
if isExtended:
    contexts = ["base:allocation"]
    fails(errno.EINVAL, lambda: h.block_status_filter(4096, 0, contexts, lambda *arguments: 0, flags=payloadLen))
assert h.pread(1536, 0) == b"a" * 512 + b"b" * 512 + b"c" * 512
`
    await shell(site.uri, script, 'h.add_meta_context("base:allocation")')
    assert.equal(disk.bytes.toString('latin1', 0, 1536), 'a'.repeat(512) + 'b'.repeat(512) + 'c'.repeat(512))
    assertNoFailure(site)
  })

  it('with extended headers, a status and a discard beyond 4 GiB are one request each', async () => {
    const disk = new MemoryExport()
    // A huge disk without its bytes: only the calls count.
    const huge = Object.create(disk, { sizeBytes: { value: 2 ** 42 } }) as MemoryExport
    disk.blockStatusFault = [{ lengthBytes: 2 ** 41, status: 'hole' }]
    disk.gate = () => Promise.reject(new GuestError('unsupported', 'enough'))
    await using site = await serve([huge])
    const script = `${extended}
length = 2**41 if isExtended else 2**31
fails(errno.ENOTSUP, lambda: h.trim(length, 2**33))
if isExtended:
    seen = []
    h.block_status_64(length, 2**33, lambda context, offset, extents, error: seen.append(list(extents)))
    assert seen == [[(length, 3)]], seen
print(length)
`
    const lengthBytes = (await shell(site.uri, script, 'h.add_meta_context("base:allocation")')).trim()
    assert.deepEqual(disk.calls, [`trim ${2 ** 33} ${lengthBytes}`])
  })
})
