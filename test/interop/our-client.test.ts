// Our client writes to servers of others: with extended headers where the server has them, else with compact requests.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient, NbdRequestError } from '../../src/nbd/client/client.ts'
import { nbdkit, nbdServer, type OtherServer, writableQemuNbd } from '../e2e/nbd-servers.ts'
import { endSitesAfterEach, folder, readAll } from '../e2e/sites.ts'
import { needTool } from '../tools.ts'
import { mebibyte, patterned } from './clients.ts'

const sizeBytes = 8 * mebibyte
const large = 4 * mebibyte

const servers: readonly [program: string, start: (file: string) => Promise<Pick<OtherServer, 'uri'>>][] = [
  ['nbdkit', (file) => nbdkit('file', file)],
  ['qemu-nbd', writableQemuNbd],
  ['nbd-server', (file) => nbdServer(file, { readOnly: false })],
]

describe('our client at servers of others', () => {
  endSitesAfterEach()

  for (const [program, start] of servers) {
    it(`${program}: what it writes, zeroes, trims and flushes is in the file, and each refusal is its own request's`, async function () {
      needTool(this, program)
      const file = join(folder(), 'disk.raw')
      const bytes = patterned(sizeBytes)
      writeFileSync(file, bytes)
      const { uri } = await start(file)
      const client = await NbdClient.connect(uri)
      const { canFua, canTrim, canWriteZeroes, readOnly } = client.info()
      assert(!readOnly)
      const written = patterned(large).reverse()
      await Promise.all([
        client.write(512, written),
        assert.rejects(client.write(sizeBytes - 512, written.subarray(0, 4096)), NbdRequestError),
        client.write(6 * mebibyte + 1, written.subarray(0, 700)),
      ])
      written.copy(bytes, 512)
      written.copy(bytes, 6 * mebibyte + 1, 0, 700)
      if (canFua) await client.write(sizeBytes - 4096, written.subarray(0, 4096), { fua: true })
      if (canFua) written.copy(bytes, sizeBytes - 4096, 0, 4096)
      if (canWriteZeroes) await client.writeZeroes(mebibyte, 65536)
      if (canWriteZeroes) bytes.fill(0, mebibyte, mebibyte + 65536)
      if (canTrim) await client.trim(5 * mebibyte, 65536)
      // What a trimmed range reads as is the server's affair.
      await client.write(5 * mebibyte, bytes.subarray(5 * mebibyte, 5 * mebibyte + 65536))
      await client.flush()
      assert((await readAll(client)).equals(bytes))
      await client.disconnect()
      assert(readFileSync(file).equals(bytes))
    })
  }
})
