import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DataFolder } from '../../src/store/data-folder.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

describe('data folder', () => {
  removeFoldersAfterEach()
  const open: DataFolder[] = []
  let holder: ChildProcess | undefined
  afterEach(() => {
    for (const folder of open.splice(0)) folder.release()
    holder?.kill('SIGKILL')
    holder = undefined
  })

  async function opened(path: string): Promise<DataFolder> {
    const folder = await DataFolder.open(path)
    open.push(folder)
    return folder
  }

  async function heldByChild(path: string): Promise<ChildProcess> {
    const fixture = join(import.meta.dirname, 'fixtures/hold-data-folder.ts')
    holder = spawn(process.execPath, [fixture, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(holder.stdout!, 'data')
    return holder
  }

  it('is made, for its owner only, when there is none', async () => {
    const root = join(temporaryFolder(), 'deep', 'root')
    const folder = await opened(root)
    assert.equal(statSync(root).mode & 0o777, 0o700)
    assert.equal(statSync(folder.disksFolder).mode & 0o777, 0o700)
  })

  it('names its parts by absolute paths', async () => {
    const root = temporaryFolder()
    const folder = await opened(join(root, 'a', '..', 'b'))
    assert.deepEqual(
      [folder.root, folder.databasePath, folder.controlPath, folder.nbdPath, folder.diskFolder('id')],
      ['b', 'b/vmstore.sqlite', 'b/control.sock', 'b/nbd.sock', 'b/disks/id'].map((name) => join(root, name)),
    )
  })

  it('is open once: a second open is refused with a sentence that names the process', async () => {
    const root = temporaryFolder()
    await opened(root)
    await assert.rejects(DataFolder.open(root), {
      name: 'StoreError',
      code: 'locked',
      message: `the data folder ${root} is in use by another vmstore (process ${process.pid})`,
    })
  })

  it('of another process is refused, and the process is named', async () => {
    const root = temporaryFolder()
    const child = await heldByChild(root)
    await assert.rejects(DataFolder.open(root), { code: 'locked', message: new RegExp(`process ${child.pid}`) })
  })

  it('still names the process that holds it after an open that was refused', async () => {
    const root = temporaryFolder()
    const child = await heldByChild(root)
    await DataFolder.open(root).catch(() => {})
    await assert.rejects(DataFolder.open(root), { code: 'locked', message: new RegExp(`process ${child.pid}`) })
  })

  it('is free when the process that held it dies', async () => {
    const root = temporaryFolder()
    const child = await heldByChild(root)
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    await opened(root)
    assert.equal(readFileSync(join(root, 'lock'), 'utf8'), `${process.pid}\n`)
  })

  it('is free when it was released', async () => {
    const root = temporaryFolder()
    const first = await DataFolder.open(root)
    first.release()
    await opened(root)
  })

  it('is not locked by a lock file that somebody left behind', async () => {
    const root = temporaryFolder()
    writeFileSync(join(root, 'lock'), '1\n')
    await opened(root)
  })

  it('that is used for something else too, such as /tmp, keeps its mode', async () => {
    const root = temporaryFolder()
    writeFileSync(join(root, 'of-another-program'), '')
    chmodSync(root, 0o1777)
    const folder = await opened(root)
    assert.equal(statSync(root).mode & 0o7777, 0o1777)
    assert.equal(statSync(folder.disksFolder).mode & 0o777, 0o700)
  })

  it('takes nothing for a disk that is none, such as lost+found where a file system is mounted', async () => {
    const folder = await opened(temporaryFolder())
    const id = '11111111-1111-4111-8111-111111111111'
    for (const name of ['lost+found', '.snapshot', id]) mkdirSync(join(folder.disksFolder, name))
    assert.deepEqual(await folder.diskIds(), [id])
  })
})
