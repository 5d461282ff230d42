// The log neither ends the daemon nor holds it up, whatever its stderr is, and one source of noise cannot fill it.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ControlClient } from '../../src/control/client.ts'
import { openLog } from '../../src/daemon/log.ts'
import { LogNoise, sourceOf } from '../../src/daemon/log-noise.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'

const runFile = join(import.meta.dirname, '../../bin/run.js')

describe('the noise of one source', () => {
  it('is left out beyond its burst, counted, and told with its next line', () => {
    const noise = new LogNoise()
    const said = Array.from({ length: 100 }, () => noise.admit('one', 0)).filter((admitted) => admitted !== undefined)
    assert.equal(said.length, 60)
    assert.equal(noise.admit('other', 0), 0, 'another source is heard')
    assert.equal(noise.admit('one', 999), undefined)
    assert.equal(noise.admit('one', 1001), 41)
    assert.equal(noise.admit('one', 2002), 0)
  })

  it('is that of one client, whatever its port and the numbers in its sentences', () => {
    const source = sourceOf({ client: '10.0.0.1:4711', export: 'web01' }, 'connection dropped: 17 bytes')
    assert.equal(source, sourceOf({ client: '10.0.0.1:4712', export: 'web01' }, 'connection dropped: 3 bytes'))
    assert.notEqual(source, sourceOf({ client: '10.0.0.2:4711', export: 'web01' }, 'connection dropped: 17 bytes'))
    assert.equal(sourceOf(undefined, 'stopping'), ' stopping')
  })

  it('under ever new names is bounded too', () => {
    const noise = new LogNoise()
    const said = Array.from({ length: 10_000 }, (_, name) => noise.admit(`client ${name}`, 0))
    assert.equal(said.filter((admitted) => admitted !== undefined).length, 3000)
  })
})

describe('the log', () => {
  removeFoldersAfterEach()

  it('to a file has every line, in order', async () => {
    const path = join(temporaryFolder(), 'log')
    const fd = openSync(path, 'w')
    const log = openLog('info', (line) => line, fd)
    for (let count = 0; count < 50; count++) log.info({ count }, `line of ${String.fromCharCode(97 + (count % 26))}`)
    while (readFileSync(path, 'utf8').split('\n').length < 51) await new Promise((resolve) => setImmediate(resolve))
    closeSync(fd)
    const counts = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).count)
    assert.deepEqual(
      counts,
      Array.from({ length: 50 }, (_, count) => count),
    )
  })

  it('to a descriptor that was closed throws nothing', () => {
    const fd = openSync('/dev/null', 'w')
    const log = openLog('info', (line) => line, fd)
    closeSync(fd)
    for (let count = 0; count < 10; count++) log.info('nobody hears this')
  })

  it('of a process that ends has been said, to a file too', async () => {
    const path = join(temporaryFolder(), 'log')
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `
        const { openLog } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/daemon/log.ts'))})
        openLog('info', (line) => line).error('the last words')
        process.exit(9)`,
      ],
      { stdio: ['ignore', 'ignore', openSync(path, 'w')] },
    )
    assert.equal((await once(child, 'exit'))[0], 9)
    assert.match(readFileSync(path, 'utf8'), /the last words/)
  })

  /** A daemon whose stderr is `stderr`. */
  async function daemon(stderr: 'pipe' | number) {
    const root = temporaryFolder()
    const child = spawn(process.execPath, [runFile, 'serve', '--root', root, '--json'], {
      stdio: ['ignore', 'pipe', stderr],
    })
    await once(child.stdout!, 'data')
    const control = new ControlClient(join(root, 'control.sock'))
    for await (const _event of control.createDisk({ name: 'web01', sizeBytes: 2 ** 20 })) {
    }
    const uri = `nbd+unix:///web01?socket=${join(root, 'nbd.sock')}`
    return { child, control, connect: () => NbdClient.connect(uri) }
  }

  it('that cannot be written ends no daemon: clients attach, and the first SIGTERM stops it', async () => {
    const full = openSync('/dev/full', 'w')
    const { child, control, connect } = await daemon(full)
    closeSync(full)
    for (let count = 0; count < 20; count++) await (await connect()).disconnect()
    assert.equal((await control.showDisk('web01')).state, 'owned')
    await control.close()
    child.kill('SIGTERM')
    assert.deepEqual(await once(child, 'exit'), [0, null])
  })

  it('that nobody reads holds nobody up', async () => {
    const { child, control, connect } = await daemon('pipe')
    child.stderr!.pause()
    const name = 'x'.repeat(4000) // A line about each: far more than the pipe takes.
    for (let count = 0; count < 40; count++) {
      await (await connect()).disconnect()
      await control.showDisk(name).catch(() => {})
    }
    assert.equal((await control.showDisk('web01')).state, 'owned')
    await control.close()
    child.kill('SIGTERM')
    assert.deepEqual(await once(child, 'exit'), [0, null])
  })

  it('says how many lines are missing once it can be written again', async () => {
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `
        const { openLog } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/daemon/log.ts'))})
        const log = openLog('info', (line) => line)
        for (let count = 0; count < 2000; count++) log.info({ client: 'client ' + count, text: 'x'.repeat(400) }, 'noise')
        process.stdout.write('said')
        process.stdin.on('data', () => log.info('again'))
        process.stdin.on('end', () => process.exit(0))`,
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    )
    await once(child.stdout!, 'data')
    let text = ''
    child.stderr!.on('data', (chunk: Buffer) => {
      text += chunk
      if (/lines of the log are missing/.test(text)) child.stdin!.end()
    })
    child.stdin!.write('x')
    await once(child, 'close')
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { msg: string })
    const missing = Number(
      /^(\d+) lines of the log are missing/.exec(lines.find(({ msg }) => /missing/.test(msg))!.msg)![1],
    )
    const noise = lines.filter(({ msg }) => msg === 'noise').length
    assert(noise > 100 && noise + missing >= 2000 && noise + missing <= 2001, `${noise} said, ${missing} missing`)
  })
})
