/**
 * Engines and trainers of the backends that Node has, against the float64 oracle: values, what accrues, what moves,
 * what is left behind, and what is refused. WebGPU in Node: compute-webgpu.test.ts.
 */
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine, Minibatch, ModelDescription, Trainer } from '../../client/volunteer/compute/engine.ts'
import { chooseEngine, openEngine } from '../../client/volunteer/compute/engines.ts'
import { TOLERANCE } from '../../client/volunteer/compute/selftest.ts'
import { initialParameters } from '../../shared/layout.ts'
import { deviation, judge } from '../support/oracle.ts'
import { lenet, mlp } from '../support/oracle-cases.ts'
import { dense, drawMinibatch, modelOf, activation as softmax } from '../support/oracle-models.ts'

/** Float32 against float64, as a fraction of the gradient's largest element, on nets of the sizes below. */
const CLOSE = 1e-5

const stepWith = (trainer: Trainer, batch: Minibatch, localRate = 0): void =>
  trainer.step(batch, { localRate, weight: 1 })
const judgeBatch = (model: ModelDescription, parameters: ArrayLike<number>, b: Minibatch) =>
  judge(model, parameters, b.inputs, b.labels, b.count)

const models: [string, ModelDescription, counts: number[]][] = [
  ...['relu', 'tanh', 'sigmoid', 'elu'].map((activation): [string, ModelDescription, number[]] => [
    `mlp, ${activation}`,
    mlp([33, 17], activation, [6, 6, 1]),
    [1, 7, 100],
  ]),
  ['lenet, tanh', lenet('tanh', [14, 13, 1]), [3]],
]

