// The course of a migration on the operator's screen: as a list of steps on a terminal, else as plain lines.
// Shows, and decides nothing. Everything goes to stderr.

import { Listr, type ListrTaskWrapper } from 'listr2'
import type { ToldMigrationEvent } from '../control/client.ts'
import type { MigrationState, MigrationView } from '../control/types.ts'
import { pictureLines, speaksUnicode } from './disk-picture.ts'
import { aheadOf, generationsOf, percent, progressLines, progressOf } from './migration-text.ts'
import { formatSeconds } from './sizes.ts'
import { asSentence, type Standing, standingOf } from './standing-text.ts'
import { canDraw, loggerOn, printable } from './terminal.ts'

export type Ending = 'done' | 'failed' | 'detached'

export interface Display {
  show(event: ToldMigrationEvent): void
  /** A sentence beside the course, such as a lost connection. */
  tell(sentence: string): void
  end(ending: Ending): Promise<void>
}

/** `keys`: what the operator may press, in a line below the picture. */
export function displayFor(output: NodeJS.WriteStream, keys = ''): Display {
  return canDraw(output) ? new StepsDisplay(output, keys) : new LinesDisplay((line) => output.write(`${line}\n`))
}

export const silentDisplay = (tell: (sentence: string) => void): Display => ({
  show() {},
  tell,
  async end() {},
})

/** One line for each thing that happens, for what stands in the way, and for each tenth of the copy. */
export class LinesDisplay implements Display {
  readonly #write: (line: string) => void
  #tenth = 0
  #last = ''
  #standing: readonly Standing[] = []
  /** Refused writes that were told of. */
  #refusedTold = 0

  constructor(write: (line: string) => void) {
    this.#write = write
  }

  show(event: ToldMigrationEvent): void {
    if (event.type === 'step' || event.type === 'ready') this.tell(event.message)
    if (event.type === 'switchover') this.tell(`Switchover: ${switchoverText(event)}`)
    if (event.type !== 'result') this.#showStanding(event.migration)
    if (event.type !== 'progress') return
    const { bytes } = event.migration
    const tenth = Math.floor(percent(bytes.disk - bytes.missing, bytes.disk) / 10)
    if (tenth > this.#tenth && event.migration.state !== 'ready') {
      this.tell(progressOf(event.migration))
      for (const line of progressLines(event.migration)) this.tell(`  ${line}`)
    }
    this.#tenth = Math.max(tenth, this.#tenth)
  }

