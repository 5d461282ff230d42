// A site without disks: what it answers, and when, is the test's to say.

import { mkdtemp, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ControlError } from '../../src/control/errors.ts'
import { type ControlServer, startControlServer } from '../../src/control/server.ts'
import type { Service, ServiceOf } from '../../src/control/service.ts'
import {
  type CreateEvent,
  type DeedView,
  type DiskView,
  type DoorView,
  type EstimateView,
  ExitCode,
  type MigrationEvent,
  type MigrationState,
  type MigrationView,
  type MovedDiskView,
  type PeerView,
  type SessionView,
  type SiteView,
} from '../../src/control/types.ts'
import { a, b, given, made } from '../deed/sites.ts'

export const MiB = 1 << 20

export const diskView = (name: string, more: Partial<DiskView> = {}): DiskView => ({
  name,
  id: '7b0c3f0e-6f55-4c55-9a44-1b6f4b1c0d01',
  size: 512 * MiB,
  state: 'owned',
  generation: 1,
  owner: 'site-a',
  ownerName: 'this site',
  blockSize: 4096,
  present: { blocks: 131_072, bytes: 512 * MiB },
  exposed: 0,
  allocated: 3 * MiB,
  path: '/srv/disks/web01.raw',
  sessions: 0,
  writes: 0,
  migration: null,
  trouble: null,
  guestErrors: {},
  ...more,
})

export const migrationView = (state: MigrationState, more: Partial<MigrationView> = {}): MigrationView => ({
  id: 'm-1',
  disk: 'web01',
  disks: [],
  role: 'source',
  peer: 'tokyo',
  state,
  mode: 'post-copy',
  ahead: null,
  switchover: 'auto',
  maxRate: null,
  transport: 'tcp',
  generation: 2,
  owner: 'site-b',
  ownerName: 'tokyo',
  ownerSide: 'destination',
  bytes: {
    disk: 512 * MiB,
    data: 310 * MiB,
    sent: 300 * MiB,
    skippedZero: 202 * MiB,
    resent: 0,
    spared: 0,
    missing: 0,
    exposed: 0,
  },
  seconds: { total: 12.5, precopy: 0, switchover: 0.021, postcopy: 12, copying: 10 },
  rate: 40 * MiB,
  secondsLeft: 5,
  verified: true,
  connected: true,
  link: { state: 'up', since: '2024-05-01T09:00:00.000Z', why: null },
  held: null,
  refusedWrites: null,
  cutOff: [],
  unreadable: [],
  differed: [],
  paused: false,
  note: null,
  startedAt: '2024-05-01T10:00:00.000Z',
  endedAt: null,
  ...more,
})

const limit = (most: number) => ({ most, isSet: false, used: 0, reached: null })

/** A disk of a migration that is done. */
export const movedDisk = (name: string, more: Partial<MovedDiskView> = {}): MovedDiskView => {
  const { owner, ownerName, ownerSide, bytes } = migrationView('done')
  const generation = name === 'web01' ? 2 : 3
  const facts = {
    id: `id of ${name}`,
    name,
    generation,
    state: 'released',
    owner,
    ownerName,
    ownerSide,
    hasLeft: false,
  }
  return { ...facts, bytes, verified: true, unreadable: [], differed: [], picture: null, ...more }
}

const estimateView = (disk: string): EstimateView => {
  const bytes = { disk: 512 * MiB, data: 310 * MiB, spared: 10 * MiB, sent: 300 * MiB }
  const disks = [{ name: disk, bytes }]
  return { disk, peer: 'tokyo', bytes, disks, free: 1024 * MiB, rate: 30 * MiB, seconds: 10 }
}

/** Made by A, and given to B, who is called tokyo. */
export function deedView(name: string): DeedView {
  const entries = given(made(), a, b)
  const [holder, names] = [b.fingerprint, { [a.fingerprint]: 'this site', [b.fingerprint]: 'tokyo' }]
  return { disk: entries[0]!.disk, name, generation: 2, holder, names, entries }
}

