// Which driver an address gets, and what becomes of one that keeps another version of the contract.

import assert from 'node:assert/strict'
import { DirTransport } from '../../plugins/transport-dir/src/dir-transport.ts'
import { TcpTransport } from '../../plugins/transport-tcp/src/tcp-transport.ts'
import { Drivers } from '../../src/daemon/drivers.ts'

const tcp = new TcpTransport()
const dir = new DirTransport()
const next = { contractVersion: 2, kind: 'datagram', schemes: ['dgram'] }

describe('drivers', () => {
  it('an address gets the driver of its scheme and kind', () => {
    const drivers = new Drivers([[tcp], [dir]])
    assert.equal(drivers.stream(new URL('tcp://a:1')), tcp)
    assert.equal(drivers.object(new URL('dir:///a')), dir)
    assert.throws(() => drivers.stream(new URL('dir:///a')), { code: 'transport-unknown' })
    assert.throws(() => drivers.object(new URL('tcp://a:1')), { code: 'transport-unknown' })
    assert.throws(() => drivers.object(new URL('ftp://a')), /no transport plugin keeps objects at ftp:\/\//)
  })

  it('a driver of another contract version is refused by name where it is needed, and keeps nobody from starting', () => {
    const drivers = new Drivers([[next], [tcp]])
    assert.deepEqual(drivers.schemes, ['tcp'])
    assert.throws(() => drivers.stream(new URL('dgram://a')), {
      code: 'plugin-version',
      message: 'the transport dgram keeps contract version 2; this vmstore has version 1',
    })
    assert.equal(drivers.stream(new URL('tcp://a:1')), tcp)
  })

  it('one of our version takes precedence over one of another for the same scheme', () => {
    const old = { contractVersion: 0, kind: 'stream', schemes: ['tcp'] }
    for (const offered of [
      [[old], [tcp]],
      [[tcp], [old]],
    ]) {
      assert.equal(new Drivers(offered).stream(new URL('tcp://a:1')), tcp)
    }
  })

  it('what is no driver, and a scheme that two offer, are refused at the start', () => {
    for (const nonsense of [
      7,
      'tcp',
      {},
      { contractVersion: 1, kind: 'stream' },
      { contractVersion: 1, kind: 'x', schemes: [] },
    ]) {
      assert.throws(() => new Drivers([[nonsense]]), { code: 'plugin-broken' })
    }
    assert.throws(() => new Drivers([[tcp], [new TcpTransport()]]), { code: 'plugin-twice' })
  })
})
