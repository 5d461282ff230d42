// The control API between a real server and a real client, and what strangers on its socket get.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { ControlClient } from '../../src/control/client.ts'
import { ControlError } from '../../src/control/errors.ts'
import { startControlServer } from '../../src/control/server.ts'
import { handTimers } from '../hand-timers.ts'
import { aborted, each, FakeSite, refusal, type Served, serveFakeSite, wholeMigration } from './fake-site.ts'

const migrate = {
  disk: 'web01',
  to: 'tokyo',
  mode: 'post-copy',
  switchover: 'auto',
  switchoverWaitMs: 10_000,
  source: 'keep',
} as const

describe('control', () => {
  let served: Served
  let client: ControlClient

  beforeEach(async () => {
    served = await serveFakeSite()
    client = new ControlClient(served.path)
  })
  afterEach(async () => {
    await client.close()
    await served[Symbol.asyncDispose]()
  })

  const codeOf = async (asked: Promise<unknown>): Promise<string> => {
    const error = await asked.then(
      () => assert.fail('it was answered'),
      (thrown: unknown) => thrown,
    )
    assert(error instanceof ControlError, String(error))
    return error.code
  }
  const post = async (path: string, body: string, type = 'application/json') => {
    const socket = net.connect(served.path)
    socket.write(
      `POST ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
    const answer = await text(socket)
    return { status: Number(answer.split(' ')[1]), body: JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) }
  }

  it('answers every question of the client', async () => {
    assert.equal((await client.describe()).id, 'site-a')
    assert.equal((await client.status()).disks.length, 1)
    assert.equal((await client.listDisks()).length, 2)
    assert.equal((await client.showDisk('web01')).name, 'web01')
    assert.equal((await client.deleteDisk('web01')).name, 'web01')
    assert.equal((await client.invite({})).token, 'vms1.abc')
    assert.equal((await client.join({ token: 't' })).name, 'tokyo')
    assert.equal((await client.listPeers()).length, 1)
    assert.equal((await client.removePeer('tokyo')).name, 'tokyo')
    assert.equal((await client.migrate(migrate)).state, 'preparing')
    assert.equal((await client.listMigrations()).length, 1)
    assert.equal((await client.showMigration('m-7')).id, 'm-7')
    assert.equal((await client.switchover('m-7')).state, 'switching')
    assert.equal((await client.cancel('m-7', { force: true })).state, 'cancelled')
    assert.deepEqual(served.site.asked.at(-1), { force: true })
  })

  it('carries a name of any characters whole', async () => {
    const name = `a/../b?c#d%é ${'x'.repeat(127)}`
    assert.equal((await client.showDisk(name)).name, name)
  })

  it('tells the events of a migration in order, and ends with the result', async () => {
    const seen: unknown[] = []
    for await (const event of client.migrationEvents('m-1')) seen.push(event)
    assert.deepEqual(seen, wholeMigration)
  })

  it('serves others while a stream is open', async () => {
    served.site.events = async function* (signal) {
      yield wholeMigration[0]!
      await aborted(signal)
    }
    const events = client.migrationEvents('m-1')
    await events.next()
    assert.equal((await client.describe()).id, 'site-a')
    await events.return(undefined)
  })

  it('carries an ErrorView whole', async () => {
    served.site.deleteError = refusal
    const error = await client.deleteDisk('web01').catch((thrown: unknown) => thrown)
    assert.deepEqual((error as ControlError).view, refusal.view)
  })

  it('says and logs an error that nobody foresaw, and no stack', async () => {
    served.site.deleteError = Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })
    const error = await client.deleteDisk('web01').catch((thrown: unknown) => thrown)
    const view = (error as ControlError).view
    assert.equal(view.code, 'internal')
    assert.equal(view.exit, 1)
    assert.match(view.message, /EIO: i\/o error\.$/)
    assert.equal(served.logged.length, 1)
  })

  it('promise 12: says what the system refused, and what to do, and logs it', async () => {
    const facts = { code: 'EMFILE', syscall: 'open', path: '/data/web01.raw' }
    served.site.deleteError = Object.assign(new Error('EMFILE: too many open files'), facts)
    const error = await client.deleteDisk('web01').catch((thrown: unknown) => thrown)
    const { code, exit, message, next } = (error as ControlError).view
    assert.deepEqual([code, exit], ['system', 1])
    assert.match(message, /as many files and connections open as it may \(EMFILE, open \/data\/web01\.raw\)\.$/)
    assert.match(next!, /LimitNOFILE/)
    assert.equal(served.logged.length, 1)
  })

  it('throws an error that comes in the middle of a stream', async () => {
    served.site.events = async function* () {
      yield wholeMigration[0]!
      throw refusal
    }
    const seen: string[] = []
    const watching = (async () => {
      for await (const event of client.migrationEvents('m-1')) seen.push(event.type)
    })()
    assert.equal(await codeOf(watching), 'disk-in-use')
    assert.deepEqual(seen, ['step'])
  })

  it('throws an error event, and one before the first event', async () => {
    served.site.events = () => each([{ type: 'error' as const, error: refusal.view }])
    assert.equal(await codeOf(client.migrationEvents('m-1').next()), 'disk-in-use')
    served.site.events = () => {
      throw refusal
    }
    assert.equal(await codeOf(client.migrationEvents('m-1').next()), 'disk-in-use')
  })

  it('aborts the signal of a stream whose client goes away', async () => {
    const gone = Promise.withResolvers<void>()
    served.site.createEvents = async function* (signal) {
      yield { type: 'progress', bytes: { done: 0, total: 1 } }
      await aborted(signal)
      gone.resolve()
    }
    const events = client.createDisk({ name: 'web01', sizeBytes: 512 })
    await events.next()
    await events.return(undefined)
    await gone.promise
  })

  it('aborts the signal of a request whose client goes away, and of no other', async () => {
    const gone = Promise.withResolvers<void>()
    const asked = Promise.withResolvers<void>()
    let answered: AbortSignal | undefined
    served.site.migrating = async (signal) => {
      answered = signal
    }
    await client.migrate(migrate)
    await client.listDisks()
    assert.equal(answered!.aborted, false)
    served.site.migrating = async (signal) => {
      asked.resolve()
      await aborted(signal)
      gone.resolve()
    }
    const leave = new AbortController()
    const migrating = client.migrate(migrate, leave.signal).catch(() => {})
    await asked.promise
    leave.abort()
    await Promise.all([gone.promise, migrating])
  })

  /** The timer that it sets while it begins to close never fires. */
  const closedWithoutItsTimeLimit = (): Promise<void> => {
    using _timers = handTimers()
    return served.server.close()
  }

  it('ends streams at once when it closes, even of a site that does not heed', async () => {
    served.site.events = async function* () {
      yield wholeMigration[0]!
      await new Promise(() => {})
    }
    const events = client.migrationEvents('m-1')
    await events.next()
    const next = codeOf(events.next())
    await closedWithoutItsTimeLimit()
    assert.equal(await next, 'daemon-lost')
    assert.equal(existsSync(served.path), false)
  })

  it('says where it looked when no daemon is there', async () => {
    await served.server.close()
    const error = await client.status().catch((thrown: unknown) => thrown)
    const { code, exit, message, next } = (error as ControlError).view
    assert.deepEqual([code, exit], ['daemon-unreachable', 1])
    assert(message.includes(served.path))
    assert.match(next!, /vmstore serve/)
  })

  it('knows a daemon that died in the middle of an event', async () => {
    const path = join(served.folder, 'dying.sock')
    const type = 'content-type: application/x-ndjson\r\nconnection: close'
    const head = `HTTP/1.1 200 OK\r\n${type}\r\ntransfer-encoding: chunked\r\n\r\n`
    const dying = net.createServer((socket) => {
      socket.once('data', () => socket.end(`${head}40\r\n{"type":"progress"`))
    })
    dying.listen(path)
    await once(dying, 'listening')
    const lost = new ControlClient(path)
    const code = await codeOf(lost.migrationEvents('m-1').next())
    await lost.close()
    dying.close()
    assert.equal(code, 'daemon-lost')
  })

  it('knows a socket that is not a control API', async () => {
    const path = join(served.folder, 'nbd.sock')
    const stranger = net.createServer((socket) => socket.end('NBDMAGICIHAVEOPT'))
    stranger.listen(path)
    await once(stranger, 'listening')
    const lost = new ControlClient(path)
    assert.equal(await codeOf(lost.status()), 'daemon-strange')
    await lost.close()
    stranger.close()
  })

  describe('with bad input', () => {
    const bad: [name: string, path: string, body: string, type?: string][] = [
      ['a body that is no JSON', '/v1/disks', '{'],
      ['an unknown field', '/v1/disks', '{"name":"a","sizeBytes":512,"colour":"red"}'],
      ['a bad name', '/v1/disks', '{"name":"../etc","sizeBytes":512}'],
      ['a size that is no multiple of a sector', '/v1/disks', '{"name":"a","sizeBytes":513}'],
      ['a relative path', '/v1/disks', '{"name":"a","from":"x.raw"}'],
      ['no body', '/v1/peers/join', ''],
      ['another type', '/v1/disks', 'name=a', 'application/x-www-form-urlencoded'],
      ['a body over 64 KiB', '/v1/peers/join', JSON.stringify({ token: 'x'.repeat(65_536) })],
      ['both to and from', '/v1/migrations', JSON.stringify({ ...migrate, from: 'osaka' })],
      ['neither to nor from', '/v1/migrations', JSON.stringify({ ...migrate, to: undefined })],
    ]
    for (const [name, path, body, type] of bad) {
      it(`answers ${name} with a sentence, and does not ask the site`, async () => {
        const answer = await post(path, body, type)
        assert.equal(answer.status, 400)
        assert.equal(answer.body.error.code, 'bad-request')
        assert.equal(answer.body.error.exit, 2)
        assert.match(answer.body.error.message, /^The request was not understood: .*\.$/)
        assert.deepEqual(served.site.asked, [])
      })
    }

    it('answers an unknown request with a sentence', async () => {
      const answer = await post('/v2/disks', '{}')
      assert.equal(answer.status, 404)
      assert.equal(answer.body.error.code, 'unknown-request')
    })

    it('survives garbage, half a request and a broken connection', async () => {
      for (const bytes of [
        '\0\xff\x13\x37'.repeat(9000),
        'GET / HTTP/1.1\r\nx',
        'NBDMAGIC',
        `GET /${'x'.repeat(99_999)}`,
      ]) {
        const socket = net.connect(served.path)
        socket.on('error', () => {})
        socket.end(bytes)
        socket.resume()
        await once(socket, 'close')
      }
      const abrupt = net.connect(served.path)
      await once(abrupt, 'connect')
      abrupt.destroy()
      assert.equal((await client.describe()).id, 'site-a')
      assert.deepEqual(served.logged, [])
    })
  })

  describe('its socket', () => {
    const start = (path: string) =>
      startControlServer({ service: new FakeSite(), path, log: { error() {} }, serveNbd() {} })

    it('is for its owner only', () => {
      assert.equal(statSync(served.path).mode & 0o777, 0o600)
    })

    it('is not taken from a daemon that answers', async () => {
      assert.equal(await codeOf(start(served.path)), 'control-in-use')
      assert.equal((await client.describe()).id, 'site-a')
    })

    it('is taken over from a daemon that was killed', async () => {
      const path = join(served.folder, 'stale.sock')
      const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
      spawnSync(process.execPath, ['-e', script])
      assert(existsSync(path))
      const server = await start(path)
      const other = new ControlClient(path)
      assert.equal((await other.describe()).id, 'site-a')
      await other.close()
      await server.close()
    })

    it('never replaces a file of another kind', async () => {
      const path = join(served.folder, 'disk.raw')
      writeFileSync(path, 'precious')
      assert.equal(await codeOf(start(path)), 'control-unusable')
      assert(existsSync(path))
    })

    it('needs a path that is short enough, in a folder that exists', async () => {
      assert.equal(await codeOf(start(join(served.folder, 'x'.repeat(108)))), 'control-unusable')
      assert.equal(await codeOf(start(join(served.folder, 'none', 'control.sock'))), 'control-unusable')
    })
  })
})
