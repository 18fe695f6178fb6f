/**
 * The journal in one SQLite file, by libsql's synchronous API. It promises:
 *
 * - what `append` and `insert` returned from is on the disk (synchronous=FULL), and what they threw for is not;
 * - the folder belongs to one coordinator: the file stays exclusively locked from open to close;
 * - nothing is read back that was not written: entries and checkpoints carry a CRC-32 over all they hold, SQLite
 *   itself checking only the shape of its pages;
 * - every fault is a StorageError that says what came, what was expected, and what to do.
 *
 * Entries go where no page was before: a rollback journal writes them once, where a WAL writes each byte twice and
 * checks it over (0.16 ms of CPU for 55 kB, against 0.10). That it costs an fsync more does not matter to a thread of
 * its own.
 *
 * Space that pruning frees is used again by later entries; the file does not shrink.
 *
 * Never open the file by other means in this process while the journal is open (a copy for a backup, say): POSIX drops
 * a process' locks on a file when any of its descriptors of that file is closed.
 */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import Database from 'libsql'
import type { Checkpoint, CheckpointVector, Entry, Journal, NewEntry, StorageFault } from './journal.ts'
import { StorageError } from './journal.ts'
import { checksumOf, crc32Of, headOf, type Row, rowOf } from './row.ts'
import { leftRows, removeTail } from './tail.ts'

export interface SqliteJournalOptions {
  /** The file grows to at most so many pages of PAGE_BYTES, then the disk counts as full. Unbounded when absent. */
  maxPages?: number
}

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

type EntryRow = Omit<Row, 'payload'> & { pruned: number; payload: Buffer | null }
interface CheckpointRow {
  id: number
  seq: number
  vectors: number
  checksum: number
  state: string
}
interface VectorRow {
  position: number
  name: string
  range: number
  floats: Buffer
}

/** A journal that takes rows as another one numbered them. */
export interface RowJournal extends Journal {
  /** The rows that follow the last one, in one transaction. */
  insert(rows: readonly Row[]): void
}

/** Opens the file, or makes it. What a coordinator that was killed left in the journal's tail is moved in first. */
export function openSqliteJournal(path: string, options: SqliteJournalOptions = {}): RowJournal {
  return new SqliteJournal(path, options)
}

class SqliteJournal implements RowJournal {
  private readonly path: string
  private readonly database: Database.Database
  private readonly statements: ReturnType<typeof prepareStatements>
  private lastSeq: number
  private closed = false
  /** Per run, the seq up to which payloads are known to be pruned: the next prune begins there. */
  private readonly prunedTo = new Map<string, number>()
  /** Ids of checkpoints found damaged: they do not count among the two that are kept. */
  private readonly damaged = new Set<number>()

  constructor(path: string, { maxPages }: SqliteJournalOptions) {
    this.path = path
    this.database = this.guarded(() => openDatabase(path))
    try {
      this.guarded(() => prepareSchema(this.database, path))
      if (maxPages !== undefined) this.guarded(() => this.database.exec(`PRAGMA max_page_count = ${maxPages}`))
      this.statements = this.guarded(() => prepareStatements(this.database))
      this.lastSeq = this.guarded(() => (this.statements.lastSeq.get() as { seq: number }).seq)
      this.insert(leftRows(path, this.lastSeq))
      removeTail(path)
    } catch (error) {
      this.release('PRAGMA locking_mode = NORMAL')
      throw error
    }
  }

  append(entries: readonly NewEntry[]): number {
    this.checkOpen()
    const first = this.lastSeq + 1
    // Everything that could throw for the caller's own mistake happens before the transaction.
    this.insert(entries.map((entry, i) => rowOf(first + i, entry).row))
    return first
  }

  insert(rows: readonly Row[]): void {
    this.checkOpen()
    if (rows.length === 0) return
    const gap = rows.findIndex(({ seq }, i) => seq !== this.lastSeq + 1 + i)
    if (gap !== -1) throw new Error(`invariant: row ${rows[gap].seq} does not follow entry ${this.lastSeq + gap}`)
    this.transaction(() => {
      for (const { seq, run, at, kind, data, checksum, payload } of rows)
        this.statements.insertEntry.run([seq, run, at, kind, data, checksum, payload])
    })
    this.lastSeq = rows.at(-1)!.seq
  }

  read(run: string, after: number): IterableIterator<Entry> {
    this.checkOpen()
    return this.entriesOf(run, after, this.lastSeq)
  }

