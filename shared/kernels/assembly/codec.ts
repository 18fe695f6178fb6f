/**
 * Encoding and decoding of float vectors, and the sum of squares straight from the encoded bytes.
 *
 * f16:  IEEE 754 binary16, little endian, round to nearest even, subnormals kept, overflow to infinity.
 * int8: blocks of 256 floats (the last may be shorter), symmetric. One f32 scale a block, all the scales first,
 *       then one signed byte a float: x ≈ q·scale.
 */

/** Floats that share a scale. RANGE_FLOATS (shared/layout.ts) is a multiple of it. */
const BLOCK: usize = 256

/**
 * Smallest scale of a block that is not all zeros: the least normal float, so neither x/scale nor q·scale is subnormal.
 */
const MIN_SCALE: f32 = 1.1754943508222875e-38
/** Largest scale: the last float whose product with 127 still rounds to a finite float. */
const MAX_SCALE: f32 = 2.6793883890187504e36
/** 2^120: above it a crafted byte of -128 could overflow a float when decoded. */
const SURELY_FINITE_SCALE: f32 = 1.329227995784916e36

const EXPONENT_MASK: i32 = 0x7f800000

/** Adding 1.5·2^23 to a small float leaves its nearest integer (ties to even) in the low mantissa bits. */
const ROUNDING: f32 = 12582912
const ROUNDING_BITS: i32 = 0x4b400000

// The two conversions below pick one of two results per lane by arithmetic instead of branching, and never feed
// a subnormal float to a multiplication: that costs Intel cores over a hundred cycles, and gradients in half
// precision are full of subnormals.

/** Four halves, sign-extended to 32 bits, to four floats. */
function widen(half: v128): v128 {
  const magnitude = v128.and(i32x4.shl(half, 13), i32x4.splat(0x0fffe000))
  // Right for normal halves: move the exponent's bias from 15 to 127.
  const normal = i32x4.add(magnitude, i32x4.splat(112 << 23))
  // Right for subnormal halves: put an implicit one in front, then subtract it. The smaller of the two is the right
  // one.
  const subnormal = f32x4.sub(i32x4.add(magnitude, i32x4.splat(113 << 23)), f32x4.splat(6.103515625e-5))
  const special = v128.and(i32x4.gt_s(magnitude, i32x4.splat(0x0f7fffff)), i32x4.splat(EXPONENT_MASK))
  const sign = v128.and(half, i32x4.splat(0x80000000))
  return v128.or(v128.or(i32x4.min_s(normal, subnormal), special), sign)
}

/** Four floats to four halves, each in the low 16 bits of its lane. */
function narrow(float: v128): v128 {
  const magnitude = v128.and(float, i32x4.splat(0x7fffffff))
  // 2^16 is where rounding to infinity is certain; clamping there makes infinity of all that is larger.
  const clamped = i32x4.min_s(magnitude, i32x4.splat(0x47800000))
  const odd = v128.and(i32x4.shr_u(clamped, 13), i32x4.splat(1))
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(clamped, i32x4.splat(0xc8000fff)), odd), 13)
  // One half has just the spacing of subnormal halves as the spacing of its floats: the addition rounds for us.
  const subnormal = i32x4.sub(f32x4.add(clamped, f32x4.splat(0.5)), i32x4.splat(0x3f000000))
  const small = i32x4.lt_s(clamped, i32x4.splat(0x38800000))
  const quiet = v128.and(i32x4.gt_s(magnitude, i32x4.splat(EXPONENT_MASK)), i32x4.splat(0x0200))
  const sign = v128.and(i32x4.shr_u(float, 16), i32x4.splat(0x8000))
  return v128.or(v128.or(v128.bitselect(subnormal, normal, small), quiet), sign)
}

