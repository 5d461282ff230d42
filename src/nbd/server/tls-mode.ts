// Which clients a listener lets in the clear. Pure.

import type { NbdUri } from '../wire/uri.ts'

/** proto.md, "Server-side requirements": NOTLS, SELECTIVETLS in which no export demands TLS, FORCEDTLS. */
export type TlsMode = 'off' | 'on' | 'require'

/**
 * With credentials, TCP demands TLS, unless the operator allows plain TCP in so many words; a plain Unix socket, which no
 * network reaches and the mode of its file guards, offers it.
 */
export function tlsModeOf(uri: NbdUri, hasCredentials: boolean, plainIsAllowed: boolean): TlsMode {
  if (!hasCredentials) return 'off'
  if (uri.tls) return 'require'
  return uri.address.transport === 'unix' || plainIsAllowed ? 'on' : 'require'
}
