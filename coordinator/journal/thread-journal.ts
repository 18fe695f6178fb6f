/**
 * The SQLite journal in a thread of its own, so that no fsync of an update holds up a socket. `append` writes the tail
 * (tail.ts) and returns; MOVE_AFTER_MS later the thread moves what has gathered there into SQLite. It waits only where
 * TAIL_MAX_BYTES lie there: the disk is slower than the crowd. `saveCheckpoint` and `prune` return at once, too, and
 * are asked when the entries that they stand for are moved; everything else waits for its answer.
 *
 * Where the disk under SQLite is full, what was accepted stays in the tail, nothing more is accepted, and the move is
 * tried again until it succeeds. Any other fault of an append or a move ends the journal, and the process with it: the
 * tail holds what is to be done. A checkpoint that cannot be written is only told of: the entries are there.
 */
import { AskedThread } from './asked-thread.ts'
import { type Checkpoint, type Entry, type Journal, type NewEntry, StorageError } from './journal.ts'
import type { SqliteJournalOptions } from './sqlite-journal.ts'
import { type Filled, Tail } from './tail.ts'

const ANSWER_WITHIN_MS = 60_000
/** What a loss of power costs at most, but for what the disk takes longer. */
const MOVE_AFTER_MS = 20
const MOVE_RETRY_MS = 1_000
/** Where the disk is slower than the crowd, it is waited for. */
const TAIL_MAX_BYTES = 64 * 1024 * 1024

interface Hearing {
  /** SQLite or a checkpoint could not be written; nothing is lost. */
  onFault(error: StorageError): void
  /** The thread is gone: nothing will be accepted any more, and what was is in the tail. */
  onBroken(error: StorageError): void
}

interface ThreadJournalOptions extends SqliteJournalOptions {
  answerWithinMs?: number
  tailMaxBytes?: number
}

export async function openThreadJournal(
  path: string,
  hearing: Hearing,
  options: ThreadJournalOptions = {},
): Promise<Journal> {
  const journal = new ThreadJournal(path, hearing, options)
  await journal.open()
  return journal
}

class ThreadJournal implements Journal {
  private readonly path: string
  private readonly thread: AskedThread
  private readonly onFault: (error: StorageError) => void
  private readonly tailMaxBytes: number
  private closed = false
  /** From `open` on. */
  private tail!: Tail
  private nextSeq = 0
  private timer: NodeJS.Timeout | null = null
  /** On its way into SQLite: the thread is asked to move it, or could not and is to be asked again. */
  private moving: (Filled & { readonly upTo: number }) | null = null
  private asking = false
  /** Why it could not. */
  private fault: StorageError | null = null
  /** The newest entry that is in SQLite. */
  private movedTo = 0
  /** What is asked as soon as the entries up to a seq are in SQLite. */
  private readonly behind: { readonly seq: number; ask(): void }[] = []

