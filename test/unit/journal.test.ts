/** Journals in SQLite, in a thread and in memory: each keeps the contract, and they say the same as one another. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Journal } from '../../coordinator/journal/journal.ts'
import { journalContract } from '../support/journal-contract.ts'
import { entry, floats, numbers } from '../support/journal-entries.ts'
import {
  expectFault,
  makeFolder,
  newPath,
  openAt,
  openInThreadAt,
  pathOf,
  removeFolder,
  SLOW_DISK,
} from '../support/journal-files.ts'
import { MemoryJournal } from '../support/memory-journal.ts'

beforeAll(makeFolder)
afterAll(removeFolder)

const sqlite = {
  open: () => openAt(newPath()),
  reopen: (journal: Journal) => {
    journal.close()
    return openAt(pathOf(journal))
  },
}
const memory = {
  open: () => new MemoryJournal(),
  reopen: (journal: Journal) => {
    journal.close()
    return (journal as MemoryJournal).reopen()
  },
}
journalContract('sqlite', sqlite)
journalContract('sqlite in a thread', {
  open: () => openInThreadAt(newPath()),
  reopen: (journal: Journal) => {
    journal.close()
    return openInThreadAt(pathOf(journal))
  },
})
journalContract('memory', memory)

describe('the journal in memory', () => {
  test('the next write can be made to fail: nothing of it exists, and the one after works', () => {
    const journal = new MemoryJournal()
    journal.append([entry('a', 1)])
    journal.failNext('full')
    expectFault(() => journal.append([entry('a', 2), entry('a', 3)]), 'full')
    expect(numbers(journal.read('a', 0))).toEqual([1])
    expect(journal.append([entry('a', 4)])).toBe(2)
    journal.failNext('failed')
    expectFault(() => journal.saveCheckpoint({ run: 'a', seq: 2, state: null, vectors: [] }), 'failed')
    expect(journal.loadCheckpoint('a')).toBeNull()
    journal.saveCheckpoint({ run: 'a', seq: 2, state: null, vectors: [] })
    expect(journal.loadCheckpoint('a')?.seq).toBe(2)
  })
})

describe('both journals', () => {
  type Step =
    | { step: 'append'; runs: number[] }
    | { step: 'checkpoint'; run: number; seq: number }
    | { step: 'prune'; run: number }
    | { step: 'restart' }
  const run = fc.nat({ max: 2 })
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ step: fc.constant('append' as const), runs: fc.array(run, { maxLength: 5 }) }),
      },
      { weight: 3, arbitrary: fc.record({ step: fc.constant('checkpoint' as const), run, seq: fc.nat({ max: 30 }) }) },
      { weight: 2, arbitrary: fc.record({ step: fc.constant('prune' as const), run }) },
      { weight: 1, arbitrary: fc.record({ step: fc.constant('restart' as const) }) },
    ),
    { minLength: 5, maxLength: 30 },
  )

  test('say the same after any sequence of steps', SLOW_DISK, () => {
    const take = (journal: Journal, step: Step, restart: (journal: Journal) => Journal): Journal => {
      if (step.step === 'append') journal.append(step.runs.map((each, i) => entry(`run-${each}`, i)))
      if (step.step === 'prune') journal.prune(`run-${step.run}`)
      if (step.step === 'checkpoint') {
        const { seq } = step
        journal.saveCheckpoint({ run: `run-${step.run}`, seq, state: { seq }, vectors: floats(seq) })
      }
      return step.step === 'restart' ? restart(journal) : journal
    }
    const all = (journal: Journal) => ({
      runs: journal.runs(),
      entries: [0, 1, 2].map((each) => [...journal.read(`run-${each}`, 0)]),
      checkpoints: [0, 1, 2].map((each) => journal.loadCheckpoint(`run-${each}`)),
    })
    fc.assert(
      fc.property(steps, (sequence) => {
        let durable = sqlite.open()
        let model: Journal = memory.open()
        for (const step of sequence) {
          durable = take(durable, step, sqlite.reopen)
          model = take(model, step, memory.reopen)
        }
        try {
          expect(all(durable)).toEqual(all(model))
        } finally {
          durable.close()
        }
      }),
      { numRuns: 25, seed: 20260801 },
    )
  })
})
