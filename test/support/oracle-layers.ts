/** The layers of the float64 oracle (oracle.ts): forward for one example, and back, by plain loops. */

/** What one layer did, and how to go back through it: takes dy, adds to the gradient, returns dx. */
export interface Pass {
  y: number[]
  shape: number[]
  back: (dy: number[]) => number[]
}

/** A parameter tensor: element i, and where its gradient is added (nowhere for a fixed one). */
export interface Weights {
  value(i: number): number
  add(i: number, slope: number): void
}

type Config = Record<string, unknown>

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** `near` is told how far an input is from a kink. */
export function activate(name: string, pass: Pass, near: (distance: number) => void): Pass {
  const before = pass.y
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
  const functions: Record<
    string,
    [y: (x: number) => number, slope: (x: number, y: number) => number, kinks: number[]]
  > = {
    linear: [(x) => x, () => 1, []],
    relu: [(x) => Math.max(x, 0), (x) => (x > 0 ? 1 : 0), [0]],
    relu6: [(x) => Math.min(6, Math.max(x, 0)), (x) => (x > 0 && x < 6 ? 1 : 0), [0, 6]],
    tanh: [Math.tanh, (_, t) => 1 - t * t, []],
    sigmoid: [sigmoid, (_, s) => s * (1 - s), []],
    elu: [(x) => (x > 0 ? x : Math.expm1(x)), (x) => (x > 0 ? 1 : Math.exp(x)), []],
    selu: [
      (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
      (x) => 1.0507009873554805 * (x > 0 ? 1 : 1.6732632423543772 * Math.exp(x)),
      [0],
    ],
    softplus: [(x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), (x) => sigmoid(x), []],
    softsign: [(x) => x / (1 + Math.abs(x)), (x) => 1 / (1 + Math.abs(x)) ** 2, []],
    hardSigmoid: [(x) => Math.min(1, Math.max(0, 0.2 * x + 0.5)), (x) => (Math.abs(x) < 2.5 ? 0.2 : 0), [-2.5, 2.5]],
    swish: [(x) => x * sigmoid(x), (x, y) => y + sigmoid(x) * (1 - y), []],
  }
  if (!functions[name]) throw new Error(`the oracle knows no activation ${name}`)
  const [of, slope, kinks] = functions[name]
  // What is exactly there, such as a rectifier's zero, is there in float32 too.
  for (const x of before) for (const kink of kinks) if (x !== kink) near(Math.abs(x - kink))
  const y = before.map(of)
  return { y, shape: pass.shape, back: (dy) => pass.back(dy.map((d, i) => d * slope(before[i], y[i]))) }
}

export function dense(units: number, kernel: Weights, bias: Weights | null, x: number[]): Pass {
  const y = Array.from({ length: units }, (_, j) => {
    let sum = bias?.value(j) ?? 0
    for (let i = 0; i < x.length; i++) sum += x[i] * kernel.value(i * units + j)
    return sum
  })
  const back = (dy: number[]): number[] => {
    for (let j = 0; j < units; j++) bias?.add(j, dy[j])
    return x.map((value, i) => {
      let sum = 0
      for (let j = 0; j < units; j++) {
        kernel.add(i * units + j, value * dy[j])
        sum += dy[j] * kernel.value(i * units + j)
      }
      return sum
    })
  }
  return { y, shape: [units], back }
}

/** Every pair of an output pixel and an input pixel in its window: (output pixel, input pixel, window pixel). */
function windows(config: Config, [h, w]: readonly number[]) {
  const [kh, kw] = (config.kernel_size ?? config.pool_size) as number[]
  const [strideY, strideX] = config.strides as number[]
  const same = config.padding === 'same'
  const outH = same ? Math.ceil(h / strideY) : Math.floor((h - kh) / strideY) + 1
  const outW = same ? Math.ceil(w / strideX) : Math.floor((w - kw) / strideX) + 1
  const padTop = same ? Math.floor(Math.max(0, (outH - 1) * strideY + kh - h) / 2) : 0
  const padLeft = same ? Math.floor(Math.max(0, (outW - 1) * strideX + kw - w) / 2) : 0
  const visit = (use: (out: number, into: number, kernel: number) => void): void => {
    for (let oy = 0; oy < outH; oy++)
      for (let ox = 0; ox < outW; ox++)
        for (let ky = 0; ky < kh; ky++)
          for (let kx = 0; kx < kw; kx++) {
            const iy = oy * strideY + ky - padTop
            const ix = ox * strideX + kx - padLeft
            if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue
            use(oy * outW + ox, iy * w + ix, ky * kw + kx)
          }
  }
  return { outH, outW, visit }
}

/**
 * A convolution; `sees` are the (input map, output map, place of their weight in a pixel's kernel) that are connected,
 * of a kernel with `pitch` weights a pixel.
 */
function convolve(
  config: Config,
  sees: readonly (readonly [number, number, number])[],
  [outputs, pitch]: readonly [number, number],
  [kernel, bias]: readonly [Weights, Weights | null],
  x: number[],
  shape: readonly number[],
): Pass {
  const { outH, outW, visit } = windows(config, shape)
  const c = shape[2]
  const y = Array.from({ length: outH * outW * outputs }, (_, i) => bias?.value(i % outputs) ?? 0)
  visit((out, into, pixel) => {
    for (const [i, o, at] of sees) y[out * outputs + o] += x[into * c + i] * kernel.value(pixel * pitch + at)
  })
  const back = (dy: number[]): number[] => {
    const dx = new Array<number>(x.length).fill(0)
    dy.forEach((d, i) => {
      bias?.add(i % outputs, d)
    })
    visit((out, into, pixel) => {
      for (const [i, o, at] of sees) {
        kernel.add(pixel * pitch + at, x[into * c + i] * dy[out * outputs + o])
        dx[into * c + i] += kernel.value(pixel * pitch + at) * dy[out * outputs + o]
      }
    })
    return dx
  }
  return { y, shape: [outH, outW, outputs], back }
}

export function conv2d(config: Config, kernel: Weights, bias: Weights | null, x: number[], shape: number[]): Pass {
  const filters = config.filters as number
  const all: number[] = [...Array(shape[2]).keys()]
  const table = (config.connections as number[][] | undefined) ?? Array.from({ length: filters }, () => all)
  const sees = table.flatMap((inputs, o) => inputs.map((i) => [i, o, i * filters + o] as const))
  return convolve(config, sees, [filters, shape[2] * filters], [kernel, bias], x, shape)
}

export function depthwise(config: Config, kernel: Weights, bias: Weights | null, x: number[], shape: number[]): Pass {
  const multiplier = config.depth_multiplier as number
  const outputs = shape[2] * multiplier
  const sees = Array.from({ length: outputs }, (_, o) => [Math.floor(o / multiplier), o, o] as const)
  return convolve(config, sees, [outputs, outputs], [kernel, bias], x, shape)
}

/** `near` is told how far a window's highest is from its others. */
export function maxPool(config: Config, x: number[], shape: number[], near: (distance: number) => void): Pass {
  const { outH, outW, visit } = windows(config, shape)
  const c = shape[2]
  const from = new Array<number>(outH * outW * c).fill(-1)
  const eachOf = (use: (to: number, place: number) => void) =>
    visit((out, into) => {
      for (let i = 0; i < c; i++) use(out * c + i, into * c + i)
    })
  eachOf((to, place) => {
    if (from[to] < 0 || x[place] > x[from[to]]) from[to] = place
  })
  eachOf((to, place) => {
    // Equal values that are all zero are a rectifier's, whose gradient stops there anyway.
    if (place !== from[to] && x[from[to]] !== 0) near(x[from[to]] - x[place])
  })
  const back = (dy: number[]): number[] => {
    const dx = new Array<number>(x.length).fill(0)
    dy.forEach((d, i) => {
      dx[from[i]] += d
    })
    return dx
  }
  return { y: from.map((place) => x[place]), shape: [outH, outW, c], back }
}

/** The mean of those pixels of a window that are inside. */
export function averagePool(config: Config, x: number[], shape: number[]): Pass {
  const { outH, outW, visit } = windows(config, shape)
  const c = shape[2]
  const inside = new Array<number>(outH * outW).fill(0)
  visit((out) => {
    inside[out]++
  })
  const y = new Array<number>(outH * outW * c).fill(0)
  visit((out, into) => {
    for (let i = 0; i < c; i++) y[out * c + i] += x[into * c + i] / inside[out]
  })
  const back = (dy: number[]): number[] => {
    const dx = new Array<number>(x.length).fill(0)
    visit((out, into) => {
      for (let i = 0; i < c; i++) dx[into * c + i] += dy[out * c + i] / inside[out]
    })
    return dx
  }
  return { y, shape: [outH, outW, c], back }
}

/** `factors`: what each element is multiplied by. */
export function scale(factors: number[], x: number[], shape: number[]): Pass {
  const times = (values: number[]) => values.map((value, i) => value * factors[i])
  return { y: times(x), shape, back: times }
}

export const flatten = (x: number[], shape: number[]): Pass => ({ y: x, shape: [product(shape)], back: (dy) => dy })
