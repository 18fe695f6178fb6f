/**
 * Engines and trainers of the backends that Node has, against the float64 oracle: values, what accrues, what moves, what
 * is left behind, and what is refused. WebGPU in Node: compute-webgpu.test.ts.
 */
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine, ModelDescription, Trainer } from '../../client/volunteer/compute/engine.ts'
import { chooseEngine, openEngine } from '../../client/volunteer/compute/engines.ts'
import { TOLERANCE } from '../../client/volunteer/compute/selftest.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel, type ModelSpec } from '../../shared/models.ts'
import { Random } from '../../shared/random.ts'
import { deviation, judge } from '../support/oracle.ts'

/** Float32 against float64, as a fraction of the gradient's largest element, on nets of the sizes below. */
const CLOSE = 1e-5

const draw = (length: number, seed: number): Float32Array => {
  const random = new Random(seed)
  return Float32Array.from({ length }, (_, i) => random.uniform(i))
}
function minibatch(model: ModelDescription, count: number, seed: number) {
  const features = model.inputShape.reduce((product, dimension) => product * dimension, 1)
  return {
    inputs: draw(count * features, seed),
    labels: Uint8Array.from(draw(count, seed + 1000), (value) => Math.floor(value * model.classes)),
    count,
  }
}
function stepWith(trainer: Trainer, batch: ReturnType<typeof minibatch>, localRate = 0): void {
  trainer.step(batch.inputs, batch.labels, batch.count, localRate)
}
const judgeBatch = (model: ModelDescription, parameters: ArrayLike<number>, b: ReturnType<typeof minibatch>) =>
  judge(model, parameters, b.inputs, b.labels, b.count)

const specs: [string, ModelSpec, number[]][] = [
  ['softmax', { template: 'softmax' }, [6, 6, 1]],
  ['mlp, relu', { template: 'mlp', hidden: [33, 17], activation: 'relu' }, [6, 6, 1]],
  ['mlp, tanh', { template: 'mlp', hidden: [33, 17], activation: 'tanh' }, [6, 6, 1]],
  ['mlp, sigmoid', { template: 'mlp', hidden: [9], activation: 'sigmoid' }, [6, 6, 1]],
  ['mlp, elu', { template: 'mlp', hidden: [9], activation: 'elu' }, [6, 6, 1]],
  ['lenet, relu', { template: 'lenet', activation: 'relu' }, [14, 13, 2]],
  ['lenet, tanh', { template: 'lenet', activation: 'tanh' }, [14, 13, 1]],
]

