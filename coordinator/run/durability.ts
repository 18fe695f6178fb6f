/**
 * What makes runs outlive the process: entries that are in the journal before anything is told of them, and the
 * checkpoints from which they are folded again.
 */
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Identity } from '../datasets/identity.ts'
import { type Checkpoint, type Entry, type Journal, type NewEntry, StorageError } from '../journal/journal.ts'
import { History } from './history.ts'
import type { Run } from './run.ts'

/** Data of a `created` entry, the first of every run. */
export interface CreatedData {
  spec: RunSpec
  createdAt: number
  /** Runs that were created before this was written down have none. */
  data?: Identity
}

export interface Alarm {
  /** What is in the journal could not be folded in: nothing that this process says from now on can be believed. */
  broken(error: Error): void
  /** Something an operator should read in the log. */
  warn(message: string, details: Record<string, unknown>): void
}

export class Durability {
  private readonly journal: Journal
  private readonly alarm: Alarm
  private readonly onRest: (run: Run) => void
  /** Something that is journalled could not be folded in. */
  private isBroken = false
  private lastFault: string | null = null

  /** `onRest` hears of a run of which only what it came to is kept from now on. */
  constructor(journal: Journal, alarm: Alarm, onRest: (run: Run) => void) {
    this.journal = journal
    this.alarm = alarm
    this.onRest = onRest
  }

  /** Why the last write failed; null where it did not. */
  get fault(): string | null {
    return this.lastFault
  }

  /** A run of the journal: its newest checkpoint, then the fold over what came after it. */
  recover(id: string, open: (created: CreatedData, checkpoint?: Checkpoint) => Run): Run {
    const created = this.journal.read(id, 0).next().value as Entry | undefined
    if (created?.kind !== 'created')
      throw new Error(`invariant: the journal of run ${id} does not begin with its creation`)
    const checkpoint = this.journal.loadCheckpoint(id) ?? undefined
    const run = open(created.data as CreatedData, checkpoint)
    for (const entry of this.journal.read(id, checkpoint?.seq ?? 0)) {
      if (entry.pruned) {
        throw new StorageError(
          'damaged',
          `run ${id} has no checkpoint that reads back, and the updates before it are pruned: ` +
            'restore a copy of the data folder, or move it aside to begin anew',
        )
      }
      run.history.fold(entry)
    }
    return run
  }

  /** What the run has come to; of one that failed, as its last good checkpoint has it. */
  lastGood(run: Run): History {
    const checkpoint = run.state === 'failed' ? this.journal.loadCheckpoint(run.id) : null
    return checkpoint === null ? run.history : new History(run.spec, run.history.dataset, checkpoint)
  }

  /** Throws StorageError, having noted it, and none of them is in the journal. */
  append(entries: readonly NewEntry[]): Entry[] {
    try {
      const first = this.journal.append(entries)
      this.lastFault = null
      return entries.map((entry, i) => ({ ...entry, seq: first + i, pruned: false }))
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      if (message !== this.lastFault) this.alarm.warn('the journal could not be written', { error: message })
      this.lastFault = message
      throw error
    }
  }

  /** Folds in what is in the journal: where that fails, nothing is written any more. */
  fold<T>(fold: () => T): T {
    try {
      return fold()
    } catch (error) {
      this.isBroken = true
      this.alarm.broken(error as Error)
      throw error
    }
  }

  saveCheckpoint(run: Run): void {
    // The last one of a run that failed, or may be about to, is the last that was good.
    const doubtful = run.state !== 'finished' && !run.history.sound
    if (this.isBroken || run.state === 'failed' || doubtful || run.history.saved) return
    const checkpoint = run.history.checkpoint(run.id)
    if (checkpoint === null) return
    try {
      this.journal.saveCheckpoint(checkpoint, () => {
        run.history.wrote(checkpoint)
        this.restIfOver(run)
      })
      if (run.spec.journal === 'since-checkpoint') this.journal.prune(run.id)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      this.alarm.warn('a checkpoint could not be written; the journal still holds everything', {
        run: run.id,
        error: error.message,
      })
    }
  }

  /** A run that is over keeps only what it came to; of one that failed its last good checkpoint is taken away. */
  restIfOver(run: Run): void {
    if (this.isBroken || !run.over || run.history.resting) return
    if (run.state === 'finished' && !run.history.saved) return
    run.history.rest()
    this.onRest(run)
  }
}
