/** How vectors, and bytes that are none, lie in the rows of a checkpoint. */
import { RANGE_FLOATS, ranges } from '../../shared/layout.ts'
import type { CheckpointVector } from '../journal/journal.ts'

/** A vector as a checkpoint's rows. */
export function cut(name: string, values: Float32Array): CheckpointVector[] {
  return ranges(values.length).map(({ index, from, to }) => ({ name, range: index, values: values.subarray(from, to) }))
}

export function join(vectors: readonly CheckpointVector[], name: string, size: number): Float32Array {
  const whole = new Float32Array(size)
  for (const vector of vectors) if (vector.name === name) whole.set(vector.values, vector.range * RANGE_FLOATS)
  return whole
}

/** Bytes carried as the floats that they would be: a checkpoint holds floats only. */
export function floatsOf(bytes: Uint8Array): Float32Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  whole.set(bytes)
  return new Float32Array(whole.buffer)
}

/** The first `length` bytes of them. */
export const bytesOf = ({ buffer, byteOffset }: Float32Array, length: number) =>
  new Uint8Array(buffer, byteOffset, length)
