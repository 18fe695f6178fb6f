/** The journal's tail: what a process left in it is there for whoever opens the journal next, and nothing else is. */
import { spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { StorageError } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { filledRows, leftRows, Tail } from '../../coordinator/journal/tail.ts'
import { openThreadJournal } from '../../coordinator/journal/thread-journal.ts'
import { until } from '../support/coordinator.ts'
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
    // But for the zeros after the last row.
    for (let at = 0; at < whole.length - 12; at += 3) {
      copyFileSync(`${path}.before`, path)
      const spoilt = Buffer.from(whole)
      spoilt[at] ^= 0x11
      writeFileSync(`${path}-tail0`, spoilt)
      const seqs = found()
      expect(seqs).toEqual([1, 2, 3, 4].slice(0, seqs.length))
      expect(seqs.length).toBeLessThan(4)
    }
  })

  test("is without what lies behind it, were it a row of a volunteer's own making", () => {
    journalOf(8)
    const forged = new Tail(`${path}.forged`)
    forged.write([{ ...entry('run', 1), data: 'forged' }], 10)
    forged.close(false)
    const row = readFileSync(`${path}.forged-tail0`)
    const tail = new Tail(path)
    tail.write([entry('run', 9)], 9)
    const end = tail.bytes
    // They were moved: both files are written from their beginning again.
    tail.turn()
    tail.turn()
    // A payload that has that row wherever the one after it may end, and numbers that are JSON everywhere else.
    const payload = Buffer.alloc(4 * end, '5')
    for (let at = 0; at + row.length < payload.length; at += row.length) row.copy(payload, at)
    for (let shift = 0; shift < row.length; shift++) {
      const shifted = Buffer.concat([Buffer.alloc(shift, '5'), payload])
      tail.write([{ ...entry('run', 8), payload: shifted }], 8)
      tail.turn()
      tail.turn()
      tail.write([entry('run', 9)], 9)
      const left = leftRows(path, 8)
      expect(left.map(({ seq }) => seq)).toEqual([9])
      tail.turn()
      tail.turn()
    }
    tail.write([entry('run', 9)], 9)
    tail.close(false)
    expect(found()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  test('is of a whole append or nothing: a run that is created has begun', () => {
    journalOf(1)
    const tail = new Tail(path)
    tail.write([entry('run', 2)], 2)
    const before = tail.bytes
    tail.write(entries(3, 4), 3)
    tail.close(false)
    const whole = readFileSync(`${path}-tail0`)
    // All of the first of the two, and most of the second.
    writeFileSync(`${path}-tail0`, whole.subarray(0, before + 0.9 * (whole.length - before)))
    expect(found()).toEqual([1, 2])
  })

  test('is without what was refused because the disk was full [J1] [J3]', async () => {
    const script = `
      import { openSqliteJournal } from '/repo/coordinator/journal/sqlite-journal.ts'
      import { Tail } from '/repo/coordinator/journal/tail.ts'
      import { entry } from '/repo/test/support/journal-entries.ts'
      const path = process.argv[1]
      openSqliteJournal(path).close()
      const tail = new Tail(path)
      let refused = null
      try { tail.write([entry('run', 1, 1000), entry('run', 2, 100_000)], 1) } catch (error) { refused = error.fault }
      tail.turn()
      tail.write([entry('run', 1), entry('run', 2)], 1)
      console.log(refused)
    `.replaceAll('/repo', process.cwd())
    const child = spawn('bash', [
      '-c',
      `ulimit -f 64; exec "$0" "$@"`,
      process.execPath,
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      script,
      path,
    ])
    const said: Buffer[] = []
    child.stdout.on('data', (bytes) => said.push(bytes))
    child.stderr.on('data', (bytes) => said.push(bytes))
    await new Promise((resolve) => child.once('exit', resolve))
    expect(Buffer.concat(said).toString()).toBe('full\n')
    expect(found()).toEqual([1, 2])
  })

  test('ends where a loss of power took a part of it [J6]', () => {
    journalOf(2)
    const tail = new Tail(path)
    for (let seq = 3; seq <= 5; seq++) tail.write([entry('run', seq)], seq)
    tail.turn()
    tail.write(entries(6, 8), 6)
    tail.close(false)
    truncateSync(`${path}-tail0`, readFileSync(`${path}-tail0`).length - 13)
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
  truncateSync(`${path}-tail0`, 10)
  expect(() => filledRows(path, { file: 0, bytes: 100 })).toThrow(StorageError)
  tail.close(true)
})

test('a checkpoint waits for its entries, and whoever asks for it waits for both [J4]', async () => {
  const journal = await openThreadJournal(path, { onFault: () => {}, onBroken: () => {} })
  for (let seq = 1; seq <= 20; seq++) {
    journal.append([entry('run', seq)])
    const values = Float32Array.of(seq)
    let written = false
    journal.saveCheckpoint({ run: 'run', seq, state: seq, vectors: [{ name: 'w', range: 0, values }] }, () => {
      written = true
    })
    expect(written).toBe(false)
    expect(journal.loadCheckpoint('run')).toMatchObject({ seq, state: seq })
    expect(written).toBe(true)
  }
  journal.close()
})

test('a disk that is slower than the crowd is waited for: the tail does not grow without end', async () => {
  const tailMaxBytes = 1_000_000
  const journal = await openThreadJournal(path, { onFault: () => {}, onBroken: () => {} }, { tailMaxBytes })
  for (let seq = 1; seq <= 60; seq++) journal.append([entry('run', seq, 200_000)])
  for (const file of [0, 1]) expect(statSync(`${path}-tail${file}`).size).toBeLessThan(tailMaxBytes + 300_000)
  journal.close()
  expect(found()).toHaveLength(60)
})

test('a fault that is no want of room ends the journal, and what it took is in the tail [J1]', async () => {
  let broke = (_error: StorageError) => {}
  const broken = new Promise<StorageError>((resolve) => {
    broke = resolve
  })
  const journal = await openThreadJournal(path, { onFault: () => {}, onBroken: broke })
  journal.append([entry('run', 1)])
  copyFileSync(`${path}-tail0`, `${path}.kept`)
  truncateSync(`${path}-tail0`, 20)
  expect(await broken).toMatchObject({ fault: 'failed', message: expect.stringContaining('holds 0 of') })
  expect(() => journal.append([entry('run', 2)])).toThrow(StorageError)
  journal.close()
  // The thread that was broken off still has the file.
  copyFileSync(`${path}.kept`, `${path}.copy-tail0`)
  copyFileSync(path, `${path}.copy`)
  path = `${path}.copy`
  expect(found()).toEqual([1])
})

describe('a journal whose SQLite is full', () => {
  test('goes on by itself when there is room again', async () => {
    const faults: string[] = []
    const hearing = { onFault: ({ fault }: StorageError) => faults.push(fault), onBroken: () => {} }
    const journal = await openThreadJournal(path, hearing, { maxPages: 200 })
    let seq = 0
    for (let i = 0; i < 15; i++) seq = journal.append([entry('run', seq + 1, 50_000)])
    for (const at of [seq - 1, seq]) journal.saveCheckpoint({ run: 'run', seq: at, state: at, vectors: [] })
    expect(journal.loadCheckpoint('run')).toMatchObject({ seq })
    // One for which there is no room is not said to be written [J7].
    const large = [{ name: 'w', range: 0, values: new Float32Array(1e6) }]
    const said: string[] = []
    journal.saveCheckpoint({ run: 'run', seq, state: 'large', vectors: large }, () => said.push('written'))
    expect(journal.loadCheckpoint('run')).toMatchObject({ seq, state: seq })
    expect([said, faults]).toEqual([[], ['full']])
    // Asking for the runs waits until what was appended is moved, or cannot be.
    const fill = () => {
      for (;;) {
        seq = journal.append([entry('run', seq + 1, 50_000)])
        journal.runs()
      }
    }
    expect(fill).toThrow('disk is full')
    expect(() => journal.append([entry('run', seq + 1)])).toThrow('disk is full')
    // What pruning frees is what the entry needs that waits.
    journal.prune('run')
    await until('there is room', () => {
      try {
        seq = journal.append([entry('run', seq + 1, 100)])
        return true
      } catch {
        return false
      }
    })
    expect(faults).toContain('full')
    journal.close()
    const after = openSqliteJournal(path)
    expect([...after.read('run', 0)].map((each) => each.seq)).toEqual(Array.from({ length: seq }, (_, i) => i + 1))
    after.close()
  })

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
