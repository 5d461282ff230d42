// How two sites come to trust each other. One prints a token, the other is given it by an operator: it pins the inviter's key
// and carries a one-time secret. Both then prove that secret to each other over TLS, bound to that very session and to both
// keys, so that a proof is worth nothing anywhere else. The inviter spends the secret only once its record is durable.
//
//   joiner → {"type":"join", proof, name, siteId, address?}    proof = HMAC(secret, "join"   ‖ joiner ‖ inviter ‖ exporter)
//   inviter → {"type":"welcome", proof, name, address}         proof = HMAC(secret, "invite" ‖ joiner ‖ inviter ‖ exporter)
//   or      → {"type":"refused", message}

import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { z } from 'zod'
import { fingerprintPattern, type Identity, PeerError, siteIdOf, siteIdPattern } from './identity.ts'
import { LineStream } from './lines.ts'
import { pairProtocol, type SecuredStream, secureClient } from './secure.ts'

export const tokenPrefix = 'vmstore-'
export const maximumTokenCharacters = 4096
export const invitationLifeMs = 15 * 60 * 1000
export const maximumInvitations = 16
export const pairDeadlineMs = 10_000
const exporterLabel = 'EXPORTER-vmstore-pair'
/** One sentence for every secret that does not open: unknown, used, expired. */
const refusal = 'the invitation is not valid (any more): ask for a new one'

const hex32 = z.string().regex(fingerprintPattern)
const siteName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$/)
const addressText = z
  .string()
  .max(1024)
  .refine((text) => URL.canParse(text), 'no URL')

const tokenShape = z.object({
  v: z.literal(1),
  address: addressText,
  fingerprint: hex32,
  secret: hex32,
  /** Milliseconds since 1970. */
  expiresAt: z.number().int().min(0),
  name: siteName,
})
export type PairToken = z.infer<typeof tokenShape>

const joinMessage = z.object({
  type: z.literal('join'),
  invitation: hex32,
  proof: hex32,
  name: siteName,
  siteId: z.string().regex(siteIdPattern),
  address: addressText.optional(),
})
const answerMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('welcome'), proof: hex32, name: siteName, address: addressText }),
  z.object({ type: z.literal('refused'), message: z.string().max(1000) }),
])

/** What a site keeps of another. */
export interface PairedPeer {
  readonly fingerprint: string
  readonly siteId: string
  readonly name: string
  /** Where it can be dialled, if anywhere. */
  readonly address: string | undefined
}

export function encodeToken(token: PairToken): string {
  return tokenPrefix + Buffer.from(JSON.stringify(token)).toString('base64url')
}

/** Throws PeerError 'token-invalid'. Says nothing about whether the token is still good. */
export function decodeToken(text: string): PairToken {
  const trimmed = text.trim()
  const what = 'this is no token of `vmstore peer invite`'
  if (trimmed.length > maximumTokenCharacters) throw new PeerError('token-invalid', `${what}: it is too long`)
  if (!/^vmstore-[A-Za-z0-9_-]+$/.test(trimmed))
    throw new PeerError('token-invalid', `${what}: copy it whole, from vmstore-…`)
  try {
    return tokenShape.parse(JSON.parse(Buffer.from(trimmed.slice(tokenPrefix.length), 'base64url').toString('utf8')))
  } catch (error) {
    throw new PeerError('token-invalid', `${what}, or not all of it, or one of a newer vmstore`, { cause: error })
  }
}

interface Proofs {
  readonly invitation: string
  readonly join: Buffer
  readonly invite: Buffer
}

/** The inviter keeps a hash of the secret, which is thus the key of the proofs; the invitation is named by a hash of that. */
function keyOf(secret: string): Buffer {
  return createHash('sha256').update('vmstore-pair-key').update(Buffer.from(secret, 'hex')).digest()
}

function proofsOf(key: Buffer, joiner: string, inviter: string, exported: Buffer): Proofs {
  const proof = (word: string) =>
    createHmac('sha256', key).update(`${word}\0${joiner}\0${inviter}\0`).update(exported).digest()
  return { invitation: invitationOf(key), join: proof('join'), invite: proof('invite') }
}

function invitationOf(key: Buffer): string {
  return createHash('sha256').update('vmstore-pair-name').update(key).digest('hex')
}

export interface InviterOptions {
  readonly identity: Identity
  /** Makes the record of the peer durable. When it rejects with PeerError, the joiner hears its message. */
  admit(peer: PairedPeer, invitation: { readonly name: string | undefined }): Promise<void>
  /** Milliseconds since 1970. */
  now?(): number
}

interface Invitation {
  readonly key: Buffer
  readonly expiresAt: number
  /** Says what the joiner is told: this site's name and address. */
  readonly welcome: { readonly name: string; readonly address: string }
  /** What this site will call the one that joins; undefined: as it calls itself. */
  readonly peerName: string | undefined
  busy: boolean
}

export class Inviter {
  readonly #options: InviterOptions
  readonly #now: () => number
  readonly #invitations = new Map<string, Invitation>()