export function decodeF16(source: usize, count: usize, target: usize): void {
  const end = source + count * 2
  const wide = source + (count & ~7) * 2
  while (source < wide) {
    v128.store(target, widen(v128.load16x4_s(source)))
    v128.store(target, widen(v128.load16x4_s(source, 8)), 16)
    source += 16
    target += 32
  }
  while (source < end) {
    v128.store32_lane(target, widen(i32x4.splat(<i32>load<i16>(source))), 0)
    source += 2
    target += 4
  }
}

export function encodeF16(source: usize, count: usize, target: usize): void {
  const end = source + count * 4
  const wide = source + (count & ~7) * 4
  while (source < wide) {
    v128.store(target, i16x8.narrow_i32x4_u(narrow(v128.load(source)), narrow(v128.load(source, 16))))
    source += 32
    target += 16
  }
  while (source < end) {
    v128.store16_lane(target, narrow(v128.load32_zero(source)), 0)
    source += 4
    target += 2
  }
}

/** The squares are exact in f32 (11 significant bits, doubled), so only the sum needs f64. */
export function sumSquaresF16(source: usize, count: usize): f64 {
  const end = source + count * 2
  const wide = source + (count & ~7) * 2
  let sum0 = f64x2.splat(0)
  let sum1 = f64x2.splat(0)
  let sum2 = f64x2.splat(0)
  let sum3 = f64x2.splat(0)
  while (source < wide) {
    let low = widen(v128.load16x4_s(source))
    let high = widen(v128.load16x4_s(source, 8))
    low = f32x4.mul(low, low)
    high = f32x4.mul(high, high)
    sum0 = f64x2.add(sum0, f64x2.promote_low_f32x4(low))
    sum1 = f64x2.add(sum1, f64x2.promote_low_f32x4(i64x2.shuffle(low, low, 1, 0)))
    sum2 = f64x2.add(sum2, f64x2.promote_low_f32x4(high))
    sum3 = f64x2.add(sum3, f64x2.promote_low_f32x4(i64x2.shuffle(high, high, 1, 0)))
    source += 16
  }
  const both = f64x2.add(f64x2.add(sum0, sum1), f64x2.add(sum2, sum3))
  let total = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1)
  while (source < end) {
    const value = <f64>f32x4.extract_lane(widen(i32x4.splat(<i32>load<i16>(source))), 0)
    total += value * value
    source += 2
  }
  return total
}

export function decodeInt8(source: usize, count: usize, target: usize): void {
  let bytes = source + ((count + BLOCK - 1) / BLOCK) * 4
  const end = bytes + count
  while (bytes < end) {
    const blockEnd = min(end, bytes + BLOCK)
    const scale = load<f32>(source)
    const scales = f32x4.splat(scale)
    const wide = bytes + ((blockEnd - bytes) & ~15)
    while (bytes < wide) {
      const low = v128.load8x8_s(bytes)
      const high = v128.load8x8_s(bytes, 8)
      v128.store(target, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), scales))
      v128.store(target, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), scales), 16)
      v128.store(target, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), scales), 32)
      v128.store(target, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), scales), 48)
      bytes += 16
      target += 64
    }
    while (bytes < blockEnd) {
      store<f32>(target, <f32>load<i8>(bytes) * scale)
      bytes += 1
      target += 4
    }
    source += 4
  }
}

/** Four floats to their quantised values, as 32-bit integers. */
function quantise(float: v128, scales: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.div(float, scales), f32x4.splat(ROUNDING)), i32x4.splat(ROUNDING_BITS))
}

