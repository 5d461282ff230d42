// What an export answers with, as a client of NBD is told it.

import assert from 'node:assert/strict'
import { GuestError, type GuestErrorCode } from '../../src/guest/export.ts'
import { Command, ErrorNumber } from '../../src/nbd/wire/constants.ts'
import { decodeErrorPayload } from '../../src/nbd/wire/transmission-codecs.ts'
import { RawClient, serve } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

describe("a guest's error", () => {
  const told: Readonly<Record<GuestErrorCode, number>> = {
    io: ErrorNumber.EIO,
    'no-space': ErrorNumber.ENOSPC,
    'not-permitted': ErrorNumber.EPERM,
    'not-served': ErrorNumber.ESHUTDOWN,
    unsupported: ErrorNumber.ENOTSUP,
  }
  for (const [code, errorNumber] of Object.entries(told) as [GuestErrorCode, number][]) {
    it(`${code} travels as NBD's error value ${errorNumber}, with its sentence where there are chunks`, async () => {
      const disk = new MemoryExport()
      disk.gate = () => {
        throw new GuestError(code, 'so it is')
      }
      await using site = await serve([disk])
      const plain = await RawClient.open(site.path)
      plain.request({ type: Command.flush })
      assert.equal((await plain.reply()).errorNumber, errorNumber)
      const chunked = await RawClient.open(site.path, { structured: true })
      chunked.request({ type: Command.flush })
      assert.deepEqual(decodeErrorPayload((await chunked.chunk()).payload), { errorNumber, sentence: 'so it is' })
      plain.destroy()
      chunked.destroy()
    })
  }
})
