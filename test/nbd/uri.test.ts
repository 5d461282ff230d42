import assert from 'node:assert/strict'
import { formatNbdUri, type NbdUri, NbdUriError, parseNbdUri } from '../../src/nbd/wire/uri.ts'

const tcp = (host: string, port: number, exportName = '', tls = false) => ({
  tls,
  address: { transport: 'tcp' as const, host, port },
  exportName,
})
const unix = (path: string, exportName = '', tls = false) => ({
  tls,
  address: { transport: 'unix' as const, path },
  exportName,
})

describe('nbd uri', () => {
  const forms: [string, NbdUri][] = [
    ['nbd://127.0.0.1', tcp('127.0.0.1', 10809)],
    ['nbd://127.0.0.1/', tcp('127.0.0.1', 10809)],
    ['nbd://tokyo:1234/web01', tcp('tokyo', 1234, 'web01')],
    ['nbds://[::1]:0/a/b', tcp('::1', 0, 'a/b', true)],
    ['nbd:///web01', tcp('localhost', 10809, 'web01')],
    ['nbd://user@host/x%20y%2Fz', { ...tcp('host', 10809, 'x y/z'), tlsOptions: { username: 'user' } }],
    [
      'nbds://h/?tls-psk-file=/etc/k+y.psk&tls-username=a%26b&tls-hostname=osaka&tls-verify-peer=0&other=1',
      {
        ...tcp('h', 10809, '', true),
        tlsOptions: { pskFile: '/etc/k+y.psk', username: 'a&b', hostname: 'osaka', verifyPeer: false },
      },
    ],
    ['nbds+unix://alice@/d?socket=/s', { ...unix('/s', 'd', true), tlsOptions: { username: 'alice' } }],
    ['nbd+unix:///?socket=/run/vmstore/nbd.sock', unix('/run/vmstore/nbd.sock')],
    ['nbd+unix:///web01?socket=/run/a+b%20c', unix('/run/a+b c', 'web01')],
    [
      'nbds+unix:///?tls-certificates=/etc&socket=relative&tls-verify-peer=1',
      { ...unix('relative', '', true), tlsOptions: { certificates: '/etc', verifyPeer: true } },
    ],
    ['NBD://HOST/Name', tcp('HOST', 10809, 'Name')],
  ]
  for (const [text, meaning] of forms) {
    it(`reads ${text}, and what it writes reads the same`, () => {
      assert.deepEqual(parseNbdUri(text), meaning)
      assert.deepEqual(parseNbdUri(formatNbdUri(meaning)), meaning)
    })
  }

  const broken = [
    '',
    'http://x',
    'nbd:x',
    'nbd://h:99999',
    'nbd://h:x/',
    'nbd://::1/',
    'nbd+unix:///x',
    'nbd+unix:///?socket=',
    'nbd+unix:///?socket=/a&socket=/b',
    'nbd+unix://host/?socket=/a',
    'nbd+unix://user@host/?socket=/a',
    'nbds://h/?tls-verify-peer=perhaps',
    'nbds://h/?tls-certificates=',
    'nbds://h/?tls-hostname=a&tls-hostname=b',
    'nbd://h/%ff',
    'nbd://h/%00',
    `nbd://h/${'a'.repeat(4097)}`,
  ]
  for (const text of broken) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))} with a sentence`, () => {
      assert.throws(() => parseNbdUri(text), NbdUriError)
    })
  }

  it('writes a port and no slash for the default export', () => {
    assert.equal(formatNbdUri(tcp('::1', 10809)), 'nbd://[::1]:10809')
    assert.equal(formatNbdUri(unix('/run/x y.sock', 'a b')), 'nbd+unix:///a%20b?socket=/run/x%20y.sock')
  })
})
