// Two sites with identities of their own, and sockets between them: what the tests of peers share.

import { createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { type Identity, loadIdentity } from '../../src/peer/identity.ts'
import { type SecuredStream, SecureServer, type SecureServerOptions } from '../../src/peer/secure.ts'

export const never = new AbortController().signal

export async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'vmstore-peer-'))
  closing.push(() => rm(path, { recursive: true, force: true }))
  return path
}

const closing: (() => unknown)[] = []
export async function cleanUp(): Promise<void> {
  for (const close of closing.splice(0).reverse()) await close()
}

export async function newIdentity(): Promise<Identity> {
  return loadIdentity(await folder())
}

export interface Gate {
  readonly port: number
  readonly taken: SecuredStream[]
  readonly refusals: string[]
  /** Resolves at the next stream that is taken, or with why one was refused. */
  next(): Promise<SecuredStream | string>
}

/** A SecureServer behind a TCP port of this host. */
export async function gate(
  options: Pick<SecureServerOptions, 'identity'> & Partial<SecureServerOptions>,
): Promise<Gate> {
  const taken: SecuredStream[] = []
  const refusals: string[] = []
  const waiters: ((what: SecuredStream | string) => void)[] = []
  const queue: (SecuredStream | string)[] = []
  const tell = (what: SecuredStream | string) => {
    const waiter = waiters.shift()
    if (waiter) waiter(what)
    else queue.push(what)
  }
  const take = (secured: SecuredStream, known: () => void) => {
    known()
    taken.push(secured)
    closing.push(() => secured.stream.destroy())
    tell(secured)
  }
  const secure = new SecureServer({
    isPaired: () => false,
    onLink: take,
    onPair: take,
    onRefused: (why) => {
      refusals.push(why)
      tell(why)
    },
    ...options,
  })
  const server = createServer({ noDelay: true }, (socket) => secure.accept(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    secure.close()
    server.close()
  })
  const next = async () => queue.shift() ?? new Promise<SecuredStream | string>((resolve) => waiters.push(resolve))
  return { port: (server.address() as { port: number }).port, taken, refusals, next }
}

export async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  closing.push(() => socket.destroy())
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  socket.on('error', () => {})
  return socket
}

/** Everything until the stream is closed. */
export function readToClose(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('error', () => {})
  return new Promise((resolve) => stream.once('close', () => resolve(Buffer.concat(chunks))))
}

/**
 * A key file that says it holds the victim's public key and signs with the thief's private one: what a thief can make who
 * has the victim's certificate. OpenSSL believes the public half that the file states.
 */
export function forgedKeyPem(victim: Identity, thief: Identity): string {
  const { x, y } = createPublicKey(victim.certificatePem).export({ format: 'jwk' })
  const { d } = createPrivateKey(thief.privateKeyPem).export({ format: 'jwk' })
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x!, 'base64url'), Buffer.from(y!, 'base64url')])
  const der = Buffer.concat([
    Buffer.from('30770201010420', 'hex'),
    Buffer.from(d!, 'base64url'),
    Buffer.from('a00a06082a8648ce3d030107a144034200', 'hex'),
    point,
  ])
  return `-----BEGIN EC PRIVATE KEY-----\n${der.toString('base64')}\n-----END EC PRIVATE KEY-----\n`
}
