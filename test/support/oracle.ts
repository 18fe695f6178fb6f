/**
 * The float64 oracle: loss, hits and gradient of a sequential classifier by plain loops, one example at a time.
 * It shares no code with what it judges, reads the same topology, and is itself judged by central differences
 * (test/unit/compute-oracle.test.ts).
 */
import type { Layout } from '../../shared/layout.ts'
import type { Topology } from '../../shared/models.ts'

export interface Verdict {
  /** Sum of the examples' cross-entropies, in nats. */
  lossSum: number
  /** Examples whose label's logit is the (first) highest. */
  correct: number
  /** Gradient of the mean cross-entropy, in layout order. */
  gradient: Float64Array
  /** The least distance of any rectifier's input from zero and of any pool's or classifier's highest from its second:
   * where it is tiny, float32 and float64 may rightly disagree. */
  margin: number
}

interface Model {
  topology: Topology
  layout: Layout
  inputShape: readonly number[]
}

/** What one layer did, and how to go back through it: takes dy, adds to the gradient, returns dx. */
interface Pass {
  y: number[]
  shape: number[]
  back: (dy: number[]) => number[]
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

export function judge(
  { topology, layout, inputShape }: Model,
  parameters: ArrayLike<number>,
  inputs: ArrayLike<number>,
  labels: ArrayLike<number>,
  count: number,
): Verdict {
  const gradient = new Float64Array(layout.size)
  const offsets = new Map(layout.slots.map((slot) => [slot.name, slot.offset]))
  const features = product(inputShape)
  let lossSum = 0
  let correct = 0
  let margin = Number.POSITIVE_INFINITY

  function affine(layer: string, kernelSize: number) {
    const kernelAt = offsets.get(`${layer}/kernel`)!
    const biasAt = offsets.get(`${layer}/bias`)!
    if (biasAt !== kernelAt + kernelSize)
      throw new Error(`${layer}: kernel and bias are not where the oracle expects them`)
    return { kernelAt, biasAt }
  }

  function activate(name: string, pass: Pass): Pass {
    const before = pass.y
    let y: number[]
    let slope: (x: number, y: number) => number
    switch (name) {
      case 'linear':
        return pass
      case 'relu':
        for (const x of before) margin = Math.min(margin, Math.abs(x))
        y = before.map((x) => Math.max(x, 0))
        slope = (x) => (x > 0 ? 1 : 0)
        break
      case 'tanh':
        y = before.map((x) => Math.tanh(x))
        slope = (_, t) => 1 - t * t
        break
      case 'sigmoid':
        y = before.map((x) => 1 / (1 + Math.exp(-x)))
        slope = (_, s) => s * (1 - s)
        break
      case 'elu':
        y = before.map((x) => (x > 0 ? x : Math.exp(x) - 1))
        slope = (x) => (x > 0 ? 1 : Math.exp(x))
        break
      default:
        throw new Error(`the oracle knows no activation ${name}`)
    }
    return { y, shape: pass.shape, back: (dy) => pass.back(dy.map((d, i) => d * slope(before[i], y[i]))) }
  }

  function dense(layer: string, units: number, x: number[]): Pass {
    const { kernelAt, biasAt } = affine(layer, x.length * units)
    const y = Array.from({ length: units }, (_, j) => {
      let sum = parameters[biasAt + j]
      for (let i = 0; i < x.length; i++) sum += x[i] * parameters[kernelAt + i * units + j]
      return sum
    })
    const back = (dy: number[]): number[] => {
      for (let j = 0; j < units; j++) gradient[biasAt + j] += dy[j]
      return x.map((value, i) => {
        let sum = 0
        for (let j = 0; j < units; j++) {
          gradient[kernelAt + i * units + j] += value * dy[j]
          sum += dy[j] * parameters[kernelAt + i * units + j]
        }
        return sum
      })
    }
    return { y, shape: [units], back }
  }

  function conv2d(layer: string, config: Record<string, unknown>, x: number[], [h, w, c]: number[]): Pass {
    const [kh, kw] = config.kernel_size as number[]
    const filters = config.filters as number
    const [strideY, strideX] = config.strides as number[]
    const same = config.padding === 'same'
    const outH = same ? Math.ceil(h / strideY) : Math.floor((h - kh) / strideY) + 1
    const outW = same ? Math.ceil(w / strideX) : Math.floor((w - kw) / strideX) + 1
    const padTop = same ? Math.floor(Math.max(0, (outH - 1) * strideY + kh - h) / 2) : 0
    const padLeft = same ? Math.floor(Math.max(0, (outW - 1) * strideX + kw - w) / 2) : 0
    const { kernelAt, biasAt } = affine(layer, kh * kw * c * filters)
    /** Visits every product of an input and a kernel element: (output index, input index, kernel index). */
    const visit = (use: (out: number, into: number, kernel: number) => void): void => {
      for (let oy = 0; oy < outH; oy++)
        for (let ox = 0; ox < outW; ox++)
          for (let ky = 0; ky < kh; ky++)
            for (let kx = 0; kx < kw; kx++) {
              const iy = oy * strideY + ky - padTop
              const ix = ox * strideX + kx - padLeft
              if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue
              for (let i = 0; i < c; i++)
                for (let f = 0; f < filters; f++)
                  use((oy * outW + ox) * filters + f, (iy * w + ix) * c + i, ((ky * kw + kx) * c + i) * filters + f)
            }
    }
    const y = Array.from({ length: outH * outW * filters }, (_, i) => parameters[biasAt + (i % filters)] as number)
    visit((out, into, kernel) => {
      y[out] += x[into] * parameters[kernelAt + kernel]
    })
    const back = (dy: number[]): number[] => {
      const dx = new Array<number>(x.length).fill(0)
      dy.forEach((d, i) => {
        gradient[biasAt + (i % filters)] += d
      })
      visit((out, into, kernel) => {
        gradient[kernelAt + kernel] += x[into] * dy[out]
        dx[into] += parameters[kernelAt + kernel] * dy[out]
      })
      return dx
    }
    return { y, shape: [outH, outW, filters], back }
  }

  function maxPool(x: number[], [h, w, c]: number[]): Pass {
    const outH = Math.floor(h / 2)
    const outW = Math.floor(w / 2)
    const y: number[] = []
    const from: number[] = []
    for (let oy = 0; oy < outH; oy++)
      for (let ox = 0; ox < outW; ox++)
        for (let i = 0; i < c; i++) {
          const places = [0, 1].flatMap((dy) => [0, 1].map((dx) => ((2 * oy + dy) * w + 2 * ox + dx) * c + i))
          let best = places[0]
          for (const place of places) if (x[place] > x[best]) best = place
          // Equal values that are all zero are a rectifier's, whose gradient stops there anyway.
          for (const place of places) {
            if (place !== best && x[best] !== 0) margin = Math.min(margin, x[best] - x[place])
          }
          y.push(x[best])
          from.push(best)
        }
    const back = (dy: number[]): number[] => {
      const dx = new Array<number>(x.length).fill(0)
      dy.forEach((d, i) => {
        dx[from[i]] += d
      })
      return dx
    }
    return { y, shape: [outH, outW, c], back }
  }

  for (let example = 0; example < count; example++) {
    const passes: Pass[] = []
    let x = Array.from({ length: features }, (_, i) => inputs[example * features + i] as number)
    let shape = [...inputShape]
    for (const { class_name, config } of topology.config.layers) {
      let pass: Pass
      if (class_name === 'Flatten') pass = { y: x, shape: [x.length], back: (dy) => dy }
      else if (class_name === 'Dense')
        pass = activate(config.activation as string, dense(config.name, config.units as number, x))
      else if (class_name === 'Conv2D')
        pass = activate(config.activation as string, conv2d(config.name, config, x, shape))
      else if (class_name === 'MaxPooling2D') pass = maxPool(x, shape)
      else if (class_name === 'Activation' && config.activation === 'softmax') continue
      else throw new Error(`the oracle knows no layer ${class_name}`)
      passes.push(pass)
      x = pass.y
      shape = pass.shape
    }
    const highest = Math.max(...x)
    const logSum = highest + Math.log(x.reduce((sum, logit) => sum + Math.exp(logit - highest), 0))
    const label = labels[example]
    lossSum += logSum - x[label]
    margin = Math.min(margin, highest - Math.max(...x.filter((_, j) => j !== x.indexOf(highest))))
    if (x.indexOf(highest) === label) correct++
    let dy = x.map((logit, j) => (Math.exp(logit - logSum) - (j === label ? 1 : 0)) / count)
    for (const pass of passes.reverse()) dy = pass.back(dy)
  }
  return { lossSum, correct, gradient, margin }
}

/** Largest difference of two vectors, as a fraction of the second's largest element. */
export function deviation(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY
  let difference = 0
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const here = Math.abs(got[i] - expected[i])
    if (!(here <= difference)) difference = here
    largest = Math.max(largest, Math.abs(expected[i]))
  }
  return difference / largest
}
