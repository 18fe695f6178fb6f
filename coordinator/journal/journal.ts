/**
 * The journal: the ordered, durable record of what was accepted. A run's state is a fold over its entries, from the
 * newest checkpoint at or before them. Three implementations, one contract suite: SQLite (sqlite-journal.ts), for life
 * in a thread of its own (thread-journal.ts), and memory (test/support) for simulation and tests.
 */

export interface NewEntry {
  readonly run: string
  /** Milliseconds since 1970. */
  readonly at: number
  readonly kind: string
  /** JSON value: what a fold needs beside the payload. */
  readonly data: unknown
  /** An update's encoded vector, as it came over the wire. */
  readonly payload: Uint8Array | null
}

export interface Entry extends NewEntry {
  /** Ascends over all runs, without reuse. */
  readonly seq: number
  /** The payload was pruned: the entry counts, but can no longer be replayed. */
  readonly pruned: boolean
}

/** Vectors of a checkpoint, range by range: no row is larger than a range. */
export interface CheckpointVector {
  /**
   * `parameters`, or a name of the update rule's or the strategy's state, or of what the run keeps beside them
   * (history.ts).
   */
  readonly name: string
  readonly range: number
  readonly values: Float32Array
}

export interface Checkpoint {
  readonly run: string
  /** The last journal entry that is folded in. */
  readonly seq: number
  /** JSON value. */
  readonly state: unknown
  readonly vectors: readonly CheckpointVector[]
}

/**
 * - `full`: no room to write; the journal stays usable, and the same write succeeds once there is room.
 * - `damaged`: the file is not what was written.
 * - `locked`: another coordinator has it open (only when opening).
 * - `failed`: anything else the disk said. What SQLite holds of this write is not known before it is opened anew, so a
 *   process that meets it should end.
 */
export type StorageFault = 'full' | 'damaged' | 'locked' | 'failed'

export class StorageError extends Error {
  readonly fault: StorageFault
  constructor(fault: StorageFault, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StorageError'
    this.fault = fault
  }
}

export interface Journal {
  /**
   * Writes the entries together and returns the sequence number of the first, the others following it without a gap.
   * When it returns, they survive kill -9; when it throws StorageError, none of them exists. A loss of power they
   * survive at once (sqlite-journal.ts) or some milliseconds later (thread-journal.ts), and what survives has no gap.
   * The bytes are taken at once: the caller may reuse its buffers.
   */
  append(entries: readonly NewEntry[]): number
  /** The run's entries with seq > after that exist at the time of the call, in order, read one at a time. */
  read(run: string, after: number): IterableIterator<Entry>
  /** The runs that have entries, oldest first. */
  runs(): string[]
  /**
   * Keeps the two newest checkpoints of the run (those found damaged not counted); a second at one seq replaces it.
   * The bytes are taken at once; `written` is called once they are kept, which may be later (thread-journal.ts), and
   * not at all where that fails.
   */
  saveCheckpoint(checkpoint: Checkpoint, written?: () => void): void
  /** The newest checkpoint that reads back whole (a damaged one is passed over), or null. */
  loadCheckpoint(run: string): Checkpoint | null
  /** Forgets the payloads of entries up to the second-newest checkpoint; with fewer than two it does nothing. */
  prune(run: string): void
  /** Small values of the coordinator's own (the identity key). */
  get(key: string): string | null
  set(key: string, value: string): void
  /** Gives the folder free for another coordinator. Twice is once; any other call afterwards throws `invariant: …`. */
  close(): void
}
