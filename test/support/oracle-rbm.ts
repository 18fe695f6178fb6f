/**
 * The float64 oracle of restricted Boltzmann machines: contrastive divergence by plain loops fed the same draws, free
 * energies, and what can be known exactly of a machine small enough to enumerate. It shares no code with what it
 * judges but the random numbers that the draws are defined by.
 */
import { Random, Stream } from '../../shared/random.ts'

export interface Rbm {
  readonly visible: number
  readonly hidden: number
  /** visible × hidden. */
  readonly w: ArrayLike<number>
  readonly a: ArrayLike<number>
  readonly b: ArrayLike<number>
  readonly gaussian?: boolean
  /** So many of the visible units, the last, are a softmax group. */
  readonly labels?: number
}

/** Of a minibatch; the gradient is minus the ascent direction, in the order kernel, bias, visible bias. */
interface Contrast {
  readonly gradient: Float64Array
  /** Σ(v₀ − v₁)² */
  readonly lossSum: number
  /** ΣF(v₀) */
  readonly measureSum: number
}

/** The flat parameters of a layout in that order, as a machine. */
export function rbmOf(flat: ArrayLike<number>, visible: number, hidden: number, gaussian = false, labels = 0): Rbm {
  const values = Float64Array.from(flat)
  const [toBias, toVisible] = [visible * hidden, (visible + 1) * hidden]
  const [w, b, a] = [values.subarray(0, toBias), values.subarray(toBias, toVisible), values.subarray(toVisible)]
  return { visible, hidden, w, a, b, gaussian, labels }
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))

/** What drives the hidden units. */
export function drive({ visible, hidden, w, b }: Rbm, v: ArrayLike<number>): number[] {
  return Array.from({ length: hidden }, (_, j) => {
    let sum = b[j]
    for (let i = 0; i < visible; i++) sum += v[i] * w[i * hidden + j]
    return sum
  })
}
export const up = (rbm: Rbm, v: ArrayLike<number>): number[] =>
  rbm.gaussian ? drive(rbm, v) : drive(rbm, v).map(sigmoid)
export function down({ visible, hidden, w, a, labels = 0 }: Rbm, h: ArrayLike<number>): number[] {
  const driven = Array.from({ length: visible }, (_, i) => {
    let sum = a[i]
    for (let j = 0; j < hidden; j++) sum += h[j] * w[i * hidden + j]
    return sum
  })
  const features = visible - labels
  return [...driven.slice(0, features).map(sigmoid), ...softmax(driven.slice(features))]
}

function softmax(logits: readonly number[]): number[] {
  const weights = logits.map((x) => Math.exp(x - Math.max(...logits)))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => weight / total)
}

export function freeEnergy(rbm: Rbm, v: ArrayLike<number>): number {
  const driven = drive(rbm, v)
  let energy = 0
  for (let i = 0; i < rbm.visible; i++) energy -= rbm.a[i] * v[i]
  for (const x of driven) energy -= rbm.gaussian ? x ** 2 / 2 : softplus(x)
  return energy
}

type Key = { key0: number; key1: number }

const coin = (random: Random, index: number, p: number): number =>
  Math.floor(random.uniform(index) * 2 ** 24) / 2 ** 24 < p ? 1 : 0

/** Sample t of an example's hidden units. */
function sample(rbm: Rbm, mean: number[], key: Key, t: number): number[] {
  const random = new Random(key, Stream.gibbs)
  return mean.map((p, j) => {
    const index = t * rbm.hidden + j
    return rbm.gaussian ? p + random.normal(index) : coin(random, index, p)
  })
}
/** Of its visible units. */
function sampleVisible(rbm: Rbm, mean: number[], key: Key, t: number): number[] {
  const random = new Random(key, Stream.gibbs, 1)
  const { visible, labels = 0 } = rbm
  const features = visible - labels
  const v = mean.map((p, i) => (i < features ? coin(random, t * visible + i, p) : 0))
  if (labels === 0) return v
  // One of the group: that in which a uniform, of 24 bits, falls.
  let left = Math.floor(random.uniform(t * visible + features) * 2 ** 24) / 2 ** 24
  let on = features
  while (on < visible - 1 && left >= mean[on]) left -= mean[on++]
  v[on] = 1
  return v
}

/** p(y | features) of every class, by the free energies of what is seen with each label. */
export function classesOf(rbm: Rbm, features: readonly number[]): number[] {
  const { labels = 0 } = rbm
  const with1 = (label: number) => [...features, ...Array.from({ length: labels }, (_, i) => (i === label ? 1 : 0))]
  return softmax(Array.from({ length: labels }, (_, label) => -freeEnergy(rbm, with1(label))))
}

/**
 * One minibatch of CD-k; with `chains` PCD, which are moved on (and begun where there are too few).
 * @param data one row of visible states an example
 * @param keys two words an example
 */
