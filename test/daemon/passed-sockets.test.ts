// What the environment and the descriptors say about passed sockets, without a socket. test/e2e/systemd passes real ones.

import assert from 'node:assert/strict'
import { isPassedToOther, nbdAddressOf, passedWords, takePassedSockets } from '../../src/daemon/passed-sockets.ts'
import type { Refusal } from '../../src/disk/refusal.ts'
import type { SocketFacts } from '../../src/system/sockets.ts'

const pid = 77

const refusing = (message: RegExp) => (error: Refusal) => {
  assert.equal(error.code, 'bad-socket')
  assert.match(error.message, message)
  return true
}

describe('passed sockets', () => {
  it('are those from descriptor 3 on, with their names', () => {
    assert.deepEqual(passedWords({ LISTEN_PID: '77', LISTEN_FDS: '2', LISTEN_FDNAMES: 'nbd:nbd-lan' }, pid), [
      { fd: 3, name: 'nbd' },
      { fd: 4, name: 'nbd-lan' },
    ])
    assert.deepEqual(passedWords({ LISTEN_PID: '77', LISTEN_FDS: '1' }, pid), [{ fd: 3, name: '' }])
  })

  it('of another process are not taken, and known for what they are', () => {
    for (const forPid of ['78', '', '077', undefined]) {
      const environment = { LISTEN_PID: forPid, LISTEN_FDS: '1' }
      assert.deepEqual(passedWords(environment, pid), [])
      assert(isPassedToOther(environment, pid))
    }
    assert(!isPassedToOther({ LISTEN_PID: '77', LISTEN_FDS: '1' }, pid))
    assert(!isPassedToOther({}, pid))
  })

  it('in a number that cannot be meant, or with other names than sockets, are refused', () => {
    for (const LISTEN_FDS of ['65', '-1', '1e1', '0x1', '', ' 1', 'many']) {
      assert.throws(() => passedWords({ LISTEN_PID: '77', LISTEN_FDS }, pid), refusing(/not a number of sockets/))
    }
    const names = { LISTEN_PID: '77', LISTEN_FDS: '2', LISTEN_FDNAMES: 'nbd' }
    assert.throws(() => passedWords(names, pid), refusing(/1 names, for 2 sockets/))
  })

  it('are no word in the environment any more, taken or not', () => {
    const environment = { LISTEN_PID: '78', LISTEN_FDS: '1', LISTEN_FDNAMES: 'nbd', HOME: '/' }
    assert.deepEqual(takePassedSockets(environment, pid), [])
    assert.deepEqual(environment, { HOME: '/' })
  })

  const facts: SocketFacts = { isStream: true, isListening: true, address: { family: 'unix', path: '/run/nbd.sock' } }

  it('are for NBD when named so, or when systemd, a tool or nobody named them', () => {
    for (const name of ['nbd', 'nbd-', 'nbd-lan', '', 'unknown', 'vmstore@web.socket']) {
      assert.deepEqual(nbdAddressOf(3, name, facts), { transport: 'unix', path: '/run/nbd.sock' })
    }
    for (const name of ['peer', 'peer-lan', 'control', 'nbds', 'metrics']) {
      assert.throws(() => nbdAddressOf(3, name, facts), refusing(/sockets for NBD only/), name)
    }
  })

  it('that do not listen for streams, or on neither Unix nor TCP, are refused', () => {
    for (const wrong of [undefined, { ...facts, isStream: false }, { ...facts, isListening: false }]) {
      assert.throws(() => nbdAddressOf(3, 'nbd', wrong), refusing(/does not listen for streams/))
    }
    const vsock: SocketFacts = { ...facts, address: { family: 'other', number: 40 } }
    assert.throws(() => nbdAddressOf(3, 'nbd', vsock), refusing(/address family 40/))
  })
})
