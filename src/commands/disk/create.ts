// vmstore disk create: a new disk, empty, or with the bytes of an image or of an NBD server's export.

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { CopyProgress } from '../../cli/copy-progress.ts'
import { UsageError } from '../../cli/errors.ts'
import { explainUnseen, imageArgument } from '../../cli/image-argument.ts'
import { onInterrupt } from '../../cli/interrupt.ts'
import { formatSize, sizeFlag } from '../../cli/sizes.ts'
import { ControlError } from '../../control/errors.ts'
import { type CreateDiskRequest, type CreatedDiskView, ExitCode, imageFormats, titled } from '../../control/types.ts'

export default class DiskCreate extends BaseCommand {
  static override long = true
  static override summary = 'make a disk'
  static override description =
    `The disk is empty, or has the bytes of an image, or those that an NBD server exports; what is sparse stays sparse.
An image is raw, or of a format that QEMU reads (qcow2, VMDK, VHD, VHDX, VDI …): then qemu-img and qemu-nbd are used, and
must be installed. The format is told by the image's bytes; what its name says must agree, or --format says it: raw takes
the bytes as they are. All of the image's bytes become the disk's, or it is refused: one that is cut short, that names
another file (a backing file, a parent, extents), that is encrypted or damaged, an archive.
The daemon reads the file or connects to the server, with its own rights. The export must be at rest: what is written
to it meanwhile may or may not be in the disk. A server that goes away is waited for, for a minute.
The disk is there when all of it is, durably; Ctrl-C, and whatever else ends the command before, leaves nothing of it.
Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 1 the copy failed and nothing was left.`
  static override examples = [
    { description: 'An empty disk', command: '<%= config.bin %> disk create web01 --size 10G' },
    {
      description: 'A disk from an image, as large as what is in it',
      command: '<%= config.bin %> disk create web01 --from web01.qcow2',
    },
    {
      description: 'A copy of what an NBD server exports, with room to grow',
      command: '<%= config.bin %> disk create web01 --from nbd://10.0.0.5/web01 --size 20G',
    },
  ]

  static override args = { name: Args.string({ description: 'name of the disk', required: true }) }
  static override flags = {
    size: sizeFlag({ description: "size in bytes, with K, M, G or T; with --from: at least the image's" }),
    from: Flags.string({
      description: "image or block device at the daemon's host, or NBD URI",
      helpValue: 'FILE|URI',
    }),
    format: Flags.option({
      description: "the image's format (default: told by its bytes and its name)",
      options: imageFormats,
      dependsOn: ['from'],
    })(),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskCreate)
    const request = requestOf(args.name, flags)
    const client = await this.connect(flags)
    const progress = CopyProgress.on(process.stderr, `Copy ${flags.from} to ${args.name}`)
    using interrupt = onInterrupt(interrupted(args.name))
    try {
      for await (const event of client.createDisk(request, interrupt.signal)) {
        this.event(event)
        if (event.type === 'progress') {
          if (!this.jsonEnabled()) progress.show(event.bytes)
          continue
        }
        await progress.end()
        this.log('%s', sentenceOf(event, request))
        for (const note of event.notes ?? []) this.log('%s', note)
      }
    } catch (error) {
      await progress.end(error)
      throw explainUnseen(error, request.from)
    }
    return undefined
  }
}

function sentenceOf({ name, size, state, generation, format }: CreatedDiskView, { from }: CreateDiskRequest): string {
  const image = format ? ` from ${titled(format)}` : ''
  const what = from === undefined || from.startsWith('/') ? image : ' from an NBD export'
  return `${name} has been made${what}: ${formatSize(size)}, ${state}, generation ${generation}.`
}

const interrupted = (disk: string): ControlError =>
  new ControlError({
    code: 'interrupted',
    exit: ExitCode.other,
    disk,
    message: `Making ${disk} was interrupted.`,
    safe: 'No disk was made, and nothing of it is left.',
  })

interface Flagged {
  readonly size?: number | undefined
  readonly from?: string | undefined
  readonly format?: CreateDiskRequest['format'] | undefined
}

function requestOf(name: string, { size, from, format }: Flagged): CreateDiskRequest {
  if (size === undefined && from === undefined) {
    throw new UsageError(`Say how large ${name} is to be with --size, or name an image with --from.`)
  }
  return {
    name,
    ...(size !== undefined && { sizeBytes: size }),
    ...(from !== undefined && { from: imageArgument(from) }),
    ...(format !== undefined && { format }),
  }
}