const peer: PeerView = {
  name: 'tokyo',
  id: 'site-b',
  fingerprint: 'SHA256:abc',
  address: 'tcp://b:1',
  connected: true,
  link: { state: 'up', since: '2024-05-01T09:00:00.000Z', why: null },
  mayTake: [{ disk: '*', name: null, give: false }],
  limits: {
    disks: limit(1000),
    bytes: limit(2 ** 50),
    sizeBytes: limit(2 ** 54),
    calls: limit(2048),
    digests: limit(16),
    junkBytes: limit(2 ** 26),
  },
}
const door: DoorView = {
  kind: 'nbd',
  address: 'nbd://127.0.0.1:10809',
  sessions: { now: 2, most: 256 },
  newcomers: { now: 1, most: 256, mostOfOneAddress: 128 },
  refused: null,
  pushedOut: { count: 12, last: '2024-05-01T10:00:00.000Z' },
  silent: null,
  slow: null,
}
export const sessionView: SessionView = {
  id: '3f9a12c4',
  disk: 'web01',
  diskId: 'disk-1',
  client: '192.0.2.7:41234',
  pid: null,
  listener: 'nbd://0.0.0.0:10809',
  tls: 'TLSv1.3',
  since: '2024-05-01T10:00:00.000Z',
  state: 'open',
  reads: { count: 3, bytes: 12_288 },
  writes: { count: 0, bytes: 0 },
  flushes: 1,
  inFlight: 0,
  unread: 0,
  unflushed: false,
}
const copying = (missing: number) => migrationView('copying', { bytes: { ...migrationView('done').bytes, missing } })

/** A whole migration, as a daemon would tell it. */
export const wholeMigration: readonly MigrationEvent[] = [
  { type: 'step', step: 'preparing', message: 'Checking web01 and tokyo.', migration: migrationView('preparing') },
  { type: 'ready', message: 'Move the machine to tokyo now.', migration: migrationView('ready') },
  { type: 'switchover', generation: 2, seconds: 0.021, migration: copying(512 * MiB) },
  { type: 'progress', migration: copying(200 * MiB) },
  { type: 'result', ...migrationView('done') },
]

export const refusal = new ControlError({
  code: 'disk-in-use',
  exit: ExitCode.refused,
  message: 'web01 has 2 clients, so it was not deleted.',
  disk: 'web01',
  safe: 'Nothing was changed.',
  next: 'Detach them.',
})

export const unconfirmed = new ControlError({
  code: 'not-confirmed',
  exit: ExitCode.refused,
  message: 'Taking web01 back loses all that its guest wrote at tokyo.',
  disk: 'web01',
  safe: 'Nothing was changed.',
  next: 'Say so with --yes.',
})

export class FakeSite implements Service {
  asked: unknown[] = []
  /** What each watch of a migration tells. A function: it may wait for the test, and heeds the signal or not. */
  events: (signal: AbortSignal, watch: number) => AsyncIterable<MigrationEvent> = () => each(wholeMigration)
  createEvents: (signal: AbortSignal) => AsyncIterable<CreateEvent> = () =>
    each([
      { type: 'progress', bytes: { done: MiB, total: 2 * MiB } },
      { type: 'result', ...diskView('web01'), format: 'raw', notes: [] },
    ])
  deleteError: unknown
  migrateError: unknown
  migrating: (signal: AbortSignal) => Promise<void> = async () => {}
  differing: { offset: number; length: number }[] = []
  watches = 0
  control = ''

  readonly site: ServiceOf<'site'> = {
    describe: () => this.#describe(),
    status: async () => ({
      site: this.#describe(),
      doors: [door],
      deadlines: { firstByteSeconds: 3, negotiationSeconds: 10, deadHostSeconds: 120 },
      refusedConnections: null,
      disks: [diskView('web01')],
      peers: [peer],
      migrations: [migrationView('copying')],
    }),
  }

