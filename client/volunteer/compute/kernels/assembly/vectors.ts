/**
 * Passes over whole tensors that tfjs makes in several: on tfjs' heap, float32. Addresses are bytes, counts are floats.
 */

/** out = y + scale·x. */
export function addScaled(out: usize, y: usize, x: usize, scale: f32, count: i32): void {
  const end = out + ((<usize>count) << 2)
  const factor = f32x4.splat(scale)
  for (; out + 16 <= end; out += 16) {
    v128.store(out, f32x4.add(v128.load(y), f32x4.mul(v128.load(x), factor)))
    y += 16
    x += 16
  }
  for (; out < end; out += 4) {
    store<f32>(out, load<f32>(y) + load<f32>(x) * scale)
    y += 4
    x += 4
  }
}

/** Rows summed before the sum joins the total, so that rounding errors of a long column do not pile up. */
const BLOCK: i32 = 256

/** out[n] = sum over the m rows of x[m×n]: the gradient of a bias. */
export function sumRows(out: usize, x: usize, m: i32, n: i32): void {
  const pitch = (<usize>n) << 2
  for (let from = 0; from === 0 || from < m; from += BLOCK) {
    const rows = min(BLOCK, m - from)
    const block = x + <usize>from * pitch
    let j = 0
    for (; j + 8 <= n; j += 8) {
      let s0 = f32x4.splat(0),
        s1 = s0
      let at = block + ((<usize>j) << 2)
      for (let i = 0; i < rows; i++) {
        s0 = f32x4.add(s0, v128.load(at))
        s1 = f32x4.add(s1, v128.load(at, 16))
        at += pitch
      }
      const to = out + ((<usize>j) << 2)
      v128.store(to, from ? f32x4.add(v128.load(to), s0) : s0)
      v128.store(to, from ? f32x4.add(v128.load(to, 16), s1) : s1, 16)
    }
    for (; j + 4 <= n; j += 4) {
      let sum = f32x4.splat(0)
      let at = block + ((<usize>j) << 2)
      for (let i = 0; i < rows; i++) {
        sum = f32x4.add(sum, v128.load(at))
        at += pitch
      }
      const to = out + ((<usize>j) << 2)
      v128.store(to, from ? f32x4.add(v128.load(to), sum) : sum)
    }
    for (; j < n; j++) {
      let sum: f32 = 0
      let at = block + ((<usize>j) << 2)
      for (let i = 0; i < rows; i++) {
        sum += load<f32>(at)
        at += pitch
      }
      const to = out + ((<usize>j) << 2)
      store<f32>(to, from ? load<f32>(to) + sum : sum)
    }
  }
}

/** out = dy where x > 0, else 0: the gradient of the rectifier. */
export function reluGradient(out: usize, dy: usize, x: usize, count: i32): void {
  const end = out + ((<usize>count) << 2)
  const nothing = f32x4.splat(0)
  for (; out + 16 <= end; out += 16) {
    v128.store(out, v128.and(v128.load(dy), f32x4.gt(v128.load(x), nothing)))
    dy += 16
    x += 16
  }
  for (; out < end; out += 4) {
    store<f32>(out, load<f32>(x) > 0 ? load<f32>(dy) : 0)
    dy += 4
    x += 4
  }
}

/** out = x + bias, the bias [n] added to each of the m rows of x[m×n]. */
export function addToRows(out: usize, x: usize, bias: usize, m: i32, n: i32): void {
  for (let i = 0; i < m; i++) {
    let j = 0
    for (; j + 4 <= n; j += 4) {
      v128.store(out, f32x4.add(v128.load(x), v128.load(bias + ((<usize>j) << 2))))
      out += 16
      x += 16
    }
    for (; j < n; j++) {
      store<f32>(out, load<f32>(x) + load<f32>(bias + ((<usize>j) << 2)))
      out += 4
      x += 4
    }
  }
}

/**
 * out = tanh(x), to within a few units in the last place: the rational approximation of degrees 13 and 6 that Eigen has
 * (generic_fast_tanh_float), which beyond ±7.9 is as near to ±1 as a float comes.
 */
export function tanh(out: usize, x: usize, count: i32): void {
  const end = out + ((<usize>count) << 2)
  for (; out + 16 <= end; out += 16) {
    v128.store(out, tanhOf(v128.load(x)))
    x += 16
  }
  for (; out < end; out += 4) {
    store<f32>(out, f32x4.extract_lane(tanhOf(v128.load32_splat(x)), 0))
    x += 4
  }
}

function tanhOf(value: v128): v128 {
  const x = f32x4.max(f32x4.min(value, f32x4.splat(7.905311107635498)), f32x4.splat(-7.905311107635498))
  const square = f32x4.mul(x, x)
  let over = f32x4.splat(-2.76076847742355e-16)
  over = step(over, square, 2.00018790482477e-13)
  over = step(over, square, -8.60467152213735e-11)
  over = step(over, square, 5.12229709037114e-8)
  over = step(over, square, 1.48572235717979e-5)
  over = step(over, square, 6.37261928875436e-4)
  over = step(over, square, 4.89352455891786e-3)
  let under = f32x4.splat(1.19825839466702e-6)
  under = step(under, square, 1.18534705686654e-4)
  under = step(under, square, 2.268434632439e-3)
  under = step(under, square, 4.89352518554385e-3)
  const ratio = f32x4.div(f32x4.mul(x, over), under)
  // Near zero the tangent is x itself; the ratio would lose its last bits there.
  return v128.bitselect(value, ratio, f32x4.lt(f32x4.abs(value), f32x4.splat(0.0004)))
}

/** sum·x + next, of a polynomial. */
function step(sum: v128, x: v128, next: f32): v128 {
  return f32x4.add(f32x4.mul(sum, x), f32x4.splat(next))
}
