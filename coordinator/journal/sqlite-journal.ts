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
import { crc32 } from 'node:zlib'
import type Database from 'libsql'
import type { Checkpoint, CheckpointVector, Entry, Journal, NewEntry } from './journal.ts'
import { StorageError } from './journal.ts'
import { checksumOf, crc32Of, headOf, type Row, rowOf } from './row.ts'
import { damagedError, storageError } from './sqlite-faults.ts'
import {
  type CheckpointRow,
  type EntryRow,
  openDatabase,
  prepareSchema,
  prepareStatements,
  type VectorRow,
} from './sqlite-file.ts'
import { leftRows, removeTail } from './tail.ts'

export interface SqliteJournalOptions {
  /** The file grows to at most so many pages of PAGE_BYTES, then the disk counts as full. Unbounded when absent. */
  maxPages?: number
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

const checkpointChecksum = (run: string, seq: number, state: string) => crc32(JSON.stringify([run, seq, state]))
const vectorChecksum = (before: number, name: string, range: number, bytes: Uint8Array) =>
  crc32Of(bytes, crc32(JSON.stringify([name, range, bytes.length]), before))

/** The floats' own bytes, not a copy: little-endian, as every machine that runs Node has them. */
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
const floatsOf = (bytes: Buffer) =>
  bytes.byteOffset % 4 === 0
    ? new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    : new Float32Array(new Uint8Array(bytes).buffer)
