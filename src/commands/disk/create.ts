// vmstore disk create: a new disk, empty or with the bytes of a raw image.

import { resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { CopyProgress } from '../../cli/copy-progress.ts'
import { refused, UsageError } from '../../cli/errors.ts'
import { formatSize, sizeFlag } from '../../cli/sizes.ts'
import type { CreateDiskRequest } from '../../control/types.ts'

export default class DiskCreate extends BaseCommand {
  static override long = true
  static override summary = 'make a disk'
  static override description = `The disk is empty, or has the bytes of a raw image; what is sparse stays sparse.
Other formats become raw with \`qemu-img convert -O raw\`.`
  static override examples = [
    { description: 'An empty disk', command: '<%= config.bin %> disk create web01 --size 10G' },
    {
      description: 'A disk from a raw image, as large as the image',
      command: '<%= config.bin %> disk create web01 --from web01.raw',
    },
  ]

  static override args = { name: Args.string({ description: 'name of the disk', required: true }) }
  static override flags = {
    size: sizeFlag({ description: "size in bytes, with K, M, G or T; with --from: at least the image's" }),
    from: Flags.string({ description: "raw image at the daemon's host", helpValue: 'FILE' }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskCreate)
    const request = requestOf(args.name, flags)
    const client = await this.connect(flags)
    const progress = CopyProgress.on(process.stderr, `Copy ${flags.from} to ${args.name}`)
    try {
      for await (const event of client.createDisk(request)) {
        this.event(event)
        if (event.type === 'progress') {
          if (!this.jsonEnabled()) progress.show(event.bytes)
          continue
        }
        await progress.end()
        this.log(
          '%s',
          `${event.name} has been made: ${formatSize(event.size)}, ${event.state}, generation ${event.generation}.`,
        )
      }
    } catch (error) {
      await progress.end(error)
      throw error
    }
    return undefined
  }
}

function requestOf(name: string, flags: { size?: number | undefined; from?: string | undefined }): CreateDiskRequest {
  const { size, from } = flags
  if (size === undefined && from === undefined) {
    throw new UsageError(`Say how large ${name} is to be with --size, or name an image with --from.`)
  }
  if (from !== undefined && /^[a-z][a-z0-9+.-]*:\/\//i.test(from)) {
    const next = 'copy it to a raw file first, such as with `nbdcopy` or `qemu-img convert -O raw`'
    throw refused('not-yet', 'Making a disk from a URI comes in a later version.', { disk: name, next })
  }
  return { name, ...(size !== undefined && { sizeBytes: size }), ...(from !== undefined && { from: resolve(from) }) }
}
