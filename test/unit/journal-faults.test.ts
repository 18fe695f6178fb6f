/** A journal in SQLite where the disk is full, its file is damaged or may not be written: every fault says why. */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { StorageError, type StorageFault } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { entry, floats, numbers, payload } from '../support/journal-entries.ts'
import {
  expectFault,
  folder,
  makeFolder,
  newPath,
  openAt,
  pathOf,
  removeFolder,
  SLOW_DISK,
} from '../support/journal-files.ts'

beforeAll(makeFolder)
afterAll(removeFolder)

/** Bytes that lie in the file where a vector of this value does. */
const bytesOf = (value: number) => new Uint8Array(new Float32Array(64).fill(value).buffer)

describe('the journal in SQLite, when the disk is full', () => {
  test('a failed append leaves nothing, and appending works again once there is room', () => {
    const path = newPath()
    const journal = openAt(path, { maxPages: 300 })
    journal.append([entry('a', 1, 40_000), entry('b', 2, 40_000)])
    journal.append([entry('a', 3, 40_000)])
    for (const seq of [1, 2]) journal.saveCheckpoint({ run: 'a', seq, state: seq, vectors: floats(seq) })
    let n = 3
    const fill = () => {
      for (;;) {
        journal.append([entry('a', n + 1, 30_000), entry('a', n + 2, 30_000), entry('a', n + 3, 30_000)])
        n += 3
      }
    }
    expectFault(fill, 'full', path, 'the disk is full', 'Make room')
    expect(n).toBeGreaterThan(20)
    const counted = () => numbers(journal.read('a', 0))
    const expected = Array.from({ length: n }, (_, i) => i + 1).filter((each) => each !== 2)
    expect(counted()).toEqual(expected)
    // It keeps failing in the same way, checkpoints too, and stays readable.
    expectFault(fill, 'full')
    const large = { run: 'a', seq: 3, state: 3, vectors: floats(3, 100_000) }
    expectFault(() => journal.saveCheckpoint(large), 'full')
    expect(journal.loadCheckpoint('a')).toEqual({ run: 'a', seq: 2, state: 2, vectors: floats(2) })
    expect(counted()).toEqual(expected)
    // Pruning makes room, in the full file.
    journal.prune('a')
    expect(journal.append([entry('a', n + 1, 20_000)])).toBe(n + 1)
    expect(counted()).toEqual([...expected, n + 1])
    journal.close()
    const larger = openAt(path)
    expect(larger.append([entry('a', n + 2, 3_000_000)])).toBe(n + 2)
    expect(numbers(larger.read('a', 0))).toEqual([...expected, n + 1, n + 2])
    larger.close()
  })
})

