/** Rows of a matrix and what is kept for each of its columns, in f64. */

/** sums ← sums + x², element by element: x is f32, the sums are f64. */
export function addSquares(x: usize, count: usize, sums: usize): void {
  const end = x + count * 4
  const wide = x + (count & ~3) * 4
  while (x < wide) {
    const a = f64x2.promote_low_f32x4(v128.load64_zero(x))
    const b = f64x2.promote_low_f32x4(v128.load64_zero(x, 8))
    v128.store(sums, f64x2.add(v128.load(sums), f64x2.mul(a, a)))
    v128.store(sums, f64x2.add(v128.load(sums, 16), f64x2.mul(b, b)), 16)
    x += 16
    sums += 32
  }
  while (x < end) {
    const value = <f64>load<f32>(x)
    store<f64>(sums, load<f64>(sums) + value * value)
    x += 4
    sums += 8
  }
}

/** x ← x⊙factors, the product of f64 rounded once. */
export function multiplyEach(x: usize, count: usize, factors: usize): void {
  const end = x + count * 4
  const wide = x + (count & ~1) * 4
  while (x < wide) {
    const product = f64x2.mul(f64x2.promote_low_f32x4(v128.load64_zero(x)), v128.load(factors))
    v128.store64_lane(x, f32x4.demote_f64x2_zero(product), 0)
    x += 8
    factors += 16
  }
  if (x < end) store<f32>(x, <f32>(<f64>load<f32>(x) * load<f64>(factors)))
}
