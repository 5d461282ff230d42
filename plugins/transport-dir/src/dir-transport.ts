// Keeps objects in a folder that both sites reach: dir:///path, over NFS or on a disk that travels. The folder must be there:
// one that is missing is a file system that nobody has mounted.

import {
  contractVersion,
  type ObjectStore,
  type ObjectTransport,
  TransportError,
  type TransportOptions,
} from 'vmstore/transport'
import { DirStore } from './dir-store.ts'

export class DirTransport implements ObjectTransport {
  readonly contractVersion = contractVersion
  readonly kind = 'object'
  readonly schemes = ['dir']

  async open(address: URL, options: TransportOptions): Promise<ObjectStore> {
    options.signal.throwIfAborted()
    return await DirStore.open(folderOf(address), options)
  }
}

/** @throws TransportError */
function folderOf(address: URL): string {
  const local = address.host === '' || address.host === 'localhost'
  let path: string | undefined
  try {
    path = decodeURIComponent(address.pathname)
  } catch {}
  if (
    address.protocol !== 'dir:' ||
    !local ||
    !path?.startsWith('/') ||
    path.includes('\0') ||
    address.search ||
    address.hash
  ) {
    throw new TransportError('missing', `${address.href} is no address like dir:///path/of/folder`)
  }
  return path
}