  /** One query an entry: no statement stays open over the caller's own appends, and no two payloads lie in memory. */
  private *entriesOf(run: string, after: number, last: number): IterableIterator<Entry> {
    let position = after
    while (true) {
      this.checkOpen()
      const row = this.guarded(() => this.statements.nextEntry.get([run, position, last]) as EntryRow | undefined)
      if (row === undefined) return
      position = row.seq
      yield this.entry(row)
    }
  }

  private entry({ seq, run, at, kind, data, checksum, pruned, payload }: EntryRow): Entry {
    const bytes = payload === null ? null : new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength)
    // A pruned entry's checksum was over a payload that is gone.
    if (pruned === 0 && checksumOf(headOf({ seq, run, at, kind, data, payload: bytes }), bytes) !== checksum) {
      throw damagedError(this.path, `entry ${seq} does not agree with its checksum`)
    }
    try {
      return { seq, run, at, kind, data: JSON.parse(data), payload: bytes, pruned: pruned !== 0 }
    } catch (cause) {
      throw damagedError(this.path, `entry ${seq} holds no JSON`, cause)
    }
  }

  runs(): string[] {
    this.checkOpen()
    return this.guarded(() => (this.statements.runs.all() as { run: string }[]).map(({ run }) => run))
  }

  saveCheckpoint({ run, seq, state, vectors }: Checkpoint, written = () => {}): void {
    this.checkOpen()
    const json = JSON.stringify(state) ?? 'null'
    const rows = vectors.map(({ name, range, values }) => ({ name, range, bytes: bytesOf(values) }))
    let checksum = checkpointChecksum(run, seq, json)
    for (const row of rows) checksum = vectorChecksum(checksum, row.name, row.range, row.bytes)
    this.transaction(() => {
      const earlier = this.statements.checkpointAt.get([run, seq]) as { id: number } | undefined
      if (earlier !== undefined) this.deleteCheckpoint(earlier.id)
      const { lastInsertRowid } = this.statements.insertCheckpoint.run([run, seq, rows.length, checksum, json])
      const id = Number(lastInsertRowid)
      rows.forEach((row, position) => {
        this.statements.insertVector.run([id, position, row.name, row.range, row.bytes])
      })
      this.damaged.delete(id)
      for (const { id } of this.checkpoints(run).slice(2)) this.deleteCheckpoint(id)
    })
    this.forgetDamaged()
    written()
  }

  /**
   * Not part of saving: where the damage is in the tree itself, deleting fails too, and the rows stay, disregarded. A
   * later start must not meet them and count them again.
   */
  private forgetDamaged(): void {
    for (const id of this.damaged) {
      try {
        this.transaction(() => this.deleteCheckpoint(id))
        this.damaged.delete(id)
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
      }
    }
  }

  loadCheckpoint(run: string): Checkpoint | null {
    this.checkOpen()
    for (const row of this.guarded(() => this.checkpoints(run))) {
      try {
        const checkpoint = this.guarded(() => this.wholeCheckpoint(run, row))
        if (checkpoint !== null) return checkpoint
      } catch (error) {
        if (!(error instanceof StorageError && error.fault === 'damaged')) throw error
      }
      this.damaged.add(row.id)
    }
    return null
  }

  /** The checkpoint of this row, or null where it is not what was saved. */
  private wholeCheckpoint(run: string, row: CheckpointRow): Checkpoint | null {
    const vectors: CheckpointVector[] = []
    let checksum = checkpointChecksum(run, row.seq, row.state)
    for (let position = 0; position < row.vectors; position++) {
      const vector = this.statements.vector.get([row.id, position]) as VectorRow | undefined
      if (vector === undefined || vector.floats.byteLength % 4 !== 0) return null
      checksum = vectorChecksum(checksum, vector.name, vector.range, vector.floats)
      vectors.push({ name: vector.name, range: vector.range, values: floatsOf(vector.floats) })
    }
    if (checksum !== row.checksum) return null
    return { run, seq: row.seq, state: JSON.parse(row.state), vectors }
  }

  prune(run: string): void {
    this.checkOpen()
    const secondNewest = this.guarded(() => this.checkpoints(run)).at(1)
    if (secondNewest === undefined) return
    const from = this.prunedTo.get(run) ?? 0
    this.transaction(() => this.statements.prune.run([run, from, secondNewest.seq]))
    this.prunedTo.set(run, Math.min(secondNewest.seq, this.lastSeq))
  }

  get(key: string): string | null {
    this.checkOpen()
    return this.guarded(() => (this.statements.getSetting.get([key]) as { value: string } | undefined)?.value ?? null)
  }

  set(key: string, value: string): void {
    this.checkOpen()
    this.transaction(() => this.statements.setSetting.run([key, value]))
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.release('PRAGMA journal_mode = DELETE; PRAGMA locking_mode = NORMAL')
  }

  private release(how: string): void {
    // libsql keeps the file, and so its lock, until the garbage collector has found the prepared statements. This gives
    // the lock up at once, and leaves one file behind that can be copied. Where it fails (a full disk) nothing is lost,
    // and the lock ends with the process.
    try {
      this.database.exec(how)
      this.database.prepare('SELECT count(*) FROM sqlite_schema').get()
    } catch {}
    this.database.close()
  }

  /** The run's checkpoints, newest first, without those known to be damaged. */
  private checkpoints(run: string): CheckpointRow[] {
    return (this.statements.checkpoints.all(run) as CheckpointRow[]).filter(({ id }) => !this.damaged.has(id))
  }

  private deleteCheckpoint(id: number): void {
    this.statements.deleteVectors.run([id])
    this.statements.deleteCheckpoint.run([id])
  }

  private transaction(write: () => void): void {
    this.guarded(() => {
      this.database.exec('BEGIN IMMEDIATE')
      try {
        write()
        this.database.exec('COMMIT')
      } catch (error) {
        // Some failures (a full disk) have rolled back already.
        if (this.database.inTransaction) this.database.exec('ROLLBACK')
        throw error
      }
    })
  }

  private guarded<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw storageError(this.path, error)
    }
  }

  private checkOpen(): void {
    if (this.closed) throw new Error('invariant: the journal is closed')
  }
}

