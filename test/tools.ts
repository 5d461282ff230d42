// System programs that tests try vmstore with. A test whose program is missing is skipped by name, and the run ends with
// what was skipped and what to install: nothing passes in silence. Under CI every program must be there.

import { accessSync, appendFileSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Programs, and the Debian packages that bring them. */
const packages: Readonly<Record<string, string>> = {
  ceph: 'ceph-common',
  'ceph-mon': 'ceph-mon',
  'ceph-osd': 'ceph-osd',
  debugfs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  fio: 'fio',
  flock: 'util-linux',
  gzip: 'gzip',
  ip: 'iproute2',
  ldd: 'libc-bin',
  losetup: 'mount',
  mke2fs: 'e2fsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  'mkfs.exfat': 'exfatprogs',
  'mkfs.fat': 'dosfstools',
  memcached: 'memcached',
  mkswap: 'util-linux',
  monmaptool: 'ceph-base',
  'nbd-client': 'nbd-client',
  'nbd-server': 'nbd-server',
  nbdcopy: 'libnbd-bin',
  nbddump: 'libnbd-bin',
  nbdfuse: 'nbdfuse',
  nbdinfo: 'libnbd-bin',
  nbdkit: 'nbdkit',
  nbdsh: 'python3-libnbd',
  nsenter: 'util-linux',
  openssl: 'openssl',
  python3: 'python3',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-system-x86_64': 'qemu-system-x86',
  radosgw: 'radosgw',
  'radosgw-admin': 'radosgw',
  script: 'bsdutils',
  'swift-account-server': 'swift-account',
  'swift-container-server': 'swift-container',
  'swift-object-server': 'swift-object',
  'swift-proxy-server': 'swift-proxy',
  'systemd-analyze': 'systemd',
  'systemd-socket-activate': 'systemd',
  tar: 'tar',
  tc: 'iproute2',
  xmllint: 'libxml2-utils',
}

/** Of these, what is tried in several Debians' editions. Run from another one's root, they are told of by a variable. */
export const clientPackages = [
  ...['fio', 'libnbd-bin', 'nbd-client', 'nbd-server', 'nbdfuse', 'nbdkit', 'python3-libnbd'],
  ...['qemu-system-x86', 'qemu-utils'],
]
export const clientPrograms = Object.keys(packages).filter((program) => clientPackages.includes(packages[program]!))

/** Names a folder: the clients are there, and nowhere else (test/clients/enter.ts). */
export const clientsVariable = 'VMSTORE_TEST_CLIENTS'
const clientsFolder = process.env[clientsVariable]

/** sbin is where nbd-client lies, and not on everybody's path. */
const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']

/** `missing`: programs; else `reason` says why. */
interface Skip {
  readonly test: string
  readonly missing?: readonly string[]
  readonly reason?: string
}

/** Names the file in which the processes of a run note what they skip (test/setup.ts). */
export const skipsVariable = 'VMSTORE_TEST_SKIPS'

function note(skip: Skip): void {
  const file = process.env[skipsVariable]
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(skip)}\n`)
}

/** Where `program` lies, or undefined. */
export function findTool(program: string): string | undefined {
  const isClient = clientsFolder !== undefined && clientPrograms.includes(program)
  return (isClient ? [clientsFolder] : folders)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, program))
    .find(isExecutable)
}

/** Skips the running test, or suite in a `before`, unless all of `programs` are there; throws instead under CI. */
export function needTool(context: Mocha.Context, ...programs: string[]): void {
  const missing = programs.filter((program) => findTool(program) === undefined)
  if (missing.length === 0) return
  const tests = testsOf(context)
  if (process.env['CI']) throw new Error(`${tests[0]} needs ${missing.join(', ')}: ${advice(missing)}`)
  for (const test of tests) note({ test, missing })
  context.skip()
}

/** As needTool, for what no package brings: also under CI. */
export function skipHere(context: Mocha.Context, reason: string): never {
  for (const test of testsOf(context)) note({ test, reason })
  return context.skip()
}

/** As needTool, for what is missing and a command of ours makes. */
export function needMade(context: Mocha.Context, what: string, command: string): never {
  if (process.env['CI']) throw new Error(`${testsOf(context)[0]} needs ${what}: ${command}`)
  return skipHere(context, `${what} is missing, which \`${command}\` makes`)
}

/** The running test, or every test of the suite whose `before` is running. */
function testsOf(context: Mocha.Context): string[] {
  const running = context.test as Mocha.Test | Mocha.Hook | undefined
  const suite = running?.type === 'hook' ? running.parent : undefined
  const titles: string[] = []
  suite?.eachTest((test) => titles.push(test.fullTitle()))
  return suite === undefined ? [running?.fullTitle() ?? 'a test'] : titles
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function advice(programs: readonly string[]): string {
  const wanted = new Set(programs.map((program) => packages[program] ?? program))
  return `apt-get install ${[...wanted].sort().join(' ')}`
}

/** What was skipped in all of a run's processes, as people are told at its end. Empty: nothing. */
export function skippedText(lines: readonly string[]): string {
  const notes = lines.map((line) => JSON.parse(line) as Skip)
  const texts: string[] = []
  for (const reason of new Set(notes.flatMap((note) => note.reason ?? []))) {
    texts.push(`\n  Skipped, because ${reason}:`)
    for (const note of notes) if (note.reason === reason) texts.push(`    ${note.test}`)
  }
  const missing = notes.filter((note) => note.missing !== undefined)
  if (missing.length > 0) {
    texts.push('\n  Skipped, because programs are missing:')
    for (const note of missing) texts.push(`    ${note.test} (${note.missing!.join(', ')})`)
    texts.push(`  ${advice(missing.flatMap((note) => note.missing!))}\n`)
  }
  return texts.join('\n')
}