  /** What is new of it. A count that grows is told when it has doubled. */
  #showStanding(view: MigrationView): void {
    const before = this.#standing
    this.#standing = standingOf(view)
    const wasDown = before.some(({ kind }) => kind === 'link')
    if (wasDown && view.link.state === 'up') this.tell(`The link to ${view.peer} is up again.`)
    for (const { kind, text } of this.#standing) {
      if (before.some((each) => each.text === text)) continue
      const count = kind === 'refused' ? (view.refusedWrites?.count ?? 0) : undefined
      if (count !== undefined && count < Math.max(1, 2 * this.#refusedTold)) continue
      this.#refusedTold = count ?? this.#refusedTold
      this.tell(text)
    }
  }

  /** The same sentence twice in a row says nothing new: after a lost connection the present step is told again. */
  tell(sentence: string): void {
    if (sentence !== this.#last) this.#write(printable(sentence))
    this.#last = sentence
  }

  async end(): Promise<void> {}
}

const switchoverText = (event: { generation: number; seconds: number; migration: MigrationView }): string =>
  `the destination owns ${event.migration.disk} now, as generation ${generationsOf(event.migration)} (${formatSeconds(event.seconds)}).`

const isBefore = ({ state }: MigrationView): boolean => state === 'pre-copying' || state === 'ready'

/** What is left of that step when a later one has come. */
const aheadOfSwitchover = ({ mode, seconds }: MigrationView): string =>
  mode === 'post-copy' || seconds.precopy === 0
    ? 'nothing: it is fetched after switchover'
    : formatSeconds(seconds.precopy)

/** Every block has come, and the destination is not done: the source is not told more than that. */
const comparing = ({ bytes }: MigrationView): string =>
  bytes.missing === 0 ? 'every block is being compared with the source' : ''

/** Below the step that copies: a picture or a line for each of a few disks, and what they mean. A move may have 64. */
const shownLines = 9
/** What the list puts before a line. */
const indentColumns = 6

const steps = ['Check and prepare', 'Copy ahead', 'Ready', 'Switchover', 'Copy', 'Finish'] as const
const stepOf: Readonly<Record<MigrationState, number>> = {
  preparing: 0,
  'pre-copying': 1,
  ready: 2,
  switching: 3,
  copying: 4,
  finishing: 5,
  done: 6,
  cancelled: 0, // It stays where it was; the command says what happened.
  failed: 0,
}

/** What each step says. What stood in the way of one is gone from it when the next begins. Pure. */
export class StepTexts {
  readonly texts: string[] = steps.map(() => '')
  /** Below the step that copies: pictures of the disks, or, where there are none, a line for each of several. */
  lines: readonly string[] = []
  readonly #picture: (view: MigrationView) => readonly string[]
  /** What was last told of each step. */
  readonly #messages: string[] = steps.map(() => '')
  #at = 0

  constructor(picture: (view: MigrationView) => readonly string[] = () => []) {
    this.#picture = picture
  }

  /** The step that the migration has come to; after the last one, their number. */
  get at(): number {
    return this.#at
  }

  show(event: ToldMigrationEvent): void {
    const view = event.type === 'result' ? event : event.migration
    const isSwitched = event.type === 'switchover' // The record of the migration may say so a moment later.
    if (isSwitched) this.texts[stepOf.switching] = this.#messages[stepOf.switching] = switchoverText(event)
    this.#advance(isSwitched ? stepOf.copying : stepOf[view.state])
    const at = this.#present
    const picture = this.#picture(view)
    this.lines = [...(view.disks.length > 1 || picture.length === 0 ? progressLines(view) : []), ...picture]
    if (event.type === 'step' || event.type === 'ready') this.#messages[at] = event.message
    if (stepOf[view.state] > stepOf.copying) this.texts[stepOf.copying] = progressOf(view)
    if (stepOf[view.state] > stepOf['pre-copying']) this.texts[stepOf['pre-copying']] = aheadOfSwitchover(view)
    if (event.type === 'result') return
    // How far it is, what is done now, and all that stands in its way: none of it hides another.
    const isCopying = at === stepOf.copying
    const message = isCopying ? comparing(view) : at === stepOf['pre-copying'] ? '' : this.#messages[at]!
    const standing = standingOf(view).map(({ text }) => text)
    const figures = isCopying ? progressOf(view) : isBefore(view) ? (aheadOf(view) ?? '') : ''
    const course = [figures, message].filter((part) => part !== '').join('; ')
    this.texts[at] = standing.length === 0 ? course : [asSentence(course), ...standing].join(' ').trim()
  }

  tell(sentence: string): void {
    this.texts[this.#present] = sentence
  }

  get #present(): number {
    return Math.min(this.#at, steps.length - 1)
  }

  #advance(at: number): void {
    for (let step = this.#at; step < at && step < steps.length; step += 1) this.texts[step] = this.#messages[step]!
    this.#at = Math.max(this.#at, at)
  }
}

/** listr2's list; a task ends when the migration has reached a later step. */
export class StepsDisplay implements Display {
  readonly #over = steps.map(() => Promise.withResolvers<Ending>())
  readonly #course: StepTexts
  readonly #keys: string
  #ending: Ending | undefined
  readonly #tasks: (ListrTaskWrapper<unknown, never, never> | undefined)[] = steps.map(() => undefined)
  readonly #finished: Promise<unknown>

  constructor(output: NodeJS.WriteStream, keys = '') {
    const isUnicode = speaksUnicode(process.env)
    this.#course = new StepTexts((view) => pictureLines(view, { width: output.columns - indentColumns, isUnicode }))
    this.#keys = keys
    const tasks = steps.map((title, step) => ({
      title,
      task: (_: unknown, task: unknown) => this.#run(step, task as never),
    }))
    const list = new Listr(tasks, {
      exitOnError: true,
      registerSignalListeners: false, // Ctrl-C is the command's: it detaches.
      renderer: 'default',
      rendererOptions: {
        logger: loggerOn(output),
        collapseErrors: true,
        showErrorMessage: false,
      },
    })
    this.#finished = list.run().catch(() => {}) // The command prints what failed.
  }

  show(event: ToldMigrationEvent): void {
    this.#course.show(event)
    for (const over of this.#over.slice(0, this.#course.at)) over.resolve('done')
    this.#draw()
  }

  tell(sentence: string): void {
    this.#course.tell(sentence)
    this.#draw()
  }

  async end(ending: Ending): Promise<void> {
    this.#ending = ending
    this.#draw()
    for (const over of this.#over) over.resolve(ending)
    await this.#finished
  }

  async #run(step: number, task: ListrTaskWrapper<unknown, never, never>): Promise<void> {
    this.#tasks[step] = task
    this.#label(step)
    const ending = await this.#over[step]!.promise
    if (ending === 'detached') task.skip(`${task.title} (not awaited)`)
    if (ending === 'failed') throw new Error(task.title)
  }

  #draw(): void {
    for (const step of steps.keys()) this.#label(step)
  }

  #label(step: number): void {
    const text = this.#course.texts[step]!
    const task = this.#tasks[step]
    if (task === undefined) return
    const title = text === '' ? steps[step]! : `${steps[step]}: ${text}`
    task.title = [title, ...this.#below(step)].map(printable).join('\n')
  }

  /** What stands below the step that copies. */
  #below(step: number): readonly string[] {
    const { lines, at } = this.#course
    const isPictured = step === stepOf.copying || step === stepOf['pre-copying'] || step === stepOf.ready
    if (!isPictured || step !== at || this.#ending !== undefined) return []
    return [...lines.slice(0, shownLines), ...(this.#keys === '' ? [] : [this.#keys])]
  }
}