export function encodeInt8(source: usize, count: usize, target: usize): void {
  let bytes = target + ((count + BLOCK - 1) / BLOCK) * 4
  const end = bytes + count
  while (bytes < end) {
    const length = min(end - bytes, BLOCK)

    // The largest magnitude, compared as integers: that orders floats, puts NaN above infinity, and loses neither.
    let largest = i32x4.splat(0)
    let largest1 = i32x4.splat(0)
    let from = source
    const wide = source + (length & ~15) * 4
    const sourceEnd = source + length * 4
    const magnitude = i32x4.splat(0x7fffffff)
    while (from < wide) {
      largest = i32x4.max_s(largest, v128.and(v128.load(from), magnitude))
      largest1 = i32x4.max_s(largest1, v128.and(v128.load(from, 16), magnitude))
      largest = i32x4.max_s(largest, v128.and(v128.load(from, 32), magnitude))
      largest1 = i32x4.max_s(largest1, v128.and(v128.load(from, 48), magnitude))
      from += 64
    }
    while (from < sourceEnd) {
      largest = i32x4.max_s(largest, v128.and(v128.load32_zero(from), magnitude))
      from += 4
    }
    largest = i32x4.max_s(largest, largest1)
    const bits = max(
      max(i32x4.extract_lane(largest, 0), i32x4.extract_lane(largest, 1)),
      max(i32x4.extract_lane(largest, 2), i32x4.extract_lane(largest, 3)),
    )

    if (bits === 0 || bits >= EXPONENT_MASK) {
      // All zeros, or something not finite: then 0·NaN and 0·∞ decode to NaN and nobody can overlook it.
      store<i32>(target, bits)
      memory.fill(bytes, 0, length)
      bytes += length
    } else {
      const scale = min(max(reinterpret<f32>(bits) / 127, MIN_SCALE), MAX_SCALE)
      const scales = f32x4.splat(scale)
      store<f32>(target, scale)
      from = source
      while (from < wide) {
        v128.store(
          bytes,
          i8x16.narrow_i16x8_s(
            i16x8.narrow_i32x4_s(quantise(v128.load(from), scales), quantise(v128.load(from, 16), scales)),
            i16x8.narrow_i32x4_s(quantise(v128.load(from, 32), scales), quantise(v128.load(from, 48), scales)),
          ),
        )
        bytes += 16
        from += 64
      }
      while (from < sourceEnd) {
        v128.store8_lane(bytes, quantise(v128.load32_zero(from), scales), 0)
        bytes += 1
        from += 4
      }
    }
    source = sourceEnd
    target += 4
  }
}

/** One block whose products may overflow a float: decode each value as decodeInt8 would. */
function sumSquaresOfLargeBlock(scale: f32, bytes: usize, end: usize): f64 {
  let total: f64 = 0
  while (bytes < end) {
    const value = <f64>(<f32>load<i8>(bytes) * scale)
    total += value * value
    bytes += 1
  }
  return total
}

/** Integers within a block (256·128² fits 32 bits with ease), f64 between blocks. */
export function sumSquaresInt8(source: usize, count: usize): f64 {
  let bytes = source + ((count + BLOCK - 1) / BLOCK) * 4
  const end = bytes + count
  let total: f64 = 0
  while (bytes < end) {
    const blockEnd = min(end, bytes + BLOCK)
    const scale = load<f32>(source)
    source += 4
    // Written so that NaN takes the careful way too.
    if (!(abs(scale) <= SURELY_FINITE_SCALE)) {
      total += sumSquaresOfLargeBlock(scale, bytes, blockEnd)
      bytes = blockEnd
      continue
    }
    const wide = bytes + ((blockEnd - bytes) & ~15)
    let sum0 = i32x4.splat(0)
    let sum1 = i32x4.splat(0)
    while (bytes < wide) {
      const low = v128.load8x8_s(bytes)
      const high = v128.load8x8_s(bytes, 8)
      sum0 = i32x4.add(sum0, i32x4.dot_i16x8_s(low, low))
      sum1 = i32x4.add(sum1, i32x4.dot_i16x8_s(high, high))
      bytes += 16
    }
    sum0 = i32x4.add(sum0, sum1)
    let squares =
      i32x4.extract_lane(sum0, 0) +
      i32x4.extract_lane(sum0, 1) +
      i32x4.extract_lane(sum0, 2) +
      i32x4.extract_lane(sum0, 3)
    while (bytes < blockEnd) {
      const q = <i32>load<i8>(bytes)
      squares += q * q
      bytes += 1
    }
    total += <f64>scale * <f64>scale * <f64>squares
  }
  return total
}
