// What can be asked of a daemon: each request once. The server (serving.ts), the client (client.ts) and what the server
// needs of the daemon (service.ts) are derived from this table.
//
// What always holds: what stands here is on the wire, and commands of older versions ask for it. A route is added, and is
// never changed or taken away.

import type { z } from 'zod'
import {
  acceptRequest,
  allowRequest,
  type CreateEvent,
  createDiskRequest,
  type DeedView,
  type DiskView,
  type DroppedSessionView,
  type EstimateView,
  forceRequest,
  type InviteView,
  inviteRequest,
  joinRequest,
  type MigrationEvent,
  type MigrationView,
  migrateRequest,
  type PeerView,
  type ReclaimedDiskView,
  type RekeyView,
  type RemovedPeerView,
  reclaimRequest,
  rekeyRequest,
  type SessionView,
  type SiteView,
  type StatusView,
  setRequest,
  type VerifyView,
} from './types.ts'

/** `document`: one JSON document. `events`: one a line, as they happen; the last is `result` or `error`. */
interface Answer<Kind extends 'document' | 'events', Content> {
  readonly kind: Kind
  /** For its type alone: no route has a value here. */
  readonly content?: Content
}

export interface Route {
  /** What the client's method is called. */
  readonly name: string
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** `:word` stands for a parameter. */
  readonly path: `/v1/${string}`
  /** Absent: what is sent as a body is not looked at. */
  readonly body?: z.ZodType
  readonly answer: Answer<'document' | 'events', unknown>
}

const document = <Content>(): Answer<'document', Content> => ({ kind: 'document' })
const events = <Event extends { readonly type: string }>(): Answer<'events', Event> => ({ kind: 'events' })

/** Grouped by what they are about. */
export const routes = {
  site: {
    describe: { name: 'describe', method: 'GET', path: '/v1/site', answer: document<SiteView>() },
    status: { name: 'status', method: 'GET', path: '/v1/status', answer: document<StatusView>() },
  },

  /** Named by name or id. */
  disks: {
    list: { name: 'listDisks', method: 'GET', path: '/v1/disks', answer: document<DiskView[]>() },
    /** Ends with `result` or throws. Nothing is left behind when it throws, or when whoever asked goes away. */
    create: {
      name: 'createDisk',
      method: 'POST',
      path: '/v1/disks',
      body: createDiskRequest,
      answer: events<CreateEvent>(),
    },
    show: { name: 'showDisk', method: 'GET', path: '/v1/disks/:name', answer: document<DiskView>() },
    /** Who gave the disk to whom; a disk that is being moved here has the deed that its source has shown. */
    deed: { name: 'diskDeed', method: 'GET', path: '/v1/disks/:name/deed', answer: document<DeedView>() },
    delete: { name: 'deleteDisk', method: 'DELETE', path: '/v1/disks/:name', answer: document<DiskView>() },
    /**
     * Compares an arriving disk with its source, for as long as it takes to read both. What differs is missing again when
     * this is answered.
     */
    verify: { name: 'verifyDisk', method: 'POST', path: '/v1/disks/:name/verify', answer: document<VerifyView>() },
    /** Takes a departed disk back; not confirmed, it is refused with what would be lost (`not-confirmed`). */
    reclaim: {
      name: 'reclaimDisk',
      method: 'POST',
      path: '/v1/disks/:name/reclaim',
      body: reclaimRequest,
      answer: document<ReclaimedDiskView>(),
    },
    /**
     * Has a disk take writes again after a failed sync, when all of it has been written anew; not confirmed, it is refused
     * with what may be lost (`not-confirmed`).
     */
    accept: {
      name: 'acceptDisk',
      method: 'POST',
      path: '/v1/disks/:name/accept',
      body: acceptRequest,
      answer: document<DiskView>(),
    },
  },

  /** Connections of NBD clients that use a disk; named by id. */
  sessions: {
    list: { name: 'listSessions', method: 'GET', path: '/v1/sessions', answer: document<SessionView[]>() },
    /** Its requests in flight are answered, then the client is cut off without a word. Answered when it is. */
    drop: { name: 'dropSession', method: 'DELETE', path: '/v1/sessions/:id', answer: document<DroppedSessionView>() },
  },

  peers: {
    list: { name: 'listPeers', method: 'GET', path: '/v1/peers', answer: document<PeerView[]>() },
    invite: {
      name: 'invite',
      method: 'POST',
      path: '/v1/peers/invite',
      body: inviteRequest,
      answer: document<InviteView>(),
    },
    join: { name: 'join', method: 'POST', path: '/v1/peers/join', body: joinRequest, answer: document<PeerView>() },
    /** Gives this site another key; not confirmed, it is refused with what becomes of it (`not-confirmed`). */
    rekey: {
      name: 'rekey',
      method: 'POST',
      path: '/v1/peers/rekey',
      body: rekeyRequest,
      answer: document<RekeyView>(),
    },
    remove: { name: 'removePeer', method: 'DELETE', path: '/v1/peers/:name', answer: document<PeerView>() },
    show: { name: 'showPeer', method: 'GET', path: '/v1/peers/:name', answer: document<PeerView>() },
    /** What it may here. */
    allow: {
      name: 'allowPeer',
      method: 'POST',
      path: '/v1/peers/:name/allow',
      body: allowRequest,
      answer: document<PeerView>(),
    },
    /** Ends the migrations with it here, without its answer. */
    removeByForce: {
      name: 'removePeerByForce',
      method: 'POST',
      path: '/v1/peers/:name/remove',
      answer: document<RemovedPeerView>(),
    },
  },

  /** Named by id, or an unambiguous beginning of it. */
  migrations: {
    list: {
      name: 'listMigrations',
      method: 'GET',
      path: '/v1/migrations',
      answer: document<MigrationView[]>(),
    },
    /** Answered once the migration exists at both sites; what follows is told by its events. */
    begin: {
      name: 'migrate',
      method: 'POST',
      path: '/v1/migrations',
      body: migrateRequest,
      answer: document<MigrationView>(),
    },
    /** What it would cost, asked of the site that has the disks. Nothing changes; what would be refused is refused. */
    estimate: {
      name: 'estimate',
      method: 'POST',
      path: '/v1/migrations/estimate',
      body: migrateRequest,
      answer: document<EstimateView>(),
    },
    show: { name: 'showMigration', method: 'GET', path: '/v1/migrations/:id', answer: document<MigrationView>() },
    switchover: {
      name: 'switchover',
      method: 'POST',
      path: '/v1/migrations/:id/switchover',
      body: forceRequest,
      answer: document<MigrationView>(),
    },
    /** Holds the background copy. */
    pause: { name: 'pause', method: 'POST', path: '/v1/migrations/:id/pause', answer: document<MigrationView>() },
    /** Lets it go on. */
    resume: { name: 'resume', method: 'POST', path: '/v1/migrations/:id/resume', answer: document<MigrationView>() },
    set: {
      name: 'setMigration',
      method: 'POST',
      path: '/v1/migrations/:id/set',
      body: setRequest,
      answer: document<MigrationView>(),
    },
    cancel: {
      name: 'cancel',
      method: 'POST',
      path: '/v1/migrations/:id/cancel',
      body: forceRequest,
      answer: document<MigrationView>(),
    },
    /** Starts with the present step; ends with `result` or `error`, or when whoever watches goes away. */
    events: {
      name: 'migrationEvents',
      method: 'GET',
      path: '/v1/migrations/:id/events',
      answer: events<MigrationEvent>(),
    },
  },
} as const satisfies Readonly<Record<string, Readonly<Record<string, Route>>>>

