// The numbers of the NBD protocol: the spec's names, in the spec's order, each list named after its section of proto.md.
// Decides nothing; holds no state. What stands here and is not answered by the server is here for the client and for messages.

/** proto.md, "Fixed newstyle negotiation". */
export const Magic = {
  nbdMagic: 0x4e42444d41474943n, // "NBDMAGIC"
  iHaveOpt: 0x49484156454f5054n, // "IHAVEOPT"
  optionReply: 0x0003e889045565a9n,
  request: 0x25609513,
  extendedRequest: 0x21e41c71,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
  extendedReply: 0x6e8a278c,
} as const

/** proto.md, "Handshake flags". */
export const HandshakeFlag = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const

/** proto.md, "Client flags". */
export const ClientFlag = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const

/** proto.md, "Transmission flags". */
export const TransmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendResize: 1 << 9,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
  blockStatusPayload: 1 << 12,
} as const

/** proto.md, "Option types". */
export const OptionType = {
  exportName: 1,
  abort: 2,
  list: 3,
  peekExport: 4,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const

const errorReply = 2 ** 31

/** proto.md, "Option reply types". */
export const ReplyType = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: errorReply + 1,
  errPolicy: errorReply + 2,
  errInvalid: errorReply + 3,
  errPlatform: errorReply + 4,
  errTlsReqd: errorReply + 5,
  errUnknown: errorReply + 6,
  errShutdown: errorReply + 7,
  errBlockSizeReqd: errorReply + 8,
  errTooBig: errorReply + 9,
  errExtHeaderReqd: errorReply + 10,
} as const

/** proto.md, "Option reply types", NBD_REP_INFO. */
export const InfoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const

/** proto.md, "Request types". */
export const Command = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
  resize: 8,
} as const

/** proto.md, "Command flags". */
export const CommandFlag = {
  fua: 1 << 0,
  noHole: 1 << 1,
  df: 1 << 2,
  reqOne: 1 << 3,
  fastZero: 1 << 4,
  payloadLen: 1 << 5,
} as const

/** proto.md, "Structured reply flags". */
export const ChunkFlag = { done: 1 << 0 } as const

/** proto.md, "Structured reply types". */
export const ChunkType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  blockStatusExt: 6,
  error: 2 ** 15 + 1,
  errorOffset: 2 ** 15 + 2,
} as const

/** proto.md, "Error values". Only these travel. */
export const ErrorNumber = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const

/** proto.md, "The base: metadata namespace". */
export const AllocationFlag = { hole: 1 << 0, zero: 1 << 1 } as const

/** The port that IANA gave to NBD. */
export const defaultPort = 10809

/** proto.md, "Values": no string is longer. */
export const stringMaxBytes = 4096

/** What we advertise as minimum, preferred and maximum (proto.md, "Block size constraints"). */
export const blockSizeMinimumBytes = 1
export const blockSizePreferredBytes = 4096
export const payloadAdvertisedBytes = 32 * 1024 * 1024

/** What we accept: some clients do not keep to the advertised maximum, none is known to pass this. */
export const payloadMaxBytes = 64 * 1024 * 1024

export const requestBytes = 28
export const extendedRequestBytes = 32
export const simpleReplyBytes = 16
export const chunkHeaderBytes = 20
export const extendedChunkHeaderBytes = 32

/** The name that `value` has in one of the lists above, for messages: `option GO`, `command 77`. */
export function nameOf(list: Readonly<Record<string, number>>, value: number): string {
  const name = Object.keys(list).find((key) => list[key] === value)
  return name === undefined ? String(value) : name.replace(/(?<=[a-z])[A-Z]/g, '_$&').toUpperCase()
}
