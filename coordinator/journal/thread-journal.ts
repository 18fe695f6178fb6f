/**
 * The SQLite journal in a thread of its own, so that no fsync ever holds up a socket. `appendSoon` and `saveCheckpoint`
 * return at once; everything else waits for its answer. Requests are done, and their outcomes told, in the order in
 * which they were made, whichever way they were made: the fold over the journal depends on it.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { type BackgroundJournal, type Checkpoint, type Entry, type NewEntry, StorageError } from './journal.ts'
import type { JournalThreadData, PackedEntry, Reply, Request } from './journal-thread.ts'
import { PayloadRing } from './payload-ring.ts'
import type { SqliteJournalOptions } from './sqlite-journal.ts'

/** An answer that takes longer will not come: the thread is gone or the disk hangs. */
const ANSWER_WITHIN_MS = 60_000
const WATCH_EVERY_MS = 5_000

interface Asked {
  /** Milliseconds, monotonic. */
  readonly at: number
  done(result: unknown): void
  failed(error: Error): void
}

export interface Hearing {
  /** A checkpoint could not be written; the entries it stands for are all in the journal. */
  onFault(error: StorageError): void
  /** The thread is gone: nothing will be written any more, and what was on its way may or may not be on the disk. */
  onBroken(error: StorageError): void
}

export interface ThreadJournalOptions extends SqliteJournalOptions {
  answerWithinMs?: number
}

export async function openThreadJournal(
  path: string,
  hearing: Hearing,
  options: ThreadJournalOptions = {},
): Promise<BackgroundJournal> {
  const journal = new ThreadJournal(path, hearing, options)
  await journal.open()
  return journal
}

class ThreadJournal implements BackgroundJournal {
  private readonly worker: Worker
  private readonly port: MessagePort
  private readonly ring = new PayloadRing()
  private readonly replies = new Int32Array(new SharedArrayBuffer(4))
  /** What was asked and is not answered yet, in order. */
  private readonly asked = new Map<number, Asked>()
  private readonly onFault: (error: StorageError) => void
  private readonly onBroken: (error: StorageError) => void
  private readonly answerWithinMs: number
  private lastId = 0
  /** Looks whether the oldest request is answered in time, where nobody waits for it. */
  private watch: NodeJS.Timeout | undefined
  private broken: StorageError | null = null

  constructor(path: string, { onFault, onBroken }: Hearing, options: ThreadJournalOptions) {
    this.answerWithinMs = options.answerWithinMs ?? ANSWER_WITHIN_MS
    this.onFault = onFault
    this.onBroken = onBroken
    const { port1, port2 } = new MessageChannel()
    const entry = new URL('./journal-thread.ts', import.meta.url).href
    const workerData: JournalThreadData = {
      entry,
      path,
      options,
      port: port2,
      replies: this.replies,
      ring: this.ring.memory,
    }
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
      const done = () => {
        // Opening may take as long as it needs to recover.
        this.watch = setInterval(() => this.breakOffIfLate(), Math.min(WATCH_EVERY_MS, this.answerWithinMs)).unref()
        resolve()
      }
      this.ask('open', [], { done, failed })
    })
  }

  append(entries: readonly NewEntry[]): number {
    if (this.broken !== null) throw this.broken
    const { sent, placed } = this.pack(entries)
    try {
      return this.wait('append', [sent]) as number
    } finally {
      this.ring.free(placed)
    }
  }

  appendSoon(entries: readonly NewEntry[], done: (first: number) => void, failed: (error: StorageError) => void): void {
    if (this.broken !== null) return failed(this.broken)
    const { sent, placed } = this.pack(entries)
    this.ask('append', [sent], {
      done: (first) => {
        this.ring.free(placed)
        done(first as number)
      },
      failed: (error) => {
        this.ring.free(placed)
        failed(storageError(error))
      },
    })
  }

  /** The entries with their payloads put into shared memory, as far as there is room. */
  private pack(entries: readonly NewEntry[]): { sent: PackedEntry[]; placed: number } {
    let placed = 0
    const sent = entries.map((entry): PackedEntry => {
      if (entry.payload === null) return entry
      const place = this.ring.put(entry.payload)
      if (place !== null) placed++
      // Sent by itself it is copied, and copying a view would copy all of the buffer behind it.
      return { ...entry, payload: place ?? new Uint8Array(entry.payload) }
    })
    return { sent, placed }
  }

  read(run: string, after: number): IterableIterator<Entry> {
    // Where the next entry would come: what is there now ends before it.
    const end = this.append([])
    return this.pages(run, after, end)
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
    return this.wait('runs', []) as string[]
  }

  saveCheckpoint(checkpoint: Checkpoint): void {
    // The vectors are views of what goes on changing.
    const vectors = checkpoint.vectors.map((vector) => ({ ...vector, values: vector.values.slice() }))
    this.ask('saveCheckpoint', [{ ...checkpoint, vectors }], {
      done: () => {},
      failed: (error) => this.onFault(storageError(error)),
    })
  }

  loadCheckpoint(run: string): Checkpoint | null {
    return this.wait('loadCheckpoint', [run]) as Checkpoint | null
  }

  prune(run: string): void {
    this.ask('prune', [run], { done: () => {}, failed: (error) => this.onFault(storageError(error)) })
  }

  get(key: string): string | null {
    return this.wait('get', [key]) as string | null
  }

  set(key: string, value: string): void {
    this.wait('set', [key, value])
  }

  close(): void {
    if (this.broken !== null) return
    this.wait('close', [])
    this.broken = new StorageError('failed', 'invariant: the journal is closed')
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
    while (outcome === null) {
      const seen = Atomics.load(this.replies, 0)
      const received = receiveMessageOnPort(this.port)
      if (received !== undefined) this.deliver(received.message as Reply)
      else if (Atomics.wait(this.replies, 0, seen, this.answerWithinMs) === 'timed-out') this.breakOff(this.late)
    }
    const settled = outcome as { result: unknown } | { error: Error }
    if ('error' in settled) throw settled.error
    return settled.result
  }

  private ask(method: Request['method'], args: unknown[], asked: Omit<Asked, 'at'>): void {
    if (this.broken !== null) return asked.failed(this.broken)
    const id = ++this.lastId
    this.asked.set(id, { ...asked, at: performance.now() })
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
    if (oldest !== undefined && performance.now() - oldest.at > this.answerWithinMs) this.breakOff(this.late)
  }

  private get late(): string {
    return `the journal did not answer within ${this.answerWithinMs / 1000} s`
  }

  /** Whoever still waits hears that nothing more will come. */
  private breakOff(message: string): void {
    // Closed in order, or broken before.
    if (this.broken !== null) return
    this.broken = new StorageError('failed', message)
    // What still writes must not read the ring that others fill again.
    void this.worker.terminate()
    this.onBroken(this.broken)
    const waiting = [...this.asked.values()]
    this.asked.clear()
    for (const asked of waiting) asked.failed(this.broken)
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
