// A virtual machine in a QEMU process, with disks over NBD attached as libvirt does with cache='none'.

import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Program, Sightings } from '../program.ts'
import { findTool } from '../tools.ts'
import type { GuestImage } from './guest-image.ts'
import { listenOnce, Qmp } from './qmp.ts'

const startDeadlineSeconds = 120
/** While QEMU tries to reach a server again, the guest waits instead of seeing an error. */
const reconnectSeconds = 30
/** Under TCG, QEMU 7.2 loses the guest's memory writes in a live migration if the size is a multiple of 256 KiB. */
const memory = '163848k'

export interface ConsoleLine {
  /** The machine that it came from. */
  readonly from: string
  readonly text: string
  /** When it came, on the clock of `performance.now()`. */
  readonly atMs: number
}

/** What the guest says, wherever it runs: a line that it began before a move goes on after it. */
export class GuestConsole {
  readonly lines = new Sightings<ConsoleLine>()
  #rest = ''
  /** The machine that spoke last. */
  #machine: string | undefined

  take(from: string, socket: Socket): void {
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      this.#machine = from
      const lines = (this.#rest + text).split('\n')
      this.#rest = lines.pop()!
      for (const line of lines) this.#add({ from, text: line, atMs: performance.now() })
    })
  }

  #add(line: ConsoleLine): void {
    const isExpected = /^(ready|tick|done) |reboot: Power down/.test(line.text)
    if (!isExpected) console.error(`      the guest, at the ${line.from}: ${line.text}`) // What it finds wrong, or its kernel.
    this.lines.add(line)
  }

  /** That machine has ended: the guest too, unless it has gone elsewhere. */
  endOf(machine: string, reason: Error): void {
    if (machine === this.#machine) this.lines.end(reason)
  }
}

export interface MachineOptions {
  readonly name: string
  /** For its sockets. */
  readonly folder: string
  readonly guest: GuestImage
  readonly guestConsole: GuestConsole
  readonly nbdSocket: string
  /** One disk each, in this order. */
  readonly exportNames: readonly string[]
  /** Waits to be told where a guest comes in. */
  readonly isIncoming?: boolean
}

export class Machine {
  readonly qmp: Qmp
  readonly process: Program
  readonly #console: Socket

  private constructor(qmp: Qmp, process: Program, console: Socket) {
    this.qmp = qmp
    this.process = process
    this.#console = console
  }

  /** Resolves when the monitor answers, with the disk opened. `started` is told of the process at once, to end it in any case. */
  static async start(options: MachineOptions, started: (process: Program) => void): Promise<Machine> {
    const { name, folder, guestConsole } = options
    const paths = { qmp: join(folder, `${name}.qmp`), console: join(folder, `${name}.console`) }
    const qmp = new Qmp(name)
    const sockets: { qmp?: Socket; console?: Socket } = {}
    using _monitor = await listenOnce(paths.qmp, (socket) => {
      sockets.qmp = socket
      qmp.take(socket)
    })
    using _console = await listenOnce(paths.console, (socket) => {
      sockets.console = socket
      guestConsole.take(name, socket)
    })
    const program = new Program(`QEMU (${name})`, findTool('qemu-system-x86_64')!, commandLine(options, paths), {
      ended: (reason) => {
        // Not before what it still said was read.
        whenClosed(sockets.qmp, () => qmp.end(reason))
        whenClosed(sockets.console, () => guestConsole.endOf(name, reason))
      },
    })
    started(program)
    await qmp.begin(startDeadlineSeconds)
    return new Machine(qmp, program, sockets.console!) // QEMU opens it before it greets.
  }

  /** To the guest's serial port. */
  type(text: string): void {
    this.#console.write(text)
  }

  /** Moves the guest to `other`, which was started with `isIncoming`. Resolves when it runs there. */
  async migrateTo(other: Machine, path: string, deadlineSeconds: number): Promise<void> {
    const capabilities = [{ capability: 'events', state: true }]
    for (const { qmp } of [this, other]) await qmp.execute('migrate-set-capabilities', { capabilities })
    await this.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 30 })
    await other.qmp.execute('migrate-incoming', { uri: `unix:${path}` })
    await this.qmp.execute('migrate', { uri: `unix:${path}` })
    const isOver = ({ status }: { status: string }) => ['completed', 'failed', 'cancelled'].includes(status)
    const { data } = await this.qmp.event('MIGRATION', deadlineSeconds, isOver)
    if (data.status !== 'completed') {
      throw new Error(`QEMU's migration ${data.status}: ${JSON.stringify(await this.qmp.execute('query-migrate'))}`)
    }
    await other.qmp.event('RESUME', deadlineSeconds)
  }
}

function whenClosed(socket: Socket | undefined, act: () => void): void {
  if (!socket || socket.closed) act()
  else socket.once('close', act)
}

function commandLine(options: MachineOptions, paths: { qmp: string; console: string }): string[] {
  const { guest, nbdSocket, exportNames, isIncoming } = options
  const passing = { discard: 'unmap', cache: { direct: true, 'no-flush': false } }
  const server = { type: 'unix', path: nbdSocket }
  const fixed = { driver: 'nbd', server, 'reconnect-delay': reconnectSeconds, ...passing }
  const disks = exportNames.flatMap((name, index) => [
    ...[
      '-blockdev',
      JSON.stringify({ 'node-name': `disk${index}`, driver: 'raw', ...passing, file: { ...fixed, export: name } }),
    ],
    ...['-device', `virtio-blk-pci,drive=disk${index},write-cache=on,werror=report,rerror=report`],
  ])
  return [
    ...['-machine', 'pc', '-accel', 'tcg', '-smp', '1', '-m', memory],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', guest.kernel, '-initrd', guest.initramfs],
    ...['-append', 'console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off'],
    ...['-chardev', `socket,id=qmp,path=${paths.qmp}`, '-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', `socket,id=console,path=${paths.console}`, '-serial', 'chardev:console'],
    ...disks,
    ...(isIncoming ? ['-incoming', 'defer'] : []),
  ]
}
