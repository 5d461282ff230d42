// vmstore as a service: sockets that systemd (or a client of libnbd, by the same protocol) passes, what the service
// manager is told, and the log as journald takes it. Real programs pass the sockets; a small one in Python passes what
// systemd never would, and hears the messages, as Node has no datagrams over Unix sockets.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { run } from '../interop/clients.ts'
import { Program } from '../program.ts'
import { findTool, needTool } from '../tools.ts'
import { afterwards, endSitesAfterEach, folder, freePort, program, refusalOf, Site, until } from './sites.ts'

const projectFolder = join(import.meta.dirname, '../..')
const runFile = join(projectFolder, 'bin/run.js')
const unitsFolder = join(projectFolder, 'docs/systemd')
const deadlineSeconds = 60
const mebibyte = 2 ** 20
/** systemd-socket-activate, like systemd, passes on only what it is told to. */
const environment = { ...process.env, NO_COLOR: '1', XDG_CONFIG_HOME: '/nonexistent' }

/** Passes one socket of a kind, under a name, and becomes the program: `kind name pid command…`. */
const passing = `
import os, socket, sys
kind, name, pid, *command = sys.argv[1:]
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
made.bind(("0.0.0.0" if kind == "open" else "127.0.0.1", 0))
if kind in ("listening", "open"):
    made.listen()
if kind == "closed":
    os.closerange(3, 4)
else:
    os.dup2(made.fileno(), 3)
    os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=pid or str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=name)
os.execv(command[0], command)
`

/**
 * Holds a Unix socket, as systemd does, and runs the program on it, again when it has ended; prints each pid. The program
 * dies with it (prctl, PR_SET_PDEATHSIG).
 */
const holding = `
import ctypes, os, signal, socket, sys
path, *command = sys.argv[1:]
held = socket.socket(socket.AF_UNIX)
held.bind(path)
held.listen()
while True:
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        os.dup2(held.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
        os.execv(command[0], command)
    print(pid, flush=True)
    os.waitpid(pid, 0)
`

/** Prints each message as one line of JSON. */
const hearing = `
import json, socket, sys
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind(sys.argv[1].replace("@", "\\0"))
print("null", flush=True)
while True:
    print(json.dumps(heard.recv(4096).decode()), flush=True)
`

interface Listening {
  readonly type: string
  readonly nbd: string[]
}

const python = () => findTool('python3')!

function started(name: string, path: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): Program {
  const child = new Program(name, path, args, { env: { ...environment, ...more } })
  afterwards(() => child.kill())
  return child
}

function rawImage(fill: number): string {
  const path = join(folder(), 'web01.raw')
  writeFileSync(path, Buffer.alloc(mebibyte, fill))
  truncateSync(path, 2 * mebibyte)
  return path
}

function listening(child: Program): Promise<Listening> {
  const isIt = (line: string) => {
    const event = JSON.parse(line)
    assert.equal(event.type, 'listening', line)
    return event as Listening
  }
  return child.stdout.find('listening event', deadlineSeconds, isIt)
}

