// The SQLite database of a site, opened: made when there is none, brought to today's format, and looked over.
//
// Formats: 1 had absolute paths and no checksums; 2 has paths relative to the data folder, a checksum in each row, and the
// number of transactions (commit-witness.ts); in 3 a migration has its disks as a list, and its terms by themselves; in 4 a
// disk has its deed, a peer what it may, and a migration whose word a switchover has.
//
// What always holds: a file that is not ours, newer, damaged, or shorter than it was is left as it is.

import { chmodSync, closeSync, constants, existsSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { countCommits, upgradeFrom1, upgradeFrom2, upgradeFrom3 } from './record-upgrades.ts'
import { recordsProblem, restoreOrStartAnew } from './records-problem.ts'

/** Raised with every change of the schema; a database with a higher one is refused. */
const schemaVersion = 4
const applicationId = 0x766d7374 // 'vmst'
const tables = ['disk', 'migration', 'peer'] as const
/** For a program that looks into the database, and is soon gone again. */
const lockTimeoutMs = 2000

/** Of SQLite's result codes. */
export const sqliteResult = { busy: 5, full: 13 } as const

export function resultOf(error: unknown): number {
  return ((error as { errcode?: number }).errcode ?? 0) & 0xff
}

export interface DatabasePlace {
  readonly path: string
  /** There has been one here. */
  readonly isKnown: boolean
  /** How many transactions it must have, as the witness says. */
  readonly committed: number | undefined
  /** The id of this site. */
  readonly siteId: string
}

/** @throws what recordsProblem makes: `newer-format`, `damaged` */
export function openDatabase({ path, isKnown, committed, siteId }: DatabasePlace): DatabaseSync {
  if (isKnown && !existsSync(path)) throw missing(path, 'is not there')
  ownFile(path)
  const database = new DatabaseSync(path, { timeout: lockTimeoutMs })
  try {
    const version = checkOurs(database, path)
    if (version === 0 && isKnown) throw missing(path, 'is empty')
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;')
    if (version === 0) createTables(database)
    else checkWhole(database, path)
    if (version === 1) upgradeFrom1(database, path)
    checkNothingLost(database, path, committed)
    if (version === 1 || version === 2) upgradeFrom2(database, path, siteId)
    if (version >= 1 && version <= 3) upgradeFrom3(database, path)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function checkNothingLost(database: DatabaseSync, path: string, committed: number | undefined): void {
  const commits = Number(database.prepare('SELECT commits FROM site').get()?.['commits'])
  if (committed === undefined || commits >= committed) return
  const message = `${path} has lost what was recorded last (${commits} of ${committed} transactions are there): it may have forgotten that a disk was given away`
  const next = `${restoreOrStartAnew} If only the database was put back from an older copy, on purpose, and no disk has moved since, remove ${path}-commits.`
  throw recordsProblem('damaged', message, next)
}

function missing(path: string, how: string): Error {
  const message = `${path} ${how}, though the data folder has been in use: which disks this site owns, and which it gave away, is not known`
  return recordsProblem('damaged', message, restoreOrStartAnew)
}

/** SQLite gives its other files the mode of this one. */
function ownFile(path: string): void {
  closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600))
  chmodSync(path, 0o600)
}

/** The schema's version, 0 for a file that is new. Changes nothing. */
function checkOurs(database: DatabaseSync, path: string): number {
  let version: number
  let application: number
  let tableCount: number
  try {
    version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
    application = Number(database.prepare('PRAGMA application_id').get()?.['application_id'])
    tableCount = Number(database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'])
  } catch (error) {
    if (isLocked(error)) throw error
    const message = `${path} cannot be read as vmstore's database: ${(error as Error).message}`
    throw recordsProblem('damaged', message, restoreOrStartAnew)
  }
  const isNew = version === 0 && application === 0 && tableCount === 0
  if (!isNew && application !== applicationId)
    throw recordsProblem('damaged', `${path} is a database of another program`, restoreOrStartAnew)
  if (version > schemaVersion) {
    const message = `${path} has format ${version}; this vmstore knows up to ${schemaVersion}`
    throw recordsProblem('newer-format', message, 'Use the newer vmstore that wrote it.')
  }
  return version
}

/** Another program has it: that says nothing of what is in it. */
function isLocked(error: unknown): boolean {
  return resultOf(error) === sqliteResult.busy
}

/** It is small: all of it is looked at. */
function checkWhole(database: DatabaseSync, path: string): void {
  let said: string
  try {
    said = String(Object.values(database.prepare('PRAGMA integrity_check(1)').get() ?? {})[0])
  } catch (error) {
    if (isLocked(error)) throw error
    said = (error as Error).message
  }
  if (said !== 'ok') throw recordsProblem('damaged', `${path} is damaged: ${said}`, restoreOrStartAnew)
}

function createTables(database: DatabaseSync): void {
  database.exec('BEGIN IMMEDIATE')
  for (const table of tables) {
    database.exec(
      `CREATE TABLE ${table} (added INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT`,
    )
  }
  countCommits(database)
  database.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${schemaVersion};`)
  database.exec('COMMIT')
}
