/** Each WASM kernel of ours against plain loops, on shapes that fill no tile, through the tfjs operations it serves. */
import * as tf from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../client/volunteer/compute/engine.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { Random } from '../../shared/random.ts'
import { elementsOf } from '../../shared/shape.ts'

/** Of float32 sums of a few hundred products of numbers below one. */
const TOLERANCE = 2e-5

let engine: Engine
beforeAll(async () => {
  engine = await openEngine('wasm')
  await tf.setBackend('wasm')
})
afterAll(() => engine.close())

const random = new Random(3)
let drawn = 0
const draw = (length: number): Float32Array => Float32Array.from({ length }, () => random.uniform(drawn++) - 0.5)

/** Runs on tensors that are gone afterwards; the numbers of the result. */
function compute(work: () => tf.Tensor): Float32Array {
  const before = tf.memory().numTensors
  const result = tf.tidy(() => work().dataSync() as Float32Array)
  expect(tf.memory().numTensors).toBe(before)
  return result
}

function expectClose(got: Float32Array, expected: ArrayLike<number>): void {
  expect(got.length).toBe(expected.length)
  // Not a comparison of each: of what is no number the greatest is none, too.
  const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0)
  expect(worst).toBeLessThan(TOLERANCE)
}

const side = fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 21 }) }, fc.integer({ min: 22, max: 300 }))

describe('matMul', () => {
  it('multiplies, whatever is transposed', () => {
    fc.assert(
      fc.property(side, side, side, fc.boolean(), fc.boolean(), (m, n, k, transposeA, transposeB) => {
        const a = draw(m * k)
        const b = draw(k * n)
        const expected = new Float64Array(m * n)
        for (let i = 0; i < m; i++)
          for (let p = 0; p < k; p++) {
            const left = a[transposeA ? p * m + i : i * k + p]
            for (let j = 0; j < n; j++) expected[i * n + j] += left * b[transposeB ? j * k + p : p * n + j]
          }
        const product = compute(() =>
          tf.matMul(
            tf.tensor2d(a, transposeA ? [k, m] : [m, k]),
            tf.tensor2d(b, transposeB ? [n, k] : [k, n]),
            transposeA,
            transposeB,
          ),
        )
        expectClose(product, expected)
      }),
      { numRuns: 60 },
    )
  })

  it('broadcasts leading dimensions', () => {
    const a = draw(2 * 3 * 4 * 5)
    const b = draw(3 * 5 * 6)
    const expected: number[] = []
    for (let i = 0; i < 2; i++)
      for (let j = 0; j < 3; j++)
        for (let row = 0; row < 4; row++)
          for (let column = 0; column < 6; column++) {
            let sum = 0
            for (let p = 0; p < 5; p++) sum += a[((i * 3 + j) * 4 + row) * 5 + p] * b[(j * 5 + p) * 6 + column]
            expected.push(sum)
          }
    expectClose(
      compute(() => tf.matMul(tf.tensor4d(a, [2, 3, 4, 5]), tf.tensor3d(b, [3, 5, 6]))),
      expected,
    )
    const vector = draw(5)
    const single = compute(() => tf.matMul(tf.tensor4d(a, [2, 3, 4, 5]), tf.tensor2d(vector, [5, 1])))
    expectClose(
      single,
      Array.from({ length: 24 }, (_, row) => vector.reduce((sum, value, p) => sum + value * a[row * 5 + p], 0)),
    )
  })

  for (const activation of ['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu', 'prelu'] as const) {
    it(`is fused with a bias and ${activation}`, () => {
      const [m, k, n] = [7, 11, 13]
      // On both sides of what every one of them bends at.
      const [a, b, bias] = [draw(m * k), draw(k * n), draw(n).map((x) => 16 * x)]
      const shape: Record<typeof activation, (x: number) => number> = {
        linear: (x) => x,
        relu: (x) => Math.max(0, x),
        relu6: (x) => Math.min(6, Math.max(0, x)),
        elu: (x) => (x > 0 ? x : Math.expm1(x)),
        sigmoid: (x) => 1 / (1 + Math.exp(-x)),
        leakyrelu: (x) => (x > 0 ? x : 0.3 * x),
        prelu: (x) => (x > 0 ? x : 0.25 * x),
      }
      const expected = Array.from({ length: m * n }, (_, at) => {
        let sum = bias[at % n]
        for (let p = 0; p < k; p++) sum += a[Math.floor(at / n) * k + p] * b[p * n + (at % n)]
        return shape[activation](sum)
      })
      const got = compute(() =>
        tf.fused.matMul({
          ...{ a: tf.tensor2d(a, [m, k]), b: tf.tensor2d(b, [k, n]), bias: tf.tensor1d(bias), activation },
          ...(activation === 'leakyrelu' ? { leakyreluAlpha: 0.3 } : {}),
          ...(activation === 'prelu' ? { preluActivationWeights: tf.fill([n], 0.25) } : {}),
        }),
      )
      expectClose(got, expected)
    })
  }
})

