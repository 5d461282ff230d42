// The table of routes: what it says is on the wire, is served, and has a method of the client.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { ControlClient } from '../../src/control/client.ts'
import { eachRoute, parameterNames, pathWith, type Route } from '../../src/control/routes.ts'
import { type ControlServer, startControlServer } from '../../src/control/server.ts'
import type { Service } from '../../src/control/service.ts'
import { contentOf, filesBelow } from '../architecture/sources.ts'

/** What commands of every version ask for. A line here is never changed or taken away. */
const onTheWire = [
  'GET /v1/site',
  'GET /v1/status',
  'GET /v1/disks',
  'POST /v1/disks, events',
  'GET /v1/disks/:',
  'GET /v1/disks/:/deed',
  'DELETE /v1/disks/:',
  'POST /v1/disks/:/verify',
  'POST /v1/disks/:/reclaim',
  'POST /v1/disks/:/accept',
  'GET /v1/sessions',
  'DELETE /v1/sessions/:',
  'GET /v1/peers',
  'POST /v1/peers/invite',
  'POST /v1/peers/join',
  'POST /v1/peers/rekey',
  'DELETE /v1/peers/:',
  'GET /v1/peers/:',
  'POST /v1/peers/:/allow',
  'POST /v1/peers/:/remove',
  'GET /v1/migrations',
  'POST /v1/migrations',
  'POST /v1/migrations/estimate',
  'GET /v1/migrations/:',
  'POST /v1/migrations/:/switchover',
  'POST /v1/migrations/:/pause',
  'POST /v1/migrations/:/resume',
  'POST /v1/migrations/:/set',
  'POST /v1/migrations/:/cancel',
  'GET /v1/migrations/:/events, events',
]

/** For each route that has a body, one that it takes. */
const bodies: Readonly<Record<string, object>> = {
  createDisk: { name: 'web01', sizeBytes: 512 },
  reclaimDisk: { confirmed: true },
  acceptDisk: { confirmed: false },
  invite: { name: 'tokyo' },
  rekey: { confirmed: true, force: false },
  join: { token: 'vms1.abc' },
  setMigration: { maxRate: 20 * 2 ** 20 },
  allowPeer: { take: 'web01', give: true, limits: { disks: 5 } },
  migrate: {
    disk: 'web01',
    to: 'tokyo',
    mode: 'post-copy',
    switchover: 'auto',
    switchoverWaitMs: 10_000,
    source: 'keep',
  },
  estimate: {
    disk: 'web01',
    to: 'tokyo',
    mode: 'post-copy',
    switchover: 'auto',
    switchoverWaitMs: 10_000,
    source: 'keep',
  },
  switchover: { force: true },
  cancel: { force: false },
}
/** Of any characters. */
const named = 'a/../b?c#d%é'
const answer = { type: 'result', answered: true }

interface Asked {
  readonly what: string
  readonly with: readonly unknown[]
}

