// What a device was made of, as a text that the kernel keeps with it (NBD_ATTR_BACKEND_IDENTIFIER): by it a device is known
// again by a process that did not make it. Pure. Always: the kernel takes a new connection for a device only together with
// the very same text.

import type { NbdExportInfo } from '../nbd/client/negotiation.ts'
import { TransmissionFlag } from '../nbd/wire/constants.ts'

const formatVersion = 1

export interface Backend {
  /** Where the disk is found: the same for every start of the same command. */
  readonly target: string
  /** Which disk, and what of it, if the server can say. */
  readonly identity?: string
  readonly sizeBytes: number
  /** proto.md, "Transmission flags". */
  readonly flags: number
  readonly connections: number
}

export function formatBackend({ target, identity, sizeBytes, flags, connections }: Backend): string {
  return JSON.stringify({ vmstore: formatVersion, target, identity, sizeBytes, flags, connections })
}

/** undefined: not a text of ours. */
export function parseBackend(text: string): Backend | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const { vmstore, target, identity, sizeBytes, flags, connections } = (value ?? {}) as Record<string, unknown>
  const isCount = (count: unknown): count is number => Number.isSafeInteger(count) && Number(count) >= 0
  if (vmstore !== formatVersion || typeof target !== 'string') return undefined
  if (!isCount(sizeBytes) || !isCount(flags) || !isCount(connections) || connections === 0) return undefined
  return { target, sizeBytes, flags, connections, ...(typeof identity === 'string' && { identity }) }
}

/** What the kernel was told that the server can do, and does without asking again. */
const reliedOn =
  TransmissionFlag.sendFlush |
  TransmissionFlag.sendFua |
  TransmissionFlag.sendTrim |
  TransmissionFlag.sendWriteZeroes |
  TransmissionFlag.canMultiConn

/** Why what a server serves now cannot be what the device was made of; undefined: it can. */
export function changeOf(
  backend: Backend,
  { info, identity }: { readonly info: Pick<NbdExportInfo, 'sizeBytes' | 'flags'>; readonly identity?: string },
): string | undefined {
  const { sizeBytes, flags } = info
  if (backend.identity !== identity) return `the device was made of ${backend.identity}, and this is ${identity}`
  if (sizeBytes !== backend.sizeBytes) return `the disk has ${sizeBytes} bytes, the device ${backend.sizeBytes}`
  const isReadOnly = (of: number) => (of & TransmissionFlag.readOnly) !== 0
  if (isReadOnly(flags) !== isReadOnly(backend.flags)) {
    return `the disk is for ${isReadOnly(flags) ? 'reading only' : 'writing'} now, and was not when the device was made`
  }
  const missing = backend.flags & ~flags & reliedOn
  const names = Object.entries(TransmissionFlag).flatMap(([name, flag]) => (missing & flag ? [name] : []))
  return names.length > 0 ? `the server lacks what the device was told that it has: ${names.join(', ')}` : undefined
}
