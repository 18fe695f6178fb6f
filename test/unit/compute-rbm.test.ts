/**
 * Contrastive divergence: what holds of it whoever computes it, and the oracle against what can be enumerated of a
 * small machine. That trainers agree with the oracle, fed the same draws: compute-layers.test.ts.
 */
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine, Minibatch } from '../../client/volunteer/compute/engine.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { Random } from '../../shared/random.ts'
import { deviation } from '../support/oracle.ts'
import { type Contrastive, rbm } from '../support/oracle-cases.ts'
import { dense, drawMinibatch, flatten, modelOf } from '../support/oracle-models.ts'
import * as oracle from '../support/oracle-rbm.ts'

/** Float32 against float64, as a fraction of the largest element. */
const CLOSE = 1e-5

const objectiveOf = (change: Partial<Contrastive> = {}): Contrastive => ({
  ...{ kind: 'contrastive', steps: 1, persistent: false, visible: 'probabilities', hidden: 'sigmoid', labels: 0 },
  ...change,
})
const normals = (count: number, seed: number, scale: number): Float32Array => {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, (_, i) => scale * random.normal(i))
}
for (const backend of ['wasm', 'cpu'] as const) {
  describe(backend, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await openEngine(backend)
    })
    afterAll(() => engine.close())

    it('[L9] comes to the same whoever computes which half', async () => {
      const model = rbm(9, objectiveOf({ steps: 2 }))
      const trainer = await engine.load(model)
      const parameters = normals(model.layout.size, 7, 0.4)
      const whole = drawMinibatch(model, 8, 50)
      const part = (from: number, count: number): Minibatch => ({
        inputs: whole.inputs.subarray(12 * from, 12 * (from + count)),
        labels: whole.labels.subarray(from, from + count),
        keys: whole.keys.subarray(2 * from, 2 * (from + count)),
        count,
      })
      const lease = async (...parts: Minibatch[]) => {
        trainer.begin(parameters)
        for (const batch of parts) trainer.step(batch, { localRate: 0, weight: batch.count })
        const { gradient, ...sums } = await trainer.finish()
        return { gradient: gradient!.slice(), ...sums }
      }
      const all = await lease(whole)
      const [first, second] = [await lease(part(0, 3)), await lease(part(3, 5))]
      const sum = first.gradient.map((slope, i) => slope + second.gradient[i])
      expect(deviation(sum, all.gradient)).toBeLessThan(CLOSE)
      expect(first.lossSum + second.lossSum).toBeCloseTo(all.lossSum, 4)
      expect(first.measureSum + second.measureSum).toBeCloseTo(all.measureSum, 4)
      expect(deviation((await lease(part(0, 3), part(3, 5))).gradient, all.gradient)).toBeLessThan(CLOSE)
      trainer.dispose()
    })

    it('with weights of zero has hidden units at σ(b) and visible ones at σ(a)', async () => {
      const model = rbm(3, objectiveOf({ steps: 4 }))
      const trainer = await engine.load(model)
      const parameters = new Float32Array(model.layout.size)
      const [b, a] = [normals(3, 8, 1), normals(12, 9, 1)]
      parameters.set(b, 36)
      parameters.set(a, 39)
      const batch = drawMinibatch(model, 2, 60)
      trainer.begin(parameters)
      trainer.step(batch, { localRate: 0, weight: 1 })
      const { gradient } = await trainer.finish()
      const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
      for (let i = 0; i < 12; i++) {
        const fall = sigmoid(a[i]) - (batch.inputs[i] + batch.inputs[12 + i]) / 2
        expect(gradient![39 + i]).toBeCloseTo(fall, 6)
        for (let j = 0; j < 3; j++) expect(gradient![3 * i + j]).toBeCloseTo(fall * sigmoid(b[j]), 6)
      }
      for (let j = 0; j < 3; j++) expect(gradient![36 + j]).toBeCloseTo(0, 6)
      trainer.dispose()
    })

    it('samples hidden units with p(h | v) and visible ones with p(v | h), within three standard errors', async () => {
      const units = 4
      const chains = 20_000
      const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
      const model = (visible: Contrastive['visible']) =>
        modelOf([dense('rbm', units, 'sigmoid')], [units], { objective: objectiveOf({ visible }) })
      // Unit i sees unit i alone: the mean of v₁ᵢ tells how often hᵢ was on.
      const [w, b, a] = [[1.5, -2, 0.7, 3], normals(units, 8, 1), normals(units, 9, 1)]
      const parameters = new Float32Array(units * units + 2 * units)
      w.forEach((weight, i) => {
        parameters[i * units + i] = weight
      })
      parameters.set(b, units * units)
      parameters.set(a, units * units + units)
      const v0 = [1, 0, 1, 1]
      const keys = drawMinibatch({ inputShape: [1], classes: 1 }, chains, 90).keys
      const inputs = Float32Array.from({ length: chains * units }, (_, i) => v0[i % units])
      for (const visible of ['probabilities', 'samples'] as const) {
        const trainer = await engine.load(model(visible))
        trainer.begin(parameters)
        trainer.step({ inputs, labels: new Uint8Array(chains), keys, count: chains }, { localRate: 0, weight: 1 })
        const { gradient } = await trainer.finish()
        for (let i = 0; i < units; i++) {
          const mean = gradient![units * units + units + i] + v0[i]
          const on = sigmoid(b[i] + v0[i] * w[i])
          const [off, driven] = [sigmoid(a[i]), sigmoid(a[i] + w[i])]
          const expected = (1 - on) * off + on * driven
          const variance = visible === 'samples' ? expected * (1 - expected) : on * (1 - on) * (driven - off) ** 2
          expect(Math.abs(mean - expected)).toBeLessThan(3 * Math.sqrt(variance / chains) + 1e-5)
        }
        trainer.dispose()
      }
    })

    it('leaves no tensor behind', async () => {
      await tf.setBackend(backend)
      const before = tf.memory().numTensors
      const model = rbm(9, objectiveOf({ persistent: true, steps: 2 }), true)
      const trainer = await engine.load(model)
      const batch = drawMinibatch(model, 4, 70)
      const counts: number[] = []
      for (let lease = 0; lease < 3; lease++) {
        trainer.begin(normals(model.layout.size, 1, 0.1))
        for (let i = 0; i < 3; i++) {
          trainer.step(batch, { localRate: 0.1, weight: 1 })
          counts.push(tf.memory().numTensors)
        }
        trainer.evaluate(batch)
        await trainer.finish()
      }
      expect(new Set(counts).size).toBe(1)
      trainer.dispose()
      expect(tf.memory().numTensors).toBe(before)
    })

    it('refuses what is no RBM', async () => {
      const model = rbm(9, objectiveOf())
      const { slots } = model.layout
      await expect(engine.load({ ...model, layout: { ...model.layout, slots: slots.slice(0, 2) } })).rejects.toThrow(
        /an RBM's layout is rbm\/kernel 12,9; rbm\/bias 9; rbm\/visible_bias 12; got rbm\/kernel/,
      )
      const topology = structuredClone(model.topology)
      topology.config.layers.reverse()
      await expect(engine.load({ ...model, topology })).rejects.toThrow(/Dense, with a kernel.* ends in Flatten/)
      const wider = modelOf([flatten(), dense('rbm', 9)], [5, 3, 1], { objective: objectiveOf() })
      await expect(engine.load({ ...model, topology: wider.topology, inputShape: [5, 3, 1] })).rejects.toThrow(
        /rbm has 12 visible units; what it sees has 15/,
      )
    })
  })
}