/** Not in the table: what is asked for is that the connection becomes one of NBD (upgrade.ts). */
export const nbdUpgrade = { method: 'GET', path: '/v1/nbd', protocol: 'nbd' } as const

export type Routes = typeof routes

/** Any route of any group. */
export type AnyRoute = { [Group in keyof Routes]: Routes[Group][keyof Routes[Group]] }[keyof Routes]

/** One string for each parameter of a path. */
export type ParametersOf<Path> = Path extends `${string}/:${infer Rest}`
  ? [named: string, ...ParametersOf<Rest extends `${string}/${infer More}` ? `/${More}` : ''>]
  : []

/** The body, as the client sends it. */
export type BodyOf<One> = One extends { readonly body: infer Schema extends z.ZodType } ? z.input<Schema> : undefined
/** The body, as the service gets it: with the usual value of all that was not said. */
export type CheckedBodyOf<One> = One extends { readonly body: infer Schema extends z.ZodType }
  ? z.output<Schema>
  : undefined

export type ContentOf<One> = One extends { readonly answer: Answer<'document' | 'events', infer Content> }
  ? Content
  : never

/** Every route of the table, with its group and its key. */
export function* eachRoute(): Generator<{ readonly group: string; readonly key: string; readonly route: Route }> {
  for (const [group, keyed] of Object.entries(routes)) {
    for (const [key, route] of Object.entries<Route>(keyed)) yield { group, key, route }
  }
}

const parameter = /:(\w+)/g

/** In the order of the path. */
export function parameterNames({ path }: Route): readonly string[] {
  return [...path.matchAll(parameter)].map(([, name]) => name!)
}

/** The path with its parameters in it, whatever characters they have. */
export function pathWith({ path }: Route, parameters: readonly string[]): string {
  let index = 0
  return path.replace(parameter, () => encodeURIComponent(parameters[index++]!))
}
