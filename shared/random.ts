/**
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). A draw is a pure function of (seed, path, index), so anyone can recompute any draw of any lease
 * without having seen the ones before it, on any machine, in any order.
 *
 *     const shuffle = new Random(run.seed, Stream.shuffle, epoch, shard)
 *     shuffle.permutation(1000)        // the same 1000 numbers everywhere
 */

/** What a draw is for: the first step of every path, so two uses never share numbers. */
export const Stream = {
  parameters: 1,
  shardOrder: 2,
  shuffle: 3,
  lease: 4,
  dropout: 5,
  sample: 6,
  augment: 7,
  gibbs: 8,
} as const

const M0 = 0xd2511f53
const M1 = 0xcd9e8d57
const W0 = 0x9e3779b9
const W1 = 0xbb67ae85

/** Where a path's steps are counted, apart from draws, whose upper counter is zero: "crow", "dgrd". */
const PATH0 = 0x63726f77
const PATH1 = 0x64677264

/** High 32 bits of the unsigned product a·b. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const low = aLow * bLow
  const mid = aHigh * bLow + (low >>> 16)
  const mid2 = aLow * bHigh + (mid & 0xffff)
  return (aHigh * bHigh + Math.floor(mid / 0x10000) + (mid2 >>> 16)) >>> 0
}

/** One Philox4x32-10 block: 128-bit counter, 64-bit key, four u32 out (written into `out`). */
export function philox(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  key0: number,
  key1: number,
): Uint32Array {
  let x0 = c0 >>> 0
  let x1 = c1 >>> 0
  let x2 = c2 >>> 0
  let x3 = c3 >>> 0
  let k0 = key0 >>> 0
  let k1 = key1 >>> 0
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, x0)
    const low0 = Math.imul(M0, x0) >>> 0
    const high1 = mulHigh(M1, x2)
    const low1 = Math.imul(M1, x2) >>> 0
    x0 = (high1 ^ x1 ^ k0) >>> 0
    x1 = low1
    x2 = (high0 ^ x3 ^ k1) >>> 0
    x3 = low0
    k0 = (k0 + W0) >>> 0
    k1 = (k1 + W1) >>> 0
  }
  out[0] = x0
  out[1] = x1
  out[2] = x2
  out[3] = x3
  return out
}

export class Random {
  readonly key0: number
  readonly key1: number
  /** Steps of the path that led here. */
  private readonly depth: number
  private readonly block = new Uint32Array(4)
  private blockIndex = -1

  /**
   * `seed` is an integer in [0, 2^53), or a generator to go on from; every element of `path` an integer in [0, 2^32).
   */
  constructor(seed: number | { readonly key0: number; readonly key1: number }, ...path: number[]) {
    let key0 = typeof seed === 'number' ? seed >>> 0 : seed.key0
    let key1 = typeof seed === 'number' ? Math.floor(seed / 0x100000000) >>> 0 : seed.key1
    for (let depth = 0; depth < path.length; depth++) {
      philox(this.block, path[depth], depth, PATH0, PATH1, key0, key1)
      key0 = this.block[0]
      key1 = this.block[1]
    }
    this.key0 = key0
    this.key1 = key1
    this.depth = path.length
  }

  /** Writes key0 and key1 of the generator whose path goes one `step` further into `keys`, from `at` on. */
  branch(step: number, keys: Uint32Array, at: number): void {
    philox(this.block, step, this.depth, PATH0, PATH1, this.key0, this.key1)
    keys[at] = this.block[0]
    keys[at + 1] = this.block[1]
    this.blockIndex = -1
  }

  /** The index-th draw, uniform over [0, 2^32). */
  u32(index: number): number {
    const block = Math.floor(index / 4)
    if (block !== this.blockIndex) {
      philox(this.block, block >>> 0, Math.floor(block / 0x100000000), 0, 0, this.key0, this.key1)
      this.blockIndex = block
    }
    return this.block[index & 3]
  }

  /** The index-th draw, uniform over [0, 1), 32 bits of resolution. */
  uniform(index: number): number {
    return this.u32(index) / 0x100000000
  }

  /** The index-th draw of a standard normal (Box-Muller; uses uniform draws 2·index and 2·index+1). */
  normal(index: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform(2 * index)))
    return radius * Math.cos(2 * Math.PI * this.uniform(2 * index + 1))
  }

  /** A permutation of 0..n-1 (Fisher-Yates; the bias of the multiply-shift draw is below n/2^32). */
  permutation(n: number): Uint32Array {
    const order = new Uint32Array(n)
    for (let i = 0; i < n; i++) order[i] = i
    for (let i = n - 1; i > 0; i--) {
      const j = Math.floor(this.uniform(i) * (i + 1))
      const swapped = order[i]
      order[i] = order[j]
      order[j] = swapped
    }
    return order
  }
}
