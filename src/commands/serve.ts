// vmstore serve: the daemon. Lives until SIGTERM or SIGINT; a second one is immediate. SIGHUP reads certificates again.

import { resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { transportSettings } from '../cli/config.ts'
import { UsageError } from '../cli/errors.ts'
import { textOfLog } from '../cli/log-text.ts'
import { ServiceManager, takeManagerWords } from '../cli/service-manager.ts'
import { timeFlag } from '../cli/sizes.ts'

const longestMs = 24 * 3_600_000

export default class Serve extends BaseCommand {
  static override summary = 'serve the disks of this site over NBD, to hypervisors and to peers'
  static override description =
    'With FILE, a raw image is served where it lies, with its state in FILE.vmstore beside it. When every listener is up, one line says so on stderr.'
  static override examples = [
    '<%= config.bin %> serve',
    '<%= config.bin %> serve --root /srv/vmstore --nbd nbd://127.0.0.1:10809 --peer tcp://192.0.2.1:10810',
    '<%= config.bin %> serve web01.raw',
  ]
  static override long = true
  static override strict = false
  static override args = { file: Args.string({ description: 'a raw image to serve where it lies', name: 'FILE...' }) }
  static override flags = {
    nbd: Flags.string({
      description:
        'an NBD URI to listen on; may be given again (default: the sockets that systemd passes, or nbd.sock in the root)',
      helpValue: 'URI',
      multiple: true,
    }),
    peer: Flags.string({
      description: 'where peers may dial this site, such as tcp://192.0.2.1:10810',
      helpValue: 'URL',
    }),
    'tls-certificates': Flags.string({
      description:
        'folder with server-cert.pem, server-key.pem and ca-cert.pem, or keys.psk: NBD over TCP demands TLS then',
      helpValue: 'DIR',
    }),
    'tls-verify-peer': Flags.boolean({
      description: 'over TLS, only clients with a certificate of ca-cert.pem',
      dependsOn: ['tls-certificates'],
    }),
    'after-power-loss': Flags.option({
      description:
        'what clients at other hosts get of a disk that may have lost writes of theirs with the power of this host: served, or refused until disk accept',
      options: ['serve', 'hold'] as const,
      default: 'serve',
    })(),
    'seed-folder': Flags.string({
      description:
        'a folder of raw images of which peers may have bytes used here (migrate --seed FILE); may be given again',
      helpValue: 'DIR',
      multiple: true,
    }),
    'seed-disk': Flags.string({
      description: 'a disk of which peers may have bytes used here (migrate --seed NAME); may be given again',
      helpValue: 'NAME',
      multiple: true,
    }),
    'read-only': Flags.boolean({ description: 'guests may read only' }),
    insecure: Flags.boolean({ description: 'let plain NBD listen beyond loopback, and beside TLS' }),
    sessions: Flags.integer({
      description: 'NBD clients that each address serves at once',
      helpValue: 'NUMBER',
      helpGroup: 'LIMITS',
      min: 1,
      max: 65_536,
      default: 256,
    }),
    newcomers: Flags.integer({
      description:
        'connections that each NBD or peer address negotiates with at once; when there are more, the oldest makes room',
      helpValue: 'NUMBER',
      helpGroup: 'LIMITS',
      min: 1,
      max: 65_536,
      default: 256,
    }),
    'newcomers-per-address': Flags.integer({
      description: 'of these, those that come from one address (IPv6: from one /64)',
      helpValue: 'NUMBER',
      helpGroup: 'LIMITS',
      min: 1,
      max: 65_536,
      default: 128,
    }),
    'first-byte-within': timeFlag({
      description: 'time for the first byte of a newcomer [default: 3s]',
      helpGroup: 'LIMITS',
    }),
    'negotiation-within': timeFlag({
      description: 'time for a negotiation or handshake as a whole [default: 10s]',
      helpGroup: 'LIMITS',
    }),
    'dead-host-after': timeFlag({
      description:
        'time after which a host that acknowledges nothing, or makes no room for what waits, is given up; 0s: as the system does [default: 2m]',
      helpGroup: 'LIMITS',
    }),
    'log-level': Flags.option({
      description: 'least level of the log on stderr',
      options: ['debug', 'info', 'warn', 'error'] as const,
      default: 'info',
    })(),
  }

  async run(): Promise<void> {
    const { flags, argv } = await this.parse(Serve)
    // Only this command needs the daemon's code.
    const { Daemon } = await import('../daemon/daemon.ts')
    const { openLog } = await import('../daemon/log.ts')
    const { takeSockets } = await import('../daemon/passed-sockets.ts')
    const files = argv as string[]
    const paths = await this.paths(flags)
    const beside = files[0] !== undefined && !flags.root
    const log = openLog(flags['log-level'], textOfLog(process.env, process.stderr.isTTY))
    const sockets = takeSockets(process.env, process.pid, log)
    const manager = new ServiceManager(takeManagerWords(process.env, process.pid), log)
    const { successes, failures } = await this.config.runHook('vmstore:transports', {})
    for (const { plugin, error } of failures)
      log.error({ plugin: plugin.name, err: error }, 'a transport plugin failed')
    const stopped = signalled()
    let reload = async () => {} // Until the start is over there is nothing old to replace.
    process.on('SIGHUP', () => void reload()) // From the first on, for by default it ends a process.
    const daemon = await Daemon.start({
      root: beside ? Daemon.folderBeside(files[0]!) : paths.root,
      files,
      nbd: flags.nbd ?? [],
      sockets,
      peer: flags.peer,
      control: flags.control,
      readOnly: flags['read-only'],
      seedFolders: (flags['seed-folder'] ?? []).map((folder) => resolve(folder)),
      seedDisks: flags['seed-disk'] ?? [],
      afterPowerLoss: flags['after-power-loss'],
      tls: flags['tls-certificates']
        ? { folder: resolve(flags['tls-certificates']), verifyPeer: flags['tls-verify-peer'] }
        : undefined,
      insecure: flags.insecure,
      limits: {
        sessions: flags.sessions,
        newcomers: flags.newcomers,
        newcomersPerAddress: flags['newcomers-per-address'],
        firstByteMs: timeWithin('--first-byte-within', flags['first-byte-within'] ?? 3000),
        negotiationMs: timeWithin('--negotiation-within', flags['negotiation-within'] ?? 10_000),
        deadHostMs:
          flags['dead-host-after'] === 0
            ? 0
            : timeWithin('--dead-host-after', flags['dead-host-after'] ?? 120_000, 1000),
      },
      version: this.config.version,
      drivers: successes.map(({ result }) => result),
      transportSettings: await transportSettings(),
      log,
    })
    const { nbd, peer, control } = daemon.view
    if (this.jsonEnabled()) this.event({ type: 'listening', nbd, peer, control } as { type: string })
    else this.tell(`listening: nbd ${nbd.join(' ')}${peer ? `, peers ${peer}` : ''}, control ${control}`)
    const status = `serving NBD on ${nbd.join(' ')}`
    void manager.ready(status)
    reload = () => manager.reloading(() => daemon.reload(), status)
    const signal = await stopped
    void manager.stopping('finishing the requests in flight')
    log.info({ signal }, 'stopping')
    await daemon.stop()
    // What may still wait (a drained request on a peer that is away) has nobody to answer to.
    process.exit(0)
  }
}

/** A timer, and the kernel, take no longer times than some days; and without any, nobody would get in. */
function timeWithin(flag: string, timeMs: number, leastMs = 1): number {
  if (timeMs >= leastMs && timeMs <= longestMs) return timeMs
  throw new UsageError(`${flag} takes a time from ${leastMs}ms to ${longestMs / 3_600_000}h.`)
}

/** Resolves at the first SIGTERM or SIGINT; the second ends the process at once. */
function signalled(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let count = 0
    const onSignal = (signal: NodeJS.Signals) => {
      count++
      if (count > 1) process.exit(0)
      resolve(signal)
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}
