/** Arithmetic on whole vectors of floats. Every element is rounded to f32 after every operation, as written. */

/** y ← y + a·x */
export function accumulate(y: usize, x: usize, count: usize, a: f32): void {
  const factor = f32x4.splat(a)
  const end = y + count * 4
  const wide = y + (count & ~7) * 4
  while (y < wide) {
    v128.store(y, f32x4.add(v128.load(y), f32x4.mul(factor, v128.load(x))))
    v128.store(y, f32x4.add(v128.load(y, 16), f32x4.mul(factor, v128.load(x, 16))), 16)
    y += 32
    x += 32
  }
  while (y < end) {
    store<f32>(y, load<f32>(y) + a * load<f32>(x))
    y += 4
    x += 4
  }
}

/** x ← a·x */
export function scale(x: usize, count: usize, a: f32): void {
  const factor = f32x4.splat(a)
  const end = x + count * 4
  const wide = x + (count & ~7) * 4
  while (x < wide) {
    v128.store(x, f32x4.mul(factor, v128.load(x)))
    v128.store(x, f32x4.mul(factor, v128.load(x, 16)), 16)
    x += 32
  }
  while (x < end) {
    store<f32>(x, a * load<f32>(x))
    x += 4
  }
}

/** y ← y⊙x */
export function multiply(y: usize, x: usize, count: usize): void {
  const end = y + count * 4
  const wide = y + (count & ~7) * 4
  while (y < wide) {
    v128.store(y, f32x4.mul(v128.load(y), v128.load(x)))
    v128.store(y, f32x4.mul(v128.load(y, 16), v128.load(x, 16)), 16)
    y += 32
    x += 32
  }
  while (y < end) {
    store<f32>(y, load<f32>(y) * load<f32>(x))
    y += 4
    x += 4
  }
}

/** y + e ← y + e + a·x: y takes the rounded sum, e what that rounding lost (Knuth's TwoSum, TAOCP 2, §4.2.2). */
export function carry(y: usize, e: usize, x: usize, count: usize, a: f32): void {
  const factor = f32x4.splat(a)
  const end = y + count * 4
  const wide = y + (count & ~3) * 4
  while (y < wide) {
    const old = v128.load(y)
    const term = f32x4.mul(factor, v128.load(x))
    const sum = f32x4.add(old, term)
    const taken = f32x4.sub(sum, old)
    const lost = f32x4.add(f32x4.sub(old, f32x4.sub(sum, taken)), f32x4.sub(term, taken))
    v128.store(y, sum)
    v128.store(e, f32x4.add(v128.load(e), lost))
    y += 16
    e += 16
    x += 16
  }
  while (y < end) {
    const old = load<f32>(y)
    const term = a * load<f32>(x)
    const sum = old + term
    const taken = sum - old
    store<f32>(y, sum)
    store<f32>(e, load<f32>(e) + (old - (sum - taken) + (term - taken)))
    y += 4
    e += 4
    x += 4
  }
}

/** x ← sign(x)·max(0, |x| − t), the proximal step of t·‖x‖₁. */
export function shrink(x: usize, count: usize, t: f32): void {
  const thresholds = f32x4.splat(t)
  const zero = f32x4.splat(0)
  const signs = i32x4.splat(0x80000000)
  const end = x + count * 4
  const wide = x + (count & ~3) * 4
  while (x < wide) {
    const value = v128.load(x)
    const length = f32x4.max(zero, f32x4.sub(f32x4.abs(value), thresholds))
    v128.store(x, v128.bitselect(value, length, signs))
    x += 16
  }
  while (x < end) {
    const value = load<f32>(x)
    store<f32>(x, copysign<f32>(max<f32>(0, abs<f32>(value) - t), value))
    x += 4
  }
}

/** x ← value */
export function fill(x: usize, count: usize, value: f32): void {
  const values = f32x4.splat(value)
  const end = x + count * 4
  const wide = x + (count & ~7) * 4
  while (x < wide) {
    v128.store(x, values)
    v128.store(x, values, 16)
    x += 32
  }
  while (x < end) {
    store<f32>(x, value)
    x += 4
  }
}

/** 2^-100 */
const NEGLIGIBLE: f32 = 7.888609052210118e-31

