/** SQLite journals in a folder of the test's own, where each of them lies, and the faults that it expects. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Journal, StorageError, type StorageFault } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal, type SqliteJournalOptions } from '../../coordinator/journal/sqlite-journal.ts'
import { openThreadJournal } from '../../coordinator/journal/thread-journal.ts'

/** There from `makeFolder` to `removeFolder`, which are for a test file's `beforeAll` and `afterAll`. */
export let folder: string
export function makeFolder(): void {
  folder = mkdtempSync(join(tmpdir(), 'crowdgrad-journal-'))
}
export const removeFolder = (): void => rmSync(folder, { recursive: true })

let files = 0
export const newPath = () => join(folder, `${++files}.journal`)

const paths = new WeakMap<Journal, string>()
export const pathOf = (journal: Journal) => paths.get(journal) as string

export function openAt(path: string, options?: SqliteJournalOptions): Journal {
  const journal = openSqliteJournal(path, options)
  paths.set(journal, path)
  return journal
}

export async function openInThreadAt(path: string): Promise<Journal> {
  const raise = (error: StorageError) => {
    throw error
  }
  const journal = await openThreadJournal(path, { onFault: raise, onBroken: raise })
  paths.set(journal, path)
  return journal
}

/** The StorageError that `work` throws. */
function storageError(work: () => unknown): StorageError {
  try {
    work()
  } catch (error) {
    if (error instanceof StorageError) return error
    throw error
  }
  throw new Error('expected a StorageError, got none')
}

export const expectFault = (work: () => unknown, fault: StorageFault, ...words: string[]) => {
  const error = storageError(work)
  expect(error.fault, error.message).toBe(fault)
  for (const word of words) expect(error.message).toContain(word)
}

/**
 * Tests that wait for hundreds of fsyncs: under a second each on a disk that is free, ten and more on one that is not.
 */
export const SLOW_DISK = { timeout: 60_000 }
