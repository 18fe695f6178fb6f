/**
 * A run's journal folded from its first entry, without a coordinator and without its checkpoints: what the parameters
 * must be if nothing was ever disturbed. The coordinator must be gone, since a journal is open once at a time.
 */
import { join } from 'node:path'
import { openDataset } from '../../coordinator/datasets/datasets.ts'
import type { Entry } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { History, type UpdateData } from '../../coordinator/run/history.ts'
import type { RunSpec } from '../../shared/run-spec.ts'

interface Folded {
  readonly history: History
  /** The parameters' bytes. */
  readonly bits: Buffer
  readonly entries: Entry[]
  /** What the update entries say, in order. */
  readonly updates: UpdateData[]
}

export function offlineFold(folder: string, run: string): Folded {
  const journal = openSqliteJournal(join(folder, 'journal.sqlite'))
  try {
    const entries = [...journal.read(run, 0)]
    const { spec } = entries[0].data as { spec: RunSpec }
    const history = new History(spec, openDataset(spec.dataset))
    for (const entry of entries) history.fold(entry)
    const { buffer } = history.parameters.snapshot()
    const updates = entries.filter(({ kind }) => kind === 'update').map(({ data }) => data as UpdateData)
    return { history, bits: Buffer.from(buffer), entries, updates }
  } finally {
    journal.close()
  }
}

/** How often each position of each epoch was counted: counted[epoch][position]. */
export function countsOf(updates: readonly UpdateData[], examples: number): Map<number, Uint8Array> {
  const counted = new Map<number, Uint8Array>()
  for (const { stretches } of updates) {
    for (const { epoch, from, to } of stretches) {
      const counts = counted.get(epoch) ?? new Uint8Array(examples)
      counted.set(epoch, counts)
      for (let position = from; position < to; position++) counts[position]++
    }
  }
  return counted
}
