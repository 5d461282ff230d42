// A server with TLS on a Unix socket, and the folder of its files, both gone after the test.

import { join } from 'node:path'
import type { NbdLimits } from '../../src/nbd/server/limits.ts'
import { TlsServer } from '../../src/nbd/server/tls-server.ts'
import { type FolderContent, layOut } from './certificates.ts'
import { serve, type TestServer, temporaryFolder } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

export interface SecureSite extends TestServer {
  readonly tls: TlsServer
  /** The server's folder. */
  readonly files: string
}

export interface SecureSiteOptions {
  readonly exports?: readonly MemoryExport[]
  readonly limits?: Partial<NbdLimits>
  readonly verifyPeer?: boolean
  readonly scheme?: 'nbd+unix' | 'nbds+unix'
}

export async function serveWithTls(content: FolderContent, options: SecureSiteOptions = {}): Promise<SecureSite> {
  const { exports = [new MemoryExport()], limits, verifyPeer = false, scheme = 'nbds+unix' } = options
  const place = temporaryFolder()
  const files = layOut(join(place.path, 'pki'), content)
  const tls = await TlsServer.open({ folder: files, verifyPeer })
  const site = await serve(exports, limits, { tls, scheme })
  return {
    ...site,
    tls,
    files,
    async [Symbol.asyncDispose]() {
      await site[Symbol.asyncDispose]()
      place[Symbol.dispose]()
    },
  }
}
