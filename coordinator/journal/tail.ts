/**
 * The journal's tail: what was accepted and is not in SQLite yet, in two files that take turns. The coordinator's
 * thread writes the one, which is a copy into the system's page cache and no wait for a disk, while the journal's
 * thread moves what the other holds into SQLite, all of it in one transaction. What a process wrote outlives it: after
 * kill -9, whoever opens the journal finds in the files what had not been moved.
 *
 * A record is a row: bytes of its head, its checksum, how many rows of the same append follow (three little-endian
 * 32-bit numbers), the head, the payload. A file is written from its beginning again when its rows are in SQLite; zeros
 * after the newest record keep a reading from going on into what lies behind it, which is whatever volunteers had sent.
 */
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
  writevSync,
} from 'node:fs'
import { type NewEntry, StorageError } from './journal.ts'
import { checksumOf, type Row, rowOf } from './row.ts'

/** So many bytes at the beginning of one of the files are rows that are to be moved. */
export interface Filled {
  readonly file: 0 | 1
  readonly bytes: number
}

const PREFIX_BYTES = 12
/** A head of no bytes is none. */
const END = Buffer.alloc(PREFIX_BYTES)

const pathOf = (journal: string, file: 0 | 1) => `${journal}-tail${file}`

/** The end that writes. */
export class Tail {
  private readonly journal: string
  private readonly descriptors: readonly [number, number]
  private file: 0 | 1 = 0
  private written = 0

  /** `journal`: the path of the SQLite file, whose rows the tail's files held have been moved. Throws StorageError. */
  constructor(journal: string) {
    this.journal = journal
    const open = (file: 0 | 1) => guarded(journal, () => openSync(pathOf(journal, file), 'w'))
    this.descriptors = [open(0), open(1)]
  }

  /** Bytes that are to be moved and are not in a Filled yet. */
  get bytes(): number {
    return this.written
  }

  /** Writes the entries, numbered from `first` on: all of them, or throws StorageError and none. */
  write(entries: readonly NewEntry[], first: number): void {
    const pieces: Uint8Array[] = []
    entries.forEach((entry, i) => {
      const { row, head } = rowOf(first + i, entry)
      const text = Buffer.from(head)
      const prefix = Buffer.allocUnsafe(PREFIX_BYTES)
      prefix.writeUInt32LE(text.length, 0)
      prefix.writeUInt32LE(row.checksum, 4)
      prefix.writeUInt32LE(entries.length - 1 - i, 8)
      pieces.push(prefix, text)
      if (entry.payload !== null && entry.payload.length > 0) pieces.push(entry.payload)
    })
    pieces.push(END)
    const size = pieces.reduce((sum, { length }) => sum + length, 0)
    const descriptor = this.descriptors[this.file]
    guarded(this.journal, () => {
      try {
        let done = writevSync(descriptor, pieces, this.written)
        if (done === size) return
        // The system may take less than all of it, and say why only of the rest.
        const all = Buffer.concat(pieces)
        while (done < size) done += writeSync(descriptor, all, done, size - done, this.written + done)
      } catch (error) {
        // Nobody is to find what was refused; this takes no room.
        ftruncateSync(descriptor, this.written)
        throw error
      }
    })
    this.written += size - END.length
  }

  /** What was written since the last turn. From here on the other file is written, whose rows must have been moved. */
  turn(): Filled {
    const filled = { file: this.file, bytes: this.written }
    this.file = this.file === 0 ? 1 : 0
    this.written = 0
    return filled
  }

  /** Waits until what was written would survive a loss of power. */
  sync(): void {
    for (const descriptor of this.descriptors) guarded(this.journal, () => fdatasyncSync(descriptor))
  }

  /** `emptied`: everything is in SQLite, which is then one file that can be copied. */
  close(emptied: boolean): void {
    for (const descriptor of this.descriptors) closeSync(descriptor)
    if (emptied) removeTail(this.journal)
  }
}

/** The rows that were filled in, good until more are read. Throws StorageError where they are not there. */
export function filledRows(journal: string, { file, bytes }: Filled): Row[] {
  if (scratch.length < bytes) scratch = Buffer.allocUnsafeSlow(2 * bytes)
  return guarded(journal, () => {
    const descriptor = openSync(pathOf(journal, file), 'r')
    try {
      let read = 0
      for (let more = 1; more > 0 && read < bytes; read += more) {
        more = readSync(descriptor, scratch, read, bytes - read, read)
      }
      const { rows, end } = parse(scratch.subarray(0, read))
      if (end === bytes) return rows
      throw new StorageError(
        'damaged',
        `the tail of the journal ${journal} holds ${end} of ${bytes} bytes that were written`,
      )
    } finally {
      closeSync(descriptor)
    }
  })
}

let scratch = Buffer.alloc(0)

/**
 * What the tail of a journal still holds beyond `lastSeq`, in order and without a gap: after a loss of power a part may
 * be missing, and what came after it cannot be used.
 */
export function leftRows(journal: string, lastSeq: number): Row[] {
  const paths = ([0, 1] as const).map((file) => pathOf(journal, file)).filter(existsSync)
  const rows = paths.flatMap((path) => parse(guarded(journal, () => readFileSync(path))).rows)
  const left = rows.filter(({ seq }) => seq > lastSeq).sort((a, b) => a.seq - b.seq)
  const gap = left.findIndex(({ seq }, i) => seq !== lastSeq + 1 + i)
  return gap === -1 ? left : left.slice(0, gap)
}

export function removeTail(journal: string): void {
  guarded(journal, () => {
    for (const file of [0, 1] as const) rmSync(pathOf(journal, file), { force: true })
  })
}

type Head = [seq: number, run: string, at: number, kind: string, data: string, size: number | null]

/** Rows from the beginning of the bytes to the first that is none, whole appends only, and where the last one ends. */
function parse(bytes: Buffer): { rows: Row[]; end: number } {
  const rows: Row[] = []
  let end = 0
  let ofAppend: Row[] = []
  let expected = 0
  for (let from = 0; from + PREFIX_BYTES < bytes.length; ) {
    const headFrom = from + PREFIX_BYTES
    const headTo = headFrom + bytes.readUInt32LE(from)
    if (headTo === headFrom || headTo > bytes.length) break
    const head = bytes.toString('utf8', headFrom, headTo)
    const fields = headIn(head)
    if (fields === null) break
    const [seq, run, at, kind, data, size] = fields
    const to = headTo + (size ?? 0)
    if (to > bytes.length) break
    const checksum = bytes.readUInt32LE(from + 4)
    const payload = size === null ? null : bytes.subarray(headTo, to)
    if (checksumOf(head, payload) !== checksum) break
    const rest = bytes.readUInt32LE(from + 8)
    if (ofAppend.length > 0 && rest !== expected) break
    expected = rest - 1
    ofAppend.push({ seq, run, at, kind, data, checksum, payload })
    if (rest === 0) {
      rows.push(...ofAppend)
      ofAppend = []
      end = to
    }
    from = to
  }
  return { rows, end }
}

function headIn(text: string): Head | null {
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) && value.length === 6 ? (value as unknown as Head) : null
  } catch {
    return null
  }
}

function guarded<T>(journal: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (error instanceof StorageError || code === undefined || code.startsWith('ERR_')) throw error
    const full = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG'
    const what = full
      ? `the journal ${journal} cannot grow: the disk is full (${code}). Nothing of this write was kept. Make room on the disk`
      : `the tail of the journal ${journal} cannot be read or written (${message}). Check the disk and the file's permissions`
    throw new StorageError(full ? 'full' : 'failed', what, { cause: error })
  }
}
