// The servers that are measured, each started as a user would, on a copy of the image of its own.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export type Transport = 'unix' | 'tcp'

export interface Place {
  readonly transport: Transport
  readonly folder: string
  /** 0 with a Unix socket. */
  readonly port: number
}

/** Where one server finds its image and is found. */
interface Site extends Place {
  readonly image: string
  readonly socket: string
  readonly uri: string
}

export interface ServerKind {
  /** Names the export and its files too. */
  readonly id: string
  readonly title: string
  readonly program: string
  readonly versionFlag: string
  /** It goes into the background and leaves its pid in `<id>.pid`. */
  readonly isDaemon?: true
  command(site: Site): readonly string[] | Promise<readonly string[]>
}

export interface Running {
  readonly kind: ServerKind
  readonly uri: string
  readonly pid: number
  stop(): Promise<void>
}

const startTimeoutMs = 20_000
const stopTimeoutMs = 10_000
const complaintMaxBytes = 300

export const serverKinds: readonly ServerKind[] = [
  vmstoreOf('vmstore', join(import.meta.dirname, '..')),
  {
    id: 'nbdkit',
    title: 'nbdkit file',
    program: 'nbdkit',
    versionFlag: '--version',
    command: ({ transport, socket, port, image }) => {
      const listen = transport === 'unix' ? ['-U', socket] : ['-i', '127.0.0.1', '-p', String(port)]
      return ['nbdkit', '-f', ...listen, 'file', image]
    },
  },
  qemuNbd('threads'),
  qemuNbd('io_uring'),
  {
    id: 'nbd-server',
    title: 'nbd-server',
    program: 'nbd-server',
    versionFlag: '-V',
    isDaemon: true, // In the foreground it serves one connection, then ends.
    command: async ({ transport, folder, socket, port, image }) => {
      // It listens over TCP in any case.
      const listen = `listenaddr = 127.0.0.1\nport = ${port || (await freePort())}\n`
      const unix = transport === 'unix' ? `unixsock = ${socket}\n` : ''
      const path = join(folder, 'nbd-server.conf')
      await writeFile(
        path,
        `[generic]\n${listen}${unix}[nbd-server]\nexportname = ${image}\nflush = true\nfua = true\n`,
      )
      return ['nbd-server', '-C', path, '-p', join(folder, 'nbd-server.pid')]
    },
  },
]

/** The build that lies in `folder`; `id` is its title too. */
export function vmstoreOf(id: 'vmstore' | 'before', folder: string): ServerKind {
  const program = join(folder, 'bin', 'run.js')
  return {
    id,
    title: id,
    program: process.execPath,
    versionFlag: '--version',
    command: ({ image, uri }) => [process.execPath, program, 'serve', image, '--nbd', uri, '--log-level', 'error'],
  }
}

function qemuNbd(aio: 'threads' | 'io_uring'): ServerKind {
  const id = `qemu-nbd-${aio}`
  return {
    id,
    title: `qemu-nbd ${aio}`,
    program: 'qemu-nbd',
    versionFlag: '--version',
    command: ({ transport, socket, port, image }) => {
      const listen = transport === 'unix' ? ['-k', socket] : ['-b', '127.0.0.1', '-p', String(port)]
      const options = ['-f', 'raw', '--cache=writeback', `--aio=${aio}`, '--persistent', '--shared=0', '-x', id]
      return ['qemu-nbd', ...options, ...listen, image]
    },
  }
}

/** Resolves when the server accepts connections. Rejects with what it said if it ends, or does not come up. */
export async function start(
  kind: ServerKind,
  place: Place,
  pin: readonly string[],
  signal: AbortSignal,
): Promise<Running> {
  const socket = join(place.folder, `${kind.id}.sock`)
  const { transport, port, folder } = place
  const uri = transport === 'unix' ? `nbd+unix:///${kind.id}?socket=${socket}` : `nbd://127.0.0.1:${port}/${kind.id}`
  const pidFile = join(folder, `${kind.id}.pid`)
  await rm(pidFile, { force: true })
  const command = await kind.command({ ...place, image: join(folder, `${kind.id}.raw`), socket, uri })
  const [first = '', ...rest] = [...pin, ...command]
  // taskset becomes the server: its pid is the server's.
  const child = spawn(first, rest, { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-complaintMaxBytes)
  })
  child.on('error', () => {})
  /** 0: not known (yet), or it has failed. */
  const pidOf = (): number => (kind.isDaemon ? Number(readIfThere(pidFile)) : (child.pid ?? 0))
  const hasFailed = (): boolean => child.signalCode !== null || (child.exitCode ?? 0) !== 0 || child.pid === undefined
  const stop = () => endProcess(pidOf())
  const deadline = performance.now() + startTimeoutMs
  try {
    while (pidOf() === 0 || !(await accepts(transport === 'unix' ? { path: socket } : { host: '127.0.0.1', port }))) {
      if (hasFailed() || performance.now() > deadline) {
        throw new Error(`it does not come up: ${complaint.replaceAll(folder, '').trim().split('\n').at(-1)}`)
      }
      await sleep(50, undefined, { signal })
    }
  } catch (error) {
    await stop()
    throw error
  }
  return { kind, uri, pid: pidOf(), stop }
}

async function endProcess(pid: number): Promise<void> {
  const deadline = performance.now() + stopTimeoutMs
  if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGTERM')
  while (pid > 0 && isAlive(pid)) {
    if (performance.now() > deadline) return void process.kill(pid, 'SIGKILL')
    await sleep(20)
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

function accepts(address: { readonly path: string } | { readonly host: string; readonly port: number }) {
  return new Promise<boolean>((resolve) => {
    const probe = connect(address, () => resolve(true))
    probe.on('connect', () => probe.destroy())
    probe.on('error', () => resolve(false))
  })
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
