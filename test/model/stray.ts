// A client that has no business there: opens a disk at either site at any time, reads, writes, and leaves as it likes. A
// mount at the destination while the machine works at the source; a second hypervisor; one that stays attached to the
// source after the fence. What it is refused, nobody may ever read.

import { Client, isRefused } from './client.ts'
import { oneOf, type Stage, sectors, strayRange } from './stage.ts'
import { SimProcess } from './world.ts'

/** One visit after the other, each to one of the disks. */
export async function roam(stage: Stage, isOver: () => boolean): Promise<void> {
  const { world, disks } = stage
  const process = new SimProcess('stray')
  const strays = disks.map((disk) => new Stray(stage, disk, 'stray'))
  while (!isOver()) {
    for (let wait = world.random.integer(80); wait > 0 && !isOver(); wait--) await world.event(process, 'stray waits')
    if (!isOver()) await oneOf(world.random, strays).visit()
  }
}

class Stray extends Client {
  async visit(): Promise<void> {
    const { world, a, b } = this.stage
    const { random } = world
    const site = random.pick([a, b])
    if (!site.up) return
    const open = await this.connect(site)
    if (!open) return
    for (let requests = 1 + random.integer(3); requests > 0; requests--) {
      for (let wait = random.integer(30); wait > 0; wait--) await world.event(this.process, 'stray waits')
      const kind = random.next()
      if (kind < 0.5) {
        const first = random.integer(sectors)
        await this.read(open, first, 1 + random.integer(Math.min(8, sectors - first)))
      } else if (kind < 0.8) await this.#write(open)
      else await this.flush(open)
      if (!open.isOpen) return
    }
    site.close(open, random.chance(0.5) ? 'disconnected' : 'broken')
  }

  async #write(open: Parameters<Client['write']>[0]): Promise<void> {
    const { random } = this.stage.world
    const first = strayRange.first + random.integer(strayRange.count)
    const count = 1 + random.integer(strayRange.first + strayRange.count - first)
    const answering = this.write(open, first, count, random.chance(0.2))
    if (open && random.chance(0.2)) {
      // Gone without waiting for the answer: a write that was held until then must not happen later.
      for (let wait = random.integer(20); wait > 0; wait--) await this.stage.world.event(this.process, 'stray waits')
      open.site.close(open, 'broken')
    }
    const answer = await answering
    if (answer.kind === 'good') this.stage.counts.strayWrites++
    else if (isRefused(answer)) this.stage.counts.strayRefusals++
  }
}