for (const backend of ['wasm', 'cpu'] as const) {
  describe(backend, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await openEngine(backend)
    })
    afterAll(() => engine.close())

    for (const [name, model, counts] of models) {
      it(`has the oracle's gradient, loss and hits: ${name}`, async () => {
        const parameters = initialParameters(model.layout, 4)
        const trainer = await engine.load(model)
        for (const count of counts) {
          const batch = drawMinibatch(model, count, 20 + count)
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

    const model = mlp([8], 'tanh', [3, 3, 1], 4)
    const parameters = initialParameters(model.layout, 1)

    it('accrues gradients at a replica that moves', async () => {
      const trainer = await engine.load(model)
      const [first, second, third] = [1, 2, 3].map((seed) => drawMinibatch(model, 5, seed))
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

    it("has central differences' gradient in float32, tensor by tensor", async () => {
      const net = mlp([4], 'sigmoid', [3], 2)
      const trainer = await engine.load(net)
      const at = initialParameters(net.layout, 3)
      const batch = drawMinibatch(net, 6, 4)
      const lossAt = async (i: number, by: number): Promise<number> => {
        const moved = at.slice()
        moved[i] += by
        trainer.begin(moved)
        trainer.evaluate(batch)
        return (await trainer.finish()).lossSum / batch.count
      }
      const h = 1e-2
      const differences: number[] = []
      for (let i = 0; i < at.length; i++) differences.push(((await lossAt(i, h)) - (await lossAt(i, -h))) / (2 * h))
      trainer.begin(at)
      stepWith(trainer, batch)
      const gradient = (await trainer.finish()).gradient!
      for (const { offset, size } of net.layout.slots) {
        const expected = differences.slice(offset, offset + size)
        expect(deviation(gradient.subarray(offset, offset + size), expected)).toBeLessThan(2e-2)
      }
      trainer.dispose()
    })

    it('does not care for what is added to every logit', async () => {
      const net = mlp([], '', [3], 4)
      const trainer = await engine.load(net)
      const batch = drawMinibatch(net, 6, 4)
      const withBias = async (more: number) => {
        const at = new Float32Array(net.layout.size)
        // Eighths, so that float32 adds them exactly; no class is as likely as another.
        at.set(
          [0.125, -0.5, 0.75, 0.25].map((bias) => bias + more),
          net.layout.slots[1].offset,
        )
        trainer.begin(at)
        stepWith(trainer, batch)
        return trainer.finish()
      }
      const plain = await withBias(0)
      for (const more of [50, -50, 10_000]) {
        const { gradient, lossSum, correct } = await withBias(more)
        expect(deviation(gradient!, plain.gradient!)).toBeLessThan(1e-6)
        expect(Math.abs(lossSum / plain.lossSum - 1)).toBeLessThan(1e-6)
        expect(correct).toBe(plain.correct)
      }
      trainer.dispose()
    })

    it('compensated, sums the same whatever the minibatches are shared out in', async () => {
      const trainer = await engine.load(model)
      const batches = Array.from({ length: 12 }, (_, i) => drawMinibatch(model, 7, 50 + i))
      const shared = async (size: number, compensated: boolean) => {
        const gradient = new Float64Array(parameters.length)
        let lossSum = 0
        for (let from = 0; from < batches.length; from += size) {
          trainer.begin(parameters, { compensated })
          for (const batch of batches.slice(from, from + size))
            trainer.step(batch, { localRate: 0, weight: batch.count })
          const part = await trainer.finish()
          expect(part.gradient!.length).toBe((compensated ? 2 : 1) * parameters.length)
          part.gradient!.forEach((value, i) => {
            gradient[i % parameters.length] += value
          })
          lossSum += part.lossSum
        }
        return { gradient, lossSum }
      }
      const [whole, thirds] = [await shared(12, true), await shared(4, true)]
      expect(deviation(thirds.gradient, whole.gradient)).toBeLessThan(1e-13)
      expect(Math.abs(thirds.lossSum / whole.lossSum - 1)).toBeLessThan(1e-13)
      // As it would be without: that much is what is compensated.
      expect(deviation((await shared(12, false)).gradient, whole.gradient)).toBeGreaterThan(1e-9)
      trainer.dispose()
    })

    it('evaluates at the replica, without a gradient', async () => {
      const trainer = await engine.load(model)
      const [one, two] = [drawMinibatch(model, 7, 5), drawMinibatch(model, 1, 6)]
      trainer.begin(parameters)
      trainer.evaluate(one)
      trainer.evaluate(two)
      const result = await trainer.finish()
      const [a, b] = [one, two].map((batch) => judgeBatch(model, parameters, batch))
      expect(result.gradient).toBeNull()
      const outcomes = result.outcomes!
      const losses = new DataView(outcomes.buffer, outcomes.byteOffset + 8)
      expect(outcomes.length).toBe(8 * 5)
      ;[...a.outcomes, ...b.outcomes].forEach(({ taken, loss }, i) => {
        expect(outcomes[i]).toBe(taken)
        expect(losses.getFloat32(4 * i, true)).toBeCloseTo(loss, 5)
      })
      expect(result.lossSum).toBeCloseTo(a.lossSum + b.lossSum, 4)
      expect(result.correct).toBe(a.correct + b.correct)

      stepWith(trainer, one, 2)
      trainer.evaluate(two)
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
      const batch = drawMinibatch(model, 4, 8)
      const expected = judgeBatch(model, parameters, batch)
      const own = { ...batch, inputs: batch.inputs.slice(), labels: batch.labels.slice() }
      const ownParameters = parameters.slice()
      trainer.begin(ownParameters)
      ownParameters.fill(9)
      stepWith(trainer, own)
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
      expect(await trainer.finish()).toEqual({ gradient: null, lossSum: 0, correct: 0, measureSum: 0, outcomes: null })
      expect(Array.from(await trainer.replica())).toEqual(Array.from(parameters))
      trainer.dispose()
    })

    it('leaves no tensor behind, neither per step nor per trainer', async () => {
      await tf.setBackend(backend)
      const before = tf.memory().numTensors
      const net = lenet('relu', [14, 14, 1])
      const trainer = await engine.load(net)
      const batch = drawMinibatch(net, 2, 3)
      const counts: number[] = []
      trainer.begin(initialParameters(net.layout, 2))
      for (let i = 0; i < 5; i++) {
        stepWith(trainer, batch, 0.01)
        counts.push(tf.memory().numTensors)
      }
      trainer.evaluate(batch)
      await trainer.finish()
      await trainer.replica()
      trainer.begin(initialParameters(net.layout, 3))
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
      const batch = drawMinibatch(model, 4, 8)
      expect(() => stepWith(trainer, { ...batch, count: 5 })).toThrow(/5 examples has 45 inputs/)
      trainer.dispose()

      const other = mlp([9], 'tanh', [3, 3, 1], 4)
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
    const model = lenet('relu', [28, 28, 1])
    const trainer = await engine.load(model)
    const batch = drawMinibatch(model, 16, 3)
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
    const model = modelOf([dense('output', 2), softmax('softmax')], [2])
    const [one, two] = [await openEngine('wasm'), await openEngine('wasm')]
    await one.close()
    await one.close()
    const trainer = await two.load(model)
    trainer.begin(Float32Array.of(1, 0, 0, 1, 0, 0))
    stepWith(trainer, { inputs: Float32Array.of(1, 2), labels: Uint8Array.of(1), keys: new Uint32Array(2), count: 1 })
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
