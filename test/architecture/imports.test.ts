// Who may know whom (docs: "Parts"). Imports run downwards only; what is written here is all that there may be.

import assert from 'node:assert/strict'
import { globSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { contentOf, filesBelow, type Import, importsOf, projectFolder } from './sources.ts'

interface Allowance {
  /** A part, or files of it. */
  readonly from: RegExp
  readonly to: RegExp
  readonly typesOnly?: boolean
  readonly why: string
}

const allowances: readonly Allowance[] = [
  { from: /^commands\//, to: /^cli\//, why: 'commands share how they speak with operators and scripts' },
  { from: /^(commands|cli)\//, to: /^control\/(client|types|errors)\.ts$/, why: 'a command asks the daemon' },
  {
    from: /^commands\/serve\.ts$/,
    to: /^daemon\/(daemon|log|passed-sockets)\.ts$/,
    why: 'serve is the daemon: it starts the composition root, with the sockets that a service manager passes, or not',
  },
  {
    from: /^cli\/service-manager\.ts$/,
    to: /^system\/sockets\.ts$/,
    why: 'a service manager is told by datagrams, which Node does not send over Unix sockets',
  },
  { from: /^commands\/demo\.ts$/, to: /^demo\//, why: 'the demo is a program of its own, which nothing else imports' },
  { from: /^demo\//, to: /^cli\//, why: 'it speaks with people as every command does' },
  { from: /^demo\//, to: /^control\/(client|types|errors)\.ts$/, why: 'it asks its two daemons as a command does' },
  { from: /^demo\//, to: /^nbd\/client\/client\.ts$/, why: 'the guest of the demo is a client of NBD' },
  { from: /^commands\/attach\.ts$/, to: /^attach\//, why: 'it puts the parts of a device together' },
  {
    from: /^attach\//,
    to: /^control\/(client|types|errors)\.ts$/,
    why: 'a disk of the daemon is reached over its control socket',
  },
  {
    from: /^attach\//,
    to: /^nbd\/(client\/(bare-connection|errors|negotiation)|wire\/(constants|uri))\.ts$/,
    why: 'it negotiates the connections that the kernel then uses',
  },
  { from: /^attach\//, to: /^system\//, why: 'the kernel is spoken to over netlink' },
  {
    from: /^commands\/transport\/list\.ts$/,
    to: /^transport\/contract\.ts$/,
    why: 'it shows what plugins offer, and what of it can be used, which needs no daemon',
  },
  {
    from: /^control\/types\/disks\.ts$/,
    to: /^disk\/disk-name\.ts$/,
    why: 'what a disk may be called is one rule, in a file that imports nothing',
  },
  {
    from: /^control\/types\/disks\.ts$/,
    to: /^image\/image-formats\.ts$/,
    why: 'what formats of images are called, in a file that imports nothing',
  },
  {
    from: /^control\/types\/migrations\.ts$/,
    to: /^migration\/terms\.ts$/,
    why: 'what an operator may choose for a move is one schema, in a file that imports nothing',
  },
  {
    from: /^cli\/main\.ts$/,
    to: /^disk\/nearest-name\.ts$/,
    why: 'what somebody may have meant is guessed in one way; the file imports nothing of ours',
  },
  {
    from: /^cli\/export-likeness\.ts$/,
    to: /^image\/(file-names|recognition)\.ts$/,
    why: 'a file that it writes must be taken for what it is when it comes back',
  },
  {
    from: /^cli\/(disk-export|export-likeness)\.ts$/,
    to: /^nbd\/client\/(client|copy-out)\.ts$/,
    why: 'an export is read as any client of the daemon reads it, and written with the rights of whoever asks',
  },
  {
    from: /^daemon\//,
    to: /^(control|disk|guest|image|link|migration|nbd|peer|store|transport|system)\//,
    why: 'the composition root puts everything together, but what operators type',
  },
  {
    from: /^migration\//,
    to: /^disk\/(disks?|plan|departing|arriving|block-source|remote-part|sessions|states|room|disk-name|unreadable-range|acceptance|refusal)\.ts$/,
    why: 'a migration moves a disk, of which it gets two faces, plans and some words, and nothing of its inside',
  },
  {
    from: /^migration\//,
    to: /^link\/(channel|wire\/messages)\.ts$/,
    why: 'it moves it over a link, of which it knows the channel and the bounds of its words',
  },
  { from: /^migration\//, to: /^store\/records\.ts$/, why: "a migration's record" },
  {
    from: /^(daemon|migration)\//,
    to: /^deed\//,
    why: 'a migration signs what it gives, and believes what a deed says; the daemon has the key',
  },
  {
    from: /^store\//,
    to: /^deed\/entries\.ts$/,
    why: 'a disk carries its deed in its record: what an entry is has one schema',
  },
  { from: /^migration\//, to: /^guest\/export\.ts$/, why: 'a guest that waits in vain is told so' },
  {
    from: /^(cli|commands)\//,
    to: /^deed\/(deed|entries|keys)\.ts$/,
    why: 'a deed is checked anywhere, without a daemon',
  },
  {
    from: /^control\/types\/deeds\.ts$/,
    to: /^deed\/entries\.ts$/,
    typesOnly: true,
    why: 'it is shown as it is',
  },
  { from: /^disk\/key-gone\.ts$/, to: /^deed\/deed\.ts$/, why: 'a disk is served under the key that its deed names' },
  {
    from: /^(link|peer|relay)\//,
    to: /^transport\//,
    why: 'they speak over streams, and leave objects in stores, that drivers bring',
  },
  {
    from: /^relay\/mailbox\//,
    to: /^link\/(channel|wire\/coverage|lane\/places)\.ts$/,
    why: 'a mailbox is a channel to a peer, which keeps the same promises by the same bounds',
  },
  { from: /^disk\//, to: /^store\//, why: 'a disk is its files and records' },
  { from: /^disk\//, to: /^guest\/export\.ts$/, why: 'a disk implements Export, which lies with its user' },
  {
    from: /^nbd\/server\//,
    to: /^guest\//,
    why: 'a server of NBD is a guest-facing server, with all that these share',
  },
  {
    from: /^nbd\/wire\/uri\.ts$/,
    to: /^guest\/listener\.ts$/,
    typesOnly: true,
    why: 'a URI of NBD says where a server listens',
  },
  {
    from: /^(daemon|disk|guest|link|migration|nbd|relay|store)\//,
    to: /^block\//,
    why: 'the block, runs of it, its map, its zeros, time and the turns of the loop are declared once',
  },
  {
    from: /^(control|daemon|nbd|peer)\//,
    to: /^entrance\//,
    why: 'whoever has connected and is not known yet has a place there, whatever it will speak',
  },
  { from: /^(store|guest|nbd|control)\//, to: /^system\//, why: 'Linux calls that Node lacks, for files and sockets' },
]

/** Within a part that has rooms: which room may know which. Its files that lie in no room are not bound by this table. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  'nbd/wire': [],
  'nbd/server': ['nbd/wire'],
  'nbd/client': ['nbd/wire'],
  'disk/sync': [],
  'disk/arrival': [],
  'disk/departure': [],
  'disk/io': ['disk/arrival', 'disk/sync'],
  'link/wire': [],
  'link/lane': ['link/wire'],
  'link/peers': ['link/lane', 'link/wire'],
  'relay/chunking': [],
  'relay/mailbox': ['relay/chunking'],
  'migration/copy': [],
  'migration/source': [],
  'migration/destination': ['migration/copy'],
  'migration/site': ['migration/copy', 'migration/source', 'migration/destination'],
}

/** One third-party library is used in one place; a second place needs a reason here. */
const libraries: Readonly<Record<string, { readonly places: readonly string[]; readonly why: string }>> = {
  '@oclif/core': { places: ['cli', 'commands'], why: 'a command is a class of oclif' },
  '@peculiar/x509': { places: ['peer'], why: 'certificates of sites' },
  conf: { places: ['cli'], why: 'the settings of a user' },
  fastify: { places: ['control'], why: 'the control API' },
  koffi: { places: ['system'], why: 'Linux calls' },
  listr2: { places: ['cli', 'demo'], why: 'steps on a terminal, of commands and of the demo' },
  pino: { places: ['daemon'], why: 'its log' },
  'reflect-metadata': { places: ['peer'], why: '@peculiar/x509 needs it' },
  undici: { places: ['control'], why: 'the control client' },
  zod: {
    places: ['control', 'daemon', 'deed', 'link', 'migration', 'peer', 'relay', 'store'],
    why: 'what comes from outside is checked by the part that understands it',
  },
}

const code = filesBelow(['src'], /\.ts$/)
const imports = code.flatMap(importsOf)
const isOwn = ({ specifier }: Import): boolean => specifier.startsWith('.')
const isNode = ({ specifier }: Import): boolean => specifier.startsWith('node:')
const partOf = (path: string): string => path.split('/')[0]!
/** 'nbd/wire' of 'nbd/wire/uri.ts'; undefined for a file that lies in no room. */
const roomOf = (path: string): string | undefined => path.match(/^[^/]+\/[^/]+(?=\/)/)?.[0]

/** Between parts: [from, to] as paths below src/. */
function crossings(): { from: string; to: string; isTypeOnly: boolean }[] {
  return imports
    .filter(isOwn)
    .map(({ from, specifier, isTypeOnly }) => ({
      from: relative('src', from),
      to: relative('src', join(dirname(from), specifier)),
      isTypeOnly,
    }))
    .filter(({ from, to }) => partOf(from) !== partOf(to))
}

const permits = (allowance: Allowance, { from, to, isTypeOnly }: ReturnType<typeof crossings>[number]): boolean =>
  allowance.from.test(from) && allowance.to.test(to) && (isTypeOnly || !allowance.typesOnly)

/** 'zod' of 'zod/v4', '@oclif/core' of '@oclif/core/flags'. */
function libraryOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

describe('who may know whom', () => {
  it('the reader of imports sees them all', () => {
    assert(imports.length > 300)
    const found = (from: string, specifier: string) =>
      imports.some((one) => one.from === from && one.specifier === specifier)
    assert(found('src/commands/serve.ts', '../daemon/daemon.ts'), 'a dynamic import')
    assert(found('src/cli/errors.ts', '../control/errors.ts'), 'an import on one line')
    assert(found('src/control/client.ts', './types.ts'), 'an import over several lines')
    assert(found('src/nbd/client/client.ts', './errors.ts'), 'an export from elsewhere')
    const written = code.map(
      (path) => contentOf(path).match(/^\} from '|^(import|export) .* from '|^import '/gm)?.length,
    )
    const statics =
      imports.length - code.flatMap((path) => contentOf(path).match(/\bimport\(\s*'|new URL\(\s*'\./g) ?? []).length
    assert.equal(
      statics,
      written.reduce<number>((sum, count) => sum + (count ?? 0), 0),
    )
  })

  it('imports between parts run downwards only', () => {
    const wrong = crossings().filter((crossing) => !allowances.some((allowance) => permits(allowance, crossing)))
    assert.deepEqual(
      wrong.map(({ from, to }) => `src/${from} must not import src/${to}`),
      [],
    )
  })

  it("the control API's client brings no server along, and no more of other parts than what types need", () => {
    const reached = new Set<string>()
    const libraries = new Set<string>()
    const walkFrom = (path: string): void => {
      if (reached.has(path)) return
      reached.add(path)
      for (const one of imports.filter(({ from, isTypeOnly }) => from === path && !isTypeOnly)) {
        if (isOwn(one)) walkFrom(join(dirname(path), one.specifier))
        else if (!isNode(one)) libraries.add(one.specifier)
      }
    }
    walkFrom('src/control/client.ts')
    assert(reached.has('src/control/routes.ts'))
    assert.deepEqual([...libraries].sort(), ['undici', 'zod'])
    assert.deepEqual(
      [...reached].filter((path) => /^src\/control\/(server|serving|service|upgrade|event-bus)\.ts$/.test(path)),
      [],
    )
  })

  it('no part knows, over others, a part that knows it', () => {
    const known = Map.groupBy(crossings(), ({ from }) => partOf(from))
    const walkFrom = (part: string, way: readonly string[]): void => {
      assert(!way.includes(part), `${[...way, part].join(' → ')} is a ring`)
      const next = new Set((known.get(part) ?? []).map(({ to }) => partOf(to)))
      for (const to of next) walkFrom(to, [...way, part])
    }
    for (const part of known.keys()) walkFrom(part, [])
  })

  it('no file knows, over others, a file that knows it, be it only for its types', () => {
    const known = new Map(code.map((path): [string, Set<string>] => [path, new Set()]))
    for (const { from, specifier } of imports.filter(isOwn)) known.get(from)!.add(join(dirname(from), specifier))
    const clear = new Set<string>()
    const walkFrom = (path: string, way: readonly string[]): void => {
      const ring = [...way.slice(way.indexOf(path)), path].join(' → ')
      assert(!way.includes(path), `${ring} is a ring: put what both need with its user, or into a file of its own`)
      if (clear.has(path)) return
      for (const to of known.get(path) ?? []) walkFrom(to, [...way, path])
      clear.add(path)
    }
    for (const path of known.keys()) walkFrom(path, [])
  })

  it('no allowance outlives its use', () => {
    const unused = allowances.filter((allowance) => !crossings().some((crossing) => permits(allowance, crossing)))
    assert.deepEqual(
      unused.map(({ from, to }) => `${from.source} → ${to.source}`),
      [],
    )
  })

  it('system, block and entrance import nothing of ours, guest nothing but these, and nbd nothing but guest and these', () => {
    const outward = (part: string) => crossings().filter(({ from }) => partOf(from) === part)
    assert.deepEqual([...outward('system'), ...outward('block'), ...outward('entrance')], [])
    const low = ['system', 'block', 'entrance']
    assert.deepEqual(
      outward('guest').filter(({ to }) => !low.includes(partOf(to))),
      [],
    )
    assert.deepEqual(
      outward('nbd').filter(({ to }) => ![...low, 'guest'].includes(partOf(to))),
      [],
    )
  })

  it('the units of a disk, and time, are declared in block alone', () => {
    const declared = /^(?:export )?(?:interface|type) (Run|Span|Piece|Extent|\w+Extent|Urgency|Clock|Timers)\b/m
    // An extent of blocks, of an image's own format, of NBD's status, and what the demo writes are other things.
    const others = /^src\/(block|demo|image|guest|nbd)\//
    const twice = code.filter((path) => !others.test(path) && declared.test(contentOf(path)))
    assert.deepEqual(twice, [])
  })

  it('nobody but disk reaches into the rooms of a disk', () => {
    const inside = crossings().filter(({ to }) => /^disk\/.*\//.test(to))
    assert.deepEqual(inside, [])
    const arrivals = code.filter((path) => !path.startsWith('src/disk/') && /\.arrival\b/.test(contentOf(path)))
    assert.deepEqual(arrivals, [])
  })

  it('NBD is known to those who put it together and to its clients alone', () => {
    const known = new Set(crossings().flatMap(({ from, to }) => (partOf(to) === 'nbd' ? [partOf(from)] : [])))
    assert.deepEqual(
      [...known].filter((part) => !['attach', 'cli', 'commands', 'daemon', 'demo'].includes(part)),
      [],
    )
  })

  it('a disk and a move know of guest-facing servers the contract, and no more', () => {
    const inner = crossings().filter(({ from, to }) => /^(disk|migration)\//.test(from) && partOf(to) === 'guest')
    assert.deepEqual([...new Set(inner.map(({ to }) => to))], ['guest/export.ts'])
  })

  it('rooms within a part know each other as the table says', () => {
    const between = imports.filter(isOwn).flatMap(({ from, specifier }) => {
      const [a, b] = [roomOf(relative('src', from)), roomOf(relative('src', join(dirname(from), specifier)))]
      return a && b && a !== b && a.split('/')[0] === b.split('/')[0] && a in rooms ? [{ from, a, b }] : []
    })
    assert.deepEqual(
      between.filter(({ a, b }) => !rooms[a]!.includes(b)).map(({ from, b }) => `${from} must not import src/${b}`),
      [],
    )
    const unused = Object.entries(rooms).flatMap(([a, to]) =>
      to.filter((b) => !between.some((one) => one.a === a && one.b === b)).map((b) => `${a} → ${b}`),
    )
    assert.deepEqual(unused, [], 'an allowance outlives its use')
  })

  it('a migration knows the other site by its counterpart: only over-link.ts knows a channel', () => {
    const knowing = code.filter(
      (path) =>
        path.startsWith('src/migration/') && /\b(PeerChannel|PeerHandlers|FetchRequest)\b/.test(contentOf(path)),
    )
    assert.deepEqual(knowing, ['src/migration/over-link.ts'])
  })

  it('no stream crosses the wall of lanes: only who makes them has one in its hands', () => {
    const holders = imports
      .filter(({ from, specifier }) => specifier === 'node:stream' && /^src\/(link|daemon|migration)\//.test(from))
      .map(({ from }) => relative('src', from))
    assert.deepEqual(holders.sort(), [
      'daemon/streams.ts',
      'link/lane/sender.ts',
      'link/lane/stream-lane.ts',
      'link/lane/stream-lanes.ts',
    ])
    const makers = imports
      .filter(isOwn)
      .filter(({ specifier }) => /\/lane\/stream-lanes?\.ts$|^\.\/stream-lanes?\.ts$/.test(specifier))
      .map(({ from }) => relative('src', from))
    assert.deepEqual(makers.sort(), ['daemon/links.ts', 'link/lane/stream-lanes.ts'])
  })

  it('a course is told from others by its role, and by no instanceof', () => {
    const wrong = code.filter((path) => /\binstanceof \w*Course\b/.test(contentOf(path)))
    assert.deepEqual(wrong, [])
  })

  it('a plugin imports vmstore/transport, and nothing else of ours', () => {
    for (const path of filesBelow(['plugins'], /\.ts$/)) {
      const own = path.split('/').slice(0, 2).join('/')
      for (const { specifier } of importsOf(path)) {
        if (specifier.startsWith('.'))
          assert(join(dirname(path), specifier).startsWith(`${own}/`), `${path}: ${specifier}`)
        else if (/^vmstore\b/.test(specifier)) {
          const allowed = path.startsWith(`${own}/test/`)
            ? ['vmstore/transport', 'vmstore/transport/testkit']
            : ['vmstore/transport']
          assert(allowed.includes(specifier), `${path} must not import ${specifier}`)
        }
      }
    }
  })

  it('one third-party library is used in one place', () => {
    const places: Record<string, string[]> = {}
    for (const { from, specifier } of imports.filter((one) => !isOwn(one) && !isNode(one))) {
      const library = libraryOf(specifier)
      const place = partOf(relative('src', from))
      places[library] = [...new Set([...(places[library] ?? []), place])].sort()
    }
    assert.deepEqual(places, Object.fromEntries(Object.entries(libraries).map(([name, { places }]) => [name, places])))
  })

  it('every dependency is a library that is used, or a plugin that oclif loads', () => {
    interface PackageFile {
      readonly dependencies?: Readonly<Record<string, string>>
      readonly oclif: { readonly plugins?: readonly string[] }
    }
    const packageAt = (path: string) => JSON.parse(contentOf(path)) as PackageFile
    const own = packageAt('package.json')
    // What comes along is loaded from its folder, and brings nothing by itself (packaging/build.ts).
    const bundled = globSync('plugins/*/package.json', { cwd: projectFolder }).flatMap((path) =>
      Object.keys(packageAt(path).dependencies ?? {}),
    )
    const used = [...Object.keys(libraries), ...(own.oclif.plugins ?? []), ...bundled]
    assert.deepEqual(Object.keys(own.dependencies ?? {}).sort(), [...new Set(used)].sort())
  })
})
