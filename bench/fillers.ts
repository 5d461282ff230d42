// The servers whose files are filled as their users fill them, each in a folder of its own.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from './servers.ts'

const startTimeoutMs = 60_000
const stopTimeoutMs = 20_000
const disk = 'bench'

export interface FillPlace {
  readonly folder: string
  readonly image: string
  /** Before a server's command. */
  readonly pin: readonly string[]
  readonly signal: AbortSignal
}

/** A server that is up, and its file. */
export interface Served {
  readonly uri: string
  readonly file: string
  readonly pid: number
  stop(): Promise<void>
}

export interface Contender {
  readonly id: string
  /** Its file was filled from the image. */
  imported(place: FillPlace): Promise<Served>
  /** Its file was filled from another of its kind, which has the image. */
  moved(place: FillPlace): Promise<Served>
  /** A server that was stopped, once more. */
  again(place: FillPlace, before: Served): Promise<Served>
}

export const nbdkit: Contender = {
  id: 'nbdkit',
  async imported(place) {
    const served = await empty(place)
    await nbdcopy(place, place.image, served.uri)
    return served
  },
  async moved(place) {
    const source = await serveByNbdkit(place, place.image, 'source')
    try {
      const served = await empty(place)
      await nbdcopy(place, source.uri, served.uri)
      return served
    } finally {
      await source.stop()
    }
  },
  again: (place, { file }) => serveByNbdkit(place, file, 'again'),
}

async function empty(place: FillPlace): Promise<Served> {
  const path = join(place.folder, 'nbdkit.raw')
  const [image, file] = [await open(place.image, 'r'), await open(path, 'wx')]
  await file.truncate((await image.stat()).size)
  await Promise.all([image.close(), file.close()])
  return serveByNbdkit(place, path, 'filled')
}

async function nbdcopy({ signal }: FillPlace, from: string, to: string): Promise<void> {
  await promisify(execFile)('nbdcopy', ['--flush', from, to], { signal })
}

async function serveByNbdkit(place: FillPlace, file: string, name: string): Promise<Served> {
  const socket = join(place.folder, `${name}.sock`)
  const running = await start(place, ['nbdkit', '-f', '-U', socket, 'file', file], [socket])
  return { ...running, uri: `nbd+unix:///?socket=${socket}`, file }
}

/** A build of ours, in `worktree`. */
export function vmstore(id: string, worktree: string): Contender {
  return {
    id,
    async imported(place) {
      const site = await startSite(worktree, place, 'one')
      await site.ask('disk', 'create', disk, '--from', place.image)
      return site.served()
    },
    async moved(place) {
      const [source, site] = [await startSite(worktree, place, 'one'), await startSite(worktree, place, 'two')]
      try {
        await source.ask('disk', 'create', disk, '--from', place.image)
        const { token } = JSON.parse(await source.ask('peer', 'invite', '--name', 'two', '--json')) as { token: string }
        await site.ask('peer', 'join', token, '--name', 'one')
        await source.ask('migrate', disk, '--to', 'two', '--mode', 'post-copy', '--switchover', 'now')
        return await site.served()
      } finally {
        await source.stop()
      }
    },
    again: async (place) => (await startSite(worktree, place, 'one')).served(),
  }
}

interface Site {
  ask(...command: string[]): Promise<string>
  served(): Promise<Served>
  stop(): Promise<void>
}

async function startSite(worktree: string, place: FillPlace, name: string): Promise<Site> {
  const root = join(place.folder, name)
  await mkdir(root, { recursive: true, mode: 0o700 })
  const [control, socket] = [join(root, 'control.sock'), join(root, 'bench.sock')]
  const program = [process.execPath, join(worktree, 'bin', 'run.js')]
  const addresses = ['--nbd', `nbd+unix:///?socket=${socket}`, '--peer', `tcp://127.0.0.1:${await freePort()}`]
  const options = ['serve', '--root', root, '--control', control, ...addresses, '--log-level', 'error', '--json']
  const { pid, stop } = await start(place, [...program, ...options], [socket, control])
  const ask = async (...command: string[]): Promise<string> => {
    const [node = '', ...rest] = [...program, ...command, '--control', control]
    return (await promisify(execFile)(node, rest, { signal: place.signal })).stdout
  }
  const served = async (): Promise<Served> => {
    const paths = await readdir(root, { recursive: true })
    const file = join(root, paths.find((path) => path.endsWith(`${disk}.raw`)) ?? '')
    return { uri: `nbd+unix:///${disk}?socket=${socket}`, file, pid, stop }
  }
  return { ask, served, stop }
}

/** Resolves when something accepts connections at all of `sockets`. */
async function start(
  { pin, signal }: FillPlace,
  command: readonly string[],
  sockets: readonly string[],
): Promise<{ pid: number; stop(): Promise<void> }> {
  const [first = '', ...rest] = [...pin, ...command]
  const child = spawn(first, rest, { stdio: ['ignore', 'ignore', 'inherit'] })
  const over = once(child, 'exit')
  over.catch(() => {}) // An exit is looked for where it matters.
  const hasEnded = () => child.pid === undefined || child.exitCode !== null || child.signalCode !== null
  const stop = async () => {
    if (hasEnded()) return
    const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
    child.kill('SIGTERM')
    await over
    clearTimeout(timer)
  }
  const deadline = performance.now() + startTimeoutMs
  for (const path of sockets) {
    while (!(await accepts(path))) {
      if (hasEnded() || performance.now() > deadline || signal.aborted) {
        await stop()
        throw new Error(`${command.slice(0, 3).join(' ')} does not come up`)
      }
      await sleep(50)
    }
  }
  return { pid: child.pid!, stop }
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path, () => resolve(true))
    probe.on('connect', () => probe.destroy())
    probe.on('error', () => resolve(false))
  })
}
