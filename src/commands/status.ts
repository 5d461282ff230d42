// vmstore status: the site at a glance, once or until Ctrl-C.

import { setTimeout as sleep } from 'node:timers/promises'
import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { isLoss } from '../cli/follow.ts'
import { Frames } from '../cli/frames.ts'
import { onInterrupt } from '../cli/interrupt.ts'
import { type Snapshot, statusText, watchText } from '../cli/status-text.ts'

const everyMs = 1000

import type { ControlClient } from '../control/client.ts'

export default class Status extends BaseCommand {
  static override summary = 'show this site: its addresses, disks, peers and migrations'
  static override description =
    `With --watch every second, what is wrong first: disks, clients with their rates, peers, and what is on its way; with --json
one document a line. Ctrl-C ends it (exit code 0).`
  static override examples = [
    '<%= config.bin %> status',
    '<%= config.bin %> status --watch',
    '<%= config.bin %> status --json',
  ]
  static override flags = { watch: Flags.boolean({ description: 'go on until Ctrl-C' }) }

  async run(): Promise<unknown> {
    const { flags } = await this.parse(Status)
    const client = await this.connect(flags)
    if (!flags.watch) {
      const status = await client.status()
      return this.show(status, statusText(status))
    }
    using interrupt = onInterrupt(new Error('the operator has seen enough'))
    using frames = new Frames(process.stdout)
    try {
      await this.#watch(client, frames, interrupt.signal)
    } catch (error) {
      if (!interrupt.signal.aborted) throw error
    }
    return undefined
  }

  /** A daemon that goes away once it was seen is waited for. @throws when `signal` aborts, or there is no daemon at first */
  async #watch(client: ControlClient, frames: Frames, signal: AbortSignal): Promise<never> {
    for (let before: Snapshot | undefined; ; await sleep(everyMs, undefined, { signal })) {
      try {
        const [status, sessions] = await Promise.all([client.status(signal), client.listSessions(signal)])
        const now = { status, sessions, atMs: Date.now() }
        this.event({ type: 'status', ...status, sessions } as { readonly type: string })
        if (!this.jsonEnabled()) frames.show(this.pasted(watchText(now, before)))
        before = now
      } catch (error) {
        if (signal.aborted || before === undefined || !isLoss(error)) throw error
        if (!this.jsonEnabled()) frames.show(`! ${(error as Error).message}\n\nLooking for the daemon …`)
      }
    }
  }

  /** Of --watch its events are all that is printed. */
  protected override logJson(json: unknown): void {
    if (json !== undefined) super.logJson(json)
  }
}