function openDatabase(path: string): Database.Database {
  if (!existsSync(dirname(path))) {
    throw new StorageError(
      'failed',
      `cannot open the journal ${path}: its folder does not exist. Make the folder first`,
    )
  }
  return new Database(path)
}

function prepareSchema(database: Database.Database, path: string): void {
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

function prepareStatements(database: Database.Database) {
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

const checkpointChecksum = (run: string, seq: number, state: string) => crc32(JSON.stringify([run, seq, state]))
const vectorChecksum = (before: number, name: string, range: number, bytes: Uint8Array) =>
  crc32Of(bytes, crc32(JSON.stringify([name, range, bytes.length]), before))

/** The floats' own bytes, not a copy: little-endian, as every machine that runs Node has them. */
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
const floatsOf = (bytes: Buffer) =>
  bytes.byteOffset % 4 === 0
    ? new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    : new Float32Array(new Uint8Array(bytes).buffer)

function damagedError(path: string, what: string, cause?: unknown): StorageError {
  return new StorageError(
    'damaged',
    `the journal ${path} is damaged (${what}): restore a copy of it, or move it aside to begin anew`,
    { cause },
  )
}

/** What SQLite said, in words for the operator; anything that is not SQLite's passes as it is. */
function storageError(path: string, error: unknown): unknown {
  if (error instanceof StorageError || !(error instanceof Error)) return error
  const said = error.message
  const failed = (message: string, fault: StorageFault = 'failed') => new StorageError(fault, message, { cause: error })
  // libsql's constructor throws a plain Error that ends in SQLite's code.
  if (said.startsWith('ConnectionFailed')) {
    return failed(
      `cannot open the journal ${path} (${said}): expected a file, or a folder in which this user may make one. ` +
        'Check the path and its permissions',
    )
  }
  const code = (error as { code?: unknown }).code
  if (typeof code !== 'string' || !code.startsWith('SQLITE_')) return error
  if (code.startsWith('SQLITE_FULL')) {
    return failed(
      `the journal ${path} cannot grow: the disk is full. Nothing of this write was kept. Make room on the disk`,
      'full',
    )
  }
  if (code.startsWith('SQLITE_CORRUPT')) return damagedError(path, said, error)
  if (code.startsWith('SQLITE_NOTADB')) return damagedError(path, 'it is not a SQLite file', error)
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
    return failed(
      `the journal ${path} is in use by another process: one folder belongs to one coordinator. ` +
        'End the other one, or choose another folder',
      'locked',
    )
  }
  if (code.startsWith('SQLITE_READONLY') || code.startsWith('SQLITE_CANTOPEN') || code.startsWith('SQLITE_PERM')) {
    return failed(
      `the journal ${path} cannot be written (${said}): expected that this user may write the file and its folder. ` +
        'Check their owner and permissions, and that the disk is not mounted read-only',
    )
  }
  return failed(`the journal ${path} failed (${code}: ${said}). Check the disk, then start the coordinator again`)
}