for (const backend of ['wasm', 'cpu'] as const) {
  describe(backend, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await openEngine(backend)
    })
    afterAll(() => engine.close())

    for (const [name, spec, inputShape] of specs) {
      it(`has the oracle's gradient, loss and hits: ${name}`, async () => {
        const model = buildModel(spec, inputShape, 10)
        const parameters = initialParameters(model.layout, 4)
        const trainer = await engine.load(model)
        for (const count of spec.template === 'lenet' ? [3] : [1, 7, 100]) {
          const batch = minibatch(model, count, 20 + count)
          const expected = judgeBatch(model, parameters, batch)
          trainer.begin(parameters)
          stepWith(trainer, batch)
          const got = await trainer.finish()
          expect(deviation(got.gradient!, expected.gradient)).toBeLessThan(CLOSE)
          expect(Math.abs(got.lossSum / expected.lossSum - 1)).toBeLessThan(CLOSE)
          expect(got.correct).toBe(expected.correct)
        }
        trainer.dispose()
      })
    }

    const model = buildModel({ template: 'mlp', hidden: [8], activation: 'tanh' }, [3, 3, 1], 4)
    const parameters = initialParameters(model.layout, 1)

    it('accrues gradients at a replica that moves', async () => {
      const trainer = await engine.load(model)
      const [first, second, third] = [1, 2, 3].map((seed) => minibatch(model, 5, seed))
      const rates = [0.5, 0, 0.25]
      trainer.begin(parameters)
      const replica = Float64Array.from(parameters)
      const sum = new Float64Array(parameters.length)
      let lossSum = 0
      for (const [i, batch] of [first, second, third].entries()) {
        stepWith(trainer, batch, rates[i])
        const expected = judgeBatch(model, replica, batch)
        lossSum += expected.lossSum
        expected.gradient.forEach((value, at) => {
          sum[at] += value
          replica[at] -= rates[i] * value
        })
      }
      await trainer.settled()
      const { gradient, lossSum: got } = await trainer.finish()
      expect(deviation(gradient!, sum)).toBeLessThan(CLOSE)
      expect(got).toBeCloseTo(lossSum, 4)
      // Also after `finish`: a lease that continues this one starts here.
      expect(deviation(await trainer.replica(), replica)).toBeLessThan(CLOSE)

      trainer.begin(await trainer.replica())
      stepWith(trainer, first)
      const again = await trainer.finish()
      const expected = judgeBatch(model, replica, first)
      expect(deviation(again.gradient!, expected.gradient)).toBeLessThan(CLOSE)
      expect(again.lossSum).toBeCloseTo(expected.lossSum, 4)
      trainer.dispose()
    })

    it('evaluates at the replica, without a gradient', async () => {
      const trainer = await engine.load(model)
      const [one, two] = [minibatch(model, 7, 5), minibatch(model, 1, 6)]
      trainer.begin(parameters)
      trainer.evaluate(one.inputs, one.labels, one.count)
      trainer.evaluate(two.inputs, two.labels, two.count)
      const result = await trainer.finish()
      const [a, b] = [one, two].map((batch) => judgeBatch(model, parameters, batch))
      expect(result.gradient).toBeNull()
      expect(result.lossSum).toBeCloseTo(a.lossSum + b.lossSum, 4)
      expect(result.correct).toBe(a.correct + b.correct)

      stepWith(trainer, one, 2)
      trainer.evaluate(two.inputs, two.labels, two.count)
      const moved = judgeBatch(
        model,
        Float64Array.from(parameters, (value, i) => value - 2 * a.gradient[i]),
        two,
      )
      const all = await trainer.finish()
      expect(all.lossSum).toBeCloseTo(2 * a.lossSum + b.lossSum + moved.lossSum, 3)
      trainer.dispose()
    })

    it('keeps no hold on the arrays it is given', async () => {
      const trainer = await engine.load(model)
      const batch = minibatch(model, 4, 8)
      const expected = judgeBatch(model, parameters, batch)
      const own = { parameters: parameters.slice(), inputs: batch.inputs.slice(), labels: batch.labels.slice() }
      trainer.begin(own.parameters)
      own.parameters.fill(9)
      trainer.step(own.inputs, own.labels, batch.count, 0)
      own.inputs.fill(9)
      own.labels.fill(0)
      const { gradient } = await trainer.finish()
      expect(deviation(gradient!, expected.gradient)).toBeLessThan(CLOSE)
      trainer.dispose()
    })

    it('has finished nothing when nothing was asked', async () => {
      const trainer = await engine.load(model)
      trainer.begin(parameters)
      await trainer.settled()
      expect(await trainer.finish()).toEqual({ gradient: null, lossSum: 0, correct: 0 })
      expect(Array.from(await trainer.replica())).toEqual(Array.from(parameters))
      trainer.dispose()
    })

    it('leaves no tensor behind, neither per step nor per trainer', async () => {
      await tf.setBackend(backend)
      const before = tf.memory().numTensors
      const lenet = buildModel({ template: 'lenet', activation: 'relu' }, [14, 14, 1], 10)
      const trainer = await engine.load(lenet)
      const batch = minibatch(lenet, 2, 3)
      const counts: number[] = []
      trainer.begin(initialParameters(lenet.layout, 2))
      for (let i = 0; i < 5; i++) {
        stepWith(trainer, batch, 0.01)
        counts.push(tf.memory().numTensors)
      }
      trainer.evaluate(batch.inputs, batch.labels, batch.count)
      await trainer.finish()
      await trainer.replica()
      trainer.begin(initialParameters(lenet.layout, 3))
      stepWith(trainer, batch, 0.01)
      counts.push(tf.memory().numTensors)
      expect(new Set(counts).size).toBe(1)
      trainer.dispose()
      expect(tf.memory().numTensors).toBe(before)
    })

    it('refuses what does not fit', async () => {
      const trainer = await engine.load(model)
      expect(() => trainer.begin(parameters.subarray(1))).toThrow(/parameters, not/)
      trainer.begin(parameters)
      const batch = minibatch(model, 4, 8)
      expect(() => trainer.step(batch.inputs, batch.labels, 5, 0)).toThrow(/5 examples has 45 inputs/)
      trainer.dispose()

      const other = buildModel({ template: 'mlp', hidden: [9], activation: 'tanh' }, [3, 3, 1], 4)
      await expect(engine.load({ ...model, layout: other.layout })).rejects.toThrow(
        /expected hidden_1\/kernel \[9,9\].* got hidden_1\/kernel \[9,8\]/,
      )
      const headless = structuredClone(model.topology)
      headless.config.layers.pop()
      await expect(engine.load({ ...model, topology: headless })).rejects.toThrow(/softmax of its own.*Dense/)
    })
  })
}

