/**
 * Cuts examples into shards. A shard is made, compressed and hashed the first time it is asked for, and kept. Its bytes
 * depend on nothing but the examples, so its hash names them on every machine.
 */
import { createHash } from 'node:crypto'
import { constants, gzipSync } from 'node:zlib'
import { elementsOf } from '../../shared/shape.ts'
import { encodeShard } from '../../shared/shard.ts'
import type { Blob, Split } from './dataset.ts'
import type { Examples } from './examples.ts'

/** Examples in a shard: 160 kB of MNIST, some seconds of a volunteer's compute, and a third of a second at 4 Mbit/s. */
export const SHARD_EXAMPLES = 1000

/**
 * Measured on MNIST's 785 kB shards, time and size of one (Xeon, one core): level 1 4.9 ms, 182 kB; level 6 8.9 ms,
 * 163.4 kB; level 9 183 ms, 160.3 kB; run lengths and Huffman codes only (Z_RLE) 2.7 ms, 163.7 kB. Besides being
 * three times as fast at level 6's size, Z_RLE searches no matches: zlib's search hashes differently on different
 * processors, so its bytes may differ from machine to machine.
 */
const COMPRESSION = { level: 6, memLevel: 9, strategy: constants.Z_RLE }
/** Byte 9 of a gzip header names the operating system, 255 none: it must not tell machines apart. */
const GZIP_OS_BYTE = 9
const GZIP_OS_UNKNOWN = 255

/** All of `examples`; a fault names them by dataset and part, `mnist` and `training`. */
export function split(
  dataset: string,
  part: string,
  inputShape: readonly number[],
  { count, inputs, labels }: Examples,
): Split {
  const size = elementsOf(inputShape)
  const shards = Math.ceil(count / SHARD_EXAMPLES)
  const made = new Map<number, Blob>()
  const byHash = new Map<string, Uint8Array>()
  let sha256: string | null = null
  const make = (index: number): Blob => {
    if (!Number.isInteger(index) || index < 0 || index >= shards) {
      throw new Error(`invariant: dataset ${dataset} has ${part} shards 0 to ${shards - 1}, not ${index}`)
    }
    const from = index * SHARD_EXAMPLES
    const to = Math.min(count, from + SHARD_EXAMPLES)
    return compress(
      encodeShard({
        examples: to - from,
        inputShape,
        inputs: inputs.subarray(from * size, to * size),
        labels: labels.subarray(from, to),
      }),
    )
  }
  return {
    examples: count,
    shardSize: SHARD_EXAMPLES,
    shards,
    get sha256() {
      sha256 ??= createHash('sha256').update(inputs).update(labels).digest('hex')
      return sha256
    },
    shard(index) {
      const blob = made.get(index) ?? make(index)
      made.set(index, blob)
      byHash.set(blob.hash, blob.bytes)
      return blob
    },
    find: (hash) => byHash.get(hash) ?? null,
    example(index) {
      if (!Number.isInteger(index) || index < 0 || index >= count) {
        throw new Error(`invariant: dataset ${dataset} has ${part} examples 0 to ${count - 1}, not ${index}`)
      }
      return { input: inputs.subarray(index * size, (index + 1) * size), label: labels[index] }
    },
  }
}

function compress(plain: Uint8Array): Blob {
  const gzip = gzipSync(plain, COMPRESSION)
  // A copy of its own: gzipSync's buffer may be larger than what it holds, and these bytes stay.
  const bytes = new Uint8Array(gzip)
  bytes[GZIP_OS_BYTE] = GZIP_OS_UNKNOWN
  return { hash: createHash('sha256').update(bytes).digest('hex'), bytes }
}
