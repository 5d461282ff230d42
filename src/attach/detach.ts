// How a device is let go of, by whoever cares for it or from elsewhere.

import type { Device } from './device.ts'
import type { NbdKernel } from './kernel.ts'
import { flushFailed, inUse, kernelRefused } from './refusals.ts'

/** The kernel's own. */
const kernelLookAfterMs = 30_000

/**
 * Flushes what was written and lets go of the device, which nobody else can begin to use meanwhile. `meanwhile` ends when the
 * flush has. @throws ControlError
 */
export async function detachDevice(
  kernel: NbdKernel,
  device: Device,
  meanwhile: (flush: Promise<void>) => Promise<void> = (flush) => flush,
): Promise<void> {
  const held = await device.hold()
  if (held === undefined) throw inUse(device.path)
  try {
    try {
      await meanwhile(held.flush())
    } catch (error) {
      throw flushFailed(device.path, error)
    }
    await letGo(kernel, device)
  } finally {
    await held.close()
  }
}

/** Whatever it holds, whoever uses it. @throws ControlError */
export async function letGo(kernel: NbdKernel, device: Device): Promise<void> {
  try {
    await device.lookAfterRequests(kernelLookAfterMs) // It would stay for whoever attaches the device next.
    kernel.disconnect(device.index)
  } catch (error) {
    throw kernelRefused(device.path, error)
  }
}
