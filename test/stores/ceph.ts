// A cluster of Ceph on loopback, from Debian's packages: a monitor, one OSD or several, and radosgw. Small, and without
// authentication between its daemons; what an S3 client sees is as anywhere.

import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../ports.ts'
import { Processes } from './processes.ts'
import { answers, type Credentials, type RealStore } from './store.ts'

export const cephPrograms = ['ceph', 'ceph-mon', 'ceph-osd', 'monmaptool', 'radosgw', 'radosgw-admin']
const credentials: Credentials = { accessKeyId: 'storestest', secretAccessKey: 'a-secret-of-the-tests' }
const osdBytes = 6 * 2 ** 30

export interface Ceph extends RealStore {
  killOsd(number: number): Promise<void>
  startOsd(number: number): void
  /** How many OSDs the monitor takes for up. */
  osdsUp(): Promise<number>
}

export async function startCeph(osds: number): Promise<Ceph> {
  const processes = new Processes('ceph')
  try {
    return await start(processes, osds)
  } catch (error) {
    await processes.end()
    throw error
  }
}

async function start(processes: Processes, osds: number): Promise<Ceph> {
  const { folder } = processes
  const [port, monitorPort, fsid] = [await freePort(), await freePort(), randomUUID()]
  const path = join(folder, 'ceph.conf')
  const address = `[v2:127.0.0.1:${monitorPort}/0]`
  for (const name of ['monitor', 'gateway', 'run']) mkdirSync(join(folder, name))
  writeFileSync(path, configuration({ folder, fsid, address, osds, port }))
  const ceph = (...args: string[]) => processes.run('ceph', ['-c', path, '--connect-timeout', '5', ...args])
  const osdsUp = async () => Number(/(\d+) up/.exec(await ceph('osd', 'stat'))?.[1] ?? 0)
  const startOsd = (number: number) =>
    processes.start(`osd.${number}`, 'ceph-osd', ['-c', path, '-f', '-i', `${number}`])

  const monitors = join(folder, 'monmap')
  const added = `[v2:127.0.0.1:${monitorPort}]`
  await processes.run('monmaptool', ['--create', '--clobber', '--addv', 'a', added, '--fsid', fsid, monitors])
  await processes.run('ceph-mon', ['-c', path, '--mkfs', '-i', 'a', '--monmap', monitors])
  processes.start('mon', 'ceph-mon', ['-c', path, '-f', '-i', 'a'])
  await processes.until('the monitor answers', ['mon'], async () => (await ceph('mon', 'stat')) !== '')
  const names = Array.from({ length: osds }, (_, number) => `osd.${number}`)
  for (const [number, name] of names.entries()) {
    const uuid = randomUUID()
    mkdirSync(join(folder, name))
    await ceph('osd', 'new', uuid)
    await processes.run('ceph-osd', ['-c', path, '-i', `${number}`, '--mkfs', '--osd-uuid', uuid])
    startOsd(number)
  }
  await processes.until('all OSDs are up', ['mon', ...names], async () => (await osdsUp()) === osds)
  await addUser(processes, path)
  processes.start('gateway', 'radosgw', ['-c', path, '-f', '-n', 'client.rgw.tests'])
  const endpoint = `http://127.0.0.1:${port}`
  await processes.until('radosgw answers', ['gateway', 'mon', ...names], () => answers(endpoint))
  const version = /ceph version (\S+)/.exec(await processes.run('ceph', ['--version']))?.[1] ?? '(unknown)'
  return {
    version: `radosgw of Ceph ${version}`,
    endpoint,
    credentials,
    osdsUp,
    startOsd,
    killOsd: (number) => processes.kill(`osd.${number}`),
    end: () => processes.end(),
  }
}

/** Also makes the pools of the gateway. */
async function addUser(processes: Processes, path: string): Promise<void> {
  const keys = ['--access-key', credentials.accessKeyId, '--secret', credentials.secretAccessKey]
  const user = ['user', 'create', '--uid=tests', '--display-name=tests']
  await processes.run('radosgw-admin', ['-c', path, '-n', 'client.rgw.tests', ...user, ...keys])
}

interface Shape {
  readonly folder: string
  readonly fsid: string
  readonly address: string
  readonly osds: number
  readonly port: number
}

/** Replicated thrice where there are three, and going on with two of them. */
function configuration({ folder, fsid, address, osds, port }: Shape): string {
  const size = Math.min(osds, 3)
  return `[global]
fsid = ${fsid}
mon initial members = a
mon host = ${address}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = ${folder}/run
admin socket = ${folder}/run/$name.asok
log file = ${folder}/log/$name.log
log to stderr = false
err to stderr = true
mon cluster log to file = false
mon data = ${folder}/monitor
mon data avail warn = 3
mon data avail crit = 2
mon allow pool size one = true
mon warn on pool no redundancy = false
mon osd min down reporters = 1
osd heartbeat grace = 5
osd heartbeat interval = 1
paxos propose interval = 0.1
paxos min wait = 0.02
osd pool default size = ${size}
osd pool default min size = ${Math.max(1, size - 1)}
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
osd data = ${folder}/osd.$id
osd memory target = 939524096
bluestore block create = true
bluestore block size = ${osdBytes}
bluestore block db create = false
bluestore block wal create = false
[client.rgw.tests]
rgw data = ${folder}/gateway
rgw frontends = beast endpoint=127.0.0.1:${port} tcp_nodelay=1
rgw thread pool size = 64
rgw run sync thread = false
rgw exit timeout secs = 5
`
}
