// Two sites at the two ends of an emulated path, paired, and a guest that writes at a steady rate and is moved between them.

import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { ControlClient } from '../../src/control/client.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import type { EmulatedPath, End } from './path.ts'

const stopMs = 10_000
const blockBytes = 4096

export interface Site {
  readonly client: ControlClient
  readonly pid: number
  uriOf(disk: string): string
  stop(): Promise<void>
}

/** `build`: the checkout whose daemon it is. */
export async function startSite(
  build: string,
  path: EmulatedPath,
  end: End,
  folder: string,
  extra: readonly string[] = [],
): Promise<Site> {
  const place = join(folder, end)
  await mkdir(place, { recursive: true })
  const socket = join(place, 'nbd.sock')
  const options = ['--json', '--root', join(place, 'root'), '--peer', `tcp://${path.addressOf(end)}:10900`]
  const nbd = ['--nbd', `nbd+unix:///?socket=${socket}`, '--log-level', 'error', ...extra]
  const [command, ...before] = path.at(end)
  const words = [...before, process.execPath, join(build, 'bin', 'run.js'), 'serve', ...options, ...nbd]
  const child = spawn(command!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  for await (const line of createInterface({ input: child.stdout })) {
    const said = JSON.parse(line)
    if (said.type !== 'listening') continue
    child.stdout.resume()
    const client = new ControlClient(said.control)
    const stop = async () => {
      await client.close()
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), stopMs)
      await ended
      clearTimeout(timer)
    }
    return { client, pid: child.pid!, uriOf: (disk) => `nbd+unix:///${disk}?socket=${socket}`, stop }
  }
  throw new Error('the daemon does not come up')
}

/** `a` is called a at b, and the other way round. */
export async function pair(a: Site, b: Site): Promise<void> {
  const { token } = await a.client.invite({ name: 'b' })
  await b.client.join({ token, name: 'a' })
}

/** Writes 4 KiB blocks at random, one after the other, at a bounded rate, and remembers how long each took. */
export class WritingGuest {
  #disk: NbdClient
  readonly #sizeBytes: number
  readonly #bytesPerSecond: number
  readonly #block = Buffer.alloc(blockBytes)
  #isHeld = false
  #isOver = false
  #work: Promise<void> = Promise.resolve()
  #wake: (() => void) | undefined
  readonly tookMs: number[] = []
  writtenBytes = 0

  private constructor(disk: NbdClient, sizeBytes: number, bytesPerSecond: number) {
    this.#disk = disk
    this.#sizeBytes = sizeBytes
    this.#bytesPerSecond = bytesPerSecond
  }

  /** It writes within the first `sizeBytes`. */
  static async start(uri: string, sizeBytes: number, bytesPerSecond: number): Promise<WritingGuest> {
    const guest = new WritingGuest(await NbdClient.connect(uri), sizeBytes, bytesPerSecond)
    guest.#work = guest.#run()
    return guest
  }

  /**
   * As a hypervisor moves a machine: what is under way ends, a flush, off; then on at the other site. Resolves to the milliseconds
   * from the last answered write at the old site to the first at the new. `between`: what is done while it is at neither.
   */
  async move(uri: string, between: () => Promise<void> = async () => {}): Promise<number> {
    this.#isHeld = true
    await this.#work
    const fromMs = performance.now()
    await this.#disk.flush()
    await this.#disk.disconnect()
    const [disk] = await Promise.all([NbdClient.connect(uri), between()])
    this.#disk = disk
    await this.#write()
    const pauseMs = performance.now() - fromMs
    this.#isHeld = false
    this.#work = this.#run()
    return pauseMs
  }

  async stop(): Promise<void> {
    this.#isOver = true
    this.#wake?.()
    await this.#work
    await this.#disk.flush()
    await this.#disk.disconnect()
  }

  async #run(): Promise<void> {
    const fromMs = performance.now()
    for (let count = 1; !this.#isOver && !this.#isHeld; count++) {
      await this.#write()
      const dueMs = fromMs + (count * blockBytes * 1000) / this.#bytesPerSecond
      const restMs = dueMs - performance.now()
      if (restMs > 0) await Promise.race([sleep(restMs), this.#woken()])
    }
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  async #write(): Promise<void> {
    randomFillSync(this.#block)
    const offset = Math.floor((Math.random() * this.#sizeBytes) / blockBytes) * blockBytes
    const fromMs = performance.now()
    await this.#disk.write(offset, this.#block)
    this.tookMs.push(performance.now() - fromMs)
    this.writtenBytes += blockBytes
  }
}
