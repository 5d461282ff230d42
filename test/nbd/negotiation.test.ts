// The negotiation as a state machine: bytes in, steps out, no socket.

import assert from 'node:assert/strict'
import { GuestError } from '../../src/guest/export.ts'
import { Negotiation, type NegotiationStep } from '../../src/nbd/server/negotiation.ts'
import { InfoType, OptionType, ReplyType, TransmissionFlag } from '../../src/nbd/wire/constants.ts'
import {
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  ProtocolError,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import { catalogOf, MemoryExport } from './memory-export.ts'

const flags = encodeClientFlags(3)
const go = (exportName: string, infos: number[] = []) =>
  encodeOption(OptionType.go, encodeInfoRequest({ exportName, infos }))
const info = (exportName: string) => encodeOption(OptionType.info, encodeInfoRequest({ exportName, infos: [] }))
const contexts = (type: number, exportName: string, ...queries: string[]) =>
  encodeOption(type, encodeMetaContextRequest({ exportName, queries }))
const structured = encodeOption(OptionType.structuredReply)

function start(...exports: MemoryExport[]): Negotiation {
  return new Negotiation({
    catalog: catalogOf(...exports),
    tls: 'off',
    optionLimit: 32,
    optionLimitBytes: 65536,
    open: (wanted) => wanted.open('test', false),
  })
}

/** All steps that `bytes` lead to, when they arrive in pieces of `pieceBytes`. */
function run(negotiation: Negotiation, bytes: Buffer, pieceBytes = bytes.length): NegotiationStep[] {
  const steps: NegotiationStep[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    negotiation.push(bytes.subarray(at, at + pieceBytes))
    for (let step = negotiation.next(); step !== undefined; step = negotiation.next()) steps.push(step)
  }
  return steps
}

/** [reply type, payload] of all replies in a step's bytes. */
function repliesIn(step: NegotiationStep | undefined): [number, Buffer][] {
  const replies: [number, Buffer][] = []
  let bytes = step?.bytes ?? Buffer.alloc(0)
  while (bytes.length > 0) {
    const { type, lengthBytes } = decodeOptionReplyHeader(bytes)!
    replies.push([type, bytes.subarray(20, 20 + lengthBytes)])
    bytes = bytes.subarray(20 + lengthBytes)
  }
  return replies
}

const lastType = (step: NegotiationStep | undefined) => repliesIn(step).at(-1)?.[0]

function agreementOf(steps: NegotiationStep[]) {
  const step = steps.at(-1)
  assert(step?.kind === 'transmit')
  return step.agreement
}

describe('nbd negotiation', () => {
  it('comes to the same when every byte arrives alone', () => {
    const bytes = Buffer.concat([
      flags,
      structured,
      encodeOption(OptionType.list),
      contexts(OptionType.setMetaContext, 'disk', 'base:allocation'),
      info('disk'),
      go('disk', [InfoType.name, InfoType.description]),
    ])
    const whole = run(start(new MemoryExport()), bytes).map((step) => step.bytes?.toString('hex'))
    const bytewise = run(start(new MemoryExport()), bytes, 1).map((step) => step.bytes?.toString('hex'))
    assert.equal(whole.length, 5)
    assert.deepEqual(bytewise, whole)
  })

  it('answers GO with the export and its block sizes always, name and description on request', () => {
    const disk = new MemoryExport({ sizeBytes: 12345 })
    const types = (step: NegotiationStep | undefined) =>
      repliesIn(step).map(([type, payload]) => (type === ReplyType.info ? payload.readUInt16BE(0) : 'ack'))
    assert.deepEqual(types(run(start(disk), Buffer.concat([flags, go('disk')]))[0]), [0, 3, 'ack'])
    const [step] = run(start(disk), Buffer.concat([flags, go('disk', [InfoType.name, InfoType.description, 77])]))
    assert.deepEqual(types(step), [0, 3, 1, 2, 'ack'])
    const [[, exported], [, sizes], [, name], [, description]] = repliesIn(step) as [number, Buffer][] as [
      [number, Buffer],
      [number, Buffer],
      [number, Buffer],
      [number, Buffer],
    ]
    assert.equal(exported.readBigUInt64BE(2), 12345n)
    assert.deepEqual([sizes.readUInt32BE(2), sizes.readUInt32BE(6), sizes.readUInt32BE(10)], [1, 4096, 32 * 2 ** 20])
    assert.equal(name.toString('utf8', 2), 'disk')
    assert.equal(description.toString('utf8', 2), 'a disk in memory')
  })

  it('does not open an export for INFO', () => {
    const disk = new MemoryExport()
    disk.openFault = new GuestError('io', 'must not be called')
    assert.equal(lastType(run(start(disk), Buffer.concat([flags, info('disk')]))[0]), ReplyType.ack)
    assert.equal(disk.opens, 0)
  })

  it('tells a refused open from an unknown export, and goes on', () => {
    const disk = new MemoryExport()
    const negotiation = start(disk)
    const refusals: [GuestError, number][] = [
      [new GuestError('not-served', 'the disk departed to tokyo'), ReplyType.errShutdown],
      [new GuestError('not-permitted', 'not you'), ReplyType.errPolicy],
    ]
    run(negotiation, flags)
    for (const [fault, type] of refusals) {
      disk.openFault = fault
      const [[got, sentence]] = repliesIn(run(negotiation, go('disk'))[0]) as [[number, Buffer]]
      assert.equal(got, type)
      assert.equal(sentence.toString(), fault.message)
    }
    assert.equal(lastType(run(negotiation, go('other'))[0]), ReplyType.errUnknown)
    disk.openFault = undefined
    assert.equal(agreementOf(run(negotiation, go('disk'))).export, disk)
  })

  it('hands what follows GO to the transmission', () => {
    const bytes = Buffer.concat([flags, go('disk'), Buffer.from('the rest')])
    const step = run(start(new MemoryExport()), bytes)[0]
    assert(step?.kind === 'transmit')
    assert.equal(step.rest.toString(), 'the rest')
  })

  it('says what an export can: writing only if it is writable, DF only with structured replies', () => {
    const flagsOf = (readOnly: boolean, ...before: Buffer[]) => {
      const steps = run(start(new MemoryExport({ readOnly })), Buffer.concat([flags, ...before, go('disk')]))
      return repliesIn(steps.at(-1))[0]![1].readUInt16BE(10)
    }
    const { hasFlags, readOnly, sendDf, sendTrim, sendWriteZeroes, canMultiConn, sendFastZero } = TransmissionFlag
    const writing = sendTrim | sendWriteZeroes | sendFastZero
    assert.equal(flagsOf(false) & (hasFlags | readOnly | sendDf | writing), hasFlags | writing)
    assert.equal(flagsOf(true, structured) & (hasFlags | readOnly | sendDf | writing), hasFlags | readOnly | sendDf)
    assert.notEqual(flagsOf(true) & canMultiConn, 0)
  })

  it('lists contexts by name, by namespace, and all without a query', () => {
    const disk = new MemoryExport({ statuses: ['allocation', 'present', 'dirty'] })
    const names = (...queries: string[]) => {
      const steps = run(
        start(disk),
        Buffer.concat([flags, structured, contexts(OptionType.listMetaContext, 'disk', ...queries)]),
      )
      return repliesIn(steps[1])
        .slice(0, -1)
        .map(([, payload]) => payload.toString('utf8', 4))
    }
    assert.deepEqual(names(), ['base:allocation', 'vmstore:present', 'vmstore:dirty'])
    assert.deepEqual(names('vmstore:'), ['vmstore:present', 'vmstore:dirty'])
    assert.deepEqual(names('vmstore:dirty', 'x:y', 'base'), ['vmstore:dirty'])
  })

  it('needs structured replies before metadata contexts', () => {
    const [step] = run(start(new MemoryExport()), Buffer.concat([flags, contexts(OptionType.setMetaContext, 'disk')]))
    assert.equal(lastType(step), ReplyType.errInvalid)
  })

  it('ends at client flags that nobody offered, and at an option without its magic', () => {
    assert.throws(() => run(start(new MemoryExport()), encodeClientFlags(4)), ProtocolError)
    assert.throws(() => run(start(new MemoryExport()), Buffer.concat([flags, Buffer.alloc(16)])), ProtocolError)
  })

  describe('trap 12: SET_META_CONTEXT', () => {
    const disk = new MemoryExport({ statuses: ['allocation', 'present'] })
    const other = new MemoryExport({ name: 'other' })
    const agreed = (...options: Buffer[]) =>
      agreementOf(run(start(disk, other), Buffer.concat([flags, structured, ...options]))).contexts.map(
        ({ name }) => name,
      )
    const set = (...queries: string[]) => contexts(OptionType.setMetaContext, 'disk', ...queries)

    it('holds for the export that it named', () => {
      assert.deepEqual(agreed(set('base:allocation'), go('disk')), ['base:allocation'])
      assert.deepEqual(agreed(set('base:allocation'), go('other')), [])
    })
    it('is replaced by the next', () => {
      assert.deepEqual(agreed(set('base:allocation'), set('vmstore:present'), go('disk')), ['vmstore:present'])
      assert.deepEqual(agreed(set('base:allocation'), set(), go('disk')), [])
    })
    it('is cleared by one that fails', () => {
      const unknown = contexts(OptionType.setMetaContext, 'nothing', 'base:allocation')
      assert.deepEqual(agreed(set('base:allocation'), unknown, go('disk')), [])
      const broken = encodeOption(OptionType.setMetaContext, Buffer.from([1]))
      assert.deepEqual(agreed(set('base:allocation'), broken, go('disk')), [])
    })
    it('is not touched by LIST_META_CONTEXT, and takes no namespace', () => {
      const list = contexts(OptionType.listMetaContext, 'other')
      assert.deepEqual(agreed(set('base:allocation'), list, go('disk')), ['base:allocation'])
      assert.deepEqual(agreed(set('base:'), go('disk')), [])
    })
  })

  it('trap 4: between STARTTLS and the end of the handshake no byte is taken, in the same piece or in a later one', () => {
    const offering = (): Negotiation =>
      new Negotiation({
        catalog: catalogOf(new MemoryExport()),
        tls: 'on',
        optionLimit: 32,
        optionLimitBytes: 65536,
        open: (wanted) => wanted.open('test', false),
      })
    const startTls = encodeOption(OptionType.startTls)
    const behind = offering()
    const [step, ...more] = run(behind, Buffer.concat([flags, structured, startTls, go('disk')])).slice(1)
    assert.deepEqual([step?.kind, more], ['startTls', []])
    assert.equal(step?.kind === 'startTls' && step.discardedBytes, go('disk').length)
    behind.secured()
    assert.equal(behind.next(), undefined)
    assert.equal(agreementOf(run(behind, go('disk'))).style.hasChunks, false)

    const later = offering()
    run(later, Buffer.concat([flags, startTls]))
    assert.throws(() => later.push(go('disk')), ProtocolError)
  })
})