describe('vmstore as a service', () => {
  endSitesAfterEach()

  describe('socket activation', () => {
    it('systemd passes sockets: guests are served on them and on no other, and the path is there after the stop', async function () {
      needTool(this, 'systemd-socket-activate', 'nbdinfo')
      const image = rawImage(7)
      const socket = join(folder(), 'passed.sock')
      const port = await freePort()
      const child = started('systemd-socket-activate', findTool('systemd-socket-activate')!, [
        ...['-l', socket, '-l', `127.0.0.1:${port}`, '--fdname=nbd:nbd-lan'],
        ...[process.execPath, runFile, 'serve', image, '--json'],
      ])
      await child.stderr.find('waiting activator', deadlineSeconds, (line) =>
        /Listening on/.test(line) ? line : undefined,
      )
      // The connection that has it started is a client's: it is served, not lost.
      const guest = await NbdClient.connect(`nbd+unix:///web01?socket=${socket}`)
      assert((await guest.read(0, 4096)).equals(Buffer.alloc(4096, 7)))
      const { nbd } = await listening(child)
      assert.deepEqual(nbd, [`nbd+unix:///?socket=${socket}`, `nbd://127.0.0.1:${port}`])
      assert.match(await run('nbdinfo', '--size', `${nbd[1]}/web01`), /^2097152/)
      assert(!existsSync(join(`${image}.vmstore`, 'nbd.sock')), 'no other socket was opened')
      for (const fd of [3, 4]) {
        const [, flags] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/${child.pid}/fdinfo/${fd}`, 'utf8'))!
        assert(Number.parseInt(flags!, 8) & 0o2000000, `descriptor ${fd} is not for programs that we start`)
      }
      await guest.disconnect()
      child.signal('SIGTERM')
      await child.succeed(deadlineSeconds)
      assert(existsSync(socket), 'the path is not ours to remove')
    })

    it('--nbd adds a listener of its own to the passed ones', async function () {
      needTool(this, 'python3')
      const own = join(folder(), 'own.sock')
      const command = [process.execPath, runFile, 'serve', rawImage(1), '--json', '--nbd', `nbd+unix:///?socket=${own}`]
      const child = started('vmstore', python(), ['-c', passing, 'listening', 'nbd', '', ...command])
      const { nbd } = await listening(child)
      assert.equal(nbd.length, 2)
      assert.deepEqual(await Promise.all(nbd.map((uri) => NbdClient.list(uri))), [['web01'], ['web01']])
    })

    it('a client that comes while the daemon restarts waits, and is served', async function () {
      needTool(this, 'python3')
      const socket = join(folder(), 'held.sock')
      const command = [process.execPath, runFile, 'serve', rawImage(3), '--log-level', 'error']
      const holder = started('the holder of the socket', python(), ['-c', holding, socket, ...command])
      const first = await holder.stdout.find('daemon', deadlineSeconds, (pid) => pid)
      const uri = `nbd+unix:///web01?socket=${socket}`
      const before = await NbdClient.connect(uri)
      await before.write(0, Buffer.alloc(4096, 4))
      process.kill(Number(first), 'SIGTERM')
      await before.closed
      const after = await NbdClient.connect(uri)
      assert((await after.read(0, 4096)).equals(Buffer.alloc(4096, 4)))
      await holder.stdout.find('second daemon', deadlineSeconds, (pid) => (pid === first ? undefined : pid))
      await after.disconnect()
    })

    it('nbdcopy and nbdsh start it themselves, by the same protocol', async function () {
      needTool(this, 'nbdcopy', 'nbdsh')
      const image = rawImage(9)
      const copy = join(folder(), 'copy.raw')
      const serve = [process.execPath, runFile, 'serve', image, '--log-level', 'error']
      await run('nbdcopy', '--', '[', ...serve, ']', copy)
      assert(readFileSync(copy).equals(readFileSync(image)))
      const script = `
h.connect_systemd_socket_activation(${JSON.stringify(serve)})
h.pwrite(b"x" * 4096, 4096)
h.flush()
assert h.pread(4096, 4096) == b"x" * 4096
h.shutdown()
`
      await run('nbdsh', '-c', script)
      assert(readFileSync(image).subarray(4096, 8192).equals(Buffer.alloc(4096, 'x')))
    })

    it('what is no listening stream socket, or is not for NBD, is refused with a sentence', async function () {
      needTool(this, 'python3')
      const cases: readonly (readonly [kind: string, name: string, message: RegExp])[] = [
        ['datagram', 'nbd', /does not listen for streams/],
        ['bound', 'nbd', /does not listen for streams/],
        ['closed', 'nbd', /does not listen for streams/], // By then it is something of Node's own.
        ['listening', 'control', /sockets for NBD only/],
        ['listening', 'peer', /sockets for NBD only/],
      ]
      for (const [kind, name, message] of cases) {
        assert.match(refusalOf(await serveWith(kind, name), 3, 'bad-socket').message, message)
      }
    })

    it('plain TCP beyond loopback is refused, as with --nbd', async function () {
      needTool(this, 'python3')
      refusalOf(await serveWith('open', 'nbd'), 3, 'insecure')
    })

    it('sockets for another process are left alone, and the log says how to get them', async function () {
      needTool(this, 'python3')
      const image = rawImage(1)
      const command = [process.execPath, runFile, 'serve', image, '--json']
      const child = started('vmstore', python(), ['-c', passing, 'listening', 'nbd', '1', ...command])
      assert.deepEqual((await listening(child)).nbd, [`nbd+unix:///?socket=${image}.vmstore/nbd.sock`])
      const warning = (line: string) => (/"level":40.*not through npm, npx or a shell/.test(line) ? line : undefined)
      await child.stderr.find('warning', deadlineSeconds, warning)
    })
  })

  describe('sd_notify', () => {
    /** Hears what is said at a NOTIFY_SOCKET. */
    async function manager(path = join(folder(), 'notify')) {
      const heard = started('the service manager', python(), ['-c', hearing, path])
      await heard.stdout.find('manager', deadlineSeconds, (line) => (line === 'null' ? line : undefined))
      const said = () => heard.stdout.seen.slice(1).map((line) => JSON.parse(line) as string)
      const hears = (word: string) => {
        const match = (line: string) => (line.startsWith(`"${word}`) ? (JSON.parse(line) as string) : undefined)
        return heard.stdout.find(word, deadlineSeconds, match)
      }
      return { path, said, hears }
    }

    it('READY comes once the exports answer, signs of life after it, RELOADING and READY at SIGHUP, STOPPING at SIGTERM', async function () {
      needTool(this, 'python3')
      const { path, said, hears } = await manager()
      const place = folder()
      const uri = `nbd+unix:///?socket=${join(place, 'nbd.sock')}`
      const words = { NOTIFY_SOCKET: path, WATCHDOG_USEC: '20000' }
      const child = started('vmstore', process.execPath, [runFile, 'serve', rawImage(1), '--nbd', uri], words)
      const ready = `READY=1\nSTATUS=serving NBD on ${uri}`
      assert.equal(await hears('READY=1'), ready)
      assert.deepEqual(await NbdClient.list(uri), ['web01'])
      await hears('WATCHDOG=1')
      child.signal('SIGHUP')
      assert.match(await hears('RELOADING=1'), /^RELOADING=1\nMONOTONIC_USEC=\d+\n/)
      const reloaded = said().findIndex((text) => text.startsWith('RELOADING=1'))
      await until('ready again', () => said().slice(reloaded).includes(ready) || undefined)
      child.signal('SIGTERM')
      await child.succeed(deadlineSeconds)
      assert.match(await hears('STOPPING=1'), /^STOPPING=1\nSTATUS=/)
      const course = said().map((text) => text.split('\n')[0]!)
      assert.deepEqual([...new Set(course)], ['READY=1', 'WATCHDOG=1', 'RELOADING=1', 'STOPPING=1'])
    })

    it('an abstract address is reached too', async function () {
      needTool(this, 'python3')
      const { path, hears } = await manager(`@vmstore-test-${randomUUID()}`)
      started('vmstore', process.execPath, [runFile, 'serve', rawImage(1)], { NOTIFY_SOCKET: path })
      await hears('READY=1')
    })

    it('a start that is refused never says READY', async function () {
      needTool(this, 'python3')
      const { path, said, hears } = await manager()
      const site = await Site.start('osaka')
      const words = { NOTIFY_SOCKET: path }
      const child = started('vmstore', process.execPath, [runFile, 'serve', '--root', site.root], words)
      assert.equal(await child.ended(deadlineSeconds), 3)
      // The manager's queue keeps the order: what came before this would have been heard.
      await run('python3', '-c', saying, path, 'LAST=1')
      await hears('LAST=1')
      assert.deepEqual(said(), ['LAST=1'])
    })

    it('a manager that is away stops nothing', async () => {
      const words = { NOTIFY_SOCKET: join(folder(), 'nobody') }
      const child = started('vmstore', process.execPath, [runFile, 'serve', rawImage(1), '--json'], words)
      await listening(child)
      child.signal('SIGTERM')
      await child.succeed(deadlineSeconds)
    })
  })

  it('systemd understands the units of docs/systemd, and the program that they start is there', async function () {
    needTool(this, 'systemd-analyze')
    const place = folder()
    const units = readdirSync(unitsFolder).map((name) => {
      const text = readFileSync(join(unitsFolder, name), 'utf8')
      const instance = join(place, name.replace('@.', name.includes('attach') ? '@nbd0.' : '@osaka.'))
      writeFileSync(instance, text.replaceAll('/opt/vmstore', projectFolder))
      return instance
    })
    assert.equal(units.length, 3)
    const { code, stderr } = await program(findTool('systemd-analyze')!, ['verify', '--man=no', ...units])
    // What systemd does not know it leaves aside, with a line about it.
    assert.deepEqual(
      { code, ofUnits: stderr.split('\n').filter((line) => /vmstore(-attach)?@/.test(line)) },
      { code: 0, ofUnits: [] },
    )
  })

  describe('under journald', () => {
    it('each line of the log and of an error has its priority', async () => {
      const path = join(folder(), 'stderr')
      const journal = openSync(path, 'w')
      const { dev, ino } = fstatSync(journal, { bigint: true })
      const words = { JOURNAL_STREAM: `${dev}:${ino}` }
      const image = rawImage(1)
      const options = { env: { ...environment, ...words }, stderr: journal }
      const child = new Program('vmstore', process.execPath, [runFile, 'serve', image, '--json'], options)
      afterwards(() => child.kill())
      await listening(child)
      const second = new Program('vmstore', process.execPath, [runFile, 'serve', image], options)
      afterwards(() => second.kill())
      assert.equal(await second.ended(deadlineSeconds), 3)
      child.signal('SIGTERM')
      await child.succeed(deadlineSeconds)
      closeSync(journal)
      const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
      for (const line of lines) assert.match(line, /^<[2-7]>[^{]/)
      assert(lines.includes('<6>stopping signal=SIGTERM'), lines.join('\n'))
      assert(
        lines.some((line) => /^<3>.*another vmstore/.test(line)),
        lines.join('\n'),
      )
    })
  })
})

const saying = `
import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), sys.argv[1])
`

async function serveWith(kind: string, name: string) {
  const serve = [process.execPath, runFile, 'serve', '--root', join(folder(), 'root'), '--json']
  const { code, stdout, stderr } = await program(python(), ['-c', passing, kind, name, '', ...serve])
  return { exit: code, json: JSON.parse(stdout), events: [], stderr }
}
