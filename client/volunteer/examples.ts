/**
 * The examples of a lease as minibatches of floats. A lease names stretches of shards; its minibatches are those
 * stretches one after the other, `batchSize` at a time, so a minibatch may span two shards and the last may be short.
 *
 * For training, a stretch counts in the epoch's shuffled order of its shard, which is a pure function of the run's
 * seed, the epoch and the shard; for evaluation, in storage order. So everybody who holds the lease feeds the same
 * numbers in the same order.
 */
import type { Lease } from '../../shared/protocol.ts'
import { Random, Stream } from '../../shared/random.ts'
import { decodeShard, type Shard } from '../../shared/shard.ts'
import { Recent } from './recent.ts'

/** An input byte b stands for b/255, as a float32. */
const UNIT = Float32Array.from({ length: 256 }, (_, byte) => byte / 255)

/** A decoded shard larger than this is not taken: gzip can make a gigabyte of a megabyte. */
const MAX_SHARD_BYTES = 512 * 1024 * 1024

/** Several leases in a row take from the same shard in the same epoch. */
const orders = new Recent<string, Uint32Array>(16, () => 1)

export interface Minibatch {
  /** count × features floats; overwritten by the next minibatch. */
  inputs: Float32Array
  /** count class indices; overwritten by the next minibatch. */
  labels: Uint8Array
  count: number
}

export class Examples {
  readonly count: number
  readonly batchSize: number
  private readonly places: { shard: Shard; order: Uint32Array | null; from: number; count: number }[]
  private readonly features: number
  private readonly inputs: Float32Array
  private readonly labels: Uint8Array

  /** `shards` hold the lease's segments, one for each. Throws where they do not. */
  constructor(lease: Pick<Lease, 'kind' | 'seed' | 'batchSize' | 'segments'>, shards: readonly Shard[]) {
    this.batchSize = lease.batchSize
    this.places = lease.segments.map((segment, i) => {
      const shard = shards[i]
      if (segment.from > segment.to || segment.to > shard.examples) {
        throw new Error(`the lease asks for examples ${segment.from} to ${segment.to} of a shard of ${shard.examples}`)
      }
      const order = lease.kind === 'gradient' ? shuffledOrder(lease.seed, segment, shard.examples) : null
      return { shard, order, from: segment.from, count: segment.to - segment.from }
    })
    this.count = this.places.reduce((sum, { count }) => sum + count, 0)
    this.features = shards[0].inputShape.reduce((product, dimension) => product * dimension, 1)
    if (shards.some(({ inputs, examples }) => inputs.length !== examples * this.features)) {
      throw new Error('the shards of one lease hold examples of different shapes')
    }
    const largest = Math.min(this.batchSize, this.count)
    this.inputs = new Float32Array(largest * this.features)
    this.labels = new Uint8Array(largest)
  }

  /** The minibatches in order, each in the same memory. */
  *minibatches(): Generator<Minibatch> {
    let filled = 0
    for (const { shard, order, from, count } of this.places) {
      for (let i = from; i < from + count; i++) {
        this.copy(shard, order ? order[i] : i, filled++)
        if (filled === this.batchSize) {
          yield this.first(filled)
          filled = 0
        }
      }
    }
    if (filled > 0) yield this.first(filled)
  }

  private copy(shard: Shard, example: number, place: number): void {
    const { features, inputs } = this
    const source = shard.inputs
    let from = example * features
    let to = place * features
    for (const end = from + features; from < end; from++, to++) inputs[to] = UNIT[source[from]]
    this.labels[place] = shard.labels[example]
  }

  private first(count: number): Minibatch {
    return { inputs: this.inputs.subarray(0, count * this.features), labels: this.labels.subarray(0, count), count }
  }
}

function shuffledOrder(
  seed: number,
  { epoch, shardIndex }: { epoch: number; shardIndex: number },
  examples: number,
): Uint32Array {
  const key = `${seed} ${epoch} ${shardIndex} ${examples}`
  let order = orders.get(key)
  if (order === undefined) {
    order = new Random(seed, Stream.shuffle, epoch, shardIndex).permutation(examples)
    orders.set(key, order)
  }
  return order
}

/** A shard from its blob. */
export async function unpackShard(compressed: Uint8Array): Promise<Shard> {
  const source = new Blob([compressed as Uint8Array<ArrayBuffer>]).stream()
  const parts: Uint8Array[] = []
  let size = 0
  const reader = source.pipeThrough(new DecompressionStream('gzip')).getReader()
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    size += part.value.length
    if (size > MAX_SHARD_BYTES) {
      await reader.cancel()
      throw new Error(`a shard of more than ${MAX_SHARD_BYTES} bytes is not taken`)
    }
    parts.push(part.value)
  }
  const bytes = new Uint8Array(size)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return decodeShard(bytes)
}