const convolution = fc
  .record({
    batch: fc.integer({ min: 1, max: 4 }),
    height: fc.integer({ min: 3, max: 17 }),
    width: fc.integer({ min: 3, max: 17 }),
    channels: fc.integer({ min: 1, max: 9 }),
    filters: fc.integer({ min: 1, max: 10 }),
    kernelHeight: fc.integer({ min: 1, max: 5 }),
    kernelWidth: fc.integer({ min: 1, max: 5 }),
    strideY: fc.integer({ min: 1, max: 3 }),
    strideX: fc.integer({ min: 1, max: 3 }),
    padding: fc.constantFrom('same' as const, 'valid' as const),
  })
  .filter((c) => c.padding === 'same' || (c.kernelHeight <= c.height && c.kernelWidth <= c.width))
type Convolution = typeof convolution extends fc.Arbitrary<infer C> ? C : never

/** Every product of an input element with a kernel element: (output pixel, input pixel, kernel pixel). */
function windows(c: Convolution, kernelHeight: number, kernelWidth: number) {
  const same = c.padding === 'same'
  const outHeight = same ? Math.ceil(c.height / c.strideY) : Math.floor((c.height - kernelHeight) / c.strideY) + 1
  const outWidth = same ? Math.ceil(c.width / c.strideX) : Math.floor((c.width - kernelWidth) / c.strideX) + 1
  const top = same ? Math.floor(Math.max(0, (outHeight - 1) * c.strideY + kernelHeight - c.height) / 2) : 0
  const left = same ? Math.floor(Math.max(0, (outWidth - 1) * c.strideX + kernelWidth - c.width) / 2) : 0
  const visit = (use: (out: number, into: number, kernel: number) => void): void => {
    for (let image = 0; image < c.batch; image++)
      for (let oy = 0; oy < outHeight; oy++)
        for (let ox = 0; ox < outWidth; ox++)
          for (let ky = 0; ky < kernelHeight; ky++)
            for (let kx = 0; kx < kernelWidth; kx++) {
              const iy = oy * c.strideY + ky - top
              const ix = ox * c.strideX + kx - left
              if (iy < 0 || iy >= c.height || ix < 0 || ix >= c.width) continue
              const out = (image * outHeight + oy) * outWidth + ox
              use(out, (image * c.height + iy) * c.width + ix, ky * kernelWidth + kx)
            }
  }
  return { outHeight, outWidth, visit }
}

