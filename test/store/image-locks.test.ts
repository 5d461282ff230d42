import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findTool, needTool } from '../tools.ts'
import { blockFile, bytesOf, closeFilesAfterEach, files, mebibyte, reopened } from './block-files.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

describe('image locks', () => {
  removeFoldersAfterEach()
  closeFilesAfterEach()

  it('keep a second vmstore out, with a sentence', async () => {
    const file = await blockFile(mebibyte)
    await assert.rejects(files.openBlockFile(file.path, false), {
      name: 'StoreError',
      code: 'in-use',
      message: /web01\.raw is open in another program/,
    })
  })

  it('keep a reader out of a file that is written, and a writer out of one that is read', async () => {
    const written = await blockFile(mebibyte)
    await assert.rejects(files.openBlockFile(written.path, true), { code: 'in-use' })
    const read = await blockFile(mebibyte)
    await read.close()
    await reopened(read.path, true)
    await assert.rejects(files.openBlockFile(read.path, false), { code: 'in-use' })
  })

  it('let two readers in', async () => {
    const file = await blockFile(mebibyte)
    await file.close()
    await reopened(file.path, true)
    await reopened(file.path, true)
  })

  it('are gone when the file is closed', async () => {
    const file = await blockFile(mebibyte)
    await file.close()
    await reopened(file.path)
  })

  it('make QEMU refuse a file that vmstore holds', async function () {
    needTool(this, 'qemu-io')
    const file = await blockFile(mebibyte)
    const done = spawnSync(findTool('qemu-io')!, ['-f', 'raw', '-c', 'write -P 1 0 4096', file.path], {
      encoding: 'utf8',
    })
    assert.match(done.stderr, /lock/)
    assert.notEqual(done.status, 0)
    assert((await bytesOf(file, 0, 4096)).equals(Buffer.alloc(4096)))
  })

  it('make qemu-img refuse to resize a file that vmstore only reads', async function () {
    needTool(this, 'qemu-img')
    const file = await blockFile(mebibyte)
    await file.close()
    await reopened(file.path, true)
    const done = spawnSync(findTool('qemu-img')!, ['resize', '-f', 'raw', file.path, '2M'], { encoding: 'utf8' })
    assert.match(done.stderr, /lock/)
    assert.equal(statSync(file.path).size, mebibyte)
  })

  it('let qemu-img read a file that vmstore only reads', async function () {
    needTool(this, 'qemu-img')
    const file = await blockFile(mebibyte)
    await file.close()
    await reopened(file.path, true)
    assert.match(execFileSync(findTool('qemu-img')!, ['info', file.path], { encoding: 'utf8' }), /1 MiB/)
  })

  describe('of a QEMU that runs', () => {
    let qemu: ChildProcess | undefined
    afterEach(() => {
      qemu?.kill('SIGKILL')
      qemu = undefined
    })

    async function heldByQemu(context: Mocha.Context, ...options: string[]): Promise<string> {
      needTool(context, 'qemu-io')
      const path = join(temporaryFolder(), 'web01.raw')
      writeFileSync(path, Buffer.alloc(mebibyte, 1))
      qemu = spawn(findTool('qemu-io')!, ['-f', 'raw', ...options, path], { stdio: ['pipe', 'pipe', 'inherit'] })
      qemu.stdin!.write('read -q 0 512\nlength\n')
      await once(qemu.stdout!, 'data') // It has opened the file.
      return path
    }

    it('keep vmstore out', async function () {
      const path = await heldByQemu(this)
      await assert.rejects(files.openBlockFile(path, false), { code: 'in-use' })
    })

    it('keep vmstore out even if it only reads', async function () {
      const path = await heldByQemu(this)
      await assert.rejects(files.openBlockFile(path, true), { code: 'in-use' })
    })

    it('are gone with it', async function () {
      const path = await heldByQemu(this)
      const exited = once(qemu!, 'exit')
      qemu!.kill('SIGKILL')
      await exited
      await reopened(path)
    })
  })
})
