// The operator: starts a migration of all disks, now and then the same one twice, switches over by hand, and cancels at either side.
// In the end sees to it that a guest which waits for the operator's word gets it.

import assert from 'node:assert/strict'
import type { Terms } from '../../src/migration/terms.ts'
import { peerIdOf } from './keys.ts'
import type { SimSite } from './sim-site.ts'
import { oneOf, type Stage } from './stage.ts'
import { SimProcess } from './world.ts'

const never = () => new AbortController().signal

export class Operator {
  readonly #stage: Stage
  readonly #process = new SimProcess('operator')
  cancelled = false
  /** The site that is taken for lost; its disk is taken back. */
  lost: SimSite | undefined
  readonly #revive: (site: SimSite, dead: SimProcess) => unknown

  constructor(stage: Stage, revive: (site: SimSite, dead: SimProcess) => unknown) {
    this.#stage = stage
    this.#revive = revive
  }

  async work(): Promise<void> {
    const { random } = this.#stage.world
    const switchover = random.pick(['auto', 'auto', 'now', 'manual'] as const)
    const terms: Terms = {
      mode: 'post-copy',
      switchover,
      switchoverWaitMs: 10_000,
      maxRate: null,
      stallTimeoutMs: random.chance(0.2) ? 3000 : null,
      sourcePolicy: random.pick(['keep', 'keep', 'delete']),
      force: switchover === 'now' && random.chance(this.#stage.disks.length > 1 ? 0.8 : 0.5), // Else it is refused while the guest works, and asked again.
    }
    if (!(await this.#startMigration(terms))) return
    if (random.chance(0.15)) {
      for (let wait = random.integer(60); wait > 0; wait--)
        await this.#stage.world.event(this.#process, 'operator waits')
      await this.#cancel(random.chance(0.3) ? this.#stage.b : this.#stage.a)
    } else if (switchover === 'manual' || random.chance(0.2)) {
      await this.#switchOver()
    }
    const chance = random.next()
    if (chance < 0.2) await this.#pauseForAWhile()
    else if (chance < 0.3) await this.#verify()
    else if (chance > 0.9) await this.#endByForce()
    else if (chance < 0.4 && !this.#stage.hasStrays && !this.#stage.archive.isUsed) await this.#loseDestination()
  }

  async #verify(): Promise<void> {
    const { world, b, counts, disks } = this.#stage
    for (let wait = world.random.integer(100); wait > 0; wait--) await world.event(this.#process, 'operator waits')
    if (!b.up) return
    const { name } = oneOf(world.random, disks)
    const outcome = await this.#told(b, () => b.migrations!.commands.verify(name, never()))
    world.log(`operator: verify ${outcome ?? 'not answered'}`)
    if (outcome === 'done') counts.verifications++
  }

  /** Everything is at the destination, and the operator does not wait for the source to hear of it. */
  async #endByForce(): Promise<void> {
    const { world, a, b, counts, disks } = this.#stage
    for (let wait = world.random.integer(2000); wait > 0; wait--) {
      const course = b.up ? b.migrations!.courses()[0] : undefined
      if (course && disks.every(({ name }) => b.disk(name)?.state === 'owned')) {
        const outcome = await this.#told(b, () => b.migrations!.commands.cancel(course.id, true, never()))
        world.log(`operator: end by force ${outcome ?? 'not answered'}`)
        if (outcome === 'done') counts.endedByForce++
        return
      }
      if (a.database.disk.get(disks[0]!.id)?.state === 'released') return
      await world.event(this.#process, 'operator waits')
    }
  }

  /**
   * The destination burns down, and the operator takes the disks back at the source, where nobody is attached any more, by
   * the name of one of them. Then the destination is found to have survived.
   */
  async #loseDestination(): Promise<void> {
    const { world, a, b, disks } = this.#stage
    const { id, name } = oneOf(world.random, disks)
    for (let wait = world.random.integer(200); wait > 0; wait--) await world.event(this.#process, 'operator waits')
    const given = a.up ? a.disks!.get(id)?.record : undefined
    if (!b.up || given?.state !== 'departed') return
    const { process } = b
    this.lost = b
    b.kill()
    for (;;) {
      await world.event(this.#process, 'operator takes the disks back', { ready: () => a.up })
      // As the site says, not as its records do: a commit that was reported as failed may be durable, and is said again.
      if (a.disks!.get(id)?.state !== 'departed') break
      a.closeAll()
      const outcome = await this.#told(a, () => a.migrations!.commands.reclaim(name, true, never()))
      world.log(`operator: reclaim ${outcome ?? 'not answered'}`)
    }
    // Unless it was taken back: the destination had everything, and the source had heard so. Then that site is mended.
    if (a.disks!.get(id)!.record.generation === given.generation) this.lost = undefined
    for (let wait = world.random.integer(100); wait > 0; wait--) await world.event(this.#process, 'operator waits')
    void this.#revive(b, process) // It may die again while it starts, and is started again then.
  }

  /** Pauses at one side and resumes at one; either may fail, and the pause then lasts until the operator helps out. */
  async #pauseForAWhile(): Promise<void> {
    const { world, a, b } = this.#stage
    for (const paused of [true, false]) {
      for (let wait = world.random.integer(100); wait > 0; wait--) await world.event(this.#process, 'operator waits')
      const site = world.random.pick([a, b])
      const course = site.up ? site.migrations!.courses()[0] : undefined
      if (!course) continue
      const outcome = await this.#told(site, () => site.migrations!.commands.setPaused(course.id, paused, never()))
      world.log(`operator: ${paused ? 'pause' : 'resume'} at ${site.name} ${outcome ?? 'not answered'}`)
      if (paused && outcome === 'done') this.#stage.counts.pauses++
    }
  }

  /**
   * What waits for the operator's word gets it: a guest for a switchover (manual, or a session that broke), a paused copy.
   * Clients that work at the source are cut off, unless it is not forced.
   */
  nudge(force = true): void {
    const { b, disks } = this.#stage
    const course = b.up ? b.migrations!.courses()[0] : undefined
    if (!course) return
    if (b.disk(disks[0]!.name)?.state === 'incoming')
      void b.migrations!.commands.switchover(course.id, force, never()).catch(() => {})
    else if (course.record.paused) void b.migrations!.commands.setPaused(course.id, false, never()).catch(() => {})
  }

  /** Asks and waits for the answer, which may never come. undefined: none came. */
  async #told(site: SimSite, command: () => Promise<unknown>): Promise<string | undefined> {
    const { process } = site
    let outcome: string | undefined
    command().then(
      () => (outcome = 'done'),
      (error: unknown) => {
        if (error instanceof assert.AssertionError) this.#stage.fail(error)
        outcome = `refused: ${(error as Error).message}`
      },
    )
    await this.#stage.world.event(this.#process, 'operator hears', {
      ready: () => outcome !== undefined || !process.alive,
    })
    return outcome
  }

  async #cancel(site: SimSite): Promise<void> {
    const course = site.up ? site.migrations!.courses()[0] : undefined
    if (!course) return
    const outcome = await this.#told(site, () => site.migrations!.commands.cancel(course.id, false, never()))
    this.cancelled = outcome === 'done'
    this.#stage.world.log(`operator: cancel at ${site.name} ${outcome ?? 'not answered'}`)
  }

  /** Whether one began. */
  async #startMigration(terms: Terms): Promise<boolean> {
    const { world, a, b, disks } = this.#stage
    const names = disks.map(({ name }) => name)
    for (;;) {
      await world.event(this.#process, 'operator starts', { ready: () => a.up && b.up })
      if (a.database.disk.get(disks[0]!.id)?.state !== 'owned') return false
      const begin = () =>
        a.migrations!.beginnings.start(names, { id: peerIdOf(b.name), site: b.name, name: b.name }, terms, never())
      let begun = 0
      const command = async () => {
        await begin()
        if (++begun > 1) throw new Error(`${this.#stage.facts}: two migrations of the same disks began`)
      }
      const first = this.#told(a, command)
      if (world.random.chance(0.2)) {
        // The same command twice at once: one of them at most begins.
        command().catch((error: unknown) => begun > 1 && this.#stage.fail(error))
      }
      const outcome = await first
      world.log(`operator: migrate ${outcome ?? 'not answered'}`)
      if (outcome === 'done') return true
    }
  }

  async #switchOver(): Promise<void> {
    const { world, b, disks } = this.#stage
    const { id, name } = disks[0]!
    for (let tries = 0; tries < 200; tries++) {
      await world.event(this.#process, 'operator switches', { ready: () => b.up })
      if (b.disk(name)?.state !== 'incoming') {
        if (b.database.disk.get(id)?.state !== 'incoming') return
        continue
      }
      this.nudge(world.random.chance(0.7))
      return
    }
  }
}
