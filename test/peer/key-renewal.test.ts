// The key of a site, renewed: three files, whatever step the site dies at.

import assert from 'node:assert/strict'
import { chmod, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Identity, loadIdentity } from '../../src/peer/identity.ts'
import { FolderKeyFiles } from '../../src/peer/key-renewal.ts'
import { cleanUp, folder } from './sites.ts'

describe('the files of a key that is renewed', () => {
  afterEach(cleanUp)

  async function site(): Promise<{ path: string; keys: FolderKeyFiles; before: Identity }> {
    const path = await folder()
    const before = await loadIdentity(path)
    return { path, keys: new FolderKeyFiles(path), before }
  }
  const fingerprintAt = async (path: string) => (await loadIdentity(path)).fingerprint

  it('a renewal from its beginning to its end leaves the next key, with a certificate of its own, and nothing else', async () => {
    const { path, keys, before } = await site()
    const next = await keys.prepare()
    assert.notEqual(next.fingerprint, before.fingerprint)
    assert.equal((await stat(join(path, 'identity.next.key'))).mode & 0o777, 0o600)
    assert.equal(await fingerprintAt(path), before.fingerprint)
    await keys.decide()
    assert.equal(await fingerprintAt(path), before.fingerprint, 'the old key is needed until all is signed')
    await keys.replace()
    assert.equal(await fingerprintAt(path), next.fingerprint)
    assert.deepEqual((await readdir(path)).sort(), ['identity.crt', 'identity.key'])
    assert.equal((await stat(join(path, 'identity.key'))).mode & 0o777, 0o600)
    await keys.replace()
    assert.equal(await fingerprintAt(path), next.fingerprint, 'twice is once')
  })

  it('what was only prepared is removed by the next start, and the site is who it was', async () => {
    const { path, keys, before } = await site()
    await keys.prepare()
    assert.equal(await keys.left(), undefined)
    assert.deepEqual((await readdir(path)).sort(), ['identity.crt', 'identity.key'])
    assert.equal(await fingerprintAt(path), before.fingerprint)
  })

  it('what was decided is found by the next start, as often as it starts, and is the same key when it is asked for again', async () => {
    const { keys } = await site()
    const next = await keys.prepare()
    await keys.decide()
    for (let start = 0; start < 2; start++) assert.equal((await keys.left())?.fingerprint, next.fingerprint)
    assert.equal((await keys.prepare()).fingerprint, next.fingerprint)
    await keys.decide()
    assert.equal((await keys.left())?.fingerprint, next.fingerprint)
  })

  it('a start that finds the old certificate gone, or the new key without one, goes on', async () => {
    const { path, keys, before } = await site()
    const next = await keys.prepare()
    await keys.decide()
    await rm(join(path, 'identity.crt'))
    assert.equal(await fingerprintAt(path), before.fingerprint)
    await rm(join(path, 'identity.crt'))
    await rename(join(path, 'identity.decided.key'), join(path, 'identity.key'))
    assert.equal(await fingerprintAt(path), next.fingerprint)
    assert.equal(await keys.left(), undefined)
  })

  it('a decided key that is damaged, or open to others, is an error with a sentence, and is not replaced', async () => {
    const { path, keys } = await site()
    await keys.prepare()
    await keys.decide()
    const decided = join(path, 'identity.decided.key')
    await chmod(decided, 0o644)
    await assert.rejects(keys.left(), { name: 'PeerError', code: 'identity-exposed' })
    await chmod(decided, 0o600)
    await writeFile(decided, 'no key')
    await assert.rejects(keys.left(), { name: 'PeerError', code: 'identity-damaged' })
    await assert.rejects(keys.prepare(), { name: 'PeerError', code: 'identity-damaged' })
    await stat(decided)
  })
})
