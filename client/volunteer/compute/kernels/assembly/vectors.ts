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
