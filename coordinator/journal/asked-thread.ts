/**
 * The journal's thread (journal-thread.ts), as whoever asks it has it. It answers in order; an answer is waited for, or
 * told when it comes. Where the thread ends, or an answer does not come in time, it is broken off, and whoever still
 * waits hears that nothing more will come.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { StorageError } from './journal.ts'
import type { JournalThreadData, Reply, Request } from './journal-thread.ts'
import type { SqliteJournalOptions } from './sqlite-journal.ts'

const WATCH_EVERY_MS = 5_000

/** Who hears the answer. */
export interface Answered {
  done(result: unknown): void
  failed(error: Error): void
}

interface Asked extends Answered {
  /** How often the watch found it unanswered. */
  looks: number
}

export interface AskedThreadOptions {
  /** An answer that takes longer will not come: the thread is gone or the disk hangs. */
  readonly answerWithinMs: number
  readonly onBroken: (error: StorageError) => void
}

export class AskedThread {
  private readonly worker: Worker
  private readonly port: MessagePort
  private readonly replies = new Int32Array(new SharedArrayBuffer(4))
  /** What was asked and is not answered yet, in order. */
  private readonly asked = new Map<number, Asked>()
  private readonly options: AskedThreadOptions
  private lastId = 0
  /** Looks whether the oldest request is answered in time, where nobody waits for it. */
  private watch: NodeJS.Timeout | undefined
  private reason: Error | null = null

  constructor(path: string, sqlite: SqliteJournalOptions, options: AskedThreadOptions) {
    this.options = options
    const { port1, port2 } = new MessageChannel()
    const entry = new URL('./journal-thread.ts', import.meta.url).href
    const workerData: JournalThreadData = { entry, path, options: sqlite, port: port2, replies: this.replies }
    this.worker = new Worker(new URL('../thread.mjs', import.meta.url), { workerData, transferList: [port2] })
    this.port = port1
    this.port.on('message', (reply: Reply) => this.deliver(reply))
    this.worker.on('error', (error) => this.breakOff(`the journal's thread failed: ${error.message}`))
    this.worker.on('exit', () => this.breakOff("the journal's thread ended"))
  }

  /** Why nothing can be asked any more; null while it can. */
  get ended(): Error | null {
    return this.reason
  }

  ask(method: Request['method'], args: unknown[], answered: Answered): void {
    if (this.reason !== null) return answered.failed(this.reason)
    const id = ++this.lastId
    this.asked.set(id, { ...answered, looks: 0 })
    this.port.postMessage({ id, method, args } satisfies Request)
  }

  /** Asks and waits. What was asked before is told first. */
  wait(method: Request['method'], args: unknown[]): unknown {
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
  until(so: () => boolean): void {
    for (let looks = 0; !so(); ) {
      const seen = Atomics.load(this.replies, 0)
      const received = receiveMessageOnPort(this.port)
      if (received !== undefined) {
        this.deliver(received.message as Reply)
        looks = 0
      } else if (Atomics.wait(this.replies, 0, seen, this.watchEveryMs) === 'timed-out') {
        if (++looks * this.watchEveryMs >= this.options.answerWithinMs) this.breakOff(this.late)
      }
    }
  }

  /** From now on an answer may take only so long where nobody waits for it, too. */
  beginWatch(): void {
    this.watch = setInterval(() => this.breakOffIfLate(), this.watchEveryMs).unref()
  }

  /** Nothing can be asked any more, and whoever still waits hears it. */
  breakOff(message: string): void {
    // Closed in order, or broken before.
    if (this.reason !== null) return
    const error = new StorageError('failed', message)
    this.reason = error
    void this.worker.terminate()
    this.options.onBroken(error)
    const waiting = [...this.asked.values()]
    this.asked.clear()
    for (const { failed } of waiting) failed(error)
  }

  /** It ends, and nobody has to be told. */
  async abandon(reason: Error): Promise<void> {
    this.reason = reason
    await this.worker.terminate()
  }

  /** After it was asked to close, or broken off. */
  close(): void {
    this.reason = new Error('invariant: the journal is closed')
    clearInterval(this.watch)
    this.port.close()
  }

  private deliver(reply: Reply): void {
    const asked = this.asked.get(reply.id)
    this.asked.delete(reply.id)
    if ('fault' in reply) asked?.failed(errorOf(reply))
    else asked?.done(reply.result)
  }

  private breakOffIfLate(): void {
    const [oldest] = this.asked.values()
    const late = oldest !== undefined && ++oldest.looks * this.watchEveryMs > this.options.answerWithinMs
    if (late) this.breakOff(this.late)
  }

  /**
   * Looks are counted, not the time between them: of a process that was stopped (a frozen container) the thread was
   * stopped with it, and it has its time to answer when both go on.
   */
  private get watchEveryMs(): number {
    return Math.min(WATCH_EVERY_MS, this.options.answerWithinMs)
  }

  private get late(): string {
    return `the journal did not answer within ${this.options.answerWithinMs / 1000} s`
  }
}

/** What cannot be written at all is the caller's mistake, not the disk's. */
function errorOf({ fault, message }: Extract<Reply, { fault: unknown }>): Error {
  return fault === 'mistake' ? new TypeError(message) : new StorageError(fault, message)
}
