// A client of QEMU's monitor (QMP): commands with their answers, and events. QEMU dials; we listen before it starts.

import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { Sightings } from '../program.ts'

const answerDeadlineSeconds = 120

interface Message {
  readonly QMP?: object
  readonly id?: number
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
  readonly event?: string
  // biome-ignore lint/suspicious/noExplicitAny: every event has fields of its own.
  readonly data?: any
}

/** A Unix socket at `path` that is dialled once, until disposed of. Resolves when it is there. */
export async function listenOnce(path: string, take: (socket: Socket) => void): Promise<Disposable> {
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    server.close()
    socket.on('error', () => {}) // Its end is what counts, and that of the program is waited for.
    take(socket)
  })
  server.listen(path)
  await once(server, 'listening')
  return { [Symbol.dispose]: () => void server.close() }
}

export class Qmp {
  readonly #messages = new Sightings<Message>()
  readonly #name: string
  #socket: Socket | undefined
  #lastId = 0

  constructor(name: string) {
    this.#name = name
  }

  take(socket: Socket): void {
    this.#socket = socket
    const lines = createInterface(socket)
    lines.on('line', (line) => this.#messages.add(JSON.parse(line)))
    lines.on('error', () => {}) // It repeats those of the socket.
  }

  end(reason: Error): void {
    this.#messages.end(reason)
  }

  /** Waits for the greeting, which comes when the devices are made, and begins. */
  async begin(deadlineSeconds: number): Promise<void> {
    await this.#messages.find(`greeting of the monitor of ${this.#name}`, deadlineSeconds, ({ QMP }) => QMP)
    await this.execute('qmp_capabilities')
  }

  /** Throws what QEMU says when it refuses. */
  async execute(command: string, commandArguments: object = {}): Promise<unknown> {
    const id = ++this.#lastId
    this.#socket!.write(`${JSON.stringify({ execute: command, arguments: commandArguments, id })}\n`)
    const isAnswer = (message: Message) => (message.id === id ? message : undefined)
    const answer = await this.#messages.find(`answer of ${this.#name} to ${command}`, answerDeadlineSeconds, isAnswer)
    if (answer.error) throw new Error(`${this.#name} refused ${command}: ${answer.error.desc}`)
    return answer.return
  }

  /** The first event of that name, past ones included, of which `isWanted` says so. */
  event(name: string, deadlineSeconds: number, isWanted: (data: Message['data']) => boolean = () => true) {
    const match = (message: Message) => (message.event === name && isWanted(message.data) ? message : undefined)
    return this.#messages.find(`event ${name} of ${this.#name}`, deadlineSeconds, match)
  }

  events(name: string): readonly Message[] {
    return this.#messages.seen.filter(({ event }) => event === name)
  }
}