describe('the journal in SQLite, when its file is not what was written', () => {
  /** A closed journal of 40 entries and two checkpoints. */
  function written(payloadBytes = 20_000): string {
    const journal = openAt(newPath())
    journal.append(Array.from({ length: 40 }, (_, i) => entry('a', i + 1, payloadBytes)))
    journal.saveCheckpoint({ run: 'a', seq: 20, state: 'older', vectors: floats(1.25, 5000) })
    journal.saveCheckpoint({ run: 'a', seq: 40, state: 'newer', vectors: floats(2.75, 5000) })
    journal.close()
    return pathOf(journal)
  }
  /** Changes one byte in the middle of where `bytes` lies in the file. */
  function damage(path: string, bytes: Uint8Array): void {
    const file = readFileSync(path)
    const at = file.indexOf(bytes)
    expect(at).toBeGreaterThan(0)
    file[at + (bytes.length >> 1)] ^= 0x10
    writeFileSync(path, file)
  }

  test('a truncated file is refused', () => {
    const path = written()
    truncateSync(path, Math.floor(statSync(path).size / 2))
    expectFault(() => openSqliteJournal(path), 'damaged', path, 'restore a copy of it, or move it aside to begin anew')
  })

  test('a file of something else is refused, and left as it is', () => {
    const path = newPath()
    writeFileSync(path, 'a letter to the operator\n'.repeat(1000))
    const before = createHash('md5').update(readFileSync(path)).digest('hex')
    expectFault(() => openSqliteJournal(path), 'damaged', path, 'not a SQLite file', 'move it aside')
    expect(createHash('md5').update(readFileSync(path)).digest('hex')).toBe(before)
  })

  test('another SQLite database is refused', () => {
    const path = newPath()
    const other = new Database(path)
    other.exec('CREATE TABLE letters (text TEXT)')
    other.close()
    expectFault(() => openSqliteJournal(path), 'failed', path, 'not a Crowdgrad journal', 'choose another folder')
  })

  test.each([
    [99, 'a newer Crowdgrad'],
    [1, 'an older Crowdgrad'],
  ])('schema %i is refused', (schema, by) => {
    const path = written()
    const other = new Database(path)
    other.exec(`PRAGMA user_version = ${schema}`)
    other.close()
    expectFault(() => openSqliteJournal(path), 'failed', path, by, `schema ${schema}`, 'knows schema 4')
  })

  test('schema 3, which had no tail, is read on and is schema 4 from then on', () => {
    const path = written()
    const other = new Database(path)
    other.exec('PRAGMA user_version = 3')
    other.close()
    const journal = openAt(path)
    const last = journal.append([entry('run', 1)])
    expect(last).toBeGreaterThan(1)
    journal.close()
    const after = new Database(path)
    expect(after.prepare('PRAGMA user_version').get()).toMatchObject({ user_version: 4 })
    after.close()
  })

  test('an empty file is a journal not yet begun', () => {
    const path = newPath()
    writeFileSync(path, '')
    const journal = openAt(path)
    expect(journal.append([entry('a', 1)])).toBe(1)
    journal.close()
  })

  test('a changed byte in a payload is found when the entry is read; the entries before it are whole', () => {
    const path = written()
    damage(path, payload(30, 20_000).subarray(8000, 8064))
    const journal = openAt(path)
    const read: number[] = []
    expectFault(
      () => {
        for (const { seq } of journal.read('a', 0)) read.push(seq)
      },
      'damaged',
      path,
      'entry 30 does not agree with its checksum',
      'restore a copy',
    )
    expect(read).toEqual(Array.from({ length: 29 }, (_, i) => i + 1))
    expect(numbers(journal.read('a', 30))).toHaveLength(10)
    journal.close()
  })

  test('a changed byte in its data is found too', () => {
    const path = written()
    damage(path, new TextEncoder().encode('"lease":"lease-7"'))
    const journal = openAt(path)
    expectFault(() => [...journal.read('a', 6)], 'damaged', 'entry 7')
    journal.close()
  })

  test('a damaged page of the tree is a fault, not nonsense', SLOW_DISK, () => {
    const path = written(2500)
    const file = readFileSync(path)
    const pageBytes = file.readUInt16BE(16)
    const faults = new Set<StorageFault | 'none'>()
    for (let page = 1; page < file.length / pageBytes; page++) {
      const copy = newPath()
      const broken = Buffer.from(file)
      broken.fill(0xa5, page * pageBytes, page * pageBytes + 64)
      writeFileSync(copy, broken)
      let fault: StorageFault | 'none' = 'none'
      try {
        const journal = openAt(copy)
        try {
          const read = [...journal.read('a', 0)]
          // Where all entries read back whole, it was a checkpoint that was hit: the other one, or none, is loaded.
          expect(numbers(read)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
          const loaded = journal.loadCheckpoint('a')
          if (loaded !== null) expect(loaded.vectors[0].values[4999]).toBe(loaded.seq === 40 ? 2.75 : 1.25)
        } finally {
          journal.close()
        }
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        fault = error.fault
      }
      rmSync(copy)
      faults.add(fault)
    }
    expect(faults).toEqual(new Set(['damaged', 'none']))
  })

  test('a damaged checkpoint is passed over for the one before it, and does not count as one of the two kept', () => {
    const path = written()
    damage(path, bytesOf(2.75))
    let journal = openAt(path)
    const older = journal.loadCheckpoint('a')
    expect(older?.seq).toBe(20)
    expect(older?.state).toBe('older')
    expect(older?.vectors[0].values).toEqual(new Float32Array(5000).fill(1.25))
    journal.append([entry('a', 41)])
    journal.saveCheckpoint({ run: 'a', seq: 41, state: 'newest', vectors: floats(3.5, 5000) })
    // What the older one needs is still there: its successors' payloads up to the new one's.
    journal.prune('a')
    expect([...journal.read('a', 0)].filter(({ pruned }) => pruned)).toHaveLength(20)
    journal.close()
    const file = new Database(path)
    expect(file.prepare('SELECT seq FROM checkpoints ORDER BY seq').raw().all()).toEqual([[20], [41]])
    expect(file.prepare('SELECT count(*) FROM checkpoint_vectors').raw().get()).toEqual([2])
    file.close()
    damage(path, bytesOf(3.5))
    journal = openAt(path)
    expect(journal.loadCheckpoint('a')?.seq).toBe(20)
    journal.close()
  })

  test('where both checkpoints are damaged there is none', () => {
    const path = written()
    for (const value of [1.25, 2.75]) damage(path, bytesOf(value))
    const journal = openAt(path)
    expect(journal.loadCheckpoint('a')).toBeNull()
    expect(numbers(journal.read('a', 0))).toHaveLength(40)
    journal.close()
  })
})

describe('the journal in SQLite, when it may not be written', () => {
  test('[J5] a second coordinator is refused while the first has it open, and not afterwards', () => {
    const path = newPath()
    const first = openAt(path)
    expectFault(() => openSqliteJournal(path), 'locked', path, 'in use by another process', 'End the other one')
    first.append([entry('a', 1)])
    expectFault(() => openSqliteJournal(path), 'locked')
    expect(first.append([entry('a', 2)])).toBe(2)
    first.close()
    const second = openAt(path)
    expect(numbers(second.read('a', 0))).toEqual([1, 2])
    second.close()
  })

  test('a folder that does not exist, and a folder instead of a file, are named', () => {
    const path = join(folder, 'nowhere', 'journal')
    expectFault(() => openSqliteJournal(path), 'failed', path, 'folder does not exist')
    expectFault(() => openSqliteJournal(folder), 'failed', folder, 'expected a file')
  })

  // Root writes everywhere: for this test the process becomes nobody for a moment.
  const isRoot = process.getuid?.() === 0
  test.skipIf(isRoot && process.seteuid === undefined)('a read-only file is named', () => {
    const readOnly = mkdtempSync(join(tmpdir(), 'crowdgrad-read-only-'))
    const path = join(readOnly, 'journal')
    const journal = openAt(newPath())
    journal.append([entry('a', 1)])
    journal.close()
    copyFileSync(pathOf(journal), path)
    chmodSync(path, 0o444)
    chmodSync(readOnly, 0o555)
    try {
      if (isRoot) process.seteuid?.(65534)
      expectFault(() => openSqliteJournal(path), 'failed', path, 'cannot be written', 'permissions')
    } finally {
      if (isRoot) process.seteuid?.(0)
      chmodSync(readOnly, 0o755)
      rmSync(readOnly, { recursive: true })
    }
  })
})
