/** The journal's tail: what a process left in it is there for whoever opens the journal next, and nothing else is. */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { StorageError } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { filledRows, Tail } from '../../coordinator/journal/tail.ts'
import { openThreadJournal } from '../../coordinator/journal/thread-journal.ts'
import { entry } from '../support/journal-entries.ts'

const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-tail-'))
afterAll(() => rmSync(folder, { recursive: true }))

let path = ''
let files = 0
beforeEach(() => {
  path = join(folder, `${++files}.journal`)
})

/** A journal that holds entries 1 to n. */
function journalOf(n: number): void {
  const journal = openSqliteJournal(path)
  for (let i = 1; i <= n; i++) journal.append([entry('run', i)])
  journal.close()
}

const entries = (from: number, to: number, bytes: number | null = 100) =>
  Array.from({ length: to - from + 1 }, (_, i) => entry('run', from + i, bytes))

/** What whoever opens the journal finds; its entries are the ones that were written. */
function found(): number[] {
  const journal = openSqliteJournal(path)
  const read = [...journal.read('run', 0)]
  journal.close()
  for (const { seq, pruned, payload, ...rest } of read) {
    const { payload: written, ...others } = entry('run', seq, payload?.length ?? null)
    expect({ ...rest, pruned }).toEqual({ ...others, pruned: false })
    expect(Buffer.from(payload ?? []).equals(written ?? new Uint8Array(0))).toBe(true)
  }
  return read.map(({ seq }) => seq)
}

describe('what is left in the tail', () => {
  test('is moved in by whoever opens the journal next, once [J1]', () => {
    journalOf(2)
    const tail = new Tail(path)
    tail.write(entries(3, 5), 3)
    tail.turn()
    tail.write([entry('run', 6, null), entry('run', 7, 0)], 6)
    tail.close(false)
    expect(found()).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(existsSync(`${path}-tail0`)).toBe(false)
    expect(found()).toEqual([1, 2, 3, 4, 5, 6, 7])
  })

  test('is a beginning of what was written, wherever it was cut off', () => {
    journalOf(1)
    const tail = new Tail(path)
    tail.write(entries(2, 4), 2)
    tail.close(false)
    const whole = readFileSync(`${path}-tail0`)
    copyFileSync(path, `${path}.before`)
    let most = 1
    for (let bytes = 0; bytes <= whole.length; bytes++) {
      copyFileSync(`${path}.before`, path)
      writeFileSync(`${path}-tail0`, whole.subarray(0, bytes))
      const seqs = found()
      expect(seqs.length).toBeGreaterThanOrEqual(most)
      most = seqs.length
      expect(seqs).toEqual([1, 2, 3, 4].slice(0, most))
    }
    expect(most).toBe(4)
  })

  test('is what was written, whichever byte is another one', () => {
    journalOf(1)
    const tail = new Tail(path)
    tail.write(entries(2, 4, 20), 2)
    tail.close(false)
    const whole = readFileSync(`${path}-tail0`)
    copyFileSync(path, `${path}.before`)
    for (let at = 0; at < whole.length; at += 3) {
      copyFileSync(`${path}.before`, path)
      const spoilt = Buffer.from(whole)
      spoilt[at] ^= 0x11
      writeFileSync(`${path}-tail0`, spoilt)
      const seqs = found()
      expect(seqs).toEqual([1, 2, 3, 4].slice(0, seqs.length))
      expect(seqs.length).toBeLessThan(4)
    }
  })

  test('is without the rest of longer rows that were there before', () => {
    journalOf(8)
    const tail = new Tail(path)
    tail.write(entries(5, 8, 300), 5)
    // They were moved: both files are written from their beginning again.
    tail.turn()
    tail.turn()
    tail.write(entries(9, 10), 9)
    tail.close(false)
    expect(found()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  test('ends where a loss of power took a part of it [J6]', () => {
    journalOf(2)
    const tail = new Tail(path)
    tail.write(entries(3, 5), 3)
    tail.turn()
    tail.write(entries(6, 8), 6)
    tail.close(false)
    truncateSync(`${path}-tail0`, readFileSync(`${path}-tail0`).length - 1)
    expect(found()).toEqual([1, 2, 3, 4])
  })

  test('is not for a new journal in the place of one that was taken away', () => {
    journalOf(0)
    const tail = new Tail(path)
    tail.write(entries(1, 3), 1)
    tail.close(false)
    rmSync(path)
    expect(found()).toEqual([])
  })
})

test('what was filled in is read back as it was written', () => {
  const tail = new Tail(path)
  for (const [from, to] of [
    [1, 40],
    [41, 41],
    [42, 300],
  ]) {
    tail.write(entries(from, to, 37 * (from % 5)), from)
    const filled = tail.turn()
    expect(filledRows(path, filled).map(({ seq }) => seq)).toEqual(entries(from, to).map((_, i) => from + i))
    expect(tail.bytes).toBe(0)
  }
  tail.close(true)
})

describe('a journal whose SQLite is full', () => {
  test('takes what the tail takes, then refuses; nothing that it took is lost, and it goes on when there is room [J1] [J3]', async () => {
    const faults: string[] = []
    const hearing = { onFault: ({ fault }: StorageError) => faults.push(fault), onBroken: () => {} }
    const full = await openThreadJournal(path, hearing, { maxPages: 30 })
    let last = 0
    const refused = await (async () => {
      for (;;) {
        try {
          last = full.append([entry('run', last + 1, 200_000)])
        } catch (error) {
          return error as StorageError
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    expect(refused).toBeInstanceOf(StorageError)
    expect(refused.fault).toBe('full')
    expect(faults).toEqual(['full'])
    expect(() => full.append([entry('run', last + 1)])).toThrow(refused.message)
    full.close()
    expect(existsSync(`${path}-tail0`)).toBe(true)

    const roomy = await openThreadJournal(path, hearing)
    expect(roomy.append([entry('run', last + 1, 5_000)])).toBe(last + 1)
    roomy.close()
    expect(existsSync(`${path}-tail0`)).toBe(false)
    expect(found()).toEqual(entries(1, last + 1).map((_, i) => i + 1))
  })
})
