// OpenStack Swift on loopback with its s3api, from Debian's packages: account, container and object server over three devices,
// and the proxy that speaks S3. It knows no conditional put.

import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../ports.ts'
import { Processes } from './processes.ts'
import { answers, type Credentials, type RealStore } from './store.ts'

export const swiftPrograms = [
  'swift-proxy-server',
  'swift-account-server',
  'swift-container-server',
  'swift-object-server',
]
/** Keys of tempauth are account:user. */
const credentials: Credentials = { accessKeyId: 'tests:tester', secretAccessKey: 'a-secret-of-the-tests' }
const kinds = ['account', 'container', 'object'] as const
const devices = 3
/** Debian's Swift is Python's of Debian, whatever else is on the path. */
const python = '/usr/bin/python3'

export async function startSwift(): Promise<RealStore> {
  const processes = new Processes('swift')
  try {
    return await start(processes)
  } catch (error) {
    await processes.end()
    throw error
  }
}

async function start(processes: Processes): Promise<RealStore> {
  const { folder } = processes
  const port = await freePort()
  const ports = { account: await freePort(), container: await freePort(), object: await freePort() }
  const cachePort = await freePort()
  for (const name of ['etc', 'node', 'cache']) mkdirSync(join(folder, name))
  writeFileSync(join(folder, 'etc/swift.conf'), common)
  for (const kind of kinds) writeFileSync(join(folder, `etc/${kind}.conf`), serverOf(folder, kind, ports[kind]))
  writeFileSync(join(folder, 'etc/proxy.conf'), proxyAt(folder, port, cachePort))
  const rings = kinds.map((kind) => `${kind}=${ports[kind]}`)
  await processes.run(python, ['-c', makeRings, folder, String(devices), ...rings])
  const cache = ['-l', '127.0.0.1', '-p', String(cachePort), '-U', '0', '-m', '32', '-u', userInfo().username]
  processes.start('cache', 'memcached', cache)
  for (const kind of [...kinds, 'proxy']) processes.start(kind, python, ['-c', runServer, join(folder, 'etc'), kind])
  const endpoint = `http://127.0.0.1:${port}`
  await processes.until('all of Swift answers', ['cache', ...kinds, 'proxy'], async () => {
    // Whatever a storage server answers, it is there.
    await Promise.all(kinds.map((kind) => fetch(`http://127.0.0.1:${ports[kind]}/`)))
    return await answers(`${endpoint}/healthcheck`)
  })
  const version = await processes.run(python, ['-c', 'import swift; print(swift.__version__)'])
  return { version: `s3api of Swift ${version.trim()}`, endpoint, credentials, end: () => processes.end() }
}

/** The folder of configuration is /etc/swift, if nobody says otherwise before anything is read. */
const runServer = `
import sys
from swift.common import utils
utils.set_swift_dir(sys.argv[1])
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi('%s/%s.conf' % (sys.argv[1], sys.argv[2]), sys.argv[2] + '-server', verbose=True))
`

const makeRings = `
import os, sys
from swift.common.ring import RingBuilder
folder, count = sys.argv[1], int(sys.argv[2])
for ring in sys.argv[3:]:
    kind, port = ring.split('=')
    builder = RingBuilder(4, count, 0)
    for number in range(count):
        device = 'd%d' % number
        os.makedirs('%s/node/%s' % (folder, device), exist_ok=True)
        where = {'ip': '127.0.0.1', 'port': int(port), 'replication_ip': '127.0.0.1', 'replication_port': int(port)}
        builder.add_dev({'id': number, 'region': 1, 'zone': number + 1, 'device': device, 'weight': 1.0, 'meta': '', **where})
    builder.rebalance()
    builder.get_ring().save('%s/etc/%s.ring.gz' % (folder, kind))
`

const common = `[swift-hash]
swift_hash_path_suffix = tests
swift_hash_path_prefix = tests
[storage-policy:0]
name = gold
default = yes
`

function head(folder: string, port: number): string {
  return `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
workers = 0
user = ${userInfo().username}
swift_dir = ${folder}/etc
log_level = WARNING
`
}

function serverOf(folder: string, kind: string, port: number): string {
  return `${head(folder, port)}devices = ${folder}/node
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
recon_cache_path = ${folder}/cache
[pipeline:main]
pipeline = ${kind}-server
[app:${kind}-server]
use = egg:swift#${kind}
`
}

function proxyAt(folder: string, port: number, cachePort: number): string {
  const filters = [
    'catch_errors',
    'gatekeeper',
    'healthcheck',
    'memcache',
    'listing_formats',
    's3api',
    'tempauth',
    'copy',
    'slo',
  ]
  const settings: Readonly<Record<string, string>> = {
    memcache: `memcache_servers = 127.0.0.1:${cachePort}\n`,
    s3api: 'location = us-east-1\ns3_acl = false\n',
    tempauth: `user_${credentials.accessKeyId.replace(':', '_')} = ${credentials.secretAccessKey} .admin\n`,
  }
  const sections = filters.map((name) => `[filter:${name}]\nuse = egg:swift#${name}\n${settings[name] ?? ''}`)
  return `${head(folder, port)}[pipeline:main]
pipeline = ${filters.join(' ')} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = false
${sections.join('')}`
}
