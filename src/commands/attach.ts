// vmstore attach: a disk as a block device of this host, through the kernel's NBD client. Lives until SIGTERM or SIGINT, and
// then detaches; a second one leaves the device as it is.

import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Args, Flags } from '@oclif/core'
import { Attachment } from '../attach/attachment.ts'
import { detachDevice, letGo } from '../attach/detach.ts'
import { DeviceLock, indexOf, KernelDevice } from '../attach/device.ts'
import { type NbdKernel, NetlinkKernel } from '../attach/kernel.ts'
import { deviceBusy, interrupted, noDevice, noKernelClient, noRights } from '../attach/refusals.ts'
import { DaemonDisk, type DiskServer, UriDisk } from '../attach/server.ts'
import { sentenceOf } from '../attach/texts.ts'
import { BaseCommand } from '../cli/base-command.ts'
import { UsageError } from '../cli/errors.ts'
import { onInterrupt } from '../cli/interrupt.ts'
import { isJournal } from '../cli/journal.ts'
import { ServiceManager, takeManagerWords } from '../cli/service-manager.ts'
import { timeFlag } from '../cli/sizes.ts'

const connectionsMax = 16
/** Where only root may write, and nothing is left after a boot. */
const lockFolder = '/run'

export default class Attach extends BaseCommand {
  static override long = true
  static override summary = "attach a disk to the kernel's NBD client, as /dev/nbdN"
  static override description =
    `The device is there when the event attached, or a line, says so. The command stays, and gives the kernel a new connection
whenever one dies: a restart of the daemon is a pause for whoever uses the device. SIGTERM or SIGINT flush and detach; while
the device is in use, or its server is away, they leave it attached. If the command is killed, the device goes on; the same
command again takes it over (Linux 5.14).
DISK is a disk of the daemon of this host, or an NBD URI. Needs root, and the kernel's module nbd.
Exit codes: 0 detached, 2 usage, 3 refused: nothing was attached, or nothing was detached, 1 other.`
  static override examples = [
    '<%= config.bin %> attach web01 /dev/nbd0',
    '<%= config.bin %> attach nbd://192.0.2.1/web01 /dev/nbd0',
    '<%= config.bin %> attach --detach /dev/nbd0',
  ]
  static override args = {
    disk: Args.string({ description: 'name of a disk of the daemon, or an NBD URI' }),
    device: Args.string({ description: 'the device, such as /dev/nbd0' }),
  }
  static override flags = {
    connections: Flags.integer({
      helpValue: 'N',
      description:
        'how many, where the server says that several are safe; with several a restart pauses for up to 30 s, not 5 s',
      default: 1,
      min: 1,
      max: connectionsMax,
    }),
    'dead-timeout': timeFlag({
      description: 'how long requests wait for a server that is away before they fail',
      default: 600_000,
      defaultHelp: async () => '10m',
    }),
    detach: Flags.string({
      description: 'flush this device and detach it, whoever attached it',
      helpValue: 'DEVICE',
      exclusive: ['connections', 'dead-timeout'],
    }),
    force: Flags.boolean({
      description: 'with --detach: although it is in use, and without a flush: what was not written yet is lost',
      dependsOn: ['detach'],
    }),
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Attach)
    if (flags.detach !== undefined) {
      if (args.disk !== undefined) throw new UsageError('--detach names the device, and nothing else is to be named.')
      await this.#detach(deviceOf(flags.detach), flags.force)
      return
    }
    if (args.disk === undefined || args.device === undefined) {
      throw new UsageError('A disk and a device are to be named, such as: vmstore attach web01 /dev/nbd0.')
    }
    const isUri = /^nbds?(\+unix)?:/i.test(args.disk)
    const server = isUri ? new UriDisk(args.disk) : new DaemonDisk(await this.connect(flags), args.disk)
    await this.#attach(deviceOf(args.device), server, flags.connections, flags['dead-timeout'])
  }

  async #attach(device: KernelDevice, server: DiskServer, connections: number, deadTimeoutMs: number): Promise<void> {
    const warn = (message: string) => this.#say(message, true)
    const manager = new ServiceManager(takeManagerWords(process.env, process.pid), {
      warn: (_facts, message) => warn(message),
    })
    const kernel = openKernel()
    const lock = takeLock(device)
    using interrupt = onInterrupt(interrupted(device.path))
    try {
      const clock = {
        nowMs: () => performance.now(),
        sleep: (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal }),
      }
      const tell = (event: Parameters<typeof sentenceOf>[0]) => {
        this.event(event)
        const { text, isWarning } = sentenceOf(event)
        this.#say(text, isWarning)
      }
      const deadTimeoutSeconds = Math.max(1, Math.round(deadTimeoutMs / 1000))
      const options = { connections, deadTimeoutSeconds }
      const attachment = await Attachment.begin({ kernel, device, server, clock, tell }, options, interrupt.signal)
      void manager.ready(`${server.disk} is attached as ${device.path}`)
      try {
        await attachment.run(interrupt.signal)
      } catch (error) {
        if (!interrupt.signal.aborted) throw error
        void manager.stopping(`flushing and detaching ${device.path}`)
        await attachment.detach()
      }
      this.event({ type: 'result', device: device.path, detached: true } as { type: string })
    } finally {
      lock.release()
      kernel.close()
    }
  }

  async #detach(device: KernelDevice, force: boolean): Promise<void> {
    const kernel = openKernel()
    try {
      const facts = await device.facts()
      if (facts === undefined) throw noDevice(device.path, false)
      if (facts.isAttached) await (force ? letGo(kernel, device) : detachDevice(kernel, device))
      this.event({ type: 'result', device: device.path, detached: facts.isAttached } as { type: string })
      this.log('%s', facts.isAttached ? `${device.path} is detached.` : `Nothing was attached to ${device.path}.`)
    } finally {
      kernel.close()
    }
  }

  #say(text: string, isWarning: boolean): void {
    this.tell(isJournal(process.env) ? `<${isWarning ? 4 : 6}>${text}` : text)
  }
}

function deviceOf(path: string): KernelDevice {
  const index = indexOf(path.includes('/') ? resolve(path) : path)
  if (index === undefined) throw noDevice(path, true)
  return new KernelDevice(index)
}

function openKernel(): NbdKernel {
  try {
    return NetlinkKernel.open()
  } catch (error) {
    throw noKernelClient(error)
  }
}

function takeLock(device: KernelDevice): DeviceLock {
  let lock: DeviceLock | { readonly holder: string }
  try {
    lock = DeviceLock.take(device.index, lockFolder)
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'EACCES' ? noRights(error) : error
  }
  if (lock instanceof DeviceLock) return lock
  throw deviceBusy(device.path, `another vmstore attach cares for it (process ${lock.holder})`)
}