  #describe(): SiteView {
    const { control } = this
    return {
      id: 'site-a',
      name: 'osaka',
      version: '0.1.0',
      fingerprint: 'SHA256:a',
      nbd: [],
      peer: null,
      control,
      root: '/r',
    }
  }
  readonly sessions: ServiceOf<'sessions'> = {
    list: () => [sessionView],
    drop: (id) => {
      this.asked.push(id)
      return { ...sessionView, safe: 'All that it was answered stays.', next: 'It may come back.' }
    },
  }
  readonly disks: ServiceOf<'disks'> = {
    create: (request, signal) => {
      this.asked.push(request)
      return this.createEvents(signal)
    },
    list: async () => [diskView('web01'), diskView('db', { state: 'incoming' })],
    show: async (name) => diskView(name),
    deed: (name) => deedView(name),
    delete: async (name) => {
      if (this.deleteError !== undefined) throw this.deleteError
      return diskView(name)
    },
    verify: async (name) => {
      const bytes = { compared: 5 * MiB, missing: MiB }
      return { disk: name, migration: 'm-1', peer: 'osaka', bytes, differing: this.differing }
    },
    reclaim: async (name, request) => {
      this.asked.push(request)
      if (!request.confirmed) throw unconfirmed
      return { ...diskView(name, { generation: 3 }), notAsked: [] }
    },
    accept: async (name, request) => {
      this.asked.push(request)
      if (!request.confirmed) throw unconfirmed
      return diskView(name)
    },
  }

  readonly peers: ServiceOf<'peers'> = {
    invite: async (request) => {
      this.asked.push(request)
      return { token: 'vms1.abc', address: request.address ?? 'tcp://a:1', expiresAt: '2024-05-01T10:15:00.000Z' }
    },
    join: async (request, signal) => {
      this.asked.push(request)
      await this.migrating(signal)
      return peer
    },
    list: () => [peer],
    rekey: async (request) => {
      this.asked.push(request)
      if (!request.confirmed) throw unconfirmed
      const [before, after] = [
        { id: 'site-a', fingerprint: 'SHA256:a' },
        { id: 'site-n', fingerprint: 'SHA256:n' },
      ]
      return { before, after, told: ['tokyo'], away: [] }
    },
    remove: async () => peer,
    show: () => peer,
    allow: async (_, request) => {
      this.asked.push(request)
      return peer
    },
    removeByForce: async () => ({ ...peer, stranded: ['Migration m-1 of web01 was cancelled: this site owns it.'] }),
  }

  /** Of each migration, beside what it is. */
  shown: Partial<MigrationView> = {}

  readonly migrations: ServiceOf<'migrations'> = {
    begin: async (request, signal) => {
      this.asked.push(request)
      if (this.migrateError !== undefined) throw this.migrateError
      await this.migrating(signal)
      return migrationView('preparing')
    },
    estimate: async (request) => {
      if (this.migrateError !== undefined) throw this.migrateError
      return estimateView(request.disks.join(', '))
    },
    list: () => [migrationView('copying', this.shown)],
    show: (id) => migrationView('copying', { id, ...this.shown }),
    switchover: async (id, options) => {
      this.asked.push(options)
      return migrationView('switching', { id })
    },
    pause: async (id) => migrationView('copying', { id, paused: true }),
    resume: async (id) => migrationView('copying', { id, paused: false }),
    set: async (id, { maxRate }) => migrationView('copying', { id, maxRate }),
    cancel: async (id, options) => {
      this.asked.push(options)
      return migrationView('cancelled', { id })
    },
    events: (_id, signal) => {
      this.watches += 1
      return this.events(signal, this.watches)
    },
  }
}

export async function* each<T>(events: Iterable<T>): AsyncGenerator<T> {
  yield* events
}

/** Never ends by itself. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

export interface Served extends AsyncDisposable {
  readonly site: FakeSite
  readonly folder: string
  readonly path: string
  readonly server: ControlServer
  readonly logged: unknown[]
}

export async function serveFakeSite(
  serveNbd: (socket: Socket) => void = (socket) => socket.destroy(),
): Promise<Served> {
  const folder = await mkdtemp(join(tmpdir(), 'vmstore-control-'))
  const path = join(folder, 'control.sock')
  const logged: unknown[] = []
  const site = new FakeSite()
  site.control = path
  const server = await startControlServer({
    service: site,
    path,
    log: { error: (facts) => logged.push(facts) },
    serveNbd,
  })
  return {
    site,
    folder,
    path,
    server,
    logged,
    async [Symbol.asyncDispose]() {
      await server.close()
      await rm(folder, { recursive: true })
    },
  }
}
