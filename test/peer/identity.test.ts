// The site's key and certificate: made once, kept for ever, never replaced.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { loadIdentity } from '../../src/peer/identity.ts'
import { cleanUp, folder } from './sites.ts'

describe('peer identity', () => {
  afterEach(cleanUp)

  it('is made once, then the same', async () => {
    const path = await folder()
    const first = await loadIdentity(path)
    assert.deepEqual(await loadIdentity(path), first)
    assert.match(first.fingerprint, /^[0-9a-f]{64}$/)
    assert.equal(first.siteId, `site-${first.fingerprint.slice(0, 16)}`)
    assert.notEqual((await loadIdentity(await folder())).fingerprint, first.fingerprint)
  })

  it('nobody else may read the key, and nothing else is left behind', async () => {
    const path = await folder()
    await loadIdentity(path)
    assert.equal((await stat(join(path, 'identity.key'))).mode & 0o777, 0o600)
    assert.deepEqual((await readdir(path)).sort(), ['identity.crt', 'identity.key'])
  })

  it('depends on no clock', async () => {
    const { certificatePem } = await loadIdentity(await folder())
    const { validFromDate, validToDate } = new X509Certificate(certificatePem)
    assert.deepEqual([validFromDate.getUTCFullYear(), validToDate.getUTCFullYear()], [1970, 9999])
  })

  it('a key without its certificate, as a crash leaves it, gets one and stays the same site', async () => {
    const path = await folder()
    const first = await loadIdentity(path)
    await rm(join(path, 'identity.crt'))
    assert.equal((await loadIdentity(path)).fingerprint, first.fingerprint)
  })

  it('what is damaged is an error with a sentence, and is not replaced', async () => {
    const path = await folder()
    const other = await folder()
    await loadIdentity(path)
    await loadIdentity(other)
    const key = join(path, 'identity.key')
    const certificate = join(path, 'identity.crt')
    const good = { key: await readFile(key), certificate: await readFile(certificate) }
    const damage: [string, string | Buffer][] = [
      [key, ''],
      [key, good.key.subarray(0, 100)],
      [certificate, good.certificate.subarray(0, 100)],
      [certificate, await readFile(join(other, 'identity.crt'))],
    ]
    for (const [file, bytes] of damage) {
      await writeFile(key, good.key)
      await writeFile(certificate, good.certificate)
      await writeFile(file, bytes)
      await assert.rejects(loadIdentity(path), { name: 'PeerError', code: 'identity-damaged' })
      assert.equal(await readFile(file, 'latin1'), bytes.toString('latin1'))
    }
    await writeFile(certificate, good.certificate)
    await rm(key)
    await assert.rejects(loadIdentity(path), { name: 'PeerError', message: /restore the key/ })
    await assert.rejects(stat(key), { code: 'ENOENT' })
  })
})
