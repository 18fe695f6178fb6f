/**
 * Update rules: how a gradient g changes the parameters w and the rule's state, in place. `weight` multiplies the
 * gradient first (a staleness weight, a mean's 1/n), so it costs no pass of its own. Every element is rounded to
 * f32 after every operation, in the order written; the vector loop and the scalar tail agree bit for bit.
 *
 * Running means are flushed: below the least normal float they become zero. Where a gradient has died (a ReLU that
 * is never active, a pixel that is always black) a mean decays into the subnormal floats within a thousand steps,
 * stays there for ever, because 0.9·4 units round to 4, and makes each step some thirty times slower on Intel cores.
 */

const LEAST_NORMAL: f32 = 1.1754943508222875e-38

/** Written so that NaN stays NaN. */
function flush(x: v128): v128 {
  return v128.andnot(x, f32x4.lt(f32x4.abs(x), f32x4.splat(LEAST_NORMAL)))
}

function flushOne(x: f32): f32 {
  return abs(x) < LEAST_NORMAL ? 0 : x
}

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
    const velocity = flush(f32x4.add(f32x4.mul(mus, v128.load(m)), f32x4.mul(weights, v128.load(g))))
    v128.store(m, velocity)
    v128.store(w, f32x4.sub(v128.load(w), f32x4.mul(rates, velocity)))
    w += 16
    g += 16
    m += 16
  }
  while (w < end) {
    const velocity = flushOne(mu * load<f32>(m) + weight * load<f32>(g))
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
 * Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019); decay 0 is Adam.
 *
 *     m ← β₁·m + rest₁·(weight·g)           restᵢ = 1 − βᵢ
 *     v ← β₂·v + rest₂·(weight·g)²
 *     w ← w − ((rate·m) / (√(correction·v) + ε) + decay·w)
 *
 * with rate, decay and the second moment's correction as the caller has them for this step: rate/(1 − β₁ᵗ),
 * rate·decay and 1/(1 − β₂ᵗ). So a kernel has no state and calls no pow(). Two vectors a turn: what a loop costs
 * beside its arithmetic is a fifth of this one's time.
 */
export function adam(
  w: usize,
  g: usize,
  m: usize,
  v: usize,
  count: usize,
  weight: f32,
  rate: f32,
  beta1: f32,
  rest1: f32,
  beta2: f32,
  rest2: f32,
  epsilon: f32,
  decay: f32,
  correction: f32,
): void {
  const weights = f32x4.splat(weight)
  const rates = f32x4.splat(rate)
  const beta1s = f32x4.splat(beta1)
  const rest1s = f32x4.splat(rest1)
  const beta2s = f32x4.splat(beta2)
  const rest2s = f32x4.splat(rest2)
  const epsilons = f32x4.splat(epsilon)
  const decays = f32x4.splat(decay)
  const corrections = f32x4.splat(correction)
  const end = w + count * 4
  const wide = w + (count & ~7) * 4
  while (w < wide) {
    const gradient = f32x4.mul(weights, v128.load(g))
    const gradient1 = f32x4.mul(weights, v128.load(g, 16))
    const old = v128.load(w)
    const old1 = v128.load(w, 16)
    const mean = flush(f32x4.add(f32x4.mul(beta1s, v128.load(m)), f32x4.mul(rest1s, gradient)))
    const mean1 = flush(f32x4.add(f32x4.mul(beta1s, v128.load(m, 16)), f32x4.mul(rest1s, gradient1)))
    const square = flush(f32x4.add(f32x4.mul(beta2s, v128.load(v)), f32x4.mul(rest2s, f32x4.mul(gradient, gradient))))
    const square1 = flush(
      f32x4.add(f32x4.mul(beta2s, v128.load(v, 16)), f32x4.mul(rest2s, f32x4.mul(gradient1, gradient1))),
    )
    const root = f32x4.add(f32x4.sqrt(f32x4.mul(corrections, square)), epsilons)
    const root1 = f32x4.add(f32x4.sqrt(f32x4.mul(corrections, square1)), epsilons)
    const step = f32x4.add(f32x4.div(f32x4.mul(rates, mean), root), f32x4.mul(decays, old))
    const step1 = f32x4.add(f32x4.div(f32x4.mul(rates, mean1), root1), f32x4.mul(decays, old1))
    v128.store(m, mean)
    v128.store(m, mean1, 16)
    v128.store(v, square)
    v128.store(v, square1, 16)
    v128.store(w, f32x4.sub(old, step))
    v128.store(w, f32x4.sub(old1, step1), 16)
    w += 32
    g += 32
    m += 32
    v += 32
  }
  while (w < end) {
    const gradient = weight * load<f32>(g)
    const mean = flushOne(beta1 * load<f32>(m) + rest1 * gradient)
    const square = flushOne(beta2 * load<f32>(v) + rest2 * (gradient * gradient))
    store<f32>(m, mean)
    store<f32>(v, square)
    const root = sqrt<f32>(correction * square) + epsilon
    const old = load<f32>(w)
    store<f32>(w, old - ((rate * mean) / root + decay * old))
    w += 4
    g += 4
    m += 4
    v += 4
  }
}
