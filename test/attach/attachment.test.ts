// The course of an attached device: how it is made, cared for, taken over and let go of. Kernel, server and time are a test's.

import assert from 'node:assert/strict'
import { Attachment } from '../../src/attach/attachment.ts'
import { parseBackend } from '../../src/attach/backend.ts'
import { ControlError } from '../../src/control/errors.ts'
import { TransmissionFlag } from '../../src/nbd/wire/constants.ts'
import { FakeHost, infoOf } from './fake-kernel.ts'

const options = { connections: 2, deadTimeoutSeconds: 600 }
const never = new AbortController().signal
const errno = (code: string, syscall: string) => Object.assign(new Error(`${syscall}: ${code}`), { code, syscall })

const refusing =
  (code: string, message?: RegExp, exit = 3) =>
  (error: ControlError): boolean => {
    assert(error instanceof ControlError, String(error))
    assert.deepEqual([error.code, error.exit], [code, exit])
    if (message) assert.match(error.message, message)
    return true
  }

async function attached(host: FakeHost, connections = 2) {
  const attachment = await Attachment.begin(host, { ...options, connections }, never)
  const interrupt = new AbortController()
  const running = attachment.run(interrupt.signal)
  running.catch(() => {})
  return {
    attachment,
    running,
    /** As SIGTERM does. */
    async stop() {
      interrupt.abort(new Error('interrupted'))
      await assert.rejects(running, /interrupted/)
    },
  }
}

