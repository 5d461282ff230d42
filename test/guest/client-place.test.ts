import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { isElsewhere } from '../../src/guest/client-place.ts'

describe('where a client is', () => {
  const cases: readonly [string, string | undefined, string | undefined, boolean][] = [
    ['a Unix socket', undefined, undefined, false],
    ['loopback', '127.0.0.1', '127.0.0.1', false],
    ['another address of loopback', '127.0.0.2', '127.0.0.1', false],
    ['loopback of IPv6', '::1', '::1', false],
    ['loopback as IPv6 writes it', '::ffff:127.0.0.1', '::ffff:127.0.0.1', false],
    ['an address of this host', '192.0.2.7', '192.0.2.7', false],
    ['another host', '192.0.2.8', '192.0.2.7', true],
    ['another host, as IPv6 writes it', '::ffff:192.0.2.8', '::ffff:192.0.2.7', true],
    ['another host of IPv6', '2001:db8::2', '2001:db8::1', true],
  ]
  for (const [what, remoteAddress, localAddress, expected] of cases) {
    it(`${what}: ${expected ? 'at another host' : 'here'}`, () => {
      assert.equal(
        isElsewhere({ remoteAddress, localAddress } as Pick<Socket, 'remoteAddress' | 'localAddress'>),
        expected,
      )
    })
  }
})
