/**
 * An entry as it lies on the disk, in the tail (tail.ts) and in SQLite alike: a row, with a checksum over all it holds.
 */
import { crc32 } from 'node:zlib'
import type { NewEntry } from './journal.ts'

export interface Row {
  readonly seq: number
  readonly run: string
  readonly at: number
  readonly kind: string
  /** JSON. */
  readonly data: string
  /** CRC-32 of the head and of the payload after it. */
  readonly checksum: number
  readonly payload: Uint8Array | null
}

/** The row of a new entry, and its head. Throws TypeError where its data is no JSON value. */
export function rowOf(seq: number, { run, at, kind, data, payload }: NewEntry): { row: Row; head: string } {
  const json = JSON.stringify(data) ?? 'null'
  const head = headOf({ seq, run, at, kind, data: json, payload })
  return { row: { seq, run, at, kind, data: json, checksum: checksumOf(head, payload), payload }, head }
}

/** Everything of a row but the payload itself. */
export function headOf({ seq, run, at, kind, data, payload }: Omit<Row, 'checksum'>): string {
  return JSON.stringify([seq, run, at, kind, data, payload?.length ?? null])
}

export const checksumOf = (head: string, payload: Uint8Array | null): number => crc32Of(payload, crc32(head))

/** zlib takes the null pointer that an empty buffer may be as the wish to begin anew, and answers 0. */
export const crc32Of = (bytes: Uint8Array | null, before: number): number =>
  bytes === null || bytes.length === 0 ? before : crc32(bytes, before)
