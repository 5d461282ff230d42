// A counterpart that is no link: what a site asks is answered at the other's desk, object for object, with no messages in
// between. It loses, delays and repeats as the link does (sim-link.ts).

import type { Counterpart, DestinationDesk, SiteDesk, SourceDesk } from '../../src/migration/counterpart.ts'
import type { SimLink, Way } from './sim-link.ts'

export function direct(link: SimLink, way: Way, toPeerId: string): Counterpart {
  /** `what`: as the link would call it, so that a test may name it. */
  const ask = <Answer>(what: string, signal: AbortSignal, answer: (desk: SiteDesk) => Promise<Answer>) =>
    link.exchange(way, what, async (end) => answer(end.desk(way.fromPeerId)), signal)
  return {
    peerId: toPeerId,
    generations: (claims, signal) => ask('generations', signal, (desk) => desk.generations(claims, signal)),
    deed: (disk, head, signal) =>
      ask('deed', signal, async (desk) => structuredClone(await desk.deed(disk, head, signal))),
    request: (disks, terms, signal) => ask('request', signal, (desk) => desk.request(disks, terms, signal)),
    estimate: (disks, terms, signal) => ask('estimate', signal, (desk) => desk.estimate(disks, terms, signal)),
    prepare: (preparation, signal) => ask('prepare', signal, (desk) => desk.prepare(preparation, signal)),
    standing: (migration, signal) => ask('standing', signal, (desk) => desk.standing(migration, signal)),
    source: (migration): SourceDesk => {
      const at = <Answer>(what: string, signal: AbortSignal, answer: (source: SourceDesk) => Promise<Answer>) =>
        ask(what, signal, (desk) => answer(desk.source(migration)))
      return {
        inquire: (signal) => at('inquire', signal, (source) => source.inquire(signal)),
        acquire: (asked, signal) => at('acquire', signal, (source) => source.acquire(asked, signal)),
        track: (disk, copied, signal) => at('track', signal, (source) => source.track(disk, copied, signal)),
        collect: (asked, signal) => at('collect', signal, (source) => source.collect(asked, signal)),
        flush: (disk, signal) => at('flush', signal, (source) => source.flush(disk, signal)),
        taken: (said, signal) => at('taken', signal, (source) => source.taken(said, signal)),
        extents: (disk, run, signal) => at('extents', signal, (source) => source.extents(disk, run, signal)),
        digests: (disk, runs, signal, stepBytes) =>
          at('digests', signal, (source) => source.digests(disk, runs, signal, stepBytes)),
        blocks: (disk, runs, options) =>
          link.stream(way, { ...disk, runs }, options.signal, (end) =>
            end.desk(way.fromPeerId).source(migration).blocks(disk, runs, options),
          ),
        progress: (said, signal) => at('progress', signal, (source) => source.progress(said, signal)),
        guests: (said, signal) => at('guests', signal, (source) => source.guests(said, signal)),
        paused: (isPaused, signal) => at('paused', signal, (source) => source.paused(isPaused, signal)),
        complete: (said, signal) => at('complete', signal, (source) => source.complete(said, signal)),
        cancel: (signal) => at('cancel', signal, (source) => source.cancel(signal)),
      }
    },
    destination: (migration): DestinationDesk => {
      const at = (what: string, signal: AbortSignal, tell: (there: DestinationDesk) => Promise<void>) =>
        ask(what, signal, (desk) => tell(desk.destination(migration)))
      return {
        cancelled: (signal) => at('cancelled', signal, (there) => there.cancelled(signal)),
        switchover: (force, signal) => at('switchover', signal, (there) => there.switchover(force, signal)),
        setMaxRate: (maxRate, signal) => at('max-rate', signal, (there) => there.setMaxRate(maxRate, signal)),
        pause: (isPaused, signal) => at('pause', signal, (there) => there.pause(isPaused, signal)),
        writersGone: (signal) => at('writers-gone', signal, (there) => there.writersGone(signal)),
      }
    },
  }
}
