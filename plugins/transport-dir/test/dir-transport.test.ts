// The contract, run over a folder; then what is a folder's own.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { link, lstat, rename, rmdir, truncate, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { ObjectStore, TransportError } from 'vmstore/transport'
import { objectTransportContract, testOptions } from 'vmstore/transport/testkit'
import { DirTransport } from '../src/dir-transport.ts'
import { transportError } from '../src/failures.ts'
import { entryOf, placeOf } from '../src/file-names.ts'
import { linked, renamed } from '../src/naming.ts'
import transports from '../src/transports-hook.ts'

const folders: string[] = []
function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vmd-'))
  folders.push(folder)
  return folder
}
const addressOf = (folder: string) => new URL(pathToFileURL(folder).href.replace(/^file:/, 'dir:'))
const open = (folder: string): Promise<ObjectStore> => new DirTransport().open(addressOf(folder), testOptions())
async function keysIn(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list('')) keys.push(key)
  return keys
}
const filesBelow = (folder: string) => readdirSync(folder, { recursive: true, encoding: 'utf8' })

after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

const shared = newFolder()
objectTransportContract(
  'a folder',
  () => new DirTransport(),
  () => addressOf(shared),
)

describe('transport-dir', () => {
  it('answers the hook with its driver', async () => {
    const drivers = await transports()
    assert.deepEqual(
      drivers.flatMap(({ schemes, kind }) => [schemes, kind]),
      [['dir'], 'object'],
    )
  })

  it('no key leads out of the folder, and none takes the place of another', async () => {
    const above = newFolder()
    const folder = join(above, 'store')
    mkdirSync(folder)
    const store = await open(folder)
    const keys = [
      '../out',
      '/etc/passwd',
      '..',
      '.',
      'a//b',
      'a/',
      'a',
      'a/../b',
      'a=',
      'a=/b',
      'a%2f',
      'A',
      'É',
      '\0',
      '%',
    ]
    for (const key of keys) assert.equal(await store.put(key, Buffer.from(key), { ifAbsent: true }), 'stored', key)
    for (const key of keys) assert.equal(Buffer.from((await store.get(key))!).toString(), key)
    const listed = await keysIn(store)
    assert.deepEqual(
      listed,
      [...keys].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other))),
    )
    assert.deepEqual(readdirSync(above), ['store'])
    await store.delete(keys)
    assert.deepEqual(readdirSync(folder), [], 'no folder is left either')
  })

  it('a key that is too long, or no text, is denied', async () => {
    const store = await open(newFolder())
    for (const key of ['', 'x'.repeat(1025), 'x'.repeat(201), '\ud800']) {
      await assert.rejects(store.put(key, Buffer.from('x')), { name: 'TransportError', code: 'denied' })
    }
  })

  it("a name is read back only as it was written: a stranger's files are no objects", () => {
    for (const key of ['plain', 'É', '..', '', 'Z%']) {
      const { file } = placeOf(`x/${key}`)
      assert.deepEqual(entryOf(file, false), { kind: 'object', part: key })
    }
    for (const name of ['README', 'lost+found', '%41%', '%zz=', 'A=', '%61=', '.0=']) {
      assert.equal(entryOf(name, false), undefined, name)
    }
    assert.equal(entryOf('a=', true), undefined)
    assert.equal(entryOf('a', false), undefined)
  })

  it('of several processes that put one key ifAbsent exactly one wins', async () => {
    const folder = newFolder()
    const program = `
      import { DirTransport } from ${JSON.stringify(join(import.meta.dirname, '../src/index.ts'))}
      import { testOptions } from ${JSON.stringify(join(import.meta.dirname, '../../../src/transport/testkit-options.ts'))}
      const store = await new DirTransport().open(new URL(${JSON.stringify(addressOf(folder).href)}), testOptions())
      const keys = Array.from({ length: 20 }, (_, index) => 'race/' + index)
      const put = (key) => store.put(key, Buffer.from(String(process.pid)), { ifAbsent: true })
      console.log(JSON.stringify(await Promise.all(keys.map(put))))`
    const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program])
    const answers = await Promise.all(Array.from({ length: 4 }, run))
    const results = answers.map(({ stdout }) => JSON.parse(stdout) as string[])
    for (let index = 0; index < 20; index++) {
      assert.equal(results.filter((result) => result[index] === 'stored').length, 1, `key ${index}`)
    }
    assert.deepEqual(
      filesBelow(folder).filter((name) => name.endsWith('.part')),
      [],
    )
  })

  it('puts and deletes of one folder at once lose nothing: whoever finds its folder gone makes it again', async () => {
    const store = await open(newFolder())
    const rounds = Array.from({ length: 40 }, async (_, index) => {
      const key = `often/made/${index}`
      assert.equal(await store.put(key, Buffer.from(key), { ifAbsent: index % 2 === 0 }), 'stored')
      assert.equal(Buffer.from((await store.get(key))!).toString(), key)
      await store.delete([key])
    })
    await Promise.all(rounds)
    assert.deepEqual(await keysIn(store), [])
  })

  it('a put whose folders are taken away while it makes them makes them again', async () => {
    const folder = newFolder()
    const store = await open(folder)
    for (let round = 0; round < 300; round++) {
      const put = { isOver: false }
      // Twice a put at most, as somebody who deletes beside it would.
      const removing = async () => {
        while (!put.isOver)
          if (
            await rmdir(join(folder, 'one/two')).then(
              () => true,
              () => false,
            )
          )
            return
      }
      const removers = [removing(), removing()]
      assert.equal(await store.put('one/two/three', Buffer.from('x'), { ifAbsent: true }), 'stored')
      put.isOver = true
      await Promise.all(removers)
      await unlink(join(folder, 'one/two/three='))
    }
  })

  it('what a crash left half written is no object, and goes with the last object beside it', async () => {
    const folder = newFolder()
    const store = await open(folder)
    await store.put('deep/one', Buffer.from('x'))
    const old = join(folder, 'deep', `.${'0'.repeat(24)}.part`)
    const young = join(folder, 'deep', `.${'1'.repeat(24)}.part`)
    for (const path of [old, young]) writeFileSync(path, 'half')
    utimesSync(old, 0, 0)
    assert.deepEqual(await keysIn(store), ['deep/one'])
    await store.delete(['deep/one'])
    rmSync(young)
    await store.put('deep/one', Buffer.from('x'))
    await store.delete(['deep/one'])
    assert.deepEqual(readdirSync(folder), [])
  })

  it('links and pipes that lie in the folder lead nowhere', async () => {
    const folder = newFolder()
    const elsewhere = newFolder()
    writeFileSync(join(elsewhere, 'secret='), 'secret')
    symlinkSync(elsewhere, join(folder, 'away'))
    symlinkSync(join(elsewhere, 'secret='), join(folder, 'secret='))
    await promisify(execFile)('mkfifo', [join(folder, 'pipe=')])
    const store = await open(folder)
    await assert.rejects(store.put('away/x', Buffer.from('x')), { code: 'denied' })
    await assert.rejects(store.get('secret'), { code: 'denied' })
    await assert.rejects(store.get('pipe'), { code: 'denied' })
    assert.deepEqual(await keysIn(store), [])
    assert.deepEqual(readdirSync(elsewhere), ['secret='])
  })

  it('a folder that is not there is missing, at the start and later', async () => {
    const folder = join(newFolder(), 'store')
    await assert.rejects(open(folder), { name: 'TransportError', code: 'missing', message: /mount what belongs there/ })
    mkdirSync(folder)
    const store = await open(folder)
    rmSync(folder, { recursive: true })
    await assert.rejects(store.put('a', Buffer.from('x')), { code: 'missing' })
    await assert.rejects(store.get('a'), { code: 'missing' })
    await assert.rejects(store.delete(['a']), { code: 'missing' })
    await assert.rejects(keysIn(store), { code: 'missing' })
    writeFileSync(folder, 'a file')
    await assert.rejects(open(folder), { code: 'missing' })
  })

  it('an address that names no folder is refused with a sentence', async () => {
    for (const address of ['dir://host/path', 'dir:///a?b', 'dir:///a#b', 'dir:///%00', 'dir:a', 'file:///a']) {
      await assert.rejects(new DirTransport().open(new URL(address), testOptions()), /dir:\/\/\/path\/of\/folder/)
    }
  })

  it('each failure of a file system has its code, and its sentence says where and why', () => {
    const codes = {
      EACCES: 'denied',
      EROFS: 'denied',
      ENOSPC: 'unavailable',
      ESTALE: 'unavailable',
      EIO: 'unavailable',
      EMFILE: 'throttled',
    }
    for (const [code, expected] of Object.entries(codes)) {
      const told = transportError('an object cannot be put into /mnt/relay', Object.assign(new Error(code), { code }))
      assert.equal((told as TransportError).code, expected)
      assert.match(told.message, /^an object cannot be put into \/mnt\/relay: .{3}/)
    }
  })

  it('an object larger than any may be is not read', async () => {
    const folder = newFolder()
    const store = await open(folder)
    writeFileSync(join(folder, 'large='), '')
    await truncate(join(folder, 'large='), 2 ** 40)
    await assert.rejects(store.get('large'), { code: 'denied' })
  })

  describe('how a file gets its name', () => {
    async function twoFiles() {
      const folder = newFolder()
      const [temporary, target] = [join(folder, 'temporary'), join(folder, 'target')]
      writeFileSync(temporary, 'ours')
      return { temporary, target, ino: (await lstat(temporary)).ino }
    }
    const failing = (code: string) => async () => {
      throw Object.assign(new Error(code), { code })
    }

    it('a link whose answer was lost, and which then exists, is ours', async () => {
      const { temporary, target, ino } = await twoFiles()
      const twice = async (from: string, to: string) => {
        await link(from, to)
        await link(from, to)
      }
      assert.equal(await linked(temporary, target, ino, twice as typeof link), true)
    })

    it('a rename whose answer was lost, and which then finds nothing, is done; another such failure is none', async () => {
      const { temporary, target, ino } = await twoFiles()
      const twice = async (from: string, to: string) => {
        await rename(from, to)
        await rename(from, to)
      }
      assert.equal(await renamed(temporary, target, ino, twice as typeof rename), true)
      rmSync(target)
      await assert.rejects(renamed(temporary, target, ino, failing('ENOENT')), { code: 'ENOENT' })
    })

    it('a file system without hard links is unfit', async () => {
      const { temporary, target, ino } = await twoFiles()
      for (const code of ['EPERM', 'ENOSYS', 'EOPNOTSUPP']) {
        await assert.rejects(linked(temporary, target, ino, failing(code)), { name: 'TransportError', code: 'unfit' })
      }
    })
  })
})
