// vmstore deed verify

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { readDeed } from '../../cli/deed-file.ts'
import { deedTable, entryFacts, ownerText } from '../../cli/deed-text.ts'
import { isReleased, standingOf, standingsOf } from '../../deed/deed.ts'

export default class DeedVerify extends BaseCommand {
  static override summary = 'check a deed to the last signature, and say who owns the disk by it'
  static override description =
    `Takes what \`disk show NAME --deed --json\` prints, or the list of entries alone. Asks no daemon and needs no key: it can be
checked anywhere, by anybody. It says who owns as of its last entry; a site may have given the disk on since.
Exit code 1 when an entry is void, which is named.`
  static override examples = [
    '<%= config.bin %> deed verify web01.deed.json',
    '<%= config.bin %> disk show web01 --deed --json | <%= config.bin %> deed verify -',
  ]
  static override args = { file: Args.string({ description: 'a file, or - for stdin', required: true }) }

  async run(): Promise<unknown> {
    const { args } = await this.parse(DeedVerify)
    const { deed, names } = await readDeed(args.file)
    const { holder, generation, head } = standingOf(deed)
    const standings = standingsOf(deed)
    const entries = deed.map((entry, index) => {
      const { kind, at } = entry
      const { generation: reached, holder: heldBy, head: hash } = standings[index]!
      return { entry: index + 1, kind, generation: reached, at, ...entryFacts(entry), holder: heldBy, hash }
    })
    const { disk } = deed[0]!
    const view = { disk, generation, holder, released: isReleased(deed), head, entries }
    const count = deed.length === 1 ? '1 entry' : `${deed.length} entries`
    const whole = `The deed of disk ${disk} is whole: ${count}, and every signature is right.`
    return this.show(view, `${whole}\n${ownerText(deed, names)}\n\n${deedTable(deed, names)}`)
  }
}
