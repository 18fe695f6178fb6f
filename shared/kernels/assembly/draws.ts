/**
 * The draws of shared/random.ts, many at a time: Philox4x32-10, four blocks in the lanes of each vector.
 *
 * Draw i of a generator is word i mod 4 of block i div 4, as Random.u32 has it; the counter's upper words are zero, for
 * nobody draws 2^34 numbers here.
 */
const M0: i32 = 0xd2511f53
const M1: i32 = 0xcd9e8d57
const W0: i32 = 0x9e3779b9
const W1: i32 = 0xbb67ae85

/** 2^-24 */
const UNIT: f32 = 5.9604644775390625e-8

/** What becomes of a word: itself, a float in [0, 1), or a mask's element. */
const WORD: i32 = 0
const UNIFORM: i32 = 1
const MASK: i32 = 2

/** Of a mask: words below are dropped, the others are this. */
let threshold: u32 = 0
let kept: f32 = 0

/** Draws `first`, `first` + 1, … of the generator with this key, `count` of them, as unsigned 32-bit integers. */
export function words(key0: i32, key1: i32, first: i32, count: i32, target: usize): void {
  draw(key0, key1, first, count, target, WORD)
}

/** The same in [0, 1): their upper 24 bits, which is as many as a float in [0.5, 1) holds. */
export function uniforms(key0: i32, key1: i32, first: i32, count: i32, target: usize): void {
  draw(key0, key1, first, count, target, UNIFORM)
}

/** The same as floats 0, where the word is below `dropBelow`, or `keep`. */
export function masks(key0: i32, key1: i32, first: i32, count: i32, target: usize, dropBelow: u32, keep: f32): void {
  threshold = dropBelow
  kept = keep
  draw(key0, key1, first, count, target, MASK)
}

function draw(key0: i32, key1: i32, first: i32, count: i32, target: usize, kind: i32): void {
  const end = target + ((<usize>count) << 2)
  let block = first >>> 2
  // Up to the first whole block.
  if (first & 3) {
    scalar(key0, key1, block++)
    for (let word = first & 3; word < 4 && target < end; word++) {
      put(target, word, kind)
      target += 4
    }
  }
  for (; target + 64 <= end; target += 64) {
    four(key0, key1, block, target, kind)
    block += 4
  }
  while (target < end) {
    scalar(key0, key1, block++)
    for (let word = 0; word < 4 && target < end; word++) {
      put(target, word, kind)
      target += 4
    }
  }
}

function put(target: usize, word: i32, kind: i32): void {
  const value: u32 = word === 0 ? x0 : word === 1 ? x1 : word === 2 ? x2 : x3
  if (kind === WORD) store<u32>(target, value)
  else store<f32>(target, kind === UNIFORM ? <f32>(value >>> 8) * UNIT : value < threshold ? 0 : kept)
}

/** The block that `scalar` made last. */
let x0: u32 = 0
let x1: u32 = 0
let x2: u32 = 0
let x3: u32 = 0

function scalar(key0: i32, key1: i32, block: i32): void {
  x0 = block
  x1 = 0
  x2 = 0
  x3 = 0
  for (let round = 0; round < 10; round++) {
    const a = <u64>(<u32>M0) * <u64>x0
    const b = <u64>(<u32>M1) * <u64>x2
    x0 = <u32>(b >> 32) ^ x1 ^ key0
    x1 = <u32>b
    x2 = <u32>(a >> 32) ^ x3 ^ key1
    x3 = <u32>a
    key0 += W0
    key1 += W1
  }
}

/** Blocks `block` … `block` + 3: sixteen draws. */
function four(key0: i32, key1: i32, block: i32, target: usize, kind: i32): void {
  const m0 = i32x4.splat(M0)
  const m1 = i32x4.splat(M1)
  let c0 = i32x4.add(i32x4.splat(block), i32x4(0, 1, 2, 3))
  let c1 = i32x4.splat(0)
  let c2 = c1
  let c3 = c1
  for (let round = 0; round < 10; round++) {
    const aLow = i64x2.extmul_low_i32x4_u(c0, m0)
    const aHigh = i64x2.extmul_high_i32x4_u(c0, m0)
    const bLow = i64x2.extmul_low_i32x4_u(c2, m1)
    const bHigh = i64x2.extmul_high_i32x4_u(c2, m1)
    // Of each product the even words are its low half, the odd ones its high half.
    const high0 = v128.shuffle<i32>(aLow, aHigh, 1, 3, 5, 7)
    const high1 = v128.shuffle<i32>(bLow, bHigh, 1, 3, 5, 7)
    c0 = v128.xor(v128.xor(high1, c1), i32x4.splat(key0))
    c1 = v128.shuffle<i32>(bLow, bHigh, 0, 2, 4, 6)
    c2 = v128.xor(v128.xor(high0, c3), i32x4.splat(key1))
    c3 = v128.shuffle<i32>(aLow, aHigh, 0, 2, 4, 6)
    key0 += W0
    key1 += W1
  }
  // From words by block to blocks by word.
  const l0 = v128.shuffle<i32>(c0, c1, 0, 4, 1, 5)
  const h0 = v128.shuffle<i32>(c0, c1, 2, 6, 3, 7)
  const l1 = v128.shuffle<i32>(c2, c3, 0, 4, 1, 5)
  const h1 = v128.shuffle<i32>(c2, c3, 2, 6, 3, 7)
  v128.store(target, finish(v128.shuffle<i64>(l0, l1, 0, 2), kind))
  v128.store(target, finish(v128.shuffle<i64>(l0, l1, 1, 3), kind), 16)
  v128.store(target, finish(v128.shuffle<i64>(h0, h1, 0, 2), kind), 32)
  v128.store(target, finish(v128.shuffle<i64>(h0, h1, 1, 3), kind), 48)
}

function finish(value: v128, kind: i32): v128 {
  if (kind === WORD) return value
  if (kind === MASK) return v128.and(i32x4.ge_u(value, i32x4.splat(threshold)), f32x4.splat(kept))
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_u(value, 8)), f32x4.splat(UNIT))
}
