/**
 * A compute engine small enough to check by eye: softmax regression (one kernel, one bias) in plain float64 loops. It
 * lets the volunteer be tested without a compute backend, against values that a test can work out.
 */
import type { Engine, Minibatch, ModelDescription, Trainer } from '../../client/volunteer/compute/engine.ts'
import { elementsOf } from '../../shared/shape.ts'

export class SoftmaxEngine implements Engine {
  readonly backend = 'cpu'
  readonly device = 'plain loops'
  closed = false
  /** Called at each step; a test's clock may move on here. */
  private readonly onStep: () => void
  /** What has to happen before the device is done. */
  private readonly settled: () => Promise<void>

  constructor(onStep: () => void = () => {}, settled: () => Promise<void> = async () => {}) {
    this.onStep = onStep
    this.settled = settled
  }

  async load(model: ModelDescription): Promise<Trainer> {
    return { ...softmaxTrainer(model, this.onStep), settled: this.settled }
  }

  async close(): Promise<void> {
    this.closed = true
  }
}

export function softmaxTrainer(
  { layout, inputShape, classes }: ModelDescription,
  onStep: () => void = () => {},
): Trainer {
  const features = elementsOf(inputShape)
  let replica = new Float64Array(layout.size)
  let accrued = new Float64Array(layout.size)
  let steps = 0
  let lossSum = 0
  let correct = 0
  let taken: number[] = []
  let losses: number[] = []

  /** Adds to loss and hits, and returns the gradient of the mean loss. */
  function observe({ inputs, labels, count }: Minibatch): Float64Array {
    const gradient = new Float64Array(layout.size)
    for (let i = 0; i < count; i++) {
      const logits = Array.from({ length: classes }, (_, c) => {
        let sum = replica[features * classes + c]
        for (let f = 0; f < features; f++) sum += inputs[i * features + f] * replica[f * classes + c]
        return sum
      })
      const top = Math.max(...logits)
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0)
      const loss = Math.log(total) - (logits[labels[i]] - top)
      losses.push(loss)
      taken.push(logits.indexOf(top))
      lossSum += loss
      if (logits.indexOf(top) === labels[i]) correct++
      for (let c = 0; c < classes; c++) {
        const slope = (Math.exp(logits[c] - top) / total - (c === labels[i] ? 1 : 0)) / count
        for (let f = 0; f < features; f++) gradient[f * classes + c] += slope * inputs[i * features + f]
        gradient[features * classes + c] += slope
      }
    }
    return gradient
  }

  function outcomes(): Uint8Array {
    const bytes = new Uint8Array(5 * taken.length)
    bytes.set(taken)
    const view = new DataView(bytes.buffer)
    losses.forEach((loss, i) => {
      view.setFloat32(taken.length + 4 * i, loss, true)
    })
    return bytes
  }

  return {
    begin(parameters) {
      replica = Float64Array.from(parameters)
      accrued = new Float64Array(layout.size)
      steps = 0
      lossSum = 0
      correct = 0
      taken = []
      losses = []
    },
    step(minibatch, { localRate, weight }) {
      onStep()
      steps++
      observe(minibatch).forEach((slope, i) => {
        accrued[i] += weight * slope
        replica[i] -= localRate * slope
      })
    },
    evaluate(minibatch) {
      onStep()
      observe(minibatch)
    },
    settled: async () => {},
    async finish() {
      const gradient = steps > 0 ? Float32Array.from(accrued) : null
      return { gradient, lossSum, correct, measureSum: 0, outcomes: gradient ? null : outcomes() }
    },
    replica: async () => Float32Array.from(replica),
    dispose() {},
  }
}
