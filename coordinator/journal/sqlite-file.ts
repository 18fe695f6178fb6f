/** The journal's SQLite file: how it is opened, its tables, and what is asked of them. */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'libsql'
import { StorageError } from './journal.ts'
import type { Row } from './row.ts'
import { removeTail } from './tail.ts'

/** PRAGMA application_id, "CGJ1": tells this file from any other SQLite database. */
const APPLICATION_ID = 0x43474a31
/** PRAGMA user_version: of the tables, and of what run/history.ts keeps in them. Another one is refused. */
const SCHEMA_VERSION = 4
/** The one before had no tail: it is read as it is, and whoever knows no other must not open it from then on. */
const SCHEMA_BEFORE = 3

/**
 * Measured with 55 kB payloads in groups of some tens: 0.11, 0.10, 0.09 and 0.10 ms of CPU an entry with 4, 8, 16, 32
 * kB.
 */
const PAGE_BYTES = 8192
/** A transaction that changes many pages makes the rollback journal as large; it is cut back to this at the next. */
const ROLLBACK_KEPT_BYTES = 64 << 20
/**
 * Pages kept in memory: of some nine payloads of 3.3 MB. Those of a transaction that have no room are written out,
 * found missing and read again: 19 ms of CPU for two such payloads in SQLite's own 2 MB, against 10.
 */
const CACHE_KIB = 32 << 10

const SCHEMA = `
  CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  -- The payload is the last column, so that reading the others does not walk its overflow pages.
  CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, run TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
    checksum INTEGER NOT NULL, pruned INTEGER NOT NULL, payload BLOB
  ) STRICT;
  CREATE INDEX entries_by_run ON entries (run);
  CREATE TABLE checkpoints (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, seq INTEGER NOT NULL, vectors INTEGER NOT NULL,
    checksum INTEGER NOT NULL, state TEXT NOT NULL, UNIQUE (run, seq)
  ) STRICT;
  CREATE TABLE checkpoint_vectors (
    checkpoint INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, range INTEGER NOT NULL,
    floats BLOB NOT NULL, PRIMARY KEY (checkpoint, position)
  ) STRICT;
  PRAGMA application_id = ${APPLICATION_ID};
`

export type EntryRow = Omit<Row, 'payload'> & { pruned: number; payload: Buffer | null }

export interface CheckpointRow {
  id: number
  seq: number
  vectors: number
  checksum: number
  state: string
}

export interface VectorRow {
  position: number
  name: string
  range: number
  floats: Buffer
}

export function openDatabase(path: string): Database.Database {
  if (!existsSync(dirname(path))) {
    throw new StorageError(
      'failed',
      `cannot open the journal ${path}: its folder does not exist. Make the folder first`,
    )
  }
  return new Database(path)
}

/** Makes the tables where there are none. Throws StorageError for a file that is not ours. */
export function prepareSchema(database: Database.Database, path: string): void {
  // The page size must be set before the first page is written.
  database.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA locking_mode = EXCLUSIVE`)
  const number = (pragma: string) => Object.values(database.prepare(`PRAGMA ${pragma}`).get() as object)[0] as number
  const version = number('user_version')
  const application = number('application_id')
  const { tables } = database.prepare('SELECT count(*) AS tables FROM sqlite_schema').get() as { tables: number }
  if (tables > 0 && application !== APPLICATION_ID) {
    throw new StorageError(
      'failed',
      `${path} is a SQLite database, but not a Crowdgrad journal: choose another folder, or move the file aside`,
    )
  }
  if (tables > 0 && version !== SCHEMA_VERSION && version !== SCHEMA_BEFORE) {
    const age = version > SCHEMA_VERSION ? 'a newer' : 'an older'
    throw new StorageError(
      'failed',
      `the journal ${path} was written by ${age} Crowdgrad (schema ${version}; this one knows schema ` +
        `${SCHEMA_VERSION}): run that version, or choose another folder`,
    )
  }
  database.exec(`
    PRAGMA journal_mode = PERSIST;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = ${ROLLBACK_KEPT_BYTES};
    PRAGMA cache_size = -${CACHE_KIB};
  `)
  // Writing takes the exclusive lock now rather than at the first append, so that a second coordinator, or one that may
  // not write, stops here.
  database.exec(`BEGIN EXCLUSIVE; PRAGMA user_version = ${SCHEMA_VERSION}`)
  if (tables === 0) {
    // What lies there is the tail of another journal, which was taken away.
    removeTail(path)
    database.exec(SCHEMA)
  }
  database.exec('COMMIT')
}

export function prepareStatements(database: Database.Database) {
  const prepare = (sql: string) => database.prepare(sql)
  return {
    lastSeq: prepare('SELECT coalesce(max(seq), 0) AS seq FROM entries'),
    insertEntry: prepare(
      'INSERT INTO entries (seq, run, at, kind, data, checksum, pruned, payload) VALUES (?, ?, ?, ?, ?, ?, 0, ?)',
    ),
    nextEntry: prepare('SELECT * FROM entries WHERE run = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 1'),
    runs: prepare('SELECT run FROM entries GROUP BY run ORDER BY min(seq)'),
    checkpoints: prepare('SELECT id, seq, vectors, checksum, state FROM checkpoints WHERE run = ? ORDER BY seq DESC'),
    checkpointAt: prepare('SELECT id FROM checkpoints WHERE run = ? AND seq = ?'),
    insertCheckpoint: prepare('INSERT INTO checkpoints (run, seq, vectors, checksum, state) VALUES (?, ?, ?, ?, ?)'),
    deleteCheckpoint: prepare('DELETE FROM checkpoints WHERE id = ?'),
    vector: prepare(
      'SELECT position, name, range, floats FROM checkpoint_vectors WHERE checkpoint = ? AND position = ?',
    ),
    insertVector: prepare(
      'INSERT INTO checkpoint_vectors (checkpoint, position, name, range, floats) VALUES (?, ?, ?, ?, ?)',
    ),
    deleteVectors: prepare('DELETE FROM checkpoint_vectors WHERE checkpoint = ?'),
    prune: prepare(
      'UPDATE entries SET payload = NULL, pruned = 1 WHERE run = ? AND seq > ? AND seq <= ? AND payload IS NOT NULL',
    ),
    getSetting: prepare('SELECT value FROM settings WHERE key = ?'),
    setSetting: prepare(
      'INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    ),
  }
}
