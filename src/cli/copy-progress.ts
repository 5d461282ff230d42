// The progress of one copy that a command waits for: listr2 on a terminal, else a line for each tenth. On stderr.
// Nothing is shown of a copy that is over before it has told of itself.

import { Listr, type ListrTaskWrapper } from 'listr2'
import { CopyRate } from './copy-rate.ts'
import { percent, progressText } from './migration-text.ts'
import { canDraw, loggerOn, printable } from './terminal.ts'

export class CopyProgress {
  readonly #output: NodeJS.WriteStream
  readonly #title: string
  readonly #over = Promise.withResolvers<void>()
  readonly #rate = new CopyRate()
  #list: Promise<unknown> | undefined
  #task: ListrTaskWrapper<unknown, never, never> | undefined
  #tenth = -1

  static on(output: NodeJS.WriteStream, title: string): CopyProgress {
    return new CopyProgress(output, printable(title))
  }

  private constructor(output: NodeJS.WriteStream, title: string) {
    this.#output = output
    this.#title = title
    this.#over.promise.catch(() => {}) // It may fail before anything was shown.
  }

  show({ done, total }: { readonly done: number; readonly total: number }): void {
    const text = progressText({ done, total, ...this.#rate.at(performance.now(), done, total) })
    if (canDraw(this.#output)) this.#showTask(text)
    else this.#showTenth(percent(done, total), text)
  }

  /** Resolves when the screen is at rest. */
  async end(error?: unknown): Promise<void> {
    if (error === undefined) this.#over.resolve()
    else this.#over.reject(error)
    await this.#list
  }

  #showTask(text: string): void {
    this.#list ??= new Listr(
      [
        {
          title: this.#title,
          task: (_: unknown, task: unknown) => {
            this.#task = task as never
            return this.#over.promise
          },
        },
      ],
      {
        registerSignalListeners: false,
        renderer: 'default',
        rendererOptions: { logger: loggerOn(this.#output), showErrorMessage: false },
      },
    )
      .run()
      .catch(() => {}) // The command prints what failed.
    if (this.#task !== undefined) this.#task.title = `${this.#title}: ${text}`
  }

  #showTenth(percentDone: number, text: string): void {
    const tenth = Math.floor(percentDone / 10)
    if (tenth > this.#tenth) this.#output.write(`${this.#title}: ${text}\n`)
    this.#tenth = Math.max(tenth, this.#tenth)
  }
}
