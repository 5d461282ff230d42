// Known bugs, each as an edit of one place in the source: what stands there, and what a careless author would have written.
// docs/safety.md lists them with the seeds that find them (npm run plants -- --record renews its table).

export interface Plant {
  /** As docs/safety.md lists it. */
  readonly name: string
  readonly file: string
  readonly was: string
  readonly becomes: string
}

export const plants: readonly Plant[] = [
  {
    name: 'a bit before its bytes',
    file: 'src/disk/arrival/landing.ts',
    was: 'for (const part of claim.parts) {',
    becomes: 'claim.done()\nfor (const part of claim.parts) {',
  },
  {
    name: 'a landing over a guest write in flight',
    file: 'src/disk/arrival/holds.ts',
    was: 'of [...this.#writes, ...this.#claims]) {',
    becomes: 'of [...this.#claims]) {',
  },
  {
    name: 'a guest write that does not wait for a claim',
    file: 'src/disk/io/arriving.ts',
    was: 'if (!claimed) break',
    becomes: 'break',
  },
  {
    name: 'a landing over sectors that the guest wrote',
    file: 'src/disk/arrival/arrival.ts',
    was: 'if (((mask >> sector) & 1) === 0) continue',
    becomes: 'if (mask >= 0) continue',
  },
  {
    name: 'a write within a sector of which the rest is not fetched',
    file: 'src/disk/io/arriving.ts',
    was: 'if (offset % sectorBytes !== 0) await this.#ensureBlockAt(offset)',
    becomes:
      'if (offset % sectorBytes !== 0 && !this.#arrival.claimOver(span)) return this.#writeClaimless(span, offset, lengthBytes, write)',
  },
  {
    name: 'a missing block called a hole',
    file: 'src/disk/io/arriving.ts',
    was: 'if (!run) return fileAllocation(this.#file, offset, knownBytes, limit)',
    becomes: 'return fileAllocation(this.#file, offset, lengthBytes, limit)',
  },
  {
    name: 'an uncommitted log believed after a power loss',
    file: 'src/store/map-log-replay.ts',
    was: 'const believed = sameBoot ? intact : covered',
    becomes: 'const believed = intact',
  },
  {
    name: 'only the committed log believed after a mere kill',
    file: 'src/store/map-log-replay.ts',
    was: 'const believed = sameBoot ? intact : covered',
    becomes: 'const believed = covered',
  },
  {
    name: "the log's position taken after the sync",
    file: 'src/disk/disk-files.ts',
    was: 'await log?.commit(position)',
    becomes: 'await log?.commit(log.position + 0 * position)',
  },
  {
    name: 'a flush without the map',
    file: 'src/disk/disk-files.ts',
    was: 'await log?.commit(position)',
    becomes: 'void position',
  },
  {
    name: 'a flush without the data',
    file: 'src/disk/disk-files.ts',
    was: 'await this.#file.sync()\n',
    becomes: '\n',
  },
  {
    name: 'a flush at an incoming disk that asks nobody',
    file: 'src/disk/io/incoming.ts',
    was: 'await this.#part.flushSource(signal)\n',
    becomes: '\n',
  },
  {
    name: 'an answer before the mark of unflushed writes',
    file: 'src/disk/sync/unsynced.ts',
    was: 'return this.#setting\n',
    becomes: 'return Promise.resolve(true)\n',
  },
  {
    name: 'a mark of unflushed writes taken off by any sync',
    file: 'src/disk/sync/unsynced.ts',
    was: 'if (writesInFlight === 0) this.#syncedWrites = writes',
    becomes: 'this.#syncedWrites = this.#parts.sessions.writes + 0 * (writes + writesInFlight)',
  },
  {
    name: 'a disk that arrives without the mark of unflushed writes',
    file: 'src/disk/arriving.ts',
    was: 'unsynced: unsynced.atArrival }),\n      committed: () => unsynced.adopt(),',
    becomes: 'unsynced: null }),\n      committed: () => {\n        unsynced.isSet = true\n      },',
  },
  {
    name: 'a freeze without a sync',
    file: 'src/migration/source/grant.ts',
    was: 'const failed = await this.#flush(disks)\n',
    becomes: 'const failed = undefined as AcquireAnswer | undefined\n',
  },
  {
    name: 'no freeze',
    file: 'src/migration/source/grant.ts',
    was: 'await Promise.all(disks.map(({ gate }) => gate.freeze()))\n      this.#frozen = disks',
    becomes: 'this.#frozen = []',
  },
  {
    name: 'a grant before departed is durable',
    file: 'src/migration/source/grant.ts',
    was: 'const isRecorded = await this.#commitDeparted(startedMs)',
    becomes: 'void this.#commitDeparted(startedMs).catch(() => {})\nconst isRecorded = true',
  },
  {
    name: 'a reply of the old generation kept',
    file: 'src/disk/io/incoming.ts',
    was: 'if (this.#current() !== this) return this.#current().read(offset, target, signal)',
    becomes: 'if (this.#current() !== this) return',
  },
  {
    name: 'the right to read looked at once a fetch, not once a piece',
    file: 'src/migration/source/source-reads.ts',
    was: 'for await (const piece of disk.departing.pieces(runs, () => clock.turn(urgency, this.#peerId), signal)) {\n        // Looked at for every piece: what was read under a right that has ended does not leave.\n        this.#checkRight(asked)',
    becomes:
      'this.#checkRight(asked)\n      for await (const piece of disk.departing.pieces(runs, () => clock.turn(urgency, this.#peerId), signal)) {',
  },
  {
    name: 'what has landed not counted',
    file: 'src/disk/arrival/landing.ts',
    was: 'this.#disk.landed({',
    becomes: 'if (claim.parts.length > 1) this.#disk.landed({',
  },
  {
    name: 'a snapshot of the maps without a sync',
    file: 'src/store/map-log.ts',
    was: 'await settle(uncommitted.runs(0, uncommitted.blocks, true))',
    becomes: 'void settle',
  },
  {
    name: 'bytes that a failed sync dropped taken for durable after a restart',
    file: 'src/disk/disk-files.ts',
    was: 'await rewrite(file, offset',
    becomes: 'void (file, offset',
  },
  {
    name: 'a failed sync that the next start does not know of',
    file: 'src/disk/sync/failed-sync.ts',
    was: "state === 'owned' && failedSync ?",
    becomes: 'failedSync && state !== state ?',
  },
  {
    name: 'what a failed sync left, accepted without being written anew',
    file: 'src/disk/sync/disk-syncs.ts',
    was: 'await rewrite(file, 0',
    becomes: 'void (file, 0',
  },
  {
    name: 'a failed sync that is tried again',
    file: 'src/disk/sync/sync-group.ts',
    was: 'this.#failure = error',
    becomes: '',
  },
  {
    name: 'after a failed sync, only what no commit covers written anew',
    file: 'src/disk/disk-files.ts',
    was: 'failedSync ? everything : uncommitted',
    becomes: 'uncommitted',
  },
  {
    name: 'one disk of a group taken without the others',
    file: 'src/migration/destination/switchover.ts',
    was: 'for (const { coming, powerLoss, deed, final } of taken)',
    becomes: 'for (const { coming, powerLoss, deed, final } of taken.slice(0, 1))',
  },
  {
    name: 'a release before everything is there',
    file: 'src/migration/destination/phases/arriving.ts',
    was: 'const isWhole = await copy.run(othersWait)\n',
    becomes:
      'const all = { ...each.coming.frozen, ...each.coming.tally.now, verified: true, differed: [] }\nawait this.#host.source.complete({ disks: [all], copyingMs: 0 }, working).catch(() => {})\nconst isWhole = await copy.run(othersWait)\n',
  },
  {
    name: 'a cancel that does not look whether the disk departed',
    file: 'src/migration/source/source-course.ts',
    was: "if (isGiven || this.#grant.isOpen) throw this.#tooLate('cancelled')",
    becomes: '',
  },
  {
    name: 'writes answered before arriving is durable',
    file: 'src/disk/committed-record.ts',
    was: 'await records[0]!.#records.commit([...puts, ...others])',
    becomes:
      "for (const { record, after } of changes) if (after.state === 'arriving') {\nrecord.#now = after\nrecord.#stateChanged()\n}\nawait records[0]!.#records.commit([...puts, ...others])",
  },
  {
    name: 'a flush that joins a running sync',
    file: 'src/block/grouping.ts',
    was: 'if (!this.#running) return this.#start()',
    becomes: 'if (!this.#running) return this.#start()\nelse return this.#running',
  },
  {
    name: 'a removal that takes the new bytes of the same disk',
    file: 'src/disk/disks.ts',
    was: 'for (const { id } of fresh) await this.#removals.get(id)?.catch(() => {})',
    becomes: '',
  },
  {
    name: 'bits kept in memory until the next flush',
    file: 'src/store/map-log.ts',
    was: 'this.#file.append(encodeRecord(this.#key, this.#records, type, first, count, mask))',
    becomes:
      'const kept = ((this as unknown as { kept?: Uint8Array[] }).kept ??= [])\nkept.push(encodeRecord(this.#key, this.#records, type, first, count, mask))\nif (type === RecordType.commit) for (const one of kept.splice(0)) this.#file.append(one)',
  },
  {
    name: 'the last partial block of a disk dropped',
    file: 'src/store/arrival-maps.ts',
    was: 'const blocks = Math.ceil(sizeBytes / blockSizeBytes)',
    becomes: 'const blocks = Math.floor(sizeBytes / blockSizeBytes)',
  },
  {
    name: 'a generation that starts again',
    file: 'src/migration/new-record.ts',
    was: 'generation: disk.generation + 1',
    becomes: 'generation: 2',
  },
  {
    name: 'a grant of a cancelled migration',
    file: 'src/migration/site/past-source.ts',
    was: "return { answer: 'refused', code: isDone ? 'already-taken' : 'cancelled', message }",
    becomes:
      "const { disks } = arguments[0]\nreturn { answer: 'granted', disks: disks.map((disk) => ({ ...disk, powerLoss: null })), boot: null, cutOff: [] }",
  },
  {
    name: 'a piece landed though its digest is wrong',
    file: 'src/link/lane/digests.ts',
    was: 'if (actual.equals(digest)) return',
    becomes: 'if (digest.length > 0) return',
  },
  {
    name: 'a comparison that finds all digests alike',
    file: 'src/migration/copy/verification.ts',
    was: '(await this.#digestOf(bytes)) === digests[index]',
    becomes: 'true',
  },
  {
    name: 'a comparison that takes the holes of the source for granted',
    file: 'src/migration/copy/verification.ts',
    was: 'if (!extent.data) await this.#checkZeros(extent)',
    becomes: 'if (!extent.data) continue',
  },
  {
    name: 'a block that differs left as it is',
    file: 'src/migration/copy/verification.ts',
    was: 'if (!disk.arriving.forget(span)) return',
    becomes: '',
  },
  {
    name: 'a block that differed believed again after a power loss',
    file: 'src/migration/destination/phases/arriving-disk.ts',
    was: "await recorded(host, [disk], 'that it differed from the source', () => disk.flush(), coming.working)",
    becomes: '',
  },
  {
    name: 'zeros that are not written where something stands',
    file: 'src/disk/arrival/landing.ts',
    was: 'else if (!file.isHole?.(part.offset, part.length))',
    becomes: 'else if (file.sizeBytes === 0)',
  },
  {
    name: 'an unreadable range served as zeros',
    file: 'src/disk/departure/frozen-reader.ts',
    was: 'return { error }',
    becomes: 'return bytes.fill(0, 0, error ? bytes.length : 0)',
  },
  {
    name: 'an unreadable range that keeps the rest from coming',
    file: 'src/migration/copy/background-copy.ts',
    was: 'if (!bad || bad.offset < at || bad.offset >= end) throw error',
    becomes: 'if (bad !== null) throw error',
  },
  {
    name: 'a repeated acquire granted to a destination that has said taken',
    file: 'src/migration/source/grant.ts',
    was: 'if (ours && !disk.record.taken) continue',
    becomes: 'if (ours) continue',
  },
  {
    name: 'an older mark of the destination believed',
    file: 'src/migration/source/source-desk.ts',
    was: 'if (run !== record.markRun) throw restoredRefusal(record)',
    becomes: 'void (run, restoredRefusal)',
  },
  {
    name: 'a higher generation elsewhere not heeded',
    file: 'src/migration/site/generations.ts',
    was: 'if (!by || isRekeyedThere) return',
    becomes: 'if (!by || isRekeyedThere || by) return',
  },
  {
    name: 'a grant that is not on record in the deed',
    file: 'src/migration/source/grant.ts',
    was: 'deed: this.#gifts.of(disk),',
    becomes: 'deed: disk.record.deed,',
  },
  {
    name: 'what a destination signed of its mark not kept',
    file: 'src/migration/source/source-desk.ts',
    was: 'markSigned: signature }',
    becomes: 'markSigned: null }',
  },
  {
    name: 'owner recorded wrongly after superseding',
    file: 'src/migration/destination/destination-course.ts',
    was: "this.ending('failed', owner)",
    becomes: "this.ending('failed', this.services.siteId)",
  },
  {
    name: 'owner recorded wrongly where the source was superseded',
    file: 'src/migration/source/source-course.ts',
    was: '(id === disk.id ? by.owner : siteId)',
    becomes: '(id === disk.id ? siteId : siteId)',
  },
  {
    name: 'a seed believed whatever its digest says',
    file: 'src/migration/copy/seeded-blocks.ts',
    was: 'if (shortDigest(bytes) === digest) {',
    becomes: "if (digest !== '') {",
  },
  {
    name: 'a source released by an old copy of its destination',
    file: 'src/migration/destination/phases/arriving.ts',
    was: 'await this.#notices.heard(working)',
    becomes: '',
  },
  {
    name: 'a broken record of the maps taken for a torn tail, though two commits stand behind it',
    file: 'src/store/map-log-replay.ts',
    was: 'return commits === 2',
    becomes: 'return commits > 2',
  },
  {
    name: 'a map log that is shorter than it was on record, believed',
    file: 'src/store/map-log-replay.ts',
    was: 'mark?.key === header.key ? mark.records : 0',
    becomes: 'mark?.key === -1 ? mark.records : 0',
  },
  {
    name: "a liar's signature of a deed not looked at",
    file: 'src/deed/deed.ts',
    was: 'const isRight = isSignedBy(entry.by, canonicalBytes(entry), entry.signature)',
    becomes: 'const isRight = isSignedBy(entry.by, canonicalBytes(entry), entry.signature) || entry.kind !== undefined',
  },
  {
    name: "a liar's deed that has nothing in common with ours believed",
    file: 'src/deed/relation.ts',
    was: "if (!met) return { kind: 'unrelated' }",
    becomes: "if (!met) return { kind: 'continues' }",
  },
  {
    name: 'the map of a grant not heeded, of what was copied ahead',
    file: 'src/disk/arrival/tentative.ts',
    was: 'maps.present.subtract(dirty)',
    becomes: 'void dirty',
  },
  {
    name: 'bits of what was copied ahead, durable before their bytes',
    file: 'src/disk/arrival/tentative.ts',
    was: 'await syncBytes()',
    becomes: 'void syncBytes',
  },
  {
    name: 'a dirty bit cleared after the read',
    file: 'src/disk/departure/dirty-map.ts',
    was: 'const kept = [this.#waiting, ...later',
    becomes: 'const kept = [...later',
  },
  {
    name: 'a dirty map lost by a killed source, and not noticed',
    file: 'src/disk/departure/tracking.ts',
    was: 'this.#begin(found.file, found.kept)\n  }\n\n  /**',
    becomes: 'found.kept.dirty.delete(0, found.kept.dirty.blocks)\nthis.#begin(found.file, found.kept)\n  }\n\n  /**',
  },
  {
    name: 'a trim or zeroing that sets no dirty bit',
    file: 'src/disk/io/tracked.ts',
    was: 'this.#watch.begins(offset, lengthBytes)\n    await',
    becomes: 'await',
  },
  {
    name: 'a late reply of the old generation that switchover does not wait for',
    file: 'src/disk/arrival/tentative.ts',
    was: 'await this.#holds.unsettled({ first: 0, end: this.#here.blocks })',
    becomes: '',
  },
  {
    name: 'a dirty bit set before a write, and cleared before that write completed',
    file: 'src/disk/departure/dirty-map.ts',
    was: 'for (const flight of this.#flights) {',
    becomes: 'for (const flight of [] as Span[]) {',
  },
  {
    name: 'a decision put into the store before it is durable at its site',
    file: 'src/relay/once.ts',
    was: 'await record.keep(sealed) // Before',
    becomes: 'void record.keep(sealed) // Before',
  },
  {
    name: '`exists` of a decision taken for `stored`',
    file: 'src/relay/once.ts',
    was: "if (answer === 'exists' && isOurs) await this.#isFitStill(signal)",
    becomes: 'if (answer === answer) return { isOurs: true, decided: this.#open(sealed) }',
  },
  {
    name: '`exists` of a decision taken for having lost',
    file: 'src/relay/once.ts',
    was: "if (answer === 'exists' && isOurs) await this.#isFitStill(signal)",
    becomes: "if (answer === 'exists') return { isOurs: false, decided: this.#open(found) }",
  },
  {
    name: 'a decision believed though the store says that it keeps versions',
    file: 'src/relay/once.ts',
    was: 'if (!isUnfit(error)) throw error',
    becomes: "if (isUnfit(error)) return 'stored'\nelse throw error",
  },
  {
    name: 'a decision whose answer was lost believed though versions are kept since',
    file: 'src/relay/once.ts',
    was: "if (answer === 'exists' && isOurs) await this.#isFitStill(signal)",
    becomes: 'void this.#isFitStill',
  },
  {
    name: 'two destinations that claim one ticket',
    file: 'src/relay/once.ts',
    was: '{ ifAbsent: true, signal }',
    becomes: "{ ifAbsent: this.#parts.as.kind !== 'claim', signal }",
  },
  {
    name: 'a decision that is made anew each time it is asked for',
    file: 'src/relay/once.ts',
    was: 'if (JSON.stringify(before) === JSON.stringify(now)) return Buffer.from(kept)',
    becomes: 'void [before, now]',
  },
  {
    name: 'a source that takes its disks back without having won the fence',
    file: 'src/relay/fence.ts',
    was: "return decided.decision === 'revoked'",
    becomes: "return decided.decision === 'revoked' || decided.by !== ''",
  },
  {
    name: 'a source that takes its disks back and has the fence told later',
    file: 'src/relay/fence.ts',
    was: "const { decided } = await this.decide({ decision: 'revoked', disks, by }, signal)",
    becomes:
      "const decided = { decision: 'revoked' as Decision['decision'] }\nvoid this.decide({ decision: 'revoked', disks, by }, signal).catch(() => {})",
  },
]