describe('WASM memory', () => {
  it('does not grow however many steps are made', async () => {
    const engine = await openEngine('wasm')
    const model = buildModel({ template: 'lenet', activation: 'relu' }, [28, 28, 1], 10)
    const trainer = await engine.load(model)
    const batch = minibatch(model, 16, 3)
    trainer.begin(initialParameters(model.layout, 2))
    await tf.setBackend('wasm')
    const heap = (tf.backend() as unknown as { wasm: { HEAPU8: Uint8Array } }).wasm
    for (let i = 0; i < 10; i++) stepWith(trainer, batch, 0.01)
    const before = heap.HEAPU8.length
    for (let i = 0; i < 100; i++) stepWith(trainer, batch, 0.01)
    expect(heap.HEAPU8.length).toBe(before)
    trainer.dispose()
    await engine.close()
  })
})

describe('choosing', () => {
  it('takes WASM where there is no graphics device, and says why not the others', async () => {
    const declined: string[] = []
    const engine = await chooseEngine(undefined, { onDeclined: (error) => declined.push(error.message) })
    expect(engine.backend).toBe('wasm')
    expect(engine.device).toBe('WASM SIMD, 1 thread')
    expect(declined).toEqual([
      expect.stringMatching(/^webgpu: .*navigator\.gpu/),
      expect.stringMatching(/^webgl: .*canvas/),
    ])
    await engine.close()
  })

  it('prefers what it is told to prefer', async () => {
    const engine = await chooseEngine('cpu')
    expect(engine.backend).toBe('cpu')
    await engine.close()
  })

  it('opens, closes and opens again, each engine for itself', async () => {
    const model = buildModel({ template: 'softmax' }, [2], 2)
    const [one, two] = [await openEngine('wasm'), await openEngine('wasm')]
    await one.close()
    await one.close()
    const trainer = await two.load(model)
    trainer.begin(Float32Array.of(1, 0, 0, 1, 0, 0))
    trainer.step(Float32Array.of(1, 2), Uint8Array.of(1), 1, 0)
    expect((await trainer.finish()).correct).toBe(1)
    await two.close()
    trainer.dispose()
    await expect(two.load(model)).rejects.toThrow('wasm: this engine is closed')
    await (await openEngine('wasm')).close()
  })

  // Last: it leaves tfjs' CPU backend broken for this process.
  it('refuses a device that computes wrong, naming it and the deviation, and goes on to the next', async () => {
    const relu = tf.getKernel('Relu', 'cpu')!
    const original = relu.kernelFunc
    tf.unregisterKernel('Relu', 'cpu')
    tf.registerKernel({
      ...relu,
      kernelFunc: (args) => {
        const out = original(args) as tf.TensorInfo
        const values = (args.backend as unknown as tf.KernelBackend).readSync(out.dataId) as Float32Array
        values.forEach((value, i) => {
          values[i] = value * 1.01
        })
        return out
      },
    })
    await expect(openEngine('cpu')).rejects.toThrow(
      /^cpu: wrong on the self-test's dense net: the gradient of \S+ deviates by \d/,
    )
    const declined: string[] = []
    const engine = await chooseEngine('cpu', { onDeclined: (error) => declined.push(error.message) })
    expect(engine.backend).toBe('wasm')
    expect(declined[0]).toContain(`allowed ${TOLERANCE}`)
    await engine.close()
  })
})
