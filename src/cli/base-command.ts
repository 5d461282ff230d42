// What every command is: the global flags, one way out for results and one for errors.
// With --json nothing but JSON reaches stdout: one document, or, of a long command, events one a line.

import { format } from 'node:util'
import { Command, Flags, type Interfaces } from '@oclif/core'
import { ControlClient } from '../control/client.ts'
import { type ErrorView, ExitCode } from '../control/types.ts'
import { isSilentExit, printForPeople, viewOfAny } from './errors.ts'
import { type SiteWords, withSite } from './pasted.ts'
import { type Paths, resolvePaths } from './paths.ts'
import { jsonText, printable, printableLines } from './terminal.ts'

export abstract class BaseCommand extends Command {
  static override enableJsonFlag = true

  static override baseFlags = {
    control: Flags.string({
      description: "path of the daemon's control socket (default: control.sock in the root)",
      env: 'VMSTORE_CONTROL',
      helpGroup: 'GLOBAL',
      helpValue: 'PATH',
    }),
    root: Flags.string({
      description: "the site's folder (default: /var/lib/vmstore for root, else in the home folder)",
      env: 'VMSTORE_ROOT',
      helpGroup: 'GLOBAL',
      helpValue: 'DIR',
    }),
  } as Interfaces.FlagInput<{ control: string | undefined; root: string | undefined }>

  /** A long command tells events; its last is `result` or `error`. */
  static long = false

  #client: ControlClient | undefined
  /** How the operator said which site is meant: what is proposed has to say it too. */
  #site: SiteWords = {}

  protected paths(flags: { root?: string | undefined; control?: string | undefined }): Promise<Paths> {
    return resolvePaths(flags)
  }

  /** One client a command; it is closed when the command ends. */
  protected async connect(flags: { root?: string | undefined; control?: string | undefined }): Promise<ControlClient> {
    const isSaid = (word: string | undefined, variable: string) => (word === process.env[variable] ? undefined : word)
    this.#site = { root: isSaid(flags.root, 'VMSTORE_ROOT'), control: isSaid(flags.control, 'VMSTORE_CONTROL') }
    this.#client ??= new ControlClient((await this.paths(flags)).control)
    return this.#client
  }

  /** Of a long command, with --json: one line. */
  protected event(event: { readonly type: string }): void {
    if (this.jsonEnabled()) process.stdout.write(`${jsonText(event)}\n`)
  }

  /** A sentence about the course of things, for people: on stderr, with --json too. */
  protected tell(sentence: string): void {
    process.stderr.write(`${printable(this.pasted(sentence))}\n`)
  }

  /** Lines for people, on stdout. */
  override log(message = '', ...values: unknown[]): void {
    super.log('%s', printableLines(this.pasted(format(message, ...values))))
  }

  /** Commands that the text proposes, with the --root or --control of this one. */
  protected pasted(text: string): string {
    return withSite(
      text,
      this.config.commandIDs.map((id) => id.replaceAll(':', ' ')),
      this.#site,
    )
  }

  /** Returns `view` for --json to print, having shown `text` to people without it. */
  protected show<View>(view: View, text: string): View {
    this.log('%s', text)
    return view
  }

  protected override logJson(json: unknown): void {
    process.stdout.write(`${jsonText(json, 2)}\n`)
  }

  protected override async catch(error: unknown): Promise<void> {
    if (isSilentExit(error)) throw error
    const told = viewOfAny(error)
    const view = told.next === undefined ? told : { ...told, next: this.pasted(told.next) }
    process.exitCode = view.exit
    if (!this.jsonEnabled()) printForPeople(view, error)
    else if ((this.ctor as typeof BaseCommand).long)
      this.event({ type: 'error', error: view } as { type: string; error: ErrorView })
    else this.logJson({ error: view })
  }

  protected override async finally(): Promise<void> {
    await this.#client?.close()
    process.exitCode ??= ExitCode.done
  }
}
