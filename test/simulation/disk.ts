/**
 * The journal of a simulated coordinator: one in memory that outlives it, that takes its time to write, that can be
 * full for a while, and at which the coordinator can be killed just before or just after a write.
 */
import type { BackgroundJournal, Checkpoint, Entry, NewEntry } from '../../coordinator/journal/journal.ts'
import { StorageError } from '../../coordinator/journal/journal.ts'
import { MemoryJournal } from '../../coordinator/journal/memory-journal.ts'

/** kill -9: whoever is in the middle of something never goes on with it. */
export class Killed extends Error {}

export type KillAt = 'before-append' | 'after-append' | 'before-checkpoint' | 'after-checkpoint'

/** An append that was asked for and is not told of yet. */
interface Asked {
  readonly entries: readonly NewEntry[]
  readonly done: (first: number) => void
  readonly failed: (error: StorageError) => void
}

export class Disk implements BackgroundJournal {
  readonly memory = new MemoryJournal()
  full = false
  /** The coordinator dies at the next such moment. */
  killAt: KillAt | null = null
  /** Entries on disk. */
  length = 0
  refusedWrites = 0
  private asked: Asked[] = []
  private readonly onAppended: (entries: Entry[]) => void
  private readonly later: (act: () => void) => void

  /** `later` calls when the disk got so far. */
  constructor(onAppended: (entries: Entry[]) => void, later: (act: () => void) => void) {
    this.onAppended = onAppended
    this.later = later
  }

  /** Appends are under way. */
  get busy(): boolean {
    return this.asked.length > 0
  }

  appendSoon(entries: readonly NewEntry[], done: (first: number) => void, failed: (error: StorageError) => void): void {
    const asked = { entries, done, failed }
    this.asked.push(asked)
    this.later(() => {
      while (this.asked.includes(asked)) this.deliver()
    })
  }

  /** The oldest append under way comes to its end. */
  private deliver(): void {
    const { entries, done, failed } = this.asked.shift()!
    let first: number
    try {
      first = this.write(entries)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      return failed(error)
    }
    done(first)
  }

  /** The coordinator is dead: of what was under way the first few got to the disk, and nobody was told. */
  abandon(written: (underWay: number) => number): void {
    const { asked } = this
    this.asked = []
    this.killAt = null
    for (const { entries } of asked.slice(0, written(asked.length))) if (!this.full) this.write(entries)
  }

  append(entries: readonly NewEntry[]): number {
    while (this.asked.length > 0) this.deliver()
    return this.write(entries)
  }

  private write(entries: readonly NewEntry[]): number {
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

  saveCheckpoint(checkpoint: Checkpoint): void {
    this.die('before-checkpoint')
    this.refuseIfFull()
    this.memory.saveCheckpoint(checkpoint)
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
