/**
 * Entries whose bytes and data follow from one number, so that a test can tell them apart and see whether one is whole.
 */
import type { Entry, NewEntry } from '../../coordinator/journal/journal.ts'

export function entry(run: string, n: number, payloadBytes: number | null = 100): NewEntry {
  return {
    run,
    at: 1_700_000_000_000 + n,
    kind: 'update',
    data: { n, lease: `lease-${n}`, loss: n / 3 },
    payload: payloadBytes === null ? null : payload(n, payloadBytes),
  }
}

/** Noise, so that no part of one payload is found in another. */
export function payload(n: number, bytes: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes / 4))
  let state = Math.imul(n + 1, 0x9e3779b1)
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return new Uint8Array(words.buffer, 0, bytes)
}

/** What journal-appender.ts writes at this sequence number. */
export const appended = (seq: number): NewEntry => entry('run', seq, seq % 7 === 0 ? null : 500 * (seq % 80))

/** The numbers that entries were made from. */
export const numbers = (entries: Iterable<Entry>) => [...entries].map(({ data }) => (data as { n: number }).n)

/** The vectors of a checkpoint: one, of so many times this value. */
export const floats = (value: number, length = 1) => [
  { name: 'parameters', range: 0, values: new Float32Array(length).fill(value) },
]
