// vmstore peer allow

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { UsageError } from '../../cli/errors.ts'
import { mayTakeText, peerText } from '../../cli/peer-text.ts'
import { sizeFlag } from '../../cli/sizes.ts'
import type { AllowRequest } from '../../control/types.ts'

const limitFlags = ['disks', 'bytes', 'sizes', 'requests', 'digests', 'junk'] as const

export default class PeerAllow extends BaseCommand {
  static override summary = 'say which disks a peer may take by migrate --from, and how much it may have here'
  static override description =
    `A peer gets no disk of this site on its own word. Moving one there with migrate --to needs nothing of this: it is said for that disk.
--take DISK lets the peer ask for that disk with migrate --from, now and later, until it is taken back with --revoke.
With --give its operator also says when a disk passes: migrate --from --switchover now, and migration switchover there, count like
the word of the operator here, from the next move of the disk on. Never from there: --force, and --source delete.`
  static override examples = [
    '<%= config.bin %> peer allow tokyo --take web01',
    "<%= config.bin %> peer allow tokyo --take '*' --give",
    '<%= config.bin %> peer allow tokyo --take web01 --revoke',
    '<%= config.bin %> peer allow tokyo --disks 20 --bytes 2T',
  ]
  static override args = { name: Args.string({ description: 'name of the peer', required: true }) }
  static override flags = {
    take: Flags.string({ description: "a disk of this site, by name or id; '*' for every disk", helpValue: 'DISK' }),
    give: Flags.boolean({
      description: "with --take: the peer's operator says when the disk passes",
      dependsOn: ['take'],
    }),
    revoke: Flags.boolean({
      description: 'with --take: it may no more; moves that have begun go on',
      dependsOn: ['take'],
      exclusive: ['give'],
    }),
    disks: Flags.integer({ description: 'most disks that it may place here (usual: 1000)', min: 0 }),
    bytes: sizeFlag({ description: 'most bytes that these may have here (usual: 1P)' }),
    sizes: sizeFlag({ description: 'most that their sizes may be together, holes included (usual: 16P)' }),
    requests: Flags.integer({ description: 'most requests of it at once (usual: 2048)', min: 1 }),
    digests: Flags.integer({ description: 'most of them that hash at once (usual: 16)', min: 1 }),
    junk: sizeFlag({ description: 'bytes an hour in broken connections, after which it is kept out (usual: 64M)' }),
    'usual-limits': Flags.boolean({ description: 'the usual limits again', exclusive: [...limitFlags] }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(PeerAllow)
    const limits = limitsOf(flags)
    if (flags.take === undefined && limits === undefined)
      throw new UsageError('Say what it may: --take DISK, or a limit, such as --disks 20.')
    const request: AllowRequest = {
      ...(flags.take !== undefined && { take: flags.take, give: flags.give === true, revoke: flags.revoke === true }),
      ...(limits !== undefined && { limits }),
    }
    const peer = await (await this.connect(flags)).allowPeer(args.name, request)
    const taken = `${peer.name} may take: ${mayTakeText(peer)}.`
    return this.show(peer, limits === undefined ? taken : peerText(peer))
  }
}

interface LimitFlags {
  readonly disks?: number | undefined
  readonly bytes?: number | undefined
  readonly sizes?: number | undefined
  readonly requests?: number | undefined
  readonly digests?: number | undefined
  readonly junk?: number | undefined
  readonly 'usual-limits'?: boolean | undefined
}

/** undefined: nothing was said of them. */
function limitsOf(flags: LimitFlags): AllowRequest['limits'] {
  if (flags['usual-limits'])
    return { disks: null, bytes: null, sizeBytes: null, calls: null, digests: null, junkBytes: null }
  const { disks, bytes, sizes: sizeBytes, requests: calls, digests, junk: junkBytes } = flags
  const said = Object.entries({ disks, bytes, sizeBytes, calls, digests, junkBytes }).filter(
    ([, value]) => value !== undefined,
  )
  return said.length === 0 ? undefined : Object.fromEntries(said)
}
