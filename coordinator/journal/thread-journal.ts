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
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { type Checkpoint, type Entry, type Journal, type NewEntry, StorageError } from './journal.ts'
import type { JournalThreadData, Reply, Request } from './journal-thread.ts'
import type { SqliteJournalOptions } from './sqlite-journal.ts'
import { type Filled, Tail } from './tail.ts'

/** An answer that takes longer will not come: the thread is gone or the disk hangs. */
const ANSWER_WITHIN_MS = 60_000
const WATCH_EVERY_MS = 5_000
/** What a loss of power costs at most, but for what the disk takes longer. */
const MOVE_AFTER_MS = 20
const MOVE_RETRY_MS = 1_000
/** Where the disk is slower than the crowd, it is waited for. */
const TAIL_MAX_BYTES = 64 * 1024 * 1024

interface Asked {
  /** How often the watch found it unanswered. */
  looks: number
  done(result: unknown): void
  failed(error: Error): void
}

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
  private readonly worker: Worker
  private readonly port: MessagePort
  private readonly replies = new Int32Array(new SharedArrayBuffer(4))
  /** What was asked and is not answered yet, in order. */
  private readonly asked = new Map<number, Asked>()
  private readonly onFault: (error: StorageError) => void
  private readonly onBroken: (error: StorageError) => void
  private readonly answerWithinMs: number
  private readonly tailMaxBytes: number
  private lastId = 0
  /** Looks whether the oldest request is answered in time, where nobody waits for it. */
  private watch: NodeJS.Timeout | undefined
  private broken: Error | null = null
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
    this.path = path
    this.answerWithinMs = options.answerWithinMs ?? ANSWER_WITHIN_MS
    this.tailMaxBytes = options.tailMaxBytes ?? TAIL_MAX_BYTES
    this.onFault = onFault
    this.onBroken = onBroken
    const { port1, port2 } = new MessageChannel()
    const entry = new URL('./journal-thread.ts', import.meta.url).href
    const workerData: JournalThreadData = { entry, path, options, port: port2, replies: this.replies }
    this.worker = new Worker(new URL('../thread.mjs', import.meta.url), { workerData, transferList: [port2] })
    this.port = port1
    this.port.on('message', (reply: Reply) => this.deliver(reply))
    this.worker.on('error', (error) => this.breakOff(`the journal's thread failed: ${error.message}`))
    this.worker.on('exit', () => this.breakOff("the journal's thread ended"))
  }

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      const failed = (error: Error) => {
        // Refused, not broken: whoever opens hears it, and nobody else.
        this.broken = storageError(error)
        void this.worker.terminate().then(() => reject(error))
      }
      const done = (next: unknown) => {
        this.nextSeq = next as number
        this.movedTo = this.nextSeq - 1
        try {
          this.tail = new Tail(this.path)
        } catch (error) {
          return failed(error as Error)
        }
        // Opening may take as long as it needs to recover.
        this.watch = setInterval(() => this.breakOffIfLate(), this.watchEveryMs).unref()
        resolve()
      }
      this.ask('open', [], { done, failed })
    })
  }

  // ---- appending ------------------------------------------------------------------------------------------------

  append(entries: readonly NewEntry[]): number {
    if (this.broken !== null) throw this.broken
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
      if (error instanceof StorageError && error.fault !== 'full') this.breakOff(error.message)
      throw error
    }
  }

  private moveLater(ms: number): void {
    this.timer ??= setTimeout(() => this.move(), ms)
  }

  /** Has the thread move what the tail holds, unless it is at it. */
  private move(): void {
    this.stopTimer()
    if (this.broken !== null || this.asking) return
    // What could not be moved comes first.
    if (this.moving === null && this.tail.bytes > 0) this.moving = { ...this.tail.turn(), upTo: this.nextSeq - 1 }
    if (this.moving === null) return
    this.asking = true
    const { upTo, ...filled } = this.moving
    this.ask('move', [filled], {
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
    if (error.fault !== 'full') return this.breakOff(error.message)
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
    if (this.broken !== null) throw this.broken
    while (this.movedTo < this.nextSeq - 1) {
      this.move()
      this.until(() => !this.asking)
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
      const entries = this.wait('page', [run, position, end]) as Entry[]
      if (entries.length === 0) return
      yield* entries
      position = entries.at(-1)!.seq
    }
  }

  runs(): string[] {
    this.settle()
    return this.wait('runs', []) as string[]
  }

  saveCheckpoint(checkpoint: Checkpoint, written = () => {}): void {
    // The vectors are views of what goes on changing.
    const vectors = checkpoint.vectors.map((vector) => ({ ...vector, values: vector.values.slice() }))
    this.follow('saveCheckpoint', { ...checkpoint, vectors }, this.nextSeq - 1, written)
  }

  loadCheckpoint(run: string): Checkpoint | null {
    // One that was saved before is on its way behind its entries.
    if (this.behind.length > 0) this.settle()
    return this.wait('loadCheckpoint', [run]) as Checkpoint | null
  }

  prune(run: string): void {
    // After the checkpoints asked before it; entries need not be waited for.
    this.follow('prune', run, this.behind.at(-1)?.seq ?? this.movedTo)
  }

  /** Asks when the entries up to `seq` are in SQLite: a checkpoint stands for entries that are there. */
  private follow(method: 'saveCheckpoint' | 'prune', argument: unknown, seq: number, done = () => {}): void {
    const failed = (error: Error) => this.onFault(storageError(error))
    const ask = () => this.ask(method, [argument], { done, failed })
    if (seq <= this.movedTo || this.broken !== null) return ask()
    this.behind.push({ seq, ask })
    this.move()
  }

  get(key: string): string | null {
    return this.wait('get', [key]) as string | null
  }

  set(key: string, value: string): void {
    this.wait('set', [key, value])
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
    if (this.broken === null) this.wait('close', [])
    this.broken = new Error('invariant: the journal is closed')
    clearInterval(this.watch)
    this.port.close()
  }

  /** Asks and waits. What was asked before is told first. */
  private wait(method: Request['method'], args: unknown[]): unknown {
    let outcome: { result: unknown } | { error: Error } | null = null
    this.ask(method, args, {
      done: (result) => {
        outcome = { result }
      },
      failed: (error) => {
        outcome = { error }
      },
    })
    this.until(() => outcome !== null)
    const settled = outcome as unknown as { result: unknown } | { error: Error }
    if ('error' in settled) throw settled.error
    return settled.result
  }

  /** Takes replies, and sleeps where there are none, until it is so. */
  private until(so: () => boolean): void {
    for (let looks = 0; !so(); ) {
      const seen = Atomics.load(this.replies, 0)
      const received = receiveMessageOnPort(this.port)
      if (received !== undefined) {
        this.deliver(received.message as Reply)
        looks = 0
      } else if (Atomics.wait(this.replies, 0, seen, this.watchEveryMs) === 'timed-out') {
        if (++looks * this.watchEveryMs >= this.answerWithinMs) this.breakOff(this.late)
      }
    }
  }

  private ask(method: Request['method'], args: unknown[], asked: Omit<Asked, 'looks'>): void {
    if (this.broken !== null) return asked.failed(this.broken)
    const id = ++this.lastId
    this.asked.set(id, { ...asked, looks: 0 })
    this.port.postMessage({ id, method, args } satisfies Request)
  }

  private deliver(reply: Reply): void {
    const asked = this.asked.get(reply.id)
    this.asked.delete(reply.id)
    if ('fault' in reply) asked?.failed(errorOf(reply))
    else asked?.done(reply.result)
  }

  private breakOffIfLate(): void {
    const [oldest] = this.asked.values()
    if (oldest !== undefined && ++oldest.looks * this.watchEveryMs > this.answerWithinMs) this.breakOff(this.late)
  }

  /**
   * Looks are counted, not the time between them: of a process that was stopped (a frozen container) the thread was
   * stopped with it, and it has its time to answer when both go on.
   */
  private get watchEveryMs(): number {
    return Math.min(WATCH_EVERY_MS, this.answerWithinMs)
  }

  private get late(): string {
    return `the journal did not answer within ${this.answerWithinMs / 1000} s`
  }

  /** Whoever still waits hears that nothing more will come. */
  private breakOff(message: string): void {
    // Closed in order, or broken before.
    if (this.broken !== null) return
    const error = new StorageError('failed', message)
    this.broken = error
    void this.worker.terminate()
    this.stopTimer()
    this.onBroken(error)
    const waiting = [...this.asked.values()]
    this.asked.clear()
    for (const asked of waiting) asked.failed(error)
  }
}

/** What cannot be written at all is the caller's mistake, not the disk's. */
function errorOf({ fault, message }: Extract<Reply, { fault: unknown }>): Error {
  return fault === 'mistake' ? new TypeError(message) : new StorageError(fault, message)
}

/** For who does not wait, a mistake of ours is a fault like any other. */
function storageError(error: Error): StorageError {
  return error instanceof StorageError ? error : new StorageError('failed', error.message)
}
