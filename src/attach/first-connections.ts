// The connections that a device is made of: as many as are wanted and safe, to one and the same disk, which must be what a
// block device can be.

import { closeSync } from 'node:fs'
import { type Backend, changeOf } from './backend.ts'
import { cannotBeAttached } from './refusals.ts'
import type { Dialled, DiskServer } from './server.ts'

const sectorBytes = 512
/** The kernel's own bound: a page. */
const blockMaxBytes = 4096

export interface FirstConnections {
  readonly backend: Backend
  readonly sockets: readonly number[]
  readonly blockSizeBytes: number
}

/** The sockets are the caller's to close. `wanted`: one, if the server does not say that several are safe. @throws ControlError */
export async function dialFirst(server: DiskServer, wanted: number, signal: AbortSignal): Promise<FirstConnections> {
  const dialled: Dialled[] = []
  try {
    const first = await server.dial(signal)
    dialled.push(first)
    const { info, identity } = first
    const blockSizeBytes = blockSizeFor(info, server.disk)
    const connections = info.canMultiConn ? wanted : 1
    const backend = {
      ...{ target: server.target, sizeBytes: info.sizeBytes, flags: info.flags, connections },
      ...(identity !== undefined && { identity }),
    }
    while (dialled.length < connections) {
      const next = await server.dial(signal)
      dialled.push(next)
      const change = changeOf(backend, next)
      if (change !== undefined) {
        const message = `${server.disk} changed while it was being attached: ${change}.`
        throw cannotBeAttached('disk-changed', message, 'run the command again', server.disk)
      }
    }
    return { backend, sockets: dialled.map(({ fd }) => fd), blockSizeBytes }
  } catch (error) {
    for (const { fd } of dialled) closeSync(fd)
    throw error
  }
}

/** 512 where it can be: an image made for such sectors has its partitions counted in them. @throws ControlError */
function blockSizeFor({ sizeBytes, blockSize }: Dialled['info'], disk: string): number {
  const blockSizeBytes = Math.max(sectorBytes, blockSize.minimum)
  const isBlockSize = blockSizeBytes <= blockMaxBytes && Number.isInteger(Math.log2(blockSizeBytes))
  if (isBlockSize && sizeBytes > 0 && sizeBytes % blockSizeBytes === 0) return blockSizeBytes
  const message = isBlockSize
    ? `${disk} has ${sizeBytes} bytes, which is no whole number of blocks of ${blockSizeBytes}: a block device would lose its end.`
    : `The server of ${disk} wants blocks of ${blockSize.minimum} bytes, which the kernel cannot do.`
  throw cannotBeAttached(
    'no-block-device',
    message,
    'serve it with blocks of 512 to 4096 bytes, and a size of whole ones',
    disk,
  )
}
