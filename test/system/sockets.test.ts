import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { closeOnExec, decodeSocketAddress, sendDatagram, socketFacts } from '../../src/system/sockets.ts'

function fdOf(server: Server): number {
  return (server as unknown as { _handle: { fd: number } })._handle.fd
}

describe('socket calls', () => {
  const path = mkdtempSync(join(tmpdir(), 'vmstore-socket-'))
  after(() => rmSync(path, { recursive: true }))

  async function facts(where: object) {
    const server = createServer().listen(where)
    await once(server, 'listening')
    try {
      return socketFacts(fdOf(server))
    } finally {
      server.close()
    }
  }

  it('socketFacts knows a listening Unix socket and its path', async () => {
    const socket = join(path, 'größe.sock')
    assert.deepEqual(await facts({ path: socket }), {
      isStream: true,
      isListening: true,
      address: { family: 'unix', path: socket },
    })
  })

  it('socketFacts knows a listening TCP socket, its host and its port', async () => {
    const { address } = (await facts({ host: '127.0.0.1', port: 0 }))!
    assert(address.family === 'inet')
    assert.equal(address.host, '127.0.0.1')
    assert(address.port > 0)
  })

  it('a descriptor that is no socket has no facts, and one that is not open is an error', () => {
    const fd = openSync('/dev/null', 'r')
    assert.equal(socketFacts(fd), undefined)
    closeSync(fd)
    assert.throws(() => socketFacts(fd), { code: 'EBADF', syscall: 'getsockopt' })
  })

  it('addresses: IPv6 in its shortest form, abstract names with @, no name, other families', () => {
    const inet6 = Buffer.alloc(28)
    inet6.writeUInt16LE(10, 0)
    inet6.writeUInt16BE(10809, 2)
    inet6.writeUInt16BE(0x2001, 8)
    inet6.writeUInt16BE(0xdb8, 10)
    inet6[23] = 1
    assert.deepEqual(decodeSocketAddress(inet6), { family: 'inet', host: '2001:db8::1', port: 10809 })
    const unix = (name: string) => decodeSocketAddress(Buffer.from(`\x01\0${name}`))
    assert.deepEqual(unix('\0vmstore'), { family: 'unix', path: '@vmstore' })
    assert.deepEqual(unix(''), { family: 'unix', path: '' })
    assert.deepEqual(unix('/run/nbd\0\0'), { family: 'unix', path: '/run/nbd' })
    assert.deepEqual(unix('/run/nbd'), { family: 'unix', path: '/run/nbd' })
    assert.deepEqual(decodeSocketAddress(Buffer.from([40, 0])), { family: 'other', number: 40 })
    assert.deepEqual(decodeSocketAddress(Buffer.alloc(0)), { family: 'other', number: 0 })
  })

  it('closeOnExec sets the flag', () => {
    const fd = openSync('/dev/null', 'r')
    closeOnExec(fd)
    const [, flags] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))!
    assert.equal(Number.parseInt(flags!, 8) & 0o2000000, 0o2000000)
    closeSync(fd)
    assert.throws(() => closeOnExec(fd), { code: 'EBADF', syscall: 'fcntl' })
  })

  it('sendDatagram says why it could not, and refuses what is no path of a socket', () => {
    const nobody = join(path, 'nobody')
    assert.throws(() => sendDatagram(nobody, Buffer.from('x')), { code: 'ENOENT', syscall: 'sendto' })
    for (const wrong of ['', 'x'.repeat(108), 'a\0b']) {
      assert.throws(() => sendDatagram(wrong, Buffer.from('x')), { code: 'EINVAL' })
    }
  })
})