describe('an attached device', () => {
  it('is made of as many connections as were asked for, with what the server says, and we keep none of them', async () => {
    const host = new FakeHost()
    await Attachment.begin(host, options, never)
    const [{ backend, sockets, ...request }, ...others] = host.requests as unknown as [Record<string, unknown>]
    assert.equal(others.length, 0)
    assert.deepEqual(sockets, host.fds)
    assert.deepEqual(request, {
      index: 3,
      sizeBytes: 1 << 20,
      blockSizeBytes: 512,
      serverFlags: 0x105,
      deadTimeoutSeconds: 600,
    })
    assert.deepEqual(parseBackend(backend as string), {
      ...{ target: 'web01 of the daemon', sizeBytes: 1 << 20, flags: 0x105, connections: 2 },
    })
    assert.deepEqual(host.told, ['attached 2/2'])
    host.assertNothingIsOpen()
  })

  it('of a server that does not say CAN_MULTI_CONN has one connection, whose requests are looked after often', async () => {
    const host = new FakeHost()
    host.info = infoOf(TransmissionFlag.hasFlags)
    await Attachment.begin(host, options, never)
    assert.equal(host.fds.length, 1)
    assert.deepEqual(host.calls, ['connect', 'look after requests every 5000'])
  })

  it('of several connections is left to the kernel’s own deadlines, for by it the kernel gives up on connections', async () => {
    const host = new FakeHost()
    await Attachment.begin(host, options, never)
    assert.deepEqual(host.calls, ['connect'])
  })

  const broken: [string, () => FakeHost, string, RegExp][] = [
    ['that does not exist', () => with_({ facts: undefined }), 'no-device', /no \/dev\/nbd3/],
    [
      'that nbd-client attached',
      () => with_({ facts: { isAttached: true, backend: undefined, sizeBytes: 1 } }),
      'device-busy',
      /another program/,
    ],
    [
      'that is attached to another disk',
      () => with_({ facts: { isAttached: true, backend: 'x', sizeBytes: 1 } }),
      'device-busy',
      /attached to x/,
    ],
    [
      'that another program has open',
      () => with_({ faults: { connect: errno('EBUSY', 'NBD_CMD_CONNECT') } }),
      'device-busy',
      /has it open/,
    ],
    [
      'without the right to',
      () => with_({ faults: { connect: errno('EPERM', 'NBD_CMD_CONNECT') } }),
      'no-rights',
      /CAP_SYS_ADMIN/,
    ],
    [
      'that the kernel refuses for reasons of its own',
      () => with_({ faults: { connect: errno('EINVAL', 'NBD_CMD_CONNECT') } }),
      'kernel-refused',
      /EINVAL/,
    ],
    ['of a size of no whole sectors', () => with_({ info: infoOf(0, 1000) }), 'no-block-device', /1000 bytes/],
    [
      'of a size of no whole blocks',
      () => with_({ info: infoOf(0, 4096 + 512, 4096) }),
      'no-block-device',
      /blocks of 4096/,
    ],
    [
      'of blocks that the kernel cannot do',
      () => with_({ info: infoOf(0, 1 << 20, 65_536) }),
      'no-block-device',
      /65536/,
    ],
  ]
  for (const [what, make, code, message] of broken) {
    it(`a device ${what} is not attached: ${code}`, async () => {
      const host = make()
      await assert.rejects(Attachment.begin(host, options, never), refusing(code, message))
      assert.deepEqual(host.events, [])
      host.assertNothingIsOpen()
    })
  }

  it('whose link dies gets a new connection to what it was made of, and each is told of', async () => {
    const host = new FakeHost()
    const { stop } = await attached(host)
    host.linksDie(2)
    await host.clock.pass(1000)
    assert.deepEqual(host.told, ['attached 2/2', 'link-down 1/2', 'link-down 0/2', 'link-up 1/2', 'link-up 2/2'])
    assert.deepEqual(host.calls, ['connect', 'reconfigure', 'reconfigure'])
    const [made, ...mended] = host.requests
    assert.deepEqual(
      mended.map(({ index, backend, sockets }) => [index, backend, sockets.length]),
      [
        [3, made!.backend, 1],
        [3, made!.backend, 1],
      ],
    )
    host.assertNothingIsOpen()
    await stop()
  })

  it('whose server is away is tried on for, at growing distance, and each reason is told once', async () => {
    const host = new FakeHost()
    const { stop } = await attached(host, 1)
    host.dialFault = new Error('connect ECONNREFUSED')
    host.linksDie(1)
    await host.clock.pass(60_000)
    host.dialFault = new Error('no such disk')
    await host.clock.pass(60_000)
    host.dialFault = undefined
    await host.clock.pass(2000)
    assert.deepEqual(host.told, [
      'attached 1/1',
      'link-down 0/1',
      'waiting 0/1 connect ECONNREFUSED',
      'waiting 0/1 no such disk',
      'link-up 1/1',
    ])
    await stop()
  })

  const { flags } = infoOf()
  const bare = TransmissionFlag.hasFlags | TransmissionFlag.canMultiConn
  const changes: [string, Partial<Pick<FakeHost, 'info' | 'identity'>>, RegExp][] = [
    ['another size', { info: infoOf(flags, 1 << 21) }, /2097152 bytes/],
    ['another disk, or the same in another generation', { identity: 'disk b in generation 1' }, /disk b/],
    ['for reading only', { info: infoOf(flags | TransmissionFlag.readOnly) }, /reading only/],
    ['without flush', { info: infoOf(bare) }, /sendFlush/],
  ]
  for (const [what, change, reason] of changes) {
    it(`never gets a connection to what it was not made of: ${what}`, async () => {
      const host = new FakeHost()
      host.identity = 'disk a in generation 1'
      const { stop } = await attached(host)
      Object.assign(host, change)
      host.linksDie(1)
      await host.clock.pass(60_000)
      assert.deepEqual(host.calls, ['connect'])
      assert.match(host.told.at(-1)!, reason)
      assert(host.fds.length > 10, 'it is tried again and again')
      host.assertNothingIsOpen()
      await stop()
    })
  }

  it('without any link for the dead timeout is said to fail, once, and comes back when its server does', async () => {
    const host = new FakeHost()
    const { stop } = await attached(host, 1)
    host.dialFault = new Error('away')
    host.linksDie(1)
    await host.clock.pass(599_000)
    assert.equal(host.told.at(-1), 'waiting 0/1 away')
    await host.clock.pass(100_000)
    assert.equal(host.told.at(-1), 'failing 0/1')
    host.dialFault = undefined
    await host.clock.pass(2500)
    assert.equal(host.told.at(-1), 'link-up 1/1')
    await stop()
  })

  it('whose events were lost is offered as many connections as it has: the kernel takes those that it needs', async () => {
    const host = new FakeHost()
    const { stop } = await attached(host)
    host.eventsAreLost()
    await host.clock.pass(1000)
    assert.deepEqual(host.calls, ['connect', 'reconfigure', 'reconfigure'])
    assert.deepEqual(host.told, ['attached 2/2'])
    await stop()
  })

  it('is taken over by the same command, however many connections that asks for, and its dead links are mended', async () => {
    const before = new FakeHost()
    await Attachment.begin(before, options, never)
    const host = with_({ facts: before.facts })
    const { stop } = await attached(host, 5)
    await host.clock.pass(1000)
    assert.deepEqual(host.told, ['attached 2/2 over'])
    assert.deepEqual(host.calls, ['reconfigure', 'reconfigure'])
    assert.equal(host.requests[0]!.backend, before.facts!.backend)
    host.linksDie(1)
    await host.clock.pass(1000)
    assert.deepEqual(host.told.slice(1), ['link-down 1/2', 'link-up 2/2'])
    await stop()
  })

  it('is taken over while its server is away too, and waits for it', async () => {
    const before = new FakeHost()
    await Attachment.begin(before, { ...options, connections: 1 }, never)
    const host = with_({ facts: before.facts, dialFault: new Error('away') })
    const { attachment, stop } = await attached(host, 1)
    await host.clock.pass(10_000)
    assert.deepEqual(host.told, ['attached 1/1 over', 'waiting 1/1 away'])
    await stop()
    await assert.rejects(attachment.detach(), refusing('server-away', /cannot be flushed/))
    assert.deepEqual(
      host.calls,
      ['look after requests every 5000'],
      'a flush would wait for the server, and nothing ends it',
    )
  })

  it('that somebody else detaches, or attaches anew, is cared for no more', async () => {
    for (const facts of [
      { isAttached: false, backend: undefined, sizeBytes: 0 },
      { isAttached: true, backend: 'another', sizeBytes: 0 },
    ]) {
      const host = new FakeHost()
      const { running } = await attached(host)
      host.facts = facts
      await host.clock.pass(2000)
      await running
      assert.equal(host.told.at(-1), 'detached 0/2')
    }
  })

  it('is flushed before it is let go of, and nobody can begin to use it in between', async () => {
    const host = new FakeHost()
    const { attachment, stop } = await attached(host)
    await stop()
    await attachment.detach()
    assert.deepEqual(host.calls, [
      'connect',
      'hold',
      'flush',
      'look after requests every 30000',
      'disconnect',
      'let go',
    ])
    assert.equal(host.told.at(-1), 'detached 0/2')
  })

  it('whose link dies while it is flushed gets a new one, for the flush waits for it', async () => {
    const host = new FakeHost()
    const { attachment, stop } = await attached(host, 1)
    await stop()
    const { promise, resolve } = Promise.withResolvers<void>()
    host.flushed = promise
    const detaching = attachment.detach()
    host.dialFault = new Error('away')
    host.linksDie(1)
    await host.clock.pass(5000)
    host.dialFault = undefined
    await host.clock.pass(5000)
    assert.deepEqual(host.calls.slice(2), ['hold', 'flush', 'reconfigure'])
    resolve()
    await detaching
    assert.deepEqual(host.told, ['attached 1/1', 'link-down 0/1', 'waiting 0/1 away', 'link-up 1/1', 'detached 0/1'])
    host.assertNothingIsOpen()
  })

  it('that is in use stays attached', async () => {
    const host = with_({ isHeldByOther: true })
    const { attachment, stop } = await attached(host)
    await stop()
    await assert.rejects(attachment.detach(), refusing('device-in-use', /stays attached/))
    assert(!host.calls.includes('disconnect'))
  })

  it('whose flush fails stays attached', async () => {
    const host = with_({ faults: { flush: errno('EIO', 'fsync') } })
    const { attachment, stop } = await attached(host)
    await stop()
    await assert.rejects(attachment.detach(), refusing('flush-failed', /EIO/, 1))
    assert.deepEqual(host.calls, ['connect', 'hold', 'flush', 'let go'])
  })

  it('is interrupted while a new connection is dialled, without a wait for it', async () => {
    const host = new FakeHost()
    const { stop } = await attached(host)
    host.server.dial = (signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    host.linksDie(1)
    await host.clock.pass(1000)
    await stop()
    assert.deepEqual(host.told, ['attached 2/2', 'link-down 1/2'])
  })
})

function with_(facts: Partial<Pick<FakeHost, 'facts' | 'faults' | 'info' | 'isHeldByOther' | 'dialFault'>>): FakeHost {
  return Object.assign(new FakeHost(), facts)
}
