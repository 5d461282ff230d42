// What is said to the kernel's NBD client, and what it says (<linux/nbd-netlink.h>), and how its netlink family is found
// (<linux/genetlink.h>, the family "nlctrl"). Pure. The header's names, in the header's order.

import {
  decodeAttributes,
  decodeGeneric,
  encodeAttribute,
  encodeRequest,
  NetlinkFormatError,
  textAttribute,
  textOf,
  uint16Of,
  uint32Attribute,
  uint32Of,
  uint64Attribute,
} from './generic-netlink.ts'

export const nbdFamilyName = 'nbd'
const nbdVersion = 1
const multicastGroupName = 'nbd_mc_group'

export const NbdAttribute = {
  index: 1,
  sizeBytes: 2,
  blockSizeBytes: 3,
  timeout: 4,
  serverFlags: 5,
  sockets: 7,
  deadConnTimeout: 8,
  backendIdentifier: 10,
} as const
export const SocketAttribute = { item: 1, fd: 1 } as const
export const NbdCommand = { connect: 1, disconnect: 2, reconfigure: 3, linkDead: 4 } as const

/** GENL_ID_CTRL, CTRL_CMD_GETFAMILY, and its attributes. */
const controlFamily = 16
const controlVersion = 2
const getFamilyCommand = 3
const ControlAttribute = { familyId: 1, familyName: 2, multicastGroups: 7 } as const
const GroupAttribute = { name: 1, id: 2 } as const

/** Where the kernel's NBD client is to be found. */
export interface NbdFamily {
  readonly id: number
  /** The multicast group that tells of links that died. */
  readonly group: number
}

export interface ConnectRequest {
  /** N of /dev/nbdN. */
  readonly index: number
  readonly sizeBytes: number
  readonly blockSizeBytes: number
  /** As the server says them: proto.md, "Transmission flags". */
  readonly serverFlags: number
  /** How long requests wait when every link is dead. */
  readonly deadTimeoutSeconds: number
  /** By which the device is known again; kept since Linux 5.14. */
  readonly backend: string
  /** Descriptors of this process, connected and negotiated. */
  readonly sockets: readonly number[]
}

export type ReconfigureRequest = Pick<ConnectRequest, 'index' | 'backend' | 'sockets'>

export function encodeFindFamily(sequence: number): Buffer {
  const attributes = [textAttribute(ControlAttribute.familyName, nbdFamilyName)]
  return encodeRequest({
    family: controlFamily,
    sequence,
    command: getFamilyCommand,
    version: controlVersion,
    attributes,
  })
}

/** The answer's payload. @throws NetlinkFormatError */
export function decodeFamily(payload: Buffer): NbdFamily {
  const { attributes } = decodeGeneric(payload)
  const id = uint16Of(attributes, ControlAttribute.familyId)
  const groups = attributes.find(({ type }) => type === ControlAttribute.multicastGroups)?.payload ?? Buffer.alloc(0)
  for (const { payload: group } of decodeAttributes(groups)) {
    const facts = decodeAttributes(group)
    if (textOf(facts, GroupAttribute.name) === multicastGroupName)
      return { id, group: uint32Of(facts, GroupAttribute.id) }
  }
  throw new NetlinkFormatError(`the family ${nbdFamilyName} has no group ${multicastGroupName}`)
}

export function encodeConnect(family: number, sequence: number, request: ConnectRequest): Buffer {
  return nbdRequest(family, sequence, NbdCommand.connect, [
    uint32Attribute(NbdAttribute.index, request.index),
    uint64Attribute(NbdAttribute.sizeBytes, request.sizeBytes),
    uint64Attribute(NbdAttribute.blockSizeBytes, request.blockSizeBytes),
    // 0: with one connection a slow answer is waited for, for as long as it takes. Said each time: an earlier value would stay.
    uint64Attribute(NbdAttribute.timeout, 0),
    uint64Attribute(NbdAttribute.serverFlags, request.serverFlags),
    uint64Attribute(NbdAttribute.deadConnTimeout, request.deadTimeoutSeconds),
    textAttribute(NbdAttribute.backendIdentifier, request.backend),
    socketList(request.sockets),
  ])
}

/** Each socket takes the place of one that is dead; those for which there is none are left aside without a word. */
export function encodeReconfigure(family: number, sequence: number, request: ReconfigureRequest): Buffer {
  return nbdRequest(family, sequence, NbdCommand.reconfigure, [
    uint32Attribute(NbdAttribute.index, request.index),
    textAttribute(NbdAttribute.backendIdentifier, request.backend),
    socketList(request.sockets),
  ])
}

export function encodeDisconnect(family: number, sequence: number, index: number): Buffer {
  return nbdRequest(family, sequence, NbdCommand.disconnect, [uint32Attribute(NbdAttribute.index, index)])
}

/** The index of the device of which a link has died; undefined: another message. @throws NetlinkFormatError */
export function decodeLinkDead(payload: Buffer): number | undefined {
  const { command, attributes } = decodeGeneric(payload)
  return command === NbdCommand.linkDead ? uint32Of(attributes, NbdAttribute.index) : undefined
}

function nbdRequest(family: number, sequence: number, command: number, attributes: readonly Buffer[]): Buffer {
  return encodeRequest({ family, sequence, command, version: nbdVersion, attributes })
}

function socketList(fds: readonly number[]): Buffer {
  const items = fds.map((fd) => encodeAttribute(SocketAttribute.item, uint32Attribute(SocketAttribute.fd, fd)))
  return encodeAttribute(NbdAttribute.sockets, Buffer.concat(items))
}
