/**
 * Which example a position of an epoch is: shards in an order shuffled for the epoch, and the examples of a shard in
 * an order of its own, which the volunteer derives (protocol.ts, `lease.seed`). Pure in (seed, epoch, position).
 */
import type { Segment } from '../../shared/protocol.ts'
import { Random, Stream } from '../../shared/random.ts'
import type { Split } from '../datasets/dataset.ts'
import type { Stretch } from '../strategies/epochs.ts'
import type { Interval } from '../strategies/intervals.ts'

export class Shards {
  private readonly split: Split
  private readonly order: (epoch: number) => Uint32Array
  private shuffled: { epoch: number; order: Uint32Array; starts: Uint32Array } | null = null

  /** `order: 'shuffled'` anew for every epoch, or `'stored'`. */
  constructor(split: Split, seed: number, order: 'shuffled' | 'stored') {
    this.split = split
    this.order =
      order === 'shuffled'
        ? (epoch) => new Random(seed, Stream.shardOrder, epoch).permutation(split.shards)
        : () => Uint32Array.from({ length: split.shards }, (_, i) => i)
  }

  /** The segments of shards that the stretches are, in their order. */
  segments(stretches: readonly Stretch[]): Segment[] {
    const segments: Segment[] = []
    for (const stretch of stretches) {
      const { order, starts } = this.epoch(stretch.epoch)
      let place = lastNotAfter(starts, stretch.from)
      for (let from = stretch.from; from < stretch.to; place++) {
        const to = Math.min(stretch.to, starts[place + 1])
        const shardIndex = order[place]
        segments.push({
          shard: this.split.shard(shardIndex).hash,
          shardIndex,
          epoch: stretch.epoch,
          from: from - starts[place],
          to: to - starts[place],
        })
        from = to
      }
    }
    return segments
  }

  private epoch(epoch: number): { order: Uint32Array; starts: Uint32Array } {
    if (this.shuffled?.epoch !== epoch) {
      const order = this.order(epoch)
      const starts = new Uint32Array(order.length + 1)
      order.forEach((shard, place) => {
        starts[place + 1] = starts[place] + this.sizeOf(shard)
      })
      this.shuffled = { epoch, order, starts }
    }
    return this.shuffled
  }

  private sizeOf(shard: number): number {
    return Math.min(this.split.shardSize, this.split.examples - shard * this.split.shardSize)
  }
}

/**
 * How many of the examples [from, to), counted as stored, are in a pass' Bernoulli sample of probability `fraction`:
 * the draws are those that the volunteer makes (protocol.ts, `lease.fraction`).
 */
export function sampled(split: Split, seed: number, pass: number, fraction: number, { from, to }: Interval): number {
  if (fraction >= 1) return to - from
  let count = 0
  for (let i = from; i < to; ) {
    const shard = Math.floor(i / split.shardSize)
    const random = new Random(seed, Stream.sample, pass, shard)
    const end = Math.min(to, (shard + 1) * split.shardSize)
    for (; i < end; i++) if (random.uniform(i - shard * split.shardSize) < fraction) count++
  }
  return count
}

/** The last index whose value is not after `position` (binary search; starts[0] is 0). */
function lastNotAfter(starts: Uint32Array, position: number): number {
  let low = 0
  let high = starts.length - 1
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (starts[middle] <= position) low = middle
    else high = middle
  }
  return low
}
