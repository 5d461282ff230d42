// What keeps a device from being attached or detached, as sentences for the operator.

import { ControlError } from '../control/errors.ts'
import { ExitCode } from '../control/types.ts'
import { NbdRefusedError } from '../nbd/client/errors.ts'

const unchanged = 'Nothing was changed.'

export function cannotBeAttached(
  code: string,
  message: string,
  next: string,
  disk?: string,
  cause?: unknown,
): ControlError {
  const view = { code, message, exit: ExitCode.refused, safe: unchanged, next, ...(disk !== undefined && { disk }) }
  return new ControlError(view, { cause })
}

/** `cause`: what the server said, or why it was not reached. */
export function noConnection(disk: string, cause: Error): ControlError {
  const view = {
    code: cause instanceof NbdRefusedError ? 'disk-refused' : 'server-unreachable',
    exit: cause instanceof NbdRefusedError ? ExitCode.refused : ExitCode.other,
    message: `${disk} cannot be opened: ${cause.message}.`,
    safe: unchanged,
    next: 'See that its server runs and serves it.',
  }
  return new ControlError(view, { cause })
}

export function notUnderstood(message: string, next: string, cause?: unknown): ControlError {
  return new ControlError({ code: 'usage', message, exit: ExitCode.usage, next }, { cause })
}

/** Why the kernel's NBD client cannot be spoken to. */
export function noKernelClient(cause: unknown): unknown {
  const { code } = cause as NodeJS.ErrnoException
  if (code === 'ENOENT') {
    const message = 'The kernel has no NBD client: its module nbd is not loaded.'
    return cannotBeAttached('no-nbd-module', message, 'load it with: modprobe nbd', undefined, cause)
  }
  if (code === 'EPROTONOSUPPORT' || code === 'EAFNOSUPPORT' || code === 'ESOCKTNOSUPPORT') {
    const message = 'This kernel has no generic netlink, over which its NBD client is set up.'
    const next = 'Use a Linux kernel with CONFIG_NET and CONFIG_BLK_DEV_NBD, and not within a sandbox.'
    return cannotBeAttached('no-netlink', message, next, undefined, cause)
  }
  if (code === 'EPERM' || code === 'EACCES') return noRights(cause)
  return cause
}

export function noRights(cause: unknown): ControlError {
  const message = 'You may not attach or detach block devices: that needs the capability CAP_SYS_ADMIN.'
  return cannotBeAttached('no-rights', message, 'run the command as root', undefined, cause)
}

export function noDevice(path: string, isOther: boolean): ControlError {
  if (isOther) {
    return notUnderstood(`${path} is no device of the kernel's NBD client.`, 'name one of /dev/nbd0, /dev/nbd1 …')
  }
  const message = `There is no ${path}.`
  const next = 'The module makes 16 unless it is told otherwise: modprobe nbd nbds_max=64.'
  return cannotBeAttached('no-device', message, next)
}

/** `by`: what it is attached to. */
export function deviceBusy(path: string, by: string, cause?: unknown): ControlError {
  const next = `Take another device, or let go of what uses it: vmstore attach --detach ${path}.`
  return cannotBeAttached('device-busy', `${path} is in use: ${by}.`, next, undefined, cause)
}

/** Of a request to the kernel, by ErrnoException. */
export function kernelRefused(path: string, cause: unknown): unknown {
  const { code, syscall } = cause as NodeJS.ErrnoException
  if (syscall === undefined || code === undefined) return cause
  if (code === 'EPERM' || code === 'EACCES') return noRights(cause)
  if (code === 'EBUSY') return deviceBusy(path, 'the kernel says that another program has it open or attached', cause)
  const message = `The kernel refused ${syscall} for ${path}: ${code}.`
  return cannotBeAttached('kernel-refused', message, 'see what the kernel says of it: dmesg', undefined, cause)
}

export function inUse(path: string): ControlError {
  const message = `${path} is in use, such as by a file system that is mounted from it, and stays attached.`
  const next = `End that use (umount ${path}), then: vmstore attach --detach ${path}.`
  return cannotBeAttached('device-in-use', message, next)
}

export function serverAway(path: string, disk: string): ControlError {
  const message = `The server of ${disk} is away, so what was written to ${path} cannot be flushed: the device stays attached.`
  const next = `Start the server and vmstore attach again, or give up what is not flushed: vmstore attach --detach ${path} --force.`
  return cannotBeAttached('server-away', message, next, disk)
}

export function flushFailed(path: string, cause: unknown): ControlError {
  const reason = (cause as Error).message
  const message = `What was written to ${path} could not be flushed (${reason}): the device stays attached.`
  const next = `See dmesg; to give up what is not flushed: vmstore attach --detach ${path} --force.`
  const view = { code: 'flush-failed', exit: ExitCode.other, message, safe: unchanged, next }
  return new ControlError(view, { cause })
}

export function interrupted(path: string): ControlError {
  const message = `The attaching of ${path} was interrupted.`
  return new ControlError({ code: 'interrupted', exit: ExitCode.other, message, safe: unchanged })
}