describe('a machine small enough to enumerate', () => {
  const [visible, hidden] = [6, 4]
  const modelWith = (units: Contrastive['visible']) => {
    const objective = objectiveOf({ steps: 500, visible: units })
    return modelOf([dense('rbm', hidden, 'sigmoid')], [visible], { objective })
  }
  const model = modelWith('probabilities')
  const parameters = normals(model.layout.size, 3, 0.7)
  const machine = oracle.rbmOf(parameters, visible, hidden)
  const data = [0b101100, 0b111000, 0b000111, 0b010101, 0b101101].map((bits) => oracle.states(visible)[bits])

  it('has the gradient of the log-likelihood that finite differences have', () => {
    const exact = oracle.dataStatistics(machine, data)
    const model = oracle.modelStatistics(machine)
    const h = 1e-5
    const flat = Float64Array.from(parameters)
    const likelihood = () => oracle.meanLogLikelihood(oracle.rbmOf(flat, visible, hidden), data)
    const differences = flat.map((value, i) => {
      flat[i] = value + h
      const above = likelihood()
      flat[i] = value - h
      const below = likelihood()
      flat[i] = value
      return (above - below) / (2 * h)
    })
    const gradient = exact.map((value, i) => value - model[i])
    expect(deviation(gradient, differences)).toBeLessThan(1e-6)
  })

  it('has the free energy −log Σ exp(−E)', async () => {
    const engine = await openEngine('wasm')
    const trainer = await engine.load(model)
    for (const v of oracle.states(visible)) {
      const sum = oracle.states(hidden).reduce((sum, h) => sum + Math.exp(-oracle.energy(machine, v, h)), 0)
      expect(oracle.freeEnergy(machine, v)).toBeCloseTo(-Math.log(sum), 12)
      trainer.begin(parameters)
      trainer.evaluate({ inputs: Float32Array.from(v), labels: new Uint8Array(1), keys: new Uint32Array(2), count: 1 })
      expect((await trainer.finish()).measureSum).toBeCloseTo(-Math.log(sum), 5)
    }
    await engine.close()
  })

  it('that sees labels tells p(class | features) exactly, by free energies', async () => {
    const labels = 3
    const features = visible - labels
    const seeing = modelOf([dense('rbm', hidden, 'sigmoid')], [features], { objective: objectiveOf({ labels }) })
    const joint = oracle.rbmOf(parameters, visible, hidden, false, labels)
    const engine = await openEngine('wasm')
    const trainer = await engine.load(seeing)
    for (const v of oracle.states(features)) {
      const weights = [0b001, 0b010, 0b100].map((label) => {
        const seen = [...v, ...oracle.states(labels)[label]]
        return oracle.states(hidden).reduce((sum, h) => sum + Math.exp(-oracle.energy(joint, seen, h)), 0)
      })
      const likely = weights.indexOf(Math.max(...weights))
      for (const label of [0, 1, 2]) {
        const minibatch = {
          inputs: Float32Array.from(v),
          labels: Uint8Array.of(label),
          keys: new Uint32Array(2),
          count: 1,
        }
        trainer.begin(parameters)
        trainer.evaluate(minibatch)
        const { correct, outcomes } = await trainer.finish()
        expect([correct, outcomes![0]]).toEqual([likely === label ? 1 : 0, likely])
        const probability = weights[label] / weights.reduce((sum, weight) => sum + weight, 0)
        expect(new DataView(outcomes!.buffer).getFloat32(1, true)).toBeCloseTo(-Math.log(probability), 5)
      }
    }
    await engine.close()
  })

  const count = 4000
  /**
   * How many standard errors of so many chains the farthest statistic is away, where each ends in one of these pairs.
   */
  const standardErrors = (
    got: Float64Array,
    expected: Float64Array,
    ends: ReturnType<typeof oracle.modelEnds>,
    chains = count,
  ) => {
    const variance = oracle.variance(machine, ends)
    return Math.max(...expected.map((mean, i) => Math.abs(got[i] - mean) / Math.sqrt(variance[i] / chains)))
  }
  /** Of the chains' ends, `count` a minibatch: the minibatches' mean gradient without the data's share. */
  async function endsOf(units: Contrastive['visible'], minibatches = 1): Promise<Float64Array> {
    const engine = await openEngine('wasm')
    const trainer = await engine.load(modelWith(units))
    const inputs = Float32Array.from(Array.from({ length: count }, (_, i) => data[i % data.length]).flat())
    trainer.begin(parameters)
    for (let i = 0; i < minibatches; i++) {
      const { keys } = drawMinibatch({ inputShape: [1], classes: 1 }, count, 80 + i)
      const minibatch = { inputs, labels: new Uint8Array(count), keys, count }
      trainer.step(minibatch, { localRate: 0, weight: 1 / minibatches })
    }
    const { gradient } = await trainer.finish()
    const ends = oracle.dataStatistics(machine, data).map((seen, i) => gradient![i] + seen)
    await engine.close()
    return ends
  }

  // Hidden states are sampled, visible ones stay probabilities, as rbm.m has it: CD-k tends to that chain's own
  // stationary distribution, which is near the model's and not the same.
  it('has after 500 steps of 4000 chains what its chain comes to, within three standard errors', async () => {
    const ends = oracle.chainEnds(machine)
    const [chain, exact] = [oracle.expectation(machine, ends), oracle.modelStatistics(machine)]
    expect(standardErrors(await endsOf('probabilities'), chain, ends)).toBeLessThan(3)
    const far = exact.map((p, i) => Math.abs(p - chain[i]))
    expect(Math.max(...far)).toBeLessThan(0.1)
    // As many chains as tell the two apart: what holds of samples does not hold of probabilities.
    expect(standardErrors(chain, exact, oracle.modelEnds(machine))).toBeGreaterThan(5)
  })

  it('with visible units sampled, after 500 steps of 1e5 chains, has the exact statistics of the model', async () => {
    const exact = oracle.modelStatistics(machine)
    const ends = await endsOf('samples', 1e5 / count)
    expect(standardErrors(ends, exact, oracle.modelEnds(machine), 1e5)).toBeLessThan(3)
  }, 180_000)
})
