// What --from names, as the daemon is to understand it: an NBD URI, or the whole path of a file. What is neither, and means
// something to another program, is explained. And what to say when the daemon does not find a file that this command sees.

import { lstatSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { ControlError, errorViewOf } from '../control/errors.ts'
import { UsageError } from './errors.ts'

/** The daemon has a folder of its own, so that a path must be whole. @throws UsageError */
export function imageArgument(from: string): string {
  if (/^nbds?(\+unix)?:\/\//i.test(from)) return from
  const path = resolve(from)
  if (isThere(path)) return path // Whatever it looks like.
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(from) ?? []
  if (scheme?.toLowerCase() === 'file')
    throw new UsageError(`${from} is no path.`, `Name the file by its path: ${plain(from)}.`)
  if (scheme !== undefined) {
    const next = 'Serve it by NBD, such as with nbdkit curl, and name that server with nbd:// or nbd+unix://.'
    throw new UsageError(`A disk is made from a file or from an NBD server, not from ${scheme}://.`, next)
  }
  const uri = nbdUriFor(from)
  if (uri !== undefined)
    throw new UsageError(`${from} is no file, and not how an NBD server is named.`, `Name it with its URI: ${uri}.`)
  const [, driver] = /^([a-z][a-z0-9_-]+):/i.exec(from) ?? []
  if (driver !== undefined && !from.startsWith(`./`)) {
    const next =
      'Name a file by its path; whatever else QEMU opens, serve it with qemu-nbd, and name that server with nbd+unix://.'
    throw new UsageError(`There is no file ${from}, and words that QEMU understands (${driver}:…) are not taken.`, next)
  }
  return path
}

/** QEMU's old words for a server, and a host with a port. */
function nbdUriFor(from: string): string | undefined {
  const [, socket, unixName = ''] = /^nbd:unix:([^:]+)(?::exportname=(.*))?$/i.exec(from) ?? []
  if (socket !== undefined) return `nbd+unix:///${encodeURI(unixName)}?socket=${encodeURI(socket)}`
  const [, host, port, name = ''] = /^nbd:([^:/]+|\[[^\]]+\]):(\d+)(?::exportname=(.*))?$/i.exec(from) ?? []
  if (host !== undefined) return `nbd://${host}:${port}/${encodeURI(name)}`
  const [, address, path = ''] = /^((?:[a-z0-9.-]+|\[[0-9a-f:.]+\]):\d{1,5})(?:\/(.*))?$/i.exec(from) ?? []
  return address === undefined ? undefined : `nbd://${address}/${path}`
}

const plain = (from: string): string => from.replace(/^file:\/\/(localhost)?/i, '')

/** The daemon found no file, or none that it may read; this command may know better. */
export function explainUnseen(error: unknown, from: string | undefined): unknown {
  const view = errorViewOf(error)
  if (view?.code !== 'image-unknown' || from === undefined || !from.startsWith('/') || !isReadable(from)) return error
  const message = `${view.message.replace(/\.$/, '')}; this command sees it. The daemon may run with a /home, /root or /tmp of its own (ProtectHome=, PrivateTmp= of its systemd unit), as another user, or on another host.`
  const next = `Put the file where the daemon may read it, or serve it to the daemon: qemu-nbd --read-only --format raw --socket /run/SOCKET ${from}, and --from nbd+unix:///?socket=/run/SOCKET.`
  return new ControlError({ ...view, message, next }, { cause: error })
}

function isThere(path: string): boolean {
  try {
    lstatSync(path)
    return true
  } catch {
    return false
  }
}

function isReadable(path: string): boolean {
  try {
    return statSync(path).isFile() || statSync(path).isBlockDevice()
  } catch {
    return false
  }
}
