/** A journal in SQLite whose process is killed with SIGKILL, again and again: what was acknowledged is there. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Random, Stream } from '../../shared/random.ts'
import { appended } from '../support/journal-entries.ts'
import { makeFolder, newPath, openAt, removeFolder, SLOW_DISK } from '../support/journal-files.ts'

beforeAll(makeFolder)
afterAll(removeFolder)

describe('the journal in SQLite, killed with SIGKILL', () => {
  test('every acknowledged entry is there, whole and in order', SLOW_DISK, async () => {
    await Promise.all([killAgainAndAgain(1), killAgainAndAgain(2)])
  })

  test('… and so it is where a thread moves what gathers in the tail', SLOW_DISK, async () => {
    await killAgainAndAgain(3, 'thread')
  })

  /** Five lives of one journal. */
  async function killAgainAndAgain(seed: number, ...how: string[]): Promise<void> {
    const path = newPath()
    const random = new Random(seed, Stream.sample)
    for (let kill = 0; kill < 5; kill++) {
      // Without waiting for a disk there are some hundred groups between two moves.
      const groups = 1 + (random.u32(kill) % (how.length > 0 ? 150 : 25))
      const acknowledged = await appendUntilKilled(path, kill, groups, how)
      const journal = openAt(path)
      let count = 0
      for (const { seq, pruned, ...read } of journal.read('run', 0)) {
        count++
        if (seq !== count || pruned) throw new Error(`expected entry ${count}, got ${seq} (pruned: ${pruned})`)
        if (!Buffer.from(read.payload ?? []).equals(appended(seq).payload ?? new Uint8Array(0))) {
          throw new Error(`entry ${seq} is not whole`)
        }
        if (seq % 50 === 0) expect(read).toEqual(appended(seq))
      }
      expect(count).toBeGreaterThanOrEqual(acknowledged)
      const checkpoint = journal.loadCheckpoint('run')
      if (checkpoint !== null) {
        expect(checkpoint.state).toBe(checkpoint.seq)
        expect(checkpoint.seq).toBeLessThanOrEqual(count)
        expect(checkpoint.vectors[0].values.at(-1)).toBe(checkpoint.seq)
      }
      journal.close()
    }
  }

  /** The last sequence number that the appender had acknowledged when it died, some groups after it was told to. */
  async function appendUntilKilled(path: string, seed: number, groups: number, how: string[]): Promise<number> {
    const args = ['--import', 'tsx', 'test/support/journal-appender.ts', path, String(seed), ...how]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)))
    let last = 0
    let lines = 0
    for await (const line of createInterface({ input: child.stdout })) {
      last = Number(line)
      if (++lines === groups) child.kill('SIGKILL')
    }
    expect(await ended).toBe('SIGKILL')
    expect(lines).toBeGreaterThanOrEqual(groups)
    return last
  }
})
