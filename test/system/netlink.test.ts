// Generic netlink sockets, with the kernel that runs the tests: it always has the family of which one asks for others.

import assert from 'node:assert/strict'
import { NetlinkSocket } from '../../src/system/netlink.ts'

/** CTRL_CMD_GETFAMILY for "nlctrl", whose id is 16, with the number 77 and NLM_F_REQUEST | NLM_F_ACK. */
const question = Buffer.from('20000000100005004d0000000000000003020000', 'hex')
const name = Buffer.from('0b0002006e6c6374726c0000', 'hex')

describe('a netlink socket', () => {
  it('has the kernel’s answers when a request is sent, each with the request’s number, and nothing more', () => {
    const socket = new NetlinkSocket()
    try {
      assert.equal(socket.receive(), undefined)
      socket.send(Buffer.concat([question, name]))
      const [answer, acknowledgement] = [socket.receive(), socket.receive()]
      assert.deepEqual([answer?.readUInt16LE(4), answer?.readUInt32LE(8)], [16, 77])
      assert.equal(answer?.readUInt32LE(0), answer?.length)
      assert(answer?.includes('nlctrl'))
      // NLMSG_ERROR with the error 0.
      assert.deepEqual(
        [acknowledgement?.readUInt16LE(4), acknowledgement?.readUInt32LE(8), acknowledgement?.readInt32LE(16)],
        [2, 77, 0],
      )
      assert.equal(socket.receive(), undefined)
    } finally {
      socket.close()
    }
  })

  it('that cannot join a group, or is closed, throws with the call’s name', () => {
    const socket = new NetlinkSocket()
    assert.throws(() => socket.join(0), { syscall: 'setsockopt' })
    socket.close()
    assert.throws(() => socket.send(question), { code: 'EBADF', syscall: 'sendto' })
    assert.throws(() => socket.receive(), { code: 'EBADF', syscall: 'recvfrom' })
  })
})