describe('conv2d', () => {
  it('convolves, and so do both of its gradients', () => {
    fc.assert(
      fc.property(convolution, (c) => {
        const { outHeight, outWidth, visit } = windows(c, c.kernelHeight, c.kernelWidth)
        const xShape: [number, number, number, number] = [c.batch, c.height, c.width, c.channels]
        const filterShape: [number, number, number, number] = [c.kernelHeight, c.kernelWidth, c.channels, c.filters]
        const yShape: [number, number, number, number] = [c.batch, outHeight, outWidth, c.filters]
        const [x, filter, dy, bias] = [
          draw(elementsOf(xShape)),
          draw(elementsOf(filterShape)),
          draw(elementsOf(yShape)),
          draw(c.filters),
        ]
        const y = Float64Array.from({ length: elementsOf(yShape) }, (_, i) => bias[i % c.filters])
        const dx = new Float64Array(x.length)
        const gradient = new Float64Array(filter.length)
        visit((out, into, kernel) => {
          for (let i = 0; i < c.channels; i++)
            for (let f = 0; f < c.filters; f++) {
              const at = (kernel * c.channels + i) * c.filters + f
              y[out * c.filters + f] += x[into * c.channels + i] * filter[at]
              dx[into * c.channels + i] += dy[out * c.filters + f] * filter[at]
              gradient[at] += x[into * c.channels + i] * dy[out * c.filters + f]
            }
        })
        const strides: [number, number] = [c.strideY, c.strideX]
        const tensors = () => ({ x: tf.tensor4d(x, xShape), filter: tf.tensor4d(filter, filterShape) })
        expectClose(
          compute(() => tf.fused.conv2d({ ...tensors(), strides, pad: c.padding, bias: tf.tensor1d(bias) })),
          y,
        )
        const grads = () => {
          const { x: x4, filter: f4 } = tensors()
          const both = tf.grads((a, b) => tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, strides, c.padding))
          return both([x4, f4], tf.tensor4d(dy, yShape))
        }
        expectClose(
          compute(() => grads()[0]),
          dx,
        )
        expectClose(
          compute(() => grads()[1]),
          gradient,
        )
      }),
      { numRuns: 40 },
    )
  })

  it('convolves with dilation', () => {
    const [x, filter] = [draw(9 * 8 * 2), draw(3 * 2 * 2 * 3)]
    const got = compute(() =>
      tf.conv2d(tf.tensor4d(x, [1, 9, 8, 2]), tf.tensor4d(filter, [3, 2, 2, 3]), 1, 'valid', 'NHWC', [2, 3]),
    )
    const expected: number[] = []
    for (let oy = 0; oy < 5; oy++)
      for (let ox = 0; ox < 5; ox++)
        for (let f = 0; f < 3; f++) {
          let sum = 0
          for (let ky = 0; ky < 3; ky++)
            for (let kx = 0; kx < 2; kx++)
              for (let i = 0; i < 2; i++)
                sum += x[((oy + 2 * ky) * 8 + ox + 3 * kx) * 2 + i] * filter[((ky * 2 + kx) * 2 + i) * 3 + f]
          expected.push(sum)
        }
    expectClose(got, expected)
  })
})

describe('depthwise conv2d', () => {
  it('has both of its gradients', () => {
    fc.assert(
      fc.property(convolution, fc.integer({ min: 1, max: 3 }), (any, multiplier) => {
        // tfjs takes no depthwise convolution with unequal strides.
        const c = { ...any, strideX: any.strideY }
        const { outHeight, outWidth, visit } = windows(c, c.kernelHeight, c.kernelWidth)
        const outputs = c.channels * multiplier
        const xShape: [number, number, number, number] = [c.batch, c.height, c.width, c.channels]
        const filterShape: [number, number, number, number] = [c.kernelHeight, c.kernelWidth, c.channels, multiplier]
        const yShape: [number, number, number, number] = [c.batch, outHeight, outWidth, outputs]
        const [x, filter, dy] = [draw(elementsOf(xShape)), draw(elementsOf(filterShape)), draw(elementsOf(yShape))]
        const dx = new Float64Array(x.length)
        const gradient = new Float64Array(filter.length)
        visit((out, into, kernel) => {
          for (let o = 0; o < outputs; o++) {
            const from = into * c.channels + Math.floor(o / multiplier)
            dx[from] += dy[out * outputs + o] * filter[kernel * outputs + o]
            gradient[kernel * outputs + o] += dy[out * outputs + o] * x[from]
          }
        })
        const both = tf.grads((a, b) => tf.depthwiseConv2d(a as tf.Tensor4D, b as tf.Tensor4D, c.strideY, c.padding))
        const grads = () => both([tf.tensor4d(x, xShape), tf.tensor4d(filter, filterShape)], tf.tensor4d(dy, yShape))
        expectClose(
          compute(() => grads()[0]),
          dx,
        )
        expectClose(
          compute(() => grads()[1]),
          gradient,
        )
      }),
      { numRuns: 30 },
    )
  })
})

