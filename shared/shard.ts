/**
 * A shard: an immutable slice of a dataset as bytes, named by their SHA-256. Stored and sent gzip-compressed
 * (a third to a fifth of the size for images); the hash is that of the compressed bytes.
 *
 *     "CGS1" | u32 examples | u32 rank | u32 dimension × rank | u8 input × examples·Πdimensions | u8 label × examples
 *
 * all integers little-endian; an input byte b stands for b/255.
 */
import { elementsOf } from './shape.ts'

export interface Shard {
  readonly examples: number
  /** One example's shape: [28, 28, 1]. */
  readonly inputShape: readonly number[]
  /** examples × Π inputShape bytes. */
  readonly inputs: Uint8Array
  /** One class index an example. */
  readonly labels: Uint8Array
}

const MAGIC = 0x31534743 // "CGS1"
const MAX_RANK = 8

export function encodeShard(shard: Shard): Uint8Array<ArrayBuffer> {
  const inputBytes = shard.examples * elementsOf(shard.inputShape)
  if (shard.inputShape.length > MAX_RANK) throw new Error(`invariant: a shard has no rank ${shard.inputShape.length}`)
  if (shard.inputs.length !== inputBytes || shard.labels.length !== shard.examples) {
    throw new Error(
      `invariant: expected ${inputBytes} input bytes and ${shard.examples} labels, ` +
        `got ${shard.inputs.length} and ${shard.labels.length}`,
    )
  }
  const header = 12 + 4 * shard.inputShape.length
  const bytes = new Uint8Array(header + shard.inputs.length + shard.labels.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, shard.examples, true)
  view.setUint32(8, shard.inputShape.length, true)
  shard.inputShape.forEach((dimension, i) => {
    view.setUint32(12 + 4 * i, dimension, true)
  })
  bytes.set(shard.inputs, header)
  bytes.set(shard.labels, header + shard.inputs.length)
  return bytes
}

/** Reads a shard (uncompressed); throws where the bytes are not one, saying what was expected. */
export function decodeShard(bytes: Uint8Array): Shard {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 12 || view.getUint32(0, true) !== MAGIC)
    throw new Error('not a shard: expected it to begin with CGS1')
  const examples = view.getUint32(4, true)
  const rank = view.getUint32(8, true)
  if (rank > MAX_RANK || bytes.length < 12 + 4 * rank) throw new Error(`not a shard: rank ${rank} is not possible`)
  const inputShape = Array.from({ length: rank }, (_, i) => view.getUint32(12 + 4 * i, true))
  const header = 12 + 4 * rank
  const inputBytes = examples * elementsOf(inputShape)
  if (bytes.length !== header + inputBytes + examples) {
    throw new Error(
      `not a shard: expected ${header + inputBytes + examples} bytes for ${examples} examples, got ${bytes.length}`,
    )
  }
  return {
    examples,
    inputShape,
    inputs: bytes.subarray(header, header + inputBytes),
    labels: bytes.subarray(header + inputBytes),
  }
}
