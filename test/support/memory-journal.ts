/**
 * The journal in memory, for simulation and tests: the same contract as SQLite's, no durability, no Node API. It
 * outlives its handle: `reopen()` after `close()` is a coordinator that was restarted. The next write can be made to
 * fail, so that a caller's way through a full disk is testable.
 */
import type {
  Checkpoint,
  CheckpointVector,
  Entry,
  Journal,
  NewEntry,
  StorageFault,
} from '../../coordinator/journal/journal.ts'
import { StorageError } from '../../coordinator/journal/journal.ts'

/**
 * JSON text is kept, not the value: what is read back is what SQLite would give, and shares nothing with the caller.
 */
interface Row {
  readonly seq: number
  readonly run: string
  readonly at: number
  readonly kind: string
  readonly data: string
  payload: Uint8Array | null
  pruned: boolean
}

interface SavedCheckpoint {
  readonly seq: number
  readonly state: string
  readonly vectors: readonly CheckpointVector[]
}

interface Store {
  /** Row i has seq i + 1. */
  readonly rows: Row[]
  readonly checkpoints: Map<string, SavedCheckpoint[]>
  readonly settings: Map<string, string>
}

export class MemoryJournal implements Journal {
  private readonly store: Store
  private closed = false
  private nextFault: StorageFault | null = null

  constructor(store: Store = { rows: [], checkpoints: new Map(), settings: new Map() }) {
    this.store = store
  }

  /** The next append, saveCheckpoint, prune or set throws this fault and changes nothing; the one after works again. */
  failNext(fault: StorageFault): void {
    this.nextFault = fault
  }

  /** A new handle on the same record. */
  reopen(): MemoryJournal {
    return new MemoryJournal(this.store)
  }

  append(entries: readonly NewEntry[]): number {
    const first = this.store.rows.length + 1
    const rows = entries.map(({ run, at, kind, data, payload }, i) => ({
      seq: first + i,
      run,
      at,
      kind,
      data: JSON.stringify(data) ?? 'null',
      payload: payload === null ? null : payload.slice(),
      pruned: false,
    }))
    this.beforeWrite()
    for (const row of rows) this.store.rows.push(row)
    return first
  }

  read(run: string, after: number): IterableIterator<Entry> {
    this.checkOpen()
    return this.entriesOf(run, after, this.store.rows.length)
  }

  private *entriesOf(run: string, after: number, last: number): IterableIterator<Entry> {
    this.checkOpen()
    for (let i = Math.max(0, Math.floor(after)); i < last; i++) {
      this.checkOpen()
      const row = this.store.rows[i]
      if (row.run !== run) continue
      yield { ...row, data: JSON.parse(row.data), payload: row.payload === null ? null : row.payload.slice() }
    }
  }

  runs(): string[] {
    this.checkOpen()
    return [...new Set(this.store.rows.map((row) => row.run))]
  }

  saveCheckpoint({ run, seq, state, vectors }: Checkpoint, written = () => {}): void {
    const saved: SavedCheckpoint = {
      seq,
      state: JSON.stringify(state) ?? 'null',
      vectors: vectors.map((vector) => ({ ...vector, values: vector.values.slice() })),
    }
    this.beforeWrite()
    const others = (this.store.checkpoints.get(run) ?? []).filter((checkpoint) => checkpoint.seq !== seq)
    const newestFirst = [...others, saved].sort((a, b) => b.seq - a.seq)
    this.store.checkpoints.set(run, newestFirst.slice(0, 2))
    written()
  }

  loadCheckpoint(run: string): Checkpoint | null {
    this.checkOpen()
    const newest = this.store.checkpoints.get(run)?.[0]
    if (newest === undefined) return null
    return {
      run,
      seq: newest.seq,
      state: JSON.parse(newest.state),
      vectors: newest.vectors.map((vector) => ({ ...vector, values: vector.values.slice() })),
    }
  }

  prune(run: string): void {
    this.beforeWrite()
    const secondNewest = this.store.checkpoints.get(run)?.[1]
    if (secondNewest === undefined) return
    for (const row of this.store.rows) {
      if (row.seq > secondNewest.seq) break
      if (row.run !== run || row.payload === null) continue
      row.payload = null
      row.pruned = true
    }
  }

  get(key: string): string | null {
    this.checkOpen()
    return this.store.settings.get(key) ?? null
  }

  set(key: string, value: string): void {
    this.beforeWrite()
    this.store.settings.set(key, value)
  }

  close(): void {
    this.closed = true
  }

  private checkOpen(): void {
    if (this.closed) throw new Error('invariant: the journal is closed')
  }

  private beforeWrite(): void {
    this.checkOpen()
    const fault = this.nextFault
    this.nextFault = null
    if (fault !== null) throw new StorageError(fault, `the journal in memory was told to fail (${fault})`)
  }
}
