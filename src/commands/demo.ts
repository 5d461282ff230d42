// vmstore demo: the main job on this machine, with a proof at the end.

import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { refused, UsageError } from '../cli/errors.ts'
import { packageFolder } from '../cli/package-folder.ts'
import { formatSize, sizeFlag } from '../cli/sizes.ts'
import { provenText } from '../demo/report.ts'
import { runDemo } from '../demo/run.ts'
import { screenFor, silentScreen } from '../demo/screen.ts'

const sizeUnit = 2 ** 20
const sizeMin = 32 * sizeUnit
const sizeMax = 4096 * sizeUnit

export default class Demo extends BaseCommand {
  static override long = true
  static override summary = 'move a disk in use between two sites on this machine, and prove that nothing was lost'
  static override description =
    `Starts two sites, pairs them, and makes a disk with a file system in it. A client writes to the disk and checks what it
reads, without pause, while the disk moves from one site to the other; then the first site is stopped for good and every
byte is checked. Takes about 20 seconds and leaves nothing behind; if anything is wrong, the sites' folders are kept.`
  static override examples = ['<%= config.bin %> demo', '<%= config.bin %> demo --size 1G --json']
  static override flags = {
    via: Flags.option({
      description: 'on what way the bytes travel (dir and s3 come later)',
      options: ['tcp', 'dir', 's3'] as const,
      default: 'tcp',
    })(),
    size: sizeFlag({ description: 'size of the disk (default 256M)' }),
  }

  async run(): Promise<unknown> {
    const { flags } = await this.parse(Demo)
    const { via, size = 256 * sizeUnit } = flags
    if (via !== 'tcp') {
      throw refused('not-yet', `The demo over ${via} comes in a later version.`, { next: 'Use --via tcp.' })
    }
    if (size % sizeUnit !== 0 || size < sizeMin || size > sizeMax) {
      throw new UsageError(`The demo's disk has whole MiB, from ${formatSize(sizeMin)} to ${formatSize(sizeMax)}.`)
    }
    const result = await runDemo({
      sizeBytes: size,
      projectFolder: packageFolder,
      screen: this.jsonEnabled() ? silentScreen : screenFor(process.stderr),
      event: (event) => this.event(event),
    })
    this.event({ type: 'result', ...result })
    this.log('%s', provenText(result))
    return undefined
  }
}
