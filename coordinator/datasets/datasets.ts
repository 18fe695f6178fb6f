/**
 * Opens a dataset by name and cuts it into shards. A shard is made, compressed and hashed the first time it is asked
 * for, and kept. Its bytes depend on nothing but the examples, so its hash names them on every machine.
 */
import { createHash } from 'node:crypto'
import { constants, gzipSync } from 'node:zlib'
import { DATASETS, type DatasetName, type RunSpec } from '../../shared/run-spec.ts'
import { encodeShard } from '../../shared/shard.ts'
import type { Blob, Dataset, Split } from './dataset.ts'
import { type Examples, type Mnist, readMnist } from './mnist.ts'

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

/** Throws where the name is unknown or more examples are asked for than exist, saying what there is. */
export function openDataset({ name, train, test }: RunSpec['dataset']): Dataset {
  if (!Object.hasOwn(sources, name))
    throw new Error(`there is no dataset ${name}: expected one of ${DATASETS.join(', ')}`)
  const { inputShape, classes, train: allTrain, test: allTest } = sources[name]()
  return {
    name,
    inputShape,
    classes,
    train: split(name, 'training', inputShape, allTrain, train),
    test: split(name, 'test', inputShape, allTest, test),
  }
}

/** Runs share one copy of the files. */
let mnist: Mnist | null = null
const sources: Record<DatasetName, () => Mnist> = {
  mnist: () => {
    mnist ??= readMnist()
    return mnist
  },
}

function split(
  dataset: string,
  part: string,
  inputShape: readonly number[],
  { count, inputs, labels }: Examples,
  asked = count,
): Split {
  if (!Number.isInteger(asked) || asked < 1 || asked > count) {
    throw new Error(`dataset ${dataset} has ${count} ${part} examples: expected a number from 1 to that, got ${asked}`)
  }
  const size = inputShape.reduce((product, dimension) => product * dimension, 1)
  const shards = Math.ceil(asked / SHARD_EXAMPLES)
  const made = new Map<number, Blob>()
  const byHash = new Map<string, Uint8Array>()
  const make = (index: number): Blob => {
    if (!Number.isInteger(index) || index < 0 || index >= shards) {
      throw new Error(`invariant: dataset ${dataset} has ${part} shards 0 to ${shards - 1}, not ${index}`)
    }
    const from = index * SHARD_EXAMPLES
    const to = Math.min(asked, from + SHARD_EXAMPLES)
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
    examples: asked,
    shardSize: SHARD_EXAMPLES,
    shards,
    shard(index) {
      const blob = made.get(index) ?? make(index)
      made.set(index, blob)
      byHash.set(blob.hash, blob.bytes)
      return blob
    },
    find: (hash) => byHash.get(hash) ?? null,
  }
}

function compress(plain: Uint8Array): Blob {
  const gzip = gzipSync(plain, COMPRESSION)
  // A copy of its own: gzipSync's buffer may be larger than what it holds, and these bytes stay.
  const bytes = new Uint8Array(gzip)
  bytes[GZIP_OS_BYTE] = GZIP_OS_UNKNOWN
  return { hash: createHash('sha256').update(bytes).digest('hex'), bytes }
}
