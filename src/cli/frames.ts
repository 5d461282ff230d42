// Text that takes the place of what was shown before: on a terminal a screen of its own, which is gone when it ends; elsewhere
// one text after the other.

import { printableLines } from './terminal.ts'

const ownScreen = '\x1b[?1049h\x1b[?25l'
const formerScreen = '\x1b[?25h\x1b[?1049l'
const home = '\x1b[H'
const clearLine = '\x1b[K'
const clearBelow = '\x1b[J'

export type FramesOutput = Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns' | 'rows'>

export class Frames implements Disposable {
  readonly #output: FramesOutput
  #isShown = false

  constructor(output: FramesOutput) {
    this.#output = output
  }

  /** What does not fit on the screen is cut off, at the right and below. */
  show(text: string): void {
    const { columns, rows, isTTY } = this.#output
    if (!isTTY) {
      this.#output.write(`${printableLines(text)}\n\n`)
      return
    }
    if (!this.#isShown) this.#output.write(ownScreen)
    this.#isShown = true
    const lines = printableLines(text).split('\n')
    const shown = lines.length > rows ? [...lines.slice(0, rows - 1), '…'] : lines
    this.#output.write(
      home + shown.map((line) => [...line].slice(0, columns).join('') + clearLine).join('\r\n') + clearBelow,
    )
  }

  [Symbol.dispose](): void {
    if (this.#isShown) this.#output.write(formerScreen)
  }
}