  constructor(path: string, { onFault, onBroken }: Hearing, options: ThreadJournalOptions) {
    const { answerWithinMs = ANSWER_WITHIN_MS, tailMaxBytes = TAIL_MAX_BYTES, ...sqlite } = options
    this.path = path
    this.tailMaxBytes = tailMaxBytes
    this.onFault = onFault
    this.thread = new AskedThread(path, sqlite, {
      answerWithinMs,
      onBroken: (error) => {
        this.stopTimer()
        onBroken(error)
      },
    })
  }

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      // Whoever opens hears it, and nobody else.
      const failed = (error: Error) => void this.thread.abandon(storageError(error)).then(() => reject(error))
      const done = (next: unknown) => {
        this.nextSeq = next as number
        this.movedTo = this.nextSeq - 1
        try {
          this.tail = new Tail(this.path)
        } catch (error) {
          return failed(error as Error)
        }
        // Opening may take as long as it needs to recover.
        this.thread.beginWatch()
        resolve()
      }
      this.thread.ask('open', [], { done, failed })
    })
  }

  // ---- appending ------------------------------------------------------------------------------------------------

  append(entries: readonly NewEntry[]): number {
    if (this.thread.ended !== null) throw this.thread.ended
    const first = this.nextSeq
    if (entries.length === 0) return first
    if (this.fault !== null) throw this.fault
    if (this.tail.bytes > this.tailMaxBytes) this.settle()
    this.write(entries, first)
    this.nextSeq += entries.length
    this.moveLater(MOVE_AFTER_MS)
    return first
  }

  private write(entries: readonly NewEntry[], first: number): void {
    try {
      this.tail.write(entries, first)
    } catch (error) {
      if (error instanceof StorageError && error.fault !== 'full') this.thread.breakOff(error.message)
      throw error
    }
  }

  private moveLater(ms: number): void {
    this.timer ??= setTimeout(() => this.move(), ms)
  }

  /** Has the thread move what the tail holds, unless it is at it. */
  private move(): void {
    this.stopTimer()
    if (this.thread.ended !== null || this.asking) return
    // What could not be moved comes first.
    if (this.moving === null && this.tail.bytes > 0) this.moving = { ...this.tail.turn(), upTo: this.nextSeq - 1 }
    if (this.moving === null) return
    this.asking = true
    const { upTo, ...filled } = this.moving
    this.thread.ask('move', [filled], {
      done: () => {
        this.asking = false
        this.fault = null
        this.moving = null
        this.movedTo = upTo
        while (this.behind.length > 0 && this.behind[0].seq <= upTo) this.behind.shift()!.ask()
        if (this.behind.length > 0) this.move()
        else if (this.tail.bytes > 0) this.moveLater(MOVE_AFTER_MS)
      },
      failed: (error) => {
        this.asking = false
        this.notMoved(storageError(error))
      },
    })
  }

  private notMoved(error: StorageError): void {
    const first = this.fault === null
    this.fault = error
    // What SQLite has of it is not known before it is opened anew, and then the tail is at hand.
    if (error.fault !== 'full') return this.thread.breakOff(error.message)
    this.moveLater(MOVE_RETRY_MS)
    if (!first) return
    this.onFault(error)
    try {
      // It may be a while.
      this.tail.sync()
    } catch (cause) {
      this.onFault(storageError(cause as Error))
    }
  }

  /** Waits until everything that was appended is in SQLite. Throws StorageError where that cannot be. */
  private settle(): void {
    if (this.thread.ended !== null) throw this.thread.ended
    while (this.movedTo < this.nextSeq - 1) {
      this.move()
      this.thread.until(() => !this.asking)
      if (this.fault !== null) throw this.fault
    }
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
  }

  // ---- everything else ------------------------------------------------------------------------------------------

  read(run: string, after: number): IterableIterator<Entry> {
    this.settle()
    return this.pages(run, after, this.nextSeq)
  }

  private *pages(run: string, after: number, end: number): IterableIterator<Entry> {
    for (let position = after; ; ) {
      const entries = this.thread.wait('page', [run, position, end]) as Entry[]
      if (entries.length === 0) return
      yield* entries
      position = entries.at(-1)!.seq
    }
  }

  runs(): string[] {
    this.settle()
    return this.thread.wait('runs', []) as string[]
  }

  saveCheckpoint(checkpoint: Checkpoint, written = () => {}): void {
    // The vectors are views of what goes on changing.
    const vectors = checkpoint.vectors.map((vector) => ({ ...vector, values: vector.values.slice() }))
    this.follow('saveCheckpoint', { ...checkpoint, vectors }, this.nextSeq - 1, written)
  }

  loadCheckpoint(run: string): Checkpoint | null {
    // One that was saved before is on its way behind its entries.
    if (this.behind.length > 0) this.settle()
    return this.thread.wait('loadCheckpoint', [run]) as Checkpoint | null
  }

  prune(run: string): void {
    // After the checkpoints asked before it; entries need not be waited for.
    this.follow('prune', run, this.behind.at(-1)?.seq ?? this.movedTo)
  }

  /** Asks when the entries up to `seq` are in SQLite: a checkpoint stands for entries that are there. */
  private follow(method: 'saveCheckpoint' | 'prune', argument: unknown, seq: number, done = () => {}): void {
    const failed = (error: Error) => this.onFault(storageError(error))
    const ask = () => this.thread.ask(method, [argument], { done, failed })
    if (seq <= this.movedTo || this.thread.ended !== null) return ask()
    this.behind.push({ seq, ask })
    this.move()
  }

  get(key: string): string | null {
    return this.thread.wait('get', [key]) as string | null
  }

  set(key: string, value: string): void {
    this.thread.wait('set', [key, value])
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    try {
      this.settle()
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      // Whoever opens the journal next moves what is left.
    }
    this.stopTimer()
    // While the folder is still ours.
    this.tail.close(this.movedTo === this.nextSeq - 1)
    if (this.thread.ended === null) this.thread.wait('close', [])
    this.thread.close()
  }
}

/** For who does not wait, a mistake of ours is a fault like any other. */
function storageError(error: Error): StorageError {
  return error instanceof StorageError ? error : new StorageError('failed', error.message)
}