describe('the table of routes', () => {
  const all = [...eachRoute()]
  const asked: Asked[] = []
  let folder: string
  let path: string
  let server: ControlServer
  let client: ControlClient

  /** Answers whatever stands in the table, and nothing else. */
  function recordingService(): Service {
    const service: Record<string, Record<string, unknown>> = {}
    for (const { group, key, route } of all) {
      service[group] ??= {}
      service[group][key] = (...given: unknown[]) => {
        asked.push({ what: `${group}.${key}`, with: given })
        return route.answer.kind === 'document' ? answer : told()
      }
    }
    return service as unknown as Service
  }
  async function* told() {
    yield answer
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vmstore-routes-'))
    path = join(folder, 'control.sock')
    const log = { error: (facts: object) => assert.fail(JSON.stringify(facts)) }
    server = await startControlServer({
      service: recordingService(),
      path,
      log,
      serveNbd: (socket) => socket.destroy(),
    })
    client = new ControlClient(path)
  })
  after(async () => {
    await client.close()
    await server.close()
    await rm(folder, { recursive: true })
  })
  beforeEach(() => void asked.splice(0))

  /** As a program that knows nothing of the client would ask. */
  async function send(route: Route, body: string | undefined) {
    const { method } = route
    const parameters = parameterNames(route).map(() => named)
    const headers = body === undefined ? {} : { 'content-type': 'application/json' }
    const request = http.request({ socketPath: path, method, path: pathWith(route, parameters), headers, agent: false })
    request.end(body)
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      request.on('response', resolve)
      request.on('error', reject)
    })
    return { status: response.statusCode, type: response.headers['content-type'], body: await text(response) }
  }

  it('has what commands of older versions ask for, as they ask for it', () => {
    const lines = all.map(({ route: { method, path, answer } }) => {
      const stream = answer.kind === 'events' ? ', events' : ''
      return `${method} ${path.replace(/:\w+/g, ':')}${stream}`
    })
    assert.deepEqual(
      onTheWire.filter((line) => !lines.includes(line)),
      [],
      'a route that older commands ask for',
    )
    assert.deepEqual(
      lines.filter((line) => !onTheWire.includes(line)),
      [],
      'a new route is written down here too',
    )
  })

  it('has no name and no request twice', () => {
    const names = all.map(({ route }) => route.name)
    const requests = all.map(({ route }) => `${route.method} ${route.path.replace(/:\w+/g, ':')}`)
    assert.equal(new Set(names).size, all.length)
    assert.equal(new Set(requests).size, all.length)
  })

  for (const { group, key, route } of all) {
    const what = `${group}.${key}`
    const parameters = parameterNames(route).map(() => named)
    const body = route.body && bodies[route.name]

    it(`${route.method} ${route.path} is served, as ${what}`, async () => {
      const { status, type, body: said } = await send(route, body && JSON.stringify(body))
      assert.equal(status, 200)
      assert.match(type!, route.answer.kind === 'events' ? /^application\/x-ndjson/ : /^application\/json/)
      assert.deepEqual(JSON.parse(said), answer)
      assert.equal(asked.length, 1)
      assert.equal(asked[0]!.what, what)
      const [signal, ...given] = [...asked[0]!.with].reverse()
      assert(signal instanceof AbortSignal)
      assert.deepEqual(given.reverse(), [...parameters, ...(body ? [route.body!.parse(body)] : [])])
    })

    it(`${route.name} of the client asks for it`, async () => {
      const method = (client as unknown as Record<string, (...given: unknown[]) => unknown>)[route.name]
      assert.equal(typeof method, 'function')
      const given = method!.call(client, ...parameters, ...(body ? [body] : []))
      const seen: unknown[] = []
      if (route.answer.kind === 'document') seen.push(await given)
      else for await (const event of given as AsyncIterable<unknown>) seen.push(event)
      assert.deepEqual(seen, [answer])
      assert.equal(asked[0]!.what, what)
      assert.deepEqual(asked[0]!.with.slice(0, -1), [...parameters, ...(body ? [route.body!.parse(body)] : [])])
    })

    if (route.body !== undefined) {
      it(`${route.name} refuses a bad body, and does not ask the site`, async () => {
        assert(body, 'bodies has one for each route that takes one')
        for (const bad of ['[]', '"text"', '{"colour":"red"}', JSON.stringify({ ...body, colour: 'red' }), '{']) {
          const { status, body: said } = await send(route, bad)
          const { error } = JSON.parse(said)
          assert.deepEqual([status, error.code, error.exit], [400, 'bad-request', 2], bad)
          assert.match(error.message, /^The request was not understood: .*\.$/)
        }
        assert.deepEqual(asked, [])
      })
    }
  }

  it('a method of the client takes a signal after what it needs', async () => {
    const leave = new AbortController()
    leave.abort(new Error('enough'))
    await assert.rejects(client.showDisk('web01', leave.signal), /enough/)
    await assert.rejects(client.switchover('m-1', {}, leave.signal), /enough/)
    assert.deepEqual(asked, [])
  })

  it('no path of it is written anywhere else', () => {
    const elsewhere = filesBelow(['src'], /\.ts$/).filter(
      (file) =>
        file !== 'src/control/routes.ts' &&
        contentOf(file)
          .replace(/^\s*\/\/.*$/gm, '')
          .match(/['"`]\/v1\//),
    )
    assert.deepEqual(elsewhere, [])
  })
})
