// The course of the demo on the operator's screen: steps on a terminal, else plain lines. Shows, and decides nothing.
// Everything goes to stderr.

import { Listr, type ListrTaskWrapper } from 'listr2'
import { canDraw, loggerOn } from '../cli/terminal.ts'

export const demoSteps = {
  disk: 'Make a disk',
  sites: 'Start two sites',
  work: 'Work at the source',
  move: 'Move the disk under the client',
  stop: 'Stop the source for good',
  verify: 'Verify everything at the destination',
} as const
export type DemoStep = keyof typeof demoSteps

export interface Screen {
  /** The step begins; those before it are over. */
  step(step: DemoStep): void
  /** What the present step has to say for good. */
  tell(sentence: string): void
  /** How far the present step is; the next call replaces it. */
  progress(text: string): void
  end(ending: 'done' | 'failed'): Promise<void>
}

export const silentScreen: Screen = { step() {}, tell() {}, progress() {}, async end() {} }

export function screenFor(output: NodeJS.WriteStream): Screen {
  return canDraw(output) ? new StepsScreen(output) : new LinesScreen((line) => output.write(`${line}\n`))
}

/** A line for each step and sentence, and for the progress every other second. */
const lineEveryMs = 2000

export class LinesScreen implements Screen {
  readonly #write: (line: string) => void
  readonly #nowMs: () => number
  #toldMs = Number.NEGATIVE_INFINITY

  constructor(write: (line: string) => void, nowMs = () => performance.now()) {
    this.#write = write
    this.#nowMs = nowMs
  }

  step(step: DemoStep): void {
    this.#write(`${demoSteps[step]} …`)
    this.#toldMs = this.#nowMs()
  }

  tell(sentence: string): void {
    this.#write(`  ${sentence}`)
  }

  progress(text: string): void {
    if (this.#nowMs() - this.#toldMs < lineEveryMs) return
    this.#write(`  ${text}`)
    this.#toldMs = this.#nowMs()
  }

  async end(): Promise<void> {}
}

const names = Object.keys(demoSteps) as DemoStep[]

/** listr2's list; a task ends when the demo has reached a later step. */
export class StepsScreen implements Screen {
  readonly #over = names.map(() => Promise.withResolvers<'done' | 'failed'>())
  readonly #tasks: (ListrTaskWrapper<unknown, never, never> | undefined)[] = names.map(() => undefined)
  readonly #told: string[] = names.map(() => '')
  readonly #finished: Promise<unknown>
  #at = 0

  constructor(output: NodeJS.WriteStream) {
    const tasks = names.map((name, index) => ({
      title: demoSteps[name],
      task: async (_: unknown, task: unknown) => {
        this.#tasks[index] = task as never
        this.#label('')
        if ((await this.#over[index]!.promise) === 'failed') throw new Error(demoSteps[name])
      },
    }))
    const list = new Listr(tasks, {
      exitOnError: true,
      registerSignalListeners: false, // Ctrl-C is the command's: it stops the sites.
      renderer: 'default',
      rendererOptions: { logger: loggerOn(output), collapseErrors: true, showErrorMessage: false },
    })
    this.#finished = list.run().catch(() => {}) // The command prints what failed.
  }

  step(step: DemoStep): void {
    const at = names.indexOf(step)
    for (; this.#at < at; this.#at++) {
      this.#label('')
      this.#over[this.#at]!.resolve('done')
    }
  }

  tell(sentence: string): void {
    this.#told[this.#at] = sentence
    this.#label('')
  }

  progress(text: string): void {
    this.#label(text)
  }

  async end(ending: 'done' | 'failed'): Promise<void> {
    for (const over of this.#over) over.resolve(ending)
    await this.#finished
  }

  #label(progress: string): void {
    const task = this.#tasks[this.#at]
    if (task === undefined) return
    const said = progress === '' ? this.#told[this.#at]! : progress
    task.title = said === '' ? demoSteps[names[this.#at]!] : `${demoSteps[names[this.#at]!]}: ${said}`
  }
}
