/**
 * A process that appends to a journal as fast as it can, to be killed at any instant. It prints the last sequence
 * number of every group after `append` has returned, so what its reader has seen was acknowledged.
 *
 *     node --import tsx test/support/journal-appender.ts FILE SEED [thread]
 */
import { writeSync } from 'node:fs'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { openThreadJournal } from '../../coordinator/journal/thread-journal.ts'
import { Random, Stream } from '../../shared/random.ts'
import { appended } from './journal-entries.ts'

const [path, seed, thread] = process.argv.slice(2)
const raise = (error: Error) => {
  throw error
}
const journal =
  thread === undefined ? openSqliteJournal(path) : await openThreadJournal(path, { onFault: raise, onBroken: raise })
const random = new Random(Number(seed), Stream.sample)
let next = [...journal.read('run', 0)].length + 1
for (let group = 0; ; group++) {
  // The thread's answers are taken here, and what gathered meanwhile is moved.
  if (thread !== undefined && group % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
  const size = 1 + (random.u32(group) % 8)
  const first = journal.append(Array.from({ length: size }, (_, i) => appended(next + i)))
  if (first !== next) throw new Error(`invariant: expected ${next} as the group's first number, got ${first}`)
  next += size
  acknowledge(`${next - 1}\n`)
  // Large, and in the place of an older one: the file is to be killed while it changes, too, not only while it grows.
  if (group % (thread === undefined ? 4 : 16) === 3) {
    const values = new Float32Array(1 << 19).fill(next - 1)
    journal.saveCheckpoint({
      run: 'run',
      seq: next - 1,
      state: next - 1,
      vectors: [{ name: 'parameters', range: 0, values }],
    })
  }
}

/** A reader that is busy lets the pipe run full, which does not block here: then this process waits for it. */
function acknowledge(line: string): void {
  for (;;) {
    try {
      writeSync(1, line)
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}