describe('segments', () => {
  it('sum the rows of each, which is the gradient of a gather', () => {
    const table = draw(4 * 3)
    const ids = [2, 0, 2, 2, 3]
    const dy = draw(5 * 3)
    const expected = new Float64Array(12)
    dy.forEach((value, i) => {
      expected[ids[Math.floor(i / 3)] * 3 + (i % 3)] += value
    })
    const gradient = tf.grad((a) => tf.gather(a as tf.Tensor2D, tf.tensor1d(ids, 'int32')))
    expectClose(
      compute(() => gradient(tf.tensor2d(table, [4, 3]), tf.tensor2d(dy, [5, 3]))),
      expected,
    )
  })
})

describe('max pooling', () => {
  it('sends the gradient to the first highest of each window', () => {
    fc.assert(
      fc.property(convolution, fc.boolean(), (c, ties) => {
        const { outHeight, outWidth, visit } = windows(c, c.kernelHeight, c.kernelWidth)
        const xShape: [number, number, number, number] = [c.batch, c.height, c.width, c.channels]
        const yShape: [number, number, number, number] = [c.batch, outHeight, outWidth, c.channels]
        const x = draw(elementsOf(xShape)).map((value) => (ties ? Math.round(2 * value) : value))
        const dy = draw(elementsOf(yShape))
        const best = new Map<number, number>()
        visit((out, into) => {
          for (let i = 0; i < c.channels; i++) {
            const [to, from] = [out * c.channels + i, into * c.channels + i]
            const before = best.get(to)
            if (before === undefined || x[from] > x[before]) best.set(to, from)
          }
        })
        const dx = new Float64Array(x.length)
        for (const [to, from] of best) dx[from] += dy[to]
        const gradient = tf.grad((a) =>
          tf.maxPool(a as tf.Tensor4D, [c.kernelHeight, c.kernelWidth], [c.strideY, c.strideX], c.padding),
        )
        expectClose(
          compute(() => gradient(tf.tensor4d(x, xShape), tf.tensor4d(dy, yShape))),
          dx,
        )
      }),
      { numRuns: 40 },
    )
  })
})

describe('average pooling', () => {
  it('sends the gradient in equal shares to what is inside of each window', () => {
    fc.assert(
      fc.property(convolution, (c) => {
        const { outHeight, outWidth, visit } = windows(c, c.kernelHeight, c.kernelWidth)
        const xShape: [number, number, number, number] = [c.batch, c.height, c.width, c.channels]
        const yShape: [number, number, number, number] = [c.batch, outHeight, outWidth, c.channels]
        const dy = draw(elementsOf(yShape))
        const inside = new Array<number>(c.batch * outHeight * outWidth).fill(0)
        visit((out) => {
          inside[out]++
        })
        const dx = new Float64Array(elementsOf(xShape))
        visit((out, into) => {
          for (let i = 0; i < c.channels; i++) dx[into * c.channels + i] += dy[out * c.channels + i] / inside[out]
        })
        const gradient = tf.grad((a) =>
          tf.avgPool(a as tf.Tensor4D, [c.kernelHeight, c.kernelWidth], [c.strideY, c.strideX], c.padding),
        )
        expectClose(
          compute(() => gradient(tf.tensor4d(draw(elementsOf(xShape)), xShape), tf.tensor4d(dy, yShape))),
          dx,
        )
      }),
      { numRuns: 40 },
    )
  })
})

