// Decides whether a request may reach a handle: one place, before anything else, in 64 bits. Pure. What passes has a known
// command, known flags, a payload only if it is a write, and a range within the export, as safe integers.
// DISC is not judged here: its fields may be garbage.

import { Command, CommandFlag, nameOf, payloadMaxBytes } from './constants.ts'
import { NbdError } from './error-values.ts'
import { type Request, wordsToText } from './transmission-codecs.ts'

export interface ExportBounds {
  readonly sizeBytes: number
  readonly readOnly: boolean
}

const allowedFlags: Readonly<Record<number, number>> = {
  [Command.read]: CommandFlag.df,
  [Command.write]: CommandFlag.fua,
  [Command.flush]: 0,
  [Command.trim]: CommandFlag.fua,
  [Command.cache]: 0,
  [Command.writeZeroes]: CommandFlag.fua | CommandFlag.noHole | CommandFlag.fastZero,
  [Command.blockStatus]: CommandFlag.reqOne,
}

/** The error that a client gets for `request`, or undefined. FUA is allowed everywhere (proto.md, "Command flags"). */
export function refusalOf(
  request: Request,
  bounds: ExportBounds,
  contextCount: number,
  isExtended: boolean,
): NbdError | undefined {
  const { type, lengthBytes } = request
  const allowed = allowedFlags[type]
  if (allowed === undefined) return new NbdError('EINVAL', 'this server does not know that command')
  // With extended headers a write may say that it has a payload, which it has anyway; nothing else here has one.
  const payloadLen = isExtended && type === Command.write ? CommandFlag.payloadLen : 0
  if ((request.flags & ~(allowed | CommandFlag.fua | payloadLen)) !== 0) {
    return new NbdError('EINVAL', `the command does not take flags ${request.flags}`)
  }
  if (type === Command.flush) return undefined
  const changes = type === Command.write || type === Command.trim || type === Command.writeZeroes
  if (changes && bounds.readOnly) return new NbdError('EPERM', 'the export is read-only')
  const size = bounds.sizeBytes
  // The offset is a safe integer once it is known to be within the size; the sum is never formed.
  if (request.offset > size || lengthBytes > size - request.offset) {
    const code = type === Command.write || type === Command.writeZeroes ? 'ENOSPC' : 'EINVAL'
    return new NbdError(code, `the range ends past the export's ${size} bytes`)
  }
  if ((type === Command.read || type === Command.write) && lengthBytes > payloadMaxBytes) {
    return new NbdError('EINVAL', `a payload has at most ${payloadMaxBytes} bytes`)
  }
  if (type === Command.blockStatus) {
    if (lengthBytes === 0) return new NbdError('EINVAL', 'a status needs a length')
    if (contextCount === 0) return new NbdError('EINVAL', 'no metadata context was negotiated')
  }
  return undefined
}

/** "NBD_CMD_WRITE offset=4096 length=512". */
export function describe(request: Request): string {
  const offset = wordsToText(request.offsetHigh, request.offsetLow)
  const length = wordsToText(request.lengthHigh, request.lengthLow)
  return `NBD_CMD_${nameOf(Command, request.type)} offset=${offset} length=${length}`
}