/** x ← 0 where |x| < 2^-100; NaN stays. */
export function flush(x: usize, count: usize): void {
  const negligible = f32x4.splat(NEGLIGIBLE)
  const end = x + count * 4
  const wide = x + (count & ~3) * 4
  while (x < wide) {
    const value = v128.load(x)
    v128.store(x, v128.andnot(value, f32x4.lt(f32x4.abs(value), negligible)))
    x += 16
  }
  while (x < end) {
    const value = load<f32>(x)
    if (abs(value) < NEGLIGIBLE) store<f32>(x, 0)
    x += 4
  }
}

export function copy(source: usize, count: usize, target: usize): void {
  memory.copy(target, source, count * 4)
}

/** Σx² in f64: finite exactly when every x is, for 2^32 squares of the largest float are far below f64's limit. */
export function sumSquares(x: usize, count: usize): f64 {
  const end = x + count * 4
  const wide = x + (count & ~7) * 4
  let sum0 = f64x2.splat(0)
  let sum1 = f64x2.splat(0)
  let sum2 = f64x2.splat(0)
  let sum3 = f64x2.splat(0)
  while (x < wide) {
    const a = f64x2.promote_low_f32x4(v128.load64_zero(x))
    const b = f64x2.promote_low_f32x4(v128.load64_zero(x, 8))
    const c = f64x2.promote_low_f32x4(v128.load64_zero(x, 16))
    const d = f64x2.promote_low_f32x4(v128.load64_zero(x, 24))
    sum0 = f64x2.add(sum0, f64x2.mul(a, a))
    sum1 = f64x2.add(sum1, f64x2.mul(b, b))
    sum2 = f64x2.add(sum2, f64x2.mul(c, c))
    sum3 = f64x2.add(sum3, f64x2.mul(d, d))
    x += 32
  }
  const both = f64x2.add(f64x2.add(sum0, sum1), f64x2.add(sum2, sum3))
  let total = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1)
  while (x < end) {
    const value = <f64>load<f32>(x)
    total += value * value
    x += 4
  }
  return total
}

/** Σx·y in f64, in eight sums as `sumSquares`. */
export function dot(x: usize, y: usize, count: usize): f64 {
  const end = x + count * 4
  const wide = x + (count & ~7) * 4
  let sum0 = f64x2.splat(0)
  let sum1 = f64x2.splat(0)
  let sum2 = f64x2.splat(0)
  let sum3 = f64x2.splat(0)
  while (x < wide) {
    sum0 = f64x2.add(sum0, f64x2.mul(promoted(x), promoted(y)))
    sum1 = f64x2.add(sum1, f64x2.mul(promoted(x + 8), promoted(y + 8)))
    sum2 = f64x2.add(sum2, f64x2.mul(promoted(x + 16), promoted(y + 16)))
    sum3 = f64x2.add(sum3, f64x2.mul(promoted(x + 24), promoted(y + 24)))
    x += 32
    y += 32
  }
  const both = f64x2.add(f64x2.add(sum0, sum1), f64x2.add(sum2, sum3))
  let total = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1)
  while (x < end) {
    total += <f64>load<f32>(x) * <f64>load<f32>(y)
    x += 4
    y += 4
  }
  return total
}

/** Σ|x| in f64, in eight sums as `sumSquares`. */
export function sumAbs(x: usize, count: usize): f64 {
  const end = x + count * 4
  const wide = x + (count & ~7) * 4
  let sum0 = f64x2.splat(0)
  let sum1 = f64x2.splat(0)
  let sum2 = f64x2.splat(0)
  let sum3 = f64x2.splat(0)
  while (x < wide) {
    sum0 = f64x2.add(sum0, f64x2.abs(promoted(x)))
    sum1 = f64x2.add(sum1, f64x2.abs(promoted(x + 8)))
    sum2 = f64x2.add(sum2, f64x2.abs(promoted(x + 16)))
    sum3 = f64x2.add(sum3, f64x2.abs(promoted(x + 24)))
    x += 32
  }
  const both = f64x2.add(f64x2.add(sum0, sum1), f64x2.add(sum2, sum3))
  let total = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1)
  while (x < end) {
    total += <f64>abs<f32>(load<f32>(x))
    x += 4
  }
  return total
}

/** Two floats as f64. */
function promoted(x: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(x))
}
