// vmstore disk export: a disk's bytes, as a raw file.

import { join, resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { CopyProgress } from '../../cli/copy-progress.ts'
import { type ExportResult, exportDisk } from '../../cli/disk-export.ts'
import { UsageError } from '../../cli/errors.ts'
import { onInterrupt } from '../../cli/interrupt.ts'
import { formatSize } from '../../cli/sizes.ts'
import { ControlError } from '../../control/errors.ts'
import { ExitCode } from '../../control/types.ts'

export default class DiskExport extends BaseCommand {
  static override long = true
  static override summary = "write a disk's bytes into a raw file"
  static override description =
    `The file is sparse, is made by this command with the rights of its user, and is there when all of it is, durably.
A disk that is arriving is fetched as it is read. A disk with clients attached is refused, and a copy during which the
disk was written to fails, unless --force is given: such a copy is at best what a machine whose power failed leaves.
What exists is never replaced, be it a file or a device, and a name such as web01.qcow2 is refused: the bytes are raw.
Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 1 the copy failed and no file was made.`
  static override examples = [
    { description: 'A raw image of a disk at rest', command: '<%= config.bin %> disk export web01 web01.raw' },
  ]

  static override args = {
    name: Args.string({ description: 'name of the disk', required: true }),
    file: Args.string({ description: 'the file, which does not exist yet', required: true }),
  }
  static override flags = {
    force: Flags.boolean({ description: 'although clients are attached, or write meanwhile' }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskExport)
    if (args.file === '-') {
      const next = 'Into a pipe any export of the daemon is read by nbdcopy: nbdcopy URI -.'
      throw new UsageError('A disk is exported into a file, of which what is zero takes no room, not to stdout.', next)
    }
    if (args.file.endsWith('/')) {
      const named = join(args.file, `${args.name}.raw`)
      const next = `Name the file too: ${named}.`
      throw new UsageError(`A disk is exported into a file, and ${args.file} is the name of a folder.`, next)
    }
    const client = await this.connect(flags)
    const progress = CopyProgress.on(process.stderr, `Export ${args.name} to ${args.file}`)
    using interrupt = onInterrupt(interrupted(args.name))
    try {
      const result = await exportDisk({
        client,
        disk: args.name,
        file: resolve(args.file),
        force: flags.force,
        signal: interrupt.signal,
        progress: (bytes) => {
          this.event({ type: 'progress', bytes } as { type: string })
          if (!this.jsonEnabled()) progress.show(bytes)
        },
      })
      await progress.end()
      this.event({ type: 'result', ...result })
      this.log('%s', sentenceOf(result))
    } catch (error) {
      await progress.end(error)
      throw error
    }
    return undefined
  }
}

function sentenceOf({ disk, generation, file, bytes, consistent, likeness }: ExportResult): string {
  const back =
    likeness === null
      ? ''
      : ` Its guest wrote what looks like ${likeness}: take it back with vmstore disk create NAME --from ${file} --format raw.`
  const what = `${disk}, generation ${generation}, is in ${file}: ${formatSize(bytes.disk)}, ${formatSize(bytes.data)} of it data.${back}`
  return consistent ? what : `${what} Clients were attached meanwhile: it may be of no single instant.`
}

const interrupted = (disk: string): ControlError =>
  new ControlError({
    code: 'interrupted',
    exit: ExitCode.other,
    disk,
    message: `The export of ${disk} was interrupted.`,
    safe: 'The disk was not changed, and no file was made.',
  })
