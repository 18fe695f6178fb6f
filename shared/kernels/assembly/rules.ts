/**
 * Update rules: how a gradient g changes the parameters w and the rule's state, in place. `weight` multiplies the
 * gradient first (a staleness weight, a mean's 1/n), so it costs no pass of its own. Every element is rounded to
 * f32 after every operation, in the order written; the vector loop and the scalar tail agree bit for bit.
 *
 * The running means of momentum and adam must be flushed now and then: see `flush` in kernels.ts.
 */

/** w ← w − rate·(weight·g) */
export function sgd(w: usize, g: usize, count: usize, weight: f32, rate: f32): void {
  const weights = f32x4.splat(weight)
  const rates = f32x4.splat(rate)
  const end = w + count * 4
  const wide = w + (count & ~7) * 4
  while (w < wide) {
    v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(rates, f32x4.mul(weights, v128.load(g)))))
    v128.store(w, f32x4.sub(v128.load(w, 16), f32x4.mul(rates, f32x4.mul(weights, v128.load(g, 16)))), 16)
    w += 32
    g += 32
  }
  while (w < end) {
    store<f32>(w, load<f32>(w) - rate * (weight * load<f32>(g)))
    w += 4
    g += 4
  }
}

/** m ← μ·m + weight·g;  w ← w − rate·m */
export function momentum(w: usize, g: usize, m: usize, count: usize, weight: f32, rate: f32, mu: f32): void {
  const weights = f32x4.splat(weight)
  const rates = f32x4.splat(rate)
  const mus = f32x4.splat(mu)
  const end = w + count * 4
  const wide = w + (count & ~3) * 4
  while (w < wide) {
    const velocity = f32x4.add(f32x4.mul(mus, v128.load(m)), f32x4.mul(weights, v128.load(g)))
    v128.store(m, velocity)
    v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(rates, velocity)))
    w += 16
    g += 16
    m += 16
  }
  while (w < end) {
    const velocity = mu * load<f32>(m) + weight * load<f32>(g)
    store<f32>(m, velocity)
    store<f32>(w, load<f32>(w) - rate * velocity)
    w += 4
    g += 4
    m += 4
  }
}

/** sum ← sum + (weight·g)²;  w ← w − rate·(weight·g) / (√sum + ε) */
export function adagrad(w: usize, g: usize, sum: usize, count: usize, weight: f32, rate: f32, epsilon: f32): void {
  const weights = f32x4.splat(weight)
  const rates = f32x4.splat(rate)
  const epsilons = f32x4.splat(epsilon)
  const end = w + count * 4
  const wide = w + (count & ~3) * 4
  while (w < wide) {
    const gradient = f32x4.mul(weights, v128.load(g))
    const squares = f32x4.add(v128.load(sum), f32x4.mul(gradient, gradient))
    v128.store(sum, squares)
    const step = f32x4.div(f32x4.mul(rates, gradient), f32x4.add(f32x4.sqrt(squares), epsilons))
    v128.store(w, f32x4.sub(v128.load(w), step))
    w += 16
    g += 16
    sum += 16
  }
  while (w < end) {
    const gradient = weight * load<f32>(g)
    const squares = load<f32>(sum) + gradient * gradient
    store<f32>(sum, squares)
    store<f32>(w, load<f32>(w) - (rate * gradient) / (sqrt<f32>(squares) + epsilon))
    w += 4
    g += 4
    sum += 4
  }
}

/**
 * Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019), in the order of computation that
 * the end of Adam's §2 recommends: all that does not depend on the element is folded into the scalars.
 *
 *     m ← β₁·m + gain₁·g              gain₁ = (1 − β₁)·weight
 *     v ← β₂·v + gain₂·g²             gain₂ = (1 − β₂)·weight²
 *     w ← keep·w − rate·m / (√v + ε)  rate and ε as corrected for this step, keep = 1 − rate·decay
 *
 * So a kernel has no state and calls no pow(). Two vectors a turn, because what the loop costs beside its
 * arithmetic is a fifth of this one's time.
 */
export function adam(
  w: usize,
  g: usize,
  m: usize,
  v: usize,
  count: usize,
  beta1: f32,
  gain1: f32,
  beta2: f32,
  gain2: f32,
  rate: f32,
  epsilon: f32,
  keep: f32,
): void {
  const beta1s = f32x4.splat(beta1)
  const gain1s = f32x4.splat(gain1)
  const beta2s = f32x4.splat(beta2)
  const gain2s = f32x4.splat(gain2)
  const rates = f32x4.splat(rate)
  const epsilons = f32x4.splat(epsilon)
  const keeps = f32x4.splat(keep)
  const end = w + count * 4
  const wide = w + (count & ~7) * 4
  while (w < wide) {
    const a = v128.load(g)
    const b = v128.load(g, 16)
    const meanA = f32x4.add(f32x4.mul(beta1s, v128.load(m)), f32x4.mul(gain1s, a))
    const meanB = f32x4.add(f32x4.mul(beta1s, v128.load(m, 16)), f32x4.mul(gain1s, b))
    const squareA = f32x4.add(f32x4.mul(beta2s, v128.load(v)), f32x4.mul(gain2s, f32x4.mul(a, a)))
    const squareB = f32x4.add(f32x4.mul(beta2s, v128.load(v, 16)), f32x4.mul(gain2s, f32x4.mul(b, b)))
    const stepA = f32x4.div(f32x4.mul(rates, meanA), f32x4.add(f32x4.sqrt(squareA), epsilons))
    const stepB = f32x4.div(f32x4.mul(rates, meanB), f32x4.add(f32x4.sqrt(squareB), epsilons))
    const nextA = f32x4.sub(f32x4.mul(keeps, v128.load(w)), stepA)
    const nextB = f32x4.sub(f32x4.mul(keeps, v128.load(w, 16)), stepB)
    v128.store(m, meanA)
    v128.store(m, meanB, 16)
    v128.store(v, squareA)
    v128.store(v, squareB, 16)
    v128.store(w, nextA)
    v128.store(w, nextB, 16)
    w += 32
    g += 32
    m += 32
    v += 32
  }
  while (w < end) {
    const a = load<f32>(g)
    const mean = beta1 * load<f32>(m) + gain1 * a
    const square = beta2 * load<f32>(v) + gain2 * (a * a)
    store<f32>(m, mean)
    store<f32>(v, square)
    store<f32>(w, keep * load<f32>(w) - (rate * mean) / (sqrt<f32>(square) + epsilon))
    w += 4
    g += 4
    m += 4
    v += 4
  }
}
