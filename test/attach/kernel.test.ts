// How the kernel's NBD client is asked, with a kernel that answers from a script.

import assert from 'node:assert/strict'
import { NetlinkKernel } from '../../src/attach/kernel.ts'
import { noKernelClient } from '../../src/attach/refusals.ts'
import {
  decodedRequest,
  errorMessage,
  FakePort,
  familyAnswer,
  genericMessage,
  linkDeadMessage,
  message,
} from './fake-netlink.ts'

const family = 28
const group = 5
const connect = {
  index: 0,
  sizeBytes: 4096,
  blockSizeBytes: 512,
  serverFlags: 1,
  deadTimeoutSeconds: 9,
  backend: 'b',
  sockets: [7],
}

/** A kernel that does what it is asked, but for what `answer` answers itself. */
function opened(answer: (sequence: number, command: string) => (Buffer | Error)[] | undefined = () => undefined) {
  const requests = new FakePort((request, sequence) => {
    if (request.readUInt16LE(4) === 16) return [familyAnswer(sequence, family, group), errorMessage(sequence, 0)]
    return answer(sequence, decodedRequest(request).command) ?? [errorMessage(sequence, 0)]
  })
  const events = new FakePort()
  const ports = [requests, events]
  return { kernel: NetlinkKernel.open(() => ports.shift()!), requests, events }
}

describe('the kernel’s NBD client', () => {
  it('is found by its family’s name, and its events are listened to before anything is asked', () => {
    const { requests, events } = opened()
    assert.equal(requests.sent.length, 1)
    assert.deepEqual(events.groups, [group])
  })

  it('that is not there is a refusal that says how to load its module', () => {
    const port = new FakePort((_request, sequence) => [errorMessage(sequence, 2)])
    assert.throws(
      () => NetlinkKernel.open(() => port),
      (error) => {
        const refusal = noKernelClient(error) as { code: string; exit: number; next: string }
        assert.deepEqual([refusal.code, refusal.exit, refusal.next], ['no-nbd-module', 3, 'load it with: modprobe nbd'])
        return true
      },
    )
    assert(port.isClosed)
  })

  it('of a kernel without netlink, or for a user without the right, is a refusal that says so', () => {
    const codeOf = (code: string) => (noKernelClient(Object.assign(new Error(code), { code })) as { code: string }).code
    assert.deepEqual(['EPROTONOSUPPORT', 'EAFNOSUPPORT', 'EPERM'].map(codeOf), [
      'no-netlink',
      'no-netlink',
      'no-rights',
    ])
  })

  it('is asked with a number of its own each time, and its answers to other questions are left aside', () => {
    const { kernel, requests } = opened((sequence) => [
      errorMessage(sequence - 1, 16),
      Buffer.concat([genericMessage(family, sequence, 1, []), errorMessage(sequence, 0)]),
    ])
    kernel.connect(connect)
    kernel.reconfigure({ index: 0, backend: 'b', sockets: [8] })
    kernel.disconnect(0)
    const sequences = requests.sent.map((bytes) => bytes.readUInt32LE(8))
    assert.equal(new Set(sequences).size, 4)
    assert.deepEqual(
      requests.sent.slice(1).map((bytes) => decodedRequest(bytes)),
      [
        {
          command: 'connect',
          facts: {
            index: 0,
            sizeBytes: 4096,
            blockSizeBytes: 512,
            timeout: 0,
            serverFlags: 1,
            deadConnTimeout: 9,
            backendIdentifier: 'b',
            sockets: [7],
          },
        },
        { command: 'reconfigure', facts: { index: 0, backendIdentifier: 'b', sockets: [8] } },
        { command: 'disconnect', facts: { index: 0 } },
      ],
    )
  })

  it('that refuses throws the errno under the request’s name', () => {
    const { kernel } = opened((sequence) => [errorMessage(sequence, 16)])
    assert.throws(() => kernel.connect(connect), { code: 'EBUSY', syscall: 'NBD_CMD_CONNECT' })
    assert.throws(() => kernel.disconnect(0), { code: 'EBUSY', syscall: 'NBD_CMD_DISCONNECT' })
  })

  it('that does not answer is an error, and no wait', () => {
    const { kernel } = opened(() => [])
    assert.throws(() => kernel.disconnect(0), /no answer to NBD_CMD_DISCONNECT/)
  })

  it('tells of each link that died, once, and of other families and commands nothing is taken', () => {
    const { kernel, events } = opened()
    assert.deepEqual(kernel.deadLinks(), { indexes: [], isIncomplete: false })
    events.tell(
      linkDeadMessage(family, 3),
      Buffer.concat([linkDeadMessage(family, 4), linkDeadMessage(family, 3)]),
      linkDeadMessage(family + 1, 9),
      genericMessage(family, 0, 5, []),
      message(3, 0, Buffer.alloc(0)),
    )
    assert.deepEqual(kernel.deadLinks(), { indexes: [3, 4, 3], isIncomplete: false })
    assert.deepEqual(kernel.deadLinks(), { indexes: [], isIncomplete: false })
  })

  it('whose events were more than the socket holds says that some were lost', () => {
    const { kernel, events } = opened()
    events.tell(linkDeadMessage(family, 3), Object.assign(new Error('recvfrom: ENOBUFS'), { code: 'ENOBUFS' }))
    assert.deepEqual(kernel.deadLinks(), { indexes: [3], isIncomplete: true })
  })
})
