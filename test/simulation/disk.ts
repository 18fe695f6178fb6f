/**
 * The journal of a simulated coordinator: one in memory that outlives it, that can be full for a while, and at which
 * the coordinator can be killed just before or just after a write.
 */
import type { Checkpoint, Entry, Journal, NewEntry } from '../../coordinator/journal/journal.ts'
import { StorageError } from '../../coordinator/journal/journal.ts'
import { MemoryJournal } from '../support/memory-journal.ts'

/** kill -9: whoever is in the middle of something never goes on with it. */
export class Killed extends Error {}

export type KillAt = 'before-append' | 'after-append' | 'before-checkpoint' | 'after-checkpoint'

export class Disk implements Journal {
  readonly memory = new MemoryJournal()
  full = false
  /** The coordinator dies at the next such moment. */
  killAt: KillAt | null = null
  /** Entries on disk. */
  length = 0
  refusedWrites = 0
  private readonly onAppended: (entries: Entry[]) => void

  constructor(onAppended: (entries: Entry[]) => void) {
    this.onAppended = onAppended
  }

  append(entries: readonly NewEntry[]): number {
    this.die('before-append')
    this.refuseIfFull()
    const first = this.memory.append(entries)
    this.length += entries.length
    // Read back, not passed on: what a fold after a crash would see.
    for (const run of new Set(entries.map((entry) => entry.run))) {
      this.onAppended([...this.memory.read(run, first - 1)])
    }
    this.die('after-append')
    return first
  }

  saveCheckpoint(checkpoint: Checkpoint, written?: () => void): void {
    this.die('before-checkpoint')
    this.refuseIfFull()
    this.memory.saveCheckpoint(checkpoint, written)
    this.die('after-checkpoint')
  }

  read(run: string, after: number): IterableIterator<Entry> {
    return this.memory.read(run, after)
  }
  runs(): string[] {
    return this.memory.runs()
  }
  loadCheckpoint(run: string): Checkpoint | null {
    return this.memory.loadCheckpoint(run)
  }
  prune(run: string): void {
    this.refuseIfFull()
    this.memory.prune(run)
  }
  get(key: string): string | null {
    return this.memory.get(key)
  }
  set(key: string, value: string): void {
    this.memory.set(key, value)
  }
  close(): void {}

  private refuseIfFull(): void {
    if (!this.full) return
    this.refusedWrites++
    throw new StorageError('full', 'the simulated disk is full')
  }

  private die(moment: KillAt): void {
    if (this.killAt !== moment) return
    this.killAt = null
    throw new Killed(moment)
  }
}