export function contrast(
  rbm: Rbm,
  data: readonly ArrayLike<number>[],
  keys: Uint32Array,
  { steps, visible: units }: { steps: number; visible: 'probabilities' | 'samples' },
  chains: number[][] | null = null,
): Contrast {
  const { visible, hidden } = rbm
  const gradient = new Float64Array(visible * hidden + hidden + visible)
  let lossSum = 0
  let measureSum = 0
  const add = (v: ArrayLike<number>, h: readonly number[], share: number): void => {
    for (let i = 0; i < visible; i++) {
      for (let j = 0; j < hidden; j++) gradient[i * hidden + j] += share * v[i] * h[j]
      gradient[(visible + 1) * hidden + i] += share * v[i]
    }
    for (let j = 0; j < hidden; j++) gradient[visible * hidden + j] += share * h[j]
  }
  data.forEach((v0, example) => {
    const key = { key0: keys[2 * example], key1: keys[2 * example + 1] }
    const h0 = up(rbm, v0)
    const first = sample(rbm, h0, key, 0)
    let h = chains ? (chains[example] ?? first) : first
    let v: number[] = []
    let mean: number[] = []
    for (let t = 1; t <= steps; t++) {
      v = down(rbm, h)
      if (units === 'samples') v = sampleVisible(rbm, v, key, t - 1)
      mean = up(rbm, v)
      h = sample(rbm, mean, key, t)
    }
    if (chains) chains[example] = h
    add(v, mean, 1 / data.length)
    add(v0, h0, -1 / data.length)
    lossSum += down(rbm, first).reduce((sum, x, i) => sum + (x - v0[i]) ** 2, 0)
    measureSum += freeEnergy(rbm, v0)
  })
  return { gradient, lossSum, measureSum }
}

// ---- what can be enumerated ----------------------------------------------------------------------------------------

/** All binary vectors of so many units. */
export const states = (units: number): number[][] =>
  Array.from({ length: 2 ** units }, (_, bits) => Array.from({ length: units }, (_, i) => (bits >> i) & 1))

export function energy({ visible, hidden, w, a, b }: Rbm, v: readonly number[], h: readonly number[]): number {
  let sum = 0
  for (let i = 0; i < visible; i++) sum -= a[i] * v[i]
  for (let j = 0; j < hidden; j++) {
    sum -= b[j] * h[j]
    for (let i = 0; i < visible; i++) sum -= v[i] * w[i * hidden + j] * h[j]
  }
  return sum
}

/** Mean log p(v), by the sum over all states. */
export function meanLogLikelihood(rbm: Rbm, data: readonly number[][]): number {
  const weight = (v: number[]) => states(rbm.hidden).reduce((sum, h) => sum + Math.exp(-energy(rbm, v, h)), 0)
  const logZ = Math.log(states(rbm.visible).reduce((sum, v) => sum + weight(v), 0))
  return data.reduce((sum, v) => sum + Math.log(weight(v)) - logZ, 0) / data.length
}

type Pair = [p: number, v: readonly number[], h: readonly number[]]

/** Σ p(v, h) of the statistics v·h, h, v: as the gradient is laid out. */
export function expectation(rbm: Rbm, pairs: readonly Pair[]): Float64Array {
  const { visible, hidden } = rbm
  const sums = new Float64Array(visible * hidden + hidden + visible)
  for (const [p, v, h] of pairs) {
    for (let i = 0; i < visible; i++) for (let j = 0; j < hidden; j++) sums[i * hidden + j] += p * v[i] * h[j]
    for (let j = 0; j < hidden; j++) sums[visible * hidden + j] += p * h[j]
    for (let i = 0; i < visible; i++) sums[(visible + 1) * hidden + i] += p * v[i]
  }
  return sums
}

/** How far one pair's statistics are from that, squared: (vh)² is v²h². */
export function variance(rbm: Rbm, pairs: readonly Pair[]): Float64Array {
  const mean = expectation(rbm, pairs)
  const squares = pairs.map(([p, v, h]): Pair => [p, v.map((x) => x * x), h.map((x) => x * x)])
  return expectation(rbm, squares).map((square, i) => square - mean[i] ** 2)
}

/** Of the data, the hidden units at their means. */
export function dataStatistics(rbm: Rbm, data: readonly number[][]): Float64Array {
  return expectation(
    rbm,
    data.map((v) => [1 / data.length, v, up(rbm, v)]),
  )
}

/** Of the model itself: its partition function is a sum over all states. */
export function modelStatistics(rbm: Rbm): Float64Array {
  const pairs = states(rbm.visible).flatMap((v) =>
    states(rbm.hidden).map((h): Pair => [Math.exp(-energy(rbm, v, h)), v, h]),
  )
  const z = pairs.reduce((sum, [weight]) => sum + weight, 0)
  return expectation(
    rbm,
    pairs.map(([weight, v, h]) => [weight / z, v, h]),
  )
}

/** The pairs that a chain of samples ends in: v as the model has it, the hidden units at their means. */
export function modelEnds(rbm: Rbm): Pair[] {
  const weights = states(rbm.visible).map((v) => Math.exp(-freeEnergy(rbm, v)))
  const z = weights.reduce((sum, weight) => sum + weight, 0)
  return states(rbm.visible).map((v, i) => [weights[i] / z, v, up(rbm, v)])
}

/**
 * Those of the chain that CD of probabilities runs for ever: hidden states are sampled and visible ones are
 * probabilities, so that what it comes to is not quite the model. The stationary distribution of a transition matrix
 * over all hidden states.
 */
export function chainEnds(rbm: Rbm): Pair[] {
  const all = states(rbm.hidden)
  const means = all.map((h) => up(rbm, down(rbm, h)))
  const to = means.map((mean) => all.map((h) => h.reduce((p, bit, j) => p * (bit ? mean[j] : 1 - mean[j]), 1)))
  let stationary = all.map(() => 1 / all.length)
  for (let i = 0; i < 10_000; i++) {
    stationary = all.map((_, next) => stationary.reduce((sum, p, here) => sum + p * to[here][next], 0))
  }
  return all.map((h, here) => [stationary[here], down(rbm, h), means[here]])
}
