// Other people's NBD servers, for tests that copy from them: started on a Unix socket, ended after the test.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { findTool } from '../tools.ts'
import { afterwards, folder, freePort, until } from './sites.ts'

export interface OtherServer {
  readonly uri: string
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>
  /** After `kill`: the same command again, or another at the same place. */
  start(...args: string[]): Promise<void>
}

/** nbdkit with a plugin, filters and their parameters. */
export function nbdkit(...args: string[]): Promise<OtherServer> {
  const socket = join(folder(), 'nbdkit.sock')
  return otherServer('nbdkit', socket, args, (words) => ['-f', '-U', socket, ...words])
}

/** qemu-nbd of one image, for several clients, until it is ended. */
export function qemuNbd(...args: string[]): Promise<OtherServer> {
  const socket = join(folder(), 'qemu.sock')
  return otherServer('qemu-nbd', socket, args, (words) => ['-t', '-e', '8', '-r', '-k', socket, ...words])
}

/** qemu-nbd of a raw file, or of another server's export, that can be written through it. */
export function writableQemuNbd(place: string): Promise<OtherServer> {
  const socket = join(folder(), 'qemu.sock')
  const image = ['-f', 'raw', '-x', 'disk', place]
  const server = ['-t', '-e', '8', '-k', socket, '--discard=unmap']
  return otherServer('qemu-nbd', socket, image, (words) => [...server, ...words])
}

/** nbd-server, which exports `file` as `disk`. It goes into the background; its process is the one that it notes. */
export async function nbdServer(file: string, { readOnly = true } = {}): Promise<Pick<OtherServer, 'uri'>> {
  const place = folder()
  const socket = join(place, 'server.sock')
  const notePath = join(place, 'server.pid')
  const configuration = join(place, 'nbd-server.conf')
  const general = `[generic]\nlistenaddr = 127.0.0.1\nport = ${await freePort()}\nunixsock = ${socket}\n`
  const abilities = 'trim = true\nflush = true\nfua = true\n'
  writeFileSync(configuration, `${general}[disk]\nexportname = ${file}\nreadonly = ${readOnly}\n${abilities}`)
  // Without pipes: 3.27 keeps them in the background, and nobody would see their end.
  const child = spawn(findTool('nbd-server')!, ['-C', configuration, '-p', notePath], { stdio: 'ignore' })
  const [code] = await once(child, 'exit')
  assert.equal(code, 0, 'nbd-server goes into the background')
  afterwards(() => process.kill(Number(readFileSync(notePath, 'utf8')), 'SIGTERM'))
  await until('nbd-server listens', async () => ((await answers(socket)) ? true : undefined))
  return { uri: `nbd+unix:///disk?socket=${socket}` }
}

async function otherServer(
  program: string,
  socket: string,
  args: string[],
  command: (args: string[]) => string[],
): Promise<OtherServer> {
  let child: ChildProcess
  let stderr = ''
  const server: OtherServer = {
    uri: `nbd+unix:///disk?socket=${socket}`,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
    async start(...words) {
      rmSync(socket, { force: true }) // One that was killed leaves it, and nbdkit does not replace it.
      child = spawn(findTool(program)!, command(words.length > 0 ? words : args), {
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      child.stderr!.on('data', (chunk) => (stderr += chunk))
      await until(`${program} listens`, async () => {
        assert.equal(child.exitCode, null, stderr)
        return (await answers(socket)) ? true : undefined
      })
    },
  }
  await server.start()
  afterwards(() => server.kill())
  return server
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
