// nbdsh, with libnbd's own checks off: what no honest client sends gets the error that the protocol asks for.

import assert from 'node:assert/strict'
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
})