  constructor(options: InviterOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** `name` and `address`: this site's, for the joiner. Throws PeerError when too many invitations are open. */
  invite(options: { address: string; name: string; peerName?: string | undefined }): {
    token: string
    expiresAt: number
  } {
    this.#forgetExpired()
    if (this.#invitations.size >= maximumInvitations) {
      const minutes = invitationLifeMs / 60_000
      throw new PeerError(
        'invitations-full',
        `${maximumInvitations} invitations are open: each lasts ${minutes} minutes`,
      )
    }
    const { address, name, peerName } = options
    const { fingerprint } = this.#options.identity
    const secret = randomBytes(32).toString('hex')
    const key = keyOf(secret)
    const expiresAt = this.#now() + invitationLifeMs
    const token = tokenShape.safeParse({ v: 1, address, fingerprint, secret, expiresAt, name })
    if (!token.success) throw new PeerError('invitation-invalid', `${name} at ${address} cannot stand in an invitation`)
    this.#invitations.set(invitationOf(key), { key, expiresAt, welcome: { name, address }, peerName, busy: false })
    return { token: encodeToken(token.data), expiresAt }
  }

  /**
   * Serves one joiner and closes its stream; how many there are at once is bounded by whoever brings them. `known`: it has
   * proven an invitation. Rejects, for the log, with why nobody was admitted.
   */
  async serve(secured: SecuredStream, known = () => {}): Promise<PairedPeer> {
    const lines = new LineStream(secured.stream, pairDeadlineMs)
    try {
      return await this.#answer(lines, secured, known)
    } finally {
      lines.close()
    }
  }

  async #answer(lines: LineStream, secured: SecuredStream, known: () => void): Promise<PairedPeer> {
    const message = joinMessage.safeParse(await lines.read())
    if (!message.success) throw await refused(lines, refusal)
    const { invitation: id, proof, name, siteId, address } = message.data
    this.#forgetExpired()
    const invitation = this.#invitations.get(id)
    const exported = secured.exportKeyingMaterial(exporterLabel)
    // An invitation that is not there costs the same work and gets the same answer.
    const key = invitation?.key ?? randomBytes(32)
    const proofs = proofsOf(key, secured.fingerprint, this.#options.identity.fingerprint, exported)
    const proven = timingSafeEqual(proofs.join, Buffer.from(proof, 'hex'))
    if (!invitation || !proven || invitation.busy || siteId !== siteIdOf(secured.fingerprint)) {
      throw await refused(lines, refusal)
    }
    known()
    const peer: PairedPeer = { fingerprint: secured.fingerprint, siteId, name, address }
    // One at a time: two that prove the same secret at once are not both let in.
    invitation.busy = true
    try {
      await this.#options.admit(peer, { name: invitation.peerName })
      this.#invitations.delete(id)
    } catch (error) {
      throw await refused(
        lines,
        error instanceof PeerError ? error.message : 'the inviting site could not keep a record',
        error,
      )
    } finally {
      invitation.busy = false
    }
    await lines.write({ type: 'welcome', proof: proofs.invite.toString('hex'), ...invitation.welcome })
    return peer
  }

  #forgetExpired(): void {
    for (const [id, { expiresAt, busy }] of this.#invitations) {
      if (expiresAt <= this.#now() && !busy) this.#invitations.delete(id)
    }
  }
}

async function refused(lines: LineStream, message: string, cause?: unknown): Promise<PeerError> {
  await lines.write({ type: 'refused', message: message.slice(0, 1000) }).catch(() => {})
  return new PeerError('pairing-refused', message, { cause })
}

export interface JoinOptions {
  readonly token: PairToken
  readonly identity: Identity
  /** This site's, for the inviter. */
  readonly name: string
  readonly address?: string | undefined
  readonly signal: AbortSignal
  connect(address: URL, signal: AbortSignal): Promise<Duplex>
}

/**
 * Resolves with the inviter, which has admitted this site and proven the secret. Rejects with PeerError, `signal.reason`, or
 * what `connect` rejects with. After a broken connection the inviter may have admitted this site all the same.
 */
export async function join(options: JoinOptions): Promise<PairedPeer> {
  const { token, identity, name, address, signal, connect } = options
  if (token.fingerprint === identity.fingerprint) {
    throw new PeerError('pairing-refused', 'the invitation is of this very site: use it at the other one')
  }
  const raw = await connect(new URL(token.address), signal)
  const expectFingerprint = token.fingerprint
  const secured = await secureClient(raw, { identity, expectFingerprint, alpn: pairProtocol, signal })
  const lines = new LineStream(secured.stream, pairDeadlineMs, signal)
  try {
    const exported = secured.exportKeyingMaterial(exporterLabel)
    const proofs = proofsOf(keyOf(token.secret), identity.fingerprint, token.fingerprint, exported)
    const proof = proofs.join.toString('hex')
    const { siteId } = identity
    await lines.write({ type: 'join', invitation: proofs.invitation, proof, name, siteId, ...(address && { address }) })
    const answer = answerMessage.safeParse(await lines.read())
    if (!answer.success) throw new PeerError('pairing-failed', 'the inviting site gave an answer that is none')
    if (answer.data.type === 'refused') {
      throw new PeerError('pairing-refused', answer.data.message.replace(/\p{Cc}/gu, ' '))
    }
    if (!timingSafeEqual(proofs.invite, Buffer.from(answer.data.proof, 'hex'))) {
      throw new PeerError('pairing-failed', 'the inviting site did not prove that it knows the invitation')
    }
    const { name: peerName, address: peerAddress } = answer.data
    return { fingerprint: token.fingerprint, siteId: siteIdOf(token.fingerprint), name: peerName, address: peerAddress }
  } finally {
    lines.close()
  }
}
