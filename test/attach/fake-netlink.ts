// The other end of a netlink socket, as a test wants it: it answers requests with what a script says, and tells events.

import {
  decodeAttributes,
  decodeGeneric,
  decodeMessages,
  encodeAttribute,
  textAttribute,
  textOf,
  uint32Attribute,
  uint32Of,
} from '../../src/attach/generic-netlink.ts'
import type { NetlinkPort } from '../../src/attach/kernel.ts'
import { NbdAttribute, NbdCommand, SocketAttribute } from '../../src/attach/nbd-netlink.ts'

/** A message from the kernel, whose header says nothing of an answer that is awaited. */
export function message(type: number, sequence: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(16)
  header.writeUInt32LE(header.length + payload.length, 0)
  header.writeUInt16LE(type, 4)
  header.writeUInt32LE(sequence, 8)
  return Buffer.concat([header, payload])
}

export function genericMessage(type: number, sequence: number, command: number, attributes: Buffer[]): Buffer {
  return message(type, sequence, Buffer.concat([Buffer.from([command, 1, 0, 0]), ...attributes]))
}

/** errno 0: it was done. */
export function errorMessage(sequence: number, errno: number): Buffer {
  const payload = Buffer.alloc(20)
  payload.writeInt32LE(-errno, 0)
  return message(2, sequence, payload)
}

export function linkDeadMessage(family: number, index: number): Buffer {
  return genericMessage(family, 0, NbdCommand.linkDead, [uint32Attribute(NbdAttribute.index, index)])
}

/** Of the family "nlctrl", with the attributes that a kernel adds. */
export function familyAnswer(sequence: number, id: number, group: number): Buffer {
  const idPayload = Buffer.alloc(2)
  idPayload.writeUInt16LE(id)
  const item = (facts: Buffer[]) => encodeAttribute(1, Buffer.concat(facts))
  return genericMessage(16, sequence, 1, [
    textAttribute(2, 'nbd'),
    encodeAttribute(1, idPayload),
    uint32Attribute(3, 1),
    encodeAttribute(7, item([uint32Attribute(2, group), textAttribute(1, 'nbd_mc_group')])),
  ])
}

/** What a request to the NBD family says, by the header's names. */
export function decodedRequest(bytes: Buffer): { readonly command: string; readonly facts: Record<string, unknown> } {
  const { command, attributes } = decodeGeneric(decodeMessages(bytes)[0]!.payload)
  const nameIn = (list: Record<string, number>, number: number) =>
    Object.keys(list).find((name) => list[name] === number) ?? String(number)
  const facts = attributes.map(({ type, payload }): [string, unknown] => {
    const name = nameIn(NbdAttribute, type)
    if (type === NbdAttribute.sockets) {
      return [
        name,
        decodeAttributes(payload).map((item) => uint32Of(decodeAttributes(item.payload), SocketAttribute.fd)),
      ]
    }
    if (type === NbdAttribute.backendIdentifier) return [name, textOf([{ type, payload }], type)]
    return [name, payload.length === 8 ? Number(payload.readBigUInt64LE()) : payload.readUInt32LE()]
  })
  return { command: nameIn(NbdCommand, command), facts: Object.fromEntries(facts) }
}

export class FakePort implements NetlinkPort {
  readonly sent: Buffer[] = []
  readonly groups: number[] = []
  isClosed = false
  /** Datagrams to come; an error is thrown. */
  readonly #coming: (Buffer | Error)[] = []
  readonly #answer: (request: Buffer, sequence: number) => (Buffer | Error)[]

  constructor(answer: (request: Buffer, sequence: number) => (Buffer | Error)[] = () => []) {
    this.#answer = answer
  }

  join(group: number): void {
    this.groups.push(group)
  }

  send(bytes: Buffer): void {
    this.sent.push(bytes)
    this.tell(...this.#answer(bytes, bytes.readUInt32LE(8)))
  }

  tell(...datagrams: (Buffer | Error)[]): void {
    this.#coming.push(...datagrams)
  }

  receive(): Buffer | undefined {
    const next = this.#coming.shift()
    if (next instanceof Error) throw next
    return next
  }

  close(): void {
    this.isClosed = true
  }
}
