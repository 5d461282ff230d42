// Messages and attributes of generic netlink, and those of the kernel's NBD client: bytes as the kernel's headers say them.

import assert from 'node:assert/strict'
import {
  decodeAttributes,
  decodeError,
  decodeGeneric,
  decodeMessages,
  encodeAttribute,
  encodeRequest,
  NetlinkFormatError,
  textAttribute,
  textOf,
  uint16Of,
  uint32Attribute,
  uint32Of,
  uint64Attribute,
} from '../../src/attach/generic-netlink.ts'
import { decodeFamily, decodeLinkDead, encodeConnect, encodeFindFamily } from '../../src/attach/nbd-netlink.ts'
import { familyAnswer, linkDeadMessage } from './fake-netlink.ts'

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')

describe('generic netlink', () => {
  it('the family "nbd" is asked for by its name, and an answer is asked for', () => {
    assert.deepEqual(encodeFindFamily(7), hex(`1c000000 1000 0500 07000000 00000000  03 02 0000  0800 0200 6e626400`))
  })

  it('a device is asked for with its numbers, its text and its sockets, each where the kernel looks for it', () => {
    const request = { index: 5, sizeBytes: 2 ** 40, blockSizeBytes: 512, serverFlags: 0x16d, deadTimeoutSeconds: 600 }
    assert.deepEqual(
      encodeConnect(0x1c, 2, { ...request, backend: 'abc', sockets: [20, 21] }),
      hex(`7c000000 1c00 0500 02000000 00000000  01 01 0000
        0800 0100 05000000
        0c00 0200 0000000000010000
        0c00 0300 0002000000000000
        0c00 0400 0000000000000000
        0c00 0500 6d01000000000000
        0c00 0800 5802000000000000
        0800 0a00 61626300
        1c00 0700  0c00 0100 0800 0100 14000000  0c00 0100 0800 0100 15000000`),
    )
  })

  it('what was encoded is decoded: a message, its attributes, attributes within them, of lengths that need padding', () => {
    const attributes = [
      uint32Attribute(1, 0xffffffff),
      uint64Attribute(2, Number.MAX_SAFE_INTEGER),
      textAttribute(3, 'ñ'),
      encodeAttribute(4, encodeAttribute(9, Buffer.from('x'))),
      encodeAttribute(5, Buffer.alloc(0)),
    ]
    const [message, ...others] = decodeMessages(
      encodeRequest({ family: 28, sequence: 9, command: 2, version: 1, attributes }),
    )
    assert.equal(others.length, 0)
    assert.deepEqual([message!.type, message!.sequence], [28, 9])
    const generic = decodeGeneric(message!.payload)
    assert.equal(generic.command, 2)
    assert.deepEqual(
      generic.attributes.map(({ type, payload }) => [type, payload.toString('hex')]),
      [
        [1, 'ffffffff'],
        [2, 'ffffffffffff1f00'],
        [3, 'c3b100'],
        [4, '0500090078000000'],
        [5, ''],
      ],
    )
    assert.equal(textOf(generic.attributes, 3), 'ñ')
    assert.deepEqual(decodeAttributes(generic.attributes[3]!.payload)[0]!.payload, Buffer.from('x'))
  })

  it('cut at any byte, bytes are whole messages before the cut or an error, and nothing is read behind it', () => {
    const whole = Buffer.concat([linkDeadMessage(28, 3), linkDeadMessage(28, 4)])
    for (let length = 0; length < whole.length; length++) {
      const cut = whole.subarray(0, length)
      if (length % linkDeadMessage(28, 3).length === 0) assert.equal(decodeMessages(cut).length, length === 0 ? 0 : 1)
      else assert.throws(() => decodeMessages(cut), NetlinkFormatError)
    }
  })

  it('cut at any byte, the payload of an answer is an error, or lacks an attribute, and never a number that was not said', () => {
    const family = decodeMessages(familyAnswer(1, 28, 5))[0]!.payload
    for (let length = 0; length < family.length; length++) {
      assert.throws(() => decodeFamily(Buffer.from(family.subarray(0, length))), NetlinkFormatError, `at ${length}`)
    }
    assert.deepEqual(decodeFamily(family), { id: 28, group: 5 })
    const dead = decodeMessages(linkDeadMessage(28, 3))[0]!.payload
    for (let length = 0; length < dead.length; length++) {
      assert.throws(() => decodeLinkDead(Buffer.from(dead.subarray(0, length))), NetlinkFormatError, `at ${length}`)
    }
    assert.equal(decodeLinkDead(dead), 3)
  })

  it('a length that is shorter than a header, or longer than what is there, is an error and no endless loop', () => {
    for (const bytes of ['00000100', '03000100', '0a0001000000', 'ffff0100']) {
      assert.throws(() => decodeAttributes(hex(bytes)), NetlinkFormatError, bytes)
    }
    for (const length of ['00000000', '0f000000', '11000000', 'ffffffff']) {
      assert.throws(() => decodeMessages(hex(`${length} 1c00 0000 00000000 00000000`)), NetlinkFormatError, length)
    }
  })

  it('the flags in an attribute’s type are no part of its number', () => {
    assert.deepEqual(
      decodeAttributes(hex('04000780 04000140')).map(({ type }) => type),
      [7, 1],
    )
  })

  it('an attribute that is missing, or too short for its number, is an error that names it', () => {
    const attributes = decodeAttributes(hex('05000100 ff000000'))
    assert.throws(() => uint16Of(attributes, 1), /attribute 1 has 1 bytes/)
    assert.throws(() => uint32Of(attributes, 2), /attribute 2 is missing/)
  })

  it('an answer has its errno, and 0 when it was done', () => {
    assert.equal(decodeError(hex('f0ffffff 00')), 16)
    assert.equal(decodeError(hex('00000000')), 0)
    assert.throws(() => decodeError(hex('f0ffff')), NetlinkFormatError)
  })
})
