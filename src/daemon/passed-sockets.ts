// Socket activation (sd_listen_fds): the sockets that systemd, or a client such as nbdcopy, opened for us and passes from
// descriptor 3 on. What always holds: a socket is taken only when it was passed to this very process and listens for
// streams; no program that we start inherits it, nor the words about it. Its path, its mode and its end are not ours.

import { statSync } from 'node:fs'
import type { Logger } from 'pino'
import { Refusal } from '../disk/refusal.ts'
import type { ListenAddress } from '../guest/listener.ts'
import { closeOnExec, type SocketFacts, socketFacts } from '../system/sockets.ts'

/** A socket on which NBD clients will be served. */
export interface PassedSocket {
  readonly fd: number
  readonly address: ListenAddress
}

/** SD_LISTEN_FDS_START. */
const firstFd = 3
/** More than any site listens on; a number that is larger is a mistake. */
const maxSockets = 64
const nbdName = /^nbd(-.*)?$/
/** What a socket is called that was given no name: by systemd its unit's, by others this or nothing. */
const noName = /^(|unknown|.*\.socket)$/

const otherMayWrite = 0o002

const safe = 'No disk was touched.'

/** As takePassedSockets, and says what is odd about them. To be called before any program is started. @throws Refusal */
export function takeSockets(
  environment: NodeJS.ProcessEnv,
  pid: number,
  log: Pick<Logger, 'warn'>,
): readonly PassedSocket[] {
  if (isPassedToOther(environment, pid)) {
    const facts = { listenPid: environment['LISTEN_PID'], pid }
    const remedy =
      'start vmstore as the process itself (ExecStart=… node …/bin/run.js serve), not through npm, npx or a shell'
    log.warn(facts, `sockets were passed to another process than this one, and are not taken: ${remedy}`)
  }
  const sockets = takePassedSockets(environment, pid)
  for (const { address } of sockets) {
    if (!isOpenToAll(address)) continue
    log.warn(
      { address },
      'every user of this machine may open this socket: give it a path and SocketMode=0660 in its unit',
    )
  }
  return sockets
}

/** The sockets that were passed to `pid`. Takes the words about them out of `environment`. @throws Refusal */
export function takePassedSockets(environment: NodeJS.ProcessEnv, pid: number): readonly PassedSocket[] {
  const words = passedWords(environment, pid)
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name]
  return words.map(({ fd, name }) => {
    const facts = factsOf(fd)
    closeOnExec(fd)
    return { fd, address: nbdAddressOf(fd, name, facts) }
  })
}

/** Whether sockets were passed to another process, whose environment this one has: a program that was put in between. */
export function isPassedToOther(environment: NodeJS.ProcessEnv, pid: number): boolean {
  return environment['LISTEN_FDS'] !== undefined && environment['LISTEN_PID'] !== String(pid)
}

/** Vmstore makes its own Unix sockets for their owner alone; systemd's are for everybody unless its unit says otherwise. */
export function isOpenToAll(address: ListenAddress): boolean {
  if (address.transport !== 'unix') return false
  if (address.path.startsWith('@')) return true // Abstract names have no mode.
  const status = statSync(address.path, { throwIfNoEntry: false })
  return status !== undefined && (status.mode & otherMayWrite) !== 0
}

/** What the environment says, in the order of the descriptors. Pure. @throws Refusal */
export function passedWords(environment: NodeJS.ProcessEnv, pid: number): readonly { fd: number; name: string }[] {
  const { LISTEN_PID: forPid, LISTEN_FDS: countText, LISTEN_FDNAMES: namesText } = environment
  if (countText === undefined || forPid !== String(pid)) return []
  const count = Number(countText)
  if (!/^\d+$/.test(countText) || count > maxSockets) {
    throw unusable(`LISTEN_FDS is ${JSON.stringify(countText)}, not a number of sockets up to ${maxSockets}`)
  }
  const names = namesText === undefined ? [] : namesText.split(':')
  if (namesText !== undefined && names.length !== count) {
    throw unusable(`LISTEN_FDNAMES has ${names.length} names, for ${count} sockets`)
  }
  return Array.from({ length: count }, (_, index) => ({ fd: firstFd + index, name: names[index] ?? '' }))
}

/** What the socket is called decides whom it is for. Pure. @throws Refusal */
export function nbdAddressOf(fd: number, name: string, facts: SocketFacts | undefined): ListenAddress {
  const which = `the passed socket ${name === '' ? '' : `${name} `}(descriptor ${fd})`
  if (!nbdName.test(name) && !noName.test(name)) {
    const message = `${which} is not taken: vmstore takes sockets for NBD only`
    throw unusable(
      message,
      'Name it nbd (FileDescriptorName=), or open peer and control sockets by --peer and --control.',
    )
  }
  if (facts === undefined || !facts.isStream || !facts.isListening) {
    throw unusable(`${which} does not listen for streams`, 'In a socket unit: ListenStream=, and not Accept=yes.')
  }
  const { address } = facts
  if (address.family === 'unix') return { transport: 'unix', path: address.path }
  if (address.family === 'inet') return { transport: 'tcp', host: address.host, port: address.port }
  throw unusable(`${which} is neither a Unix socket nor TCP (address family ${address.number})`)
}

function factsOf(fd: number): SocketFacts | undefined {
  try {
    return socketFacts(fd)
  } catch (error) {
    const message = `descriptor ${fd} was to be a passed socket, and is not open: ${(error as Error).message}`
    throw unusable(message, undefined, error)
  }
}

function unusable(message: string, next = 'See what starts vmstore: sd_listen_fds(3).', cause?: unknown): Refusal {
  return new Refusal('bad-socket', message, { safe, next, ...(cause !== undefined && { cause }) })
}
