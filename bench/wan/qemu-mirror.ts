// QEMU's own way of moving a disk, for comparison: a storage daemon at each end of a path. The disk is mirrored over NBD while
// its guest writes at the source; when the mirror is ready the guest moves, and the mirror is ended in between.
//
// The programs are those of a root folder (`chroot`), so that they may be newer than this machine's. All files lie below it.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { EmulatedPath, End } from './path.ts'

const run = promisify(execFile)
const port = 10_809
const upMs = 30_000
/** A guest may write faster than it comes, in units as large as the mirror's. */
export const mirrorMs = 120_000
/** NBD connections from the path are handed to the Unix socket at which the guest finds the disk too. */
const forwarder = (socket: string, host: string) =>
  `const net = require('node:net'); net.createServer((here) => { const there = net.connect(${JSON.stringify(socket)}); here.pipe(there).pipe(here); for (const each of [here, there]) each.on('error', () => { here.destroy(); there.destroy() }) }).listen(${port}, '${host}')`

/** What a monitor says: the answer to a command, or something that has happened. */
interface Said {
  readonly id?: number
  readonly event?: string
  readonly error?: { readonly desc: string }
}

class Monitor {
  readonly #socket: Socket
  readonly #answers = new Map<number, PromiseWithResolvers<void>>()
  readonly #events = new Map<string, PromiseWithResolvers<void>>()
  #commands = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    createInterface({ input: socket }).on('line', (line) => this.#hear(JSON.parse(line)))
  }

  static async connect(path: string): Promise<Monitor> {
    const socket = connect(path)
    await once(socket, 'connect')
    const monitor = new Monitor(socket)
    await monitor.execute('qmp_capabilities')
    return monitor
  }

  execute(command: string, words: object = {}): Promise<void> {
    const id = ++this.#commands
    const answer = Promise.withResolvers<void>()
    this.#answers.set(id, answer)
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: words, id })}\n`)
    return answer.promise
  }

  /** Resolves once it has happened, be it before; to false when it does not in time. */
  async event(name: string): Promise<boolean> {
    const over = new AbortController()
    const late = sleep(mirrorMs, false, { signal: over.signal }).catch(() => false)
    const happened = await Promise.race([this.#event(name).promise.then(() => true), late])
    over.abort()
    return happened
  }

  close(): void {
    this.#socket.destroy()
  }

  #event(name: string): PromiseWithResolvers<void> {
    const event = this.#events.get(name) ?? Promise.withResolvers<void>()
    this.#events.set(name, event)
    return event
  }

  #hear({ id, event, error }: Said): void {
    if (event !== undefined) this.#event(event).resolve()
    const answer = id === undefined ? undefined : this.#answers.get(id)
    if (error) answer?.reject(new Error(error.desc))
    else answer?.resolve()
  }
}

export class MirroredDisk {
  readonly #path: EmulatedPath
  readonly #root: string
  readonly #place: string
  readonly #children: ChildProcess[] = []
  readonly #monitors: Partial<Record<End, Monitor>> = {}

  private constructor(path: EmulatedPath, root: string, place: string) {
    this.#path = path
    this.#root = root
    this.#place = place
  }

  /** `root`: where the programs are; `image`: the disk as it is at the source. */
  static async start(path: EmulatedPath, root: string, image: string): Promise<MirroredDisk> {
    await mkdir(join(root, 'tmp'), { recursive: true })
    const disk = new MirroredDisk(path, root, await mkdtemp(join(root, 'tmp', 'mirror-')))
    try {
      await copyFile(image, join(disk.#place, 'a.raw'))
      {
        await using file = await open(join(disk.#place, 'b.raw'), 'w')
        await file.truncate((await stat(image)).size)
      }
      for (const end of ['a', 'b'] as const) await disk.#serve(end)
      const words = [process.execPath, '-e', forwarder(join(disk.#place, 'b.sock'), path.addressOf('b'))]
      disk.#spawn('b', words)
      return disk
    } catch (error) {
      await disk.stop()
      throw error
    }
  }

  static async version(root: string): Promise<string> {
    const { stdout } = await run('chroot', [root, 'qemu-storage-daemon', '--version'])
    return /version (\S+)/.exec(stdout)?.[1] ?? stdout
  }

  uriOf(end: End): string {
    return `nbd+unix:///vm?socket=${join(this.#place, `${end}.sock`)}`
  }

  /**
   * Begins, and resolves when all that was there is at the destination, and what is written goes to both; to false when that takes
   * too long. `options`: other words to the mirror than its own, which counts what was written by 64 KiB and copies it afterwards.
   */
  async mirror(options: object): Promise<boolean> {
    const monitor = this.#monitors.a!
    const server = { type: 'inet', host: this.#path.addressOf('b'), port: `${port}` }
    for (let tries = 1; ; tries++) {
      try {
        await monitor.execute('blockdev-add', { driver: 'nbd', 'node-name': 'there', server, export: 'vm' })
        break
      } catch (error) {
        if (tries === 50) throw error // What hands the connections on has not begun to listen.
        await sleep(100)
      }
    }
    const words = { 'job-id': 'move', device: 'vm', target: 'there', sync: 'full' }
    await monitor.execute('blockdev-mirror', { ...words, ...options })
    return monitor.event('BLOCK_JOB_READY')
  }

  /** The guest writes no more: the rest comes, and the mirror is over. */
  async complete(): Promise<void> {
    await this.#monitors.a!.execute('block-job-cancel', { device: 'move' })
    if (!(await this.#monitors.a!.event('BLOCK_JOB_COMPLETED'))) throw new Error('the mirror does not end')
  }

  async stop(): Promise<void> {
    for (const monitor of Object.values(this.#monitors)) monitor.close()
    for (const child of this.#children) {
      const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
      child.kill('SIGKILL')
      await ended
    }
    await rm(this.#place, { recursive: true, force: true })
  }

  async #serve(end: End): Promise<void> {
    const inRoot = this.#place.slice(this.#root.length)
    const file = { driver: 'file', filename: `${inRoot}/${end}.raw`, discard: 'unmap' }
    const words = [
      ...['chroot', this.#root, 'qemu-storage-daemon'],
      ...['--blockdev', JSON.stringify({ driver: 'raw', 'node-name': 'vm', discard: 'unmap', file })],
      ...['--nbd-server', `addr.type=unix,addr.path=${inRoot}/${end}.sock,max-connections=0`],
      ...['--export', 'type=nbd,id=vm,node-name=vm,name=vm,writable=on'],
      ...['--chardev', `socket,id=qmp,path=${inRoot}/${end}.qmp,server=on,wait=off`, '--monitor', 'chardev=qmp'],
    ]
    this.#spawn(end, words)
    this.#monitors[end] = await connected(join(this.#place, `${end}.qmp`))
  }

  #spawn(end: End, words: readonly string[]): void {
    const [command, ...before] = this.#path.at(end)
    this.#children.push(spawn(command!, [...before, ...words], { stdio: ['ignore', 'ignore', 'inherit'] }))
  }
}

async function connected(path: string): Promise<Monitor> {
  const deadlineMs = performance.now() + upMs
  for (;;) {
    try {
      return await Monitor.connect(path)
    } catch (error) {
      if (performance.now() > deadlineMs) throw error
      await sleep(50)
    }
  }
}