describe('the small passes', () => {
  it('have a tanh as exact as floats are, and NaN where NaN was', () => {
    const magnitudes = Array.from({ length: 400 }, (_, i) => 10 ** (-12 + i / 30))
    const x = Float32Array.from([...magnitudes, ...magnitudes.map((value) => -value), 0, 1e30, -Infinity, Infinity])
    const got = compute(() => tf.tanh(tf.tensor1d(x)))
    x.forEach((value, i) => {
      const exact = Math.tanh(value)
      expect(Math.abs(got[i] - exact)).toBeLessThanOrEqual(4e-7 * Math.abs(exact))
      expect(Math.abs(got[i])).toBeLessThanOrEqual(1)
    })
    expect(compute(() => tf.tanh(tf.tensor1d([1, Number.NaN])))[1]).toBeNaN()
  })

  it('add a bias to rows, and sum rows for its gradient', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 37 }), (m, n) => {
        const [x, bias] = [draw(m * n), draw(n)]
        expectClose(
          compute(() => tf.add(tf.tensor2d(x, [m, n]), tf.tensor1d(bias))),
          x.map((value, i) => value + bias[i % n]),
        )
        const sums = new Float64Array(n)
        x.forEach((value, i) => {
          sums[i % n] += value
        })
        expectClose(
          compute(() => tf.sum(tf.tensor2d(x, [m, n]), 0)),
          sums,
        )
        const kept = tf.tidy(() => tf.sum(tf.tensor2d(x, [m, n]), [0], true).shape)
        expect(kept).toEqual([1, n])
      }),
      { numRuns: 30 },
    )
  })

  it('leave every other addition and sum to tfjs', () => {
    const x = Float32Array.from({ length: 12 }, (_, i) => i)
    const matrix = () => tf.tensor2d(x, [3, 4])
    const plain = (work: () => tf.Tensor): number[] => Array.from(compute(work))
    expect(plain(() => tf.add(matrix(), tf.tensor2d([10, 20, 30], [3, 1])))).toEqual(
      Array.from(x, (value, i) => value + 10 * (1 + Math.floor(i / 4))),
    )
    expect(plain(() => tf.add(tf.tensor1d([1, 2, 3, 4]), matrix()))).toEqual(Array.from(x, (v, i) => v + (i % 4) + 1))
    expect(plain(() => tf.add(tf.tensor1d([1, 2], 'int32'), tf.tensor1d([3, 4], 'int32')))).toEqual([4, 6])
    expect(plain(() => tf.sum(matrix()))).toEqual([66])
    expect(plain(() => tf.sum(matrix(), 1))).toEqual([6, 22, 38])
    expect(plain(() => tf.sum(tf.cast(matrix(), 'int32'), 0))).toEqual([12, 15, 18, 21])
  })

  it('stop the gradient where the rectifier is zero', () => {
    const x = Float32Array.from([-2, -0, 0, 1e-30, 3, -1, 5])
    const gradient = compute(() => tf.grad((a) => tf.relu(a))(tf.tensor1d(x), tf.tensor1d([1, 2, 3, 4, 5, 6, 7])))
    expect(Array.from(gradient)).toEqual([0, 0, 0, 4, 5, 0, 7])
  })

  it('clone without a copy, and each clone lives for itself', () => {
    const x = tf.tensor1d([1, 2, 3])
    const clone = x.clone()
    x.dispose()
    expect(Array.from(clone.dataSync())).toEqual([1, 2, 3])
    clone.dispose()
  })
})

describe('pools', () => {
  it.each(['valid', 'same'] as const)('of a constant are that constant, with windows that overlap (%s)', (padding) => {
    for (const strides of [1, 2, 3]) {
      for (const pool of [tf.maxPool, tf.avgPool]) {
        const pooled = compute(() => pool(tf.fill([2, 7, 9, 3], -0.75) as tf.Tensor4D, [3, 2], strides, padding))
        expect(pooled.length).toBeGreaterThan(0)
        for (const value of pooled) expect(value).toBeCloseTo(-0.75, 6)
      }
    }
  })
})
