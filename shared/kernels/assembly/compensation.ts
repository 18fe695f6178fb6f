/**
 * Delay compensation (DC-ASGD, Zheng et al. 2017, eq. 10 and algorithm 2): what a gradient g taken at the parameters
 * `base` would be at w, to first order, with λ·g⊙g for the diagonal of the Hessian: g + λ·g⊙g⊙(w − base). Computed as
 * g·(1 + λ·(g·(w − base))): where w has not moved the factor is exactly 1 and g keeps its bits, and g² alone, which
 * overflows first, is never formed. Every element is rounded to f32 after every operation, in the order written.
 */

/** g ← g·(1 + λ·(g·(w − base))) */
export function compensate(g: usize, w: usize, base: usize, count: usize, lambda: f32): void {
  const lambdas = f32x4.splat(lambda)
  const ones = f32x4.splat(1)
  const end = g + count * 4
  const wide = g + (count & ~3) * 4
  while (g < wide) {
    const gradient = v128.load(g)
    const moved = f32x4.sub(v128.load(w), v128.load(base))
    v128.store(g, f32x4.mul(gradient, f32x4.add(ones, f32x4.mul(lambdas, f32x4.mul(gradient, moved)))))
    g += 16
    w += 16
    base += 16
  }
  while (g < end) {
    const gradient = load<f32>(g)
    const moved = load<f32>(w) - load<f32>(base)
    store<f32>(g, gradient * (<f32>1 + lambda * (gradient * moved)))
    g += 4
    w += 4
    base += 4
  }
}

/** squares ← keep·squares + gain·(g·g);  g ← g·(1 + λ/√(squares + ε)·(g·(w − base))) */
export function compensateAdaptive(
  g: usize,
  w: usize,
  base: usize,
  squares: usize,
  count: usize,
  lambda: f32,
  keep: f32,
  gain: f32,
  epsilon: f32,
): void {
  const lambdas = f32x4.splat(lambda)
  const keeps = f32x4.splat(keep)
  const gains = f32x4.splat(gain)
  const epsilons = f32x4.splat(epsilon)
  const ones = f32x4.splat(1)
  const end = g + count * 4
  const wide = g + (count & ~3) * 4
  while (g < wide) {
    const gradient = v128.load(g)
    const mean = f32x4.add(f32x4.mul(keeps, v128.load(squares)), f32x4.mul(gains, f32x4.mul(gradient, gradient)))
    v128.store(squares, mean)
    const strength = f32x4.div(lambdas, f32x4.sqrt(f32x4.add(mean, epsilons)))
    const moved = f32x4.sub(v128.load(w), v128.load(base))
    v128.store(g, f32x4.mul(gradient, f32x4.add(ones, f32x4.mul(strength, f32x4.mul(gradient, moved)))))
    g += 16
    w += 16
    base += 16
    squares += 16
  }
  while (g < end) {
    const gradient = load<f32>(g)
    const mean = keep * load<f32>(squares) + gain * (gradient * gradient)
    store<f32>(squares, mean)
    const strength = lambda / sqrt<f32>(mean + epsilon)
    const moved = load<f32>(w) - load<f32>(base)
    store<f32>(g, gradient * (<f32>1 + strength * (gradient * moved)))
    g += 4
    w += 4
    base += 4
    squares += 4
  }
}
