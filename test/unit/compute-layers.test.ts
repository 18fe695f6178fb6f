/**
 * What networks are made of, layer by layer and objective by objective: gradients, losses and measures of the backends
 * that Node has against the float64 oracle. WebGPU in Node: compute-webgpu.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../client/volunteer/compute/engine.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { initialParameters } from '../../shared/layout.ts'
import { deviation } from '../support/oracle.ts'
import { cases, RECONSTRUCT } from '../support/oracle-cases.ts'
import { compare } from '../support/oracle-lease.ts'
import { activation, conv2d, dense, drawMinibatch, dropout, flatten, modelOf } from '../support/oracle-models.ts'

/** Float32 against float64, as a fraction of the gradient's largest element. */
const CLOSE = 1e-5

for (const backend of ['wasm', 'cpu'] as const) {
  describe(backend, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await openEngine(backend)
    })
    afterAll(() => engine.close())

    for (const { name, model } of cases) {
      it(`has the oracle's gradients, losses and measures: ${name}`, async () => {
        const { correct, ...differences } = await compare(
          engine,
          model,
          initialParameters(model.layout, 4),
          4,
          [5, 8, 3],
        )
        for (const difference of Object.values(differences)) expect(difference).toBeLessThan(CLOSE)
        expect(correct).toBe(0)
      })
    }

    it('drops by the keys alone: in whichever minibatch, and else with another key', async () => {
      const layers = [dropout('drop_1', 0.3), dense('a', 9, 'tanh'), dropout('drop_2', 0.5), dense('b', 3)]
      const model = modelOf([...layers, activation('softmax')], [8])
      const trainer = await engine.load(model)
      const parameters = initialParameters(model.layout, 2)
      const { inputs, labels, keys } = drawMinibatch(model, 2, 3)
      const gradient = async (keys: Uint32Array, ...examples: number[]) => {
        trainer.begin(parameters)
        for (const at of examples) {
          const one = { inputs: inputs.subarray(8 * at, 8 * at + 8), labels: labels.subarray(at, at + 1), count: 1 }
          trainer.step({ ...one, keys: keys.subarray(2 * at, 2 * at + 2) }, { localRate: 0, weight: 1 })
        }
        return (await trainer.finish()).gradient!.slice()
      }
      trainer.begin(parameters)
      trainer.step({ inputs, labels, keys, count: 2 }, { localRate: 0, weight: 2 })
      const both = (await trainer.finish()).gradient!.slice()
      expect(deviation(await gradient(keys, 0, 1), both)).toBeLessThan(CLOSE)
      expect(await gradient(keys, 0)).toEqual(await gradient(keys, 0))
      expect(deviation(await gradient(keys.toReversed(), 0), await gradient(keys, 0))).toBeGreaterThan(0.01)
      trainer.dispose()
    })

    it('moves neither fixed parameters nor what is not connected', async () => {
      const connections = [[0], [1], [0, 1]]
      const layers = [conv2d('a', 2, 2, 'tanh', { trainable: false }), conv2d('b', 3, 2, 'tanh', { connections })]
      const model = modelOf([...layers, flatten(), dense('c', 3), activation('softmax')], [5, 5, 1])
      const trainer = await engine.load(model)
      const { slots } = model.layout
      expect(slots.map(({ name }) => name)).toEqual(['b/kernel', 'b/bias', 'c/kernel', 'c/bias'])
      trainer.begin(initialParameters(model.layout, 3))
      trainer.step(drawMinibatch(model, 4, 5), { localRate: 1, weight: 1 })
      const replica = await trainer.replica()
      const { gradient } = await trainer.finish()
      const zeros = { gradient: 0, replica: 0 }
      for (let i = 0; i < slots[0].size; i++) {
        const [input, output] = [Math.floor(i / 3) % 2, i % 3]
        const connected = connections[output].includes(input)
        expect(gradient![i] !== 0).toBe(connected)
        if (!connected) zeros.gradient++
      }
      expect(zeros.gradient).toBe(4 * 2)
      expect(replica.length).toBe(model.layout.size)
      trainer.dispose()
    })

    it('refuses a network that cannot be what is asked', async () => {
      const refusal = (model: ReturnType<typeof modelOf>) => expect(engine.load(model)).rejects
      const end = [dense('b', 3), activation('softmax')]
      const seen = modelOf([conv2d('a', 2, 2), flatten(), ...end], [5, 5, 1])
      const tabled = (connections: unknown) => {
        const changed = structuredClone(seen)
        changed.topology.config.layers[0].config.connections = connections
        return changed
      }
      await refusal(tabled([[0]])).toThrow(/a\/kernel: 1 rows of connections for 2 output maps/)
      await refusal(tabled([[0], [1]])).toThrow(/a\/kernel: output map 1 cannot see input map 1 of 1/)
      const noisy = modelOf([{ class_name: 'GaussianDropout', config: { name: 'noise', rate: 0.1 } }, ...end], [4])
      await refusal(noisy).toThrow(/noise \(GaussianDropout\) draws random numbers of its own/)
      const fixed = modelOf([dense('a', 5, 'relu', { trainable: false }), ...end], [4])
      await refusal({ ...fixed, fixed: null }).toThrow(
        /fixed weights are not the layout's: expected nothing; got a\/kernel/,
      )
      const narrow = modelOf([dense('a', 3), activation('sigmoid')], [4], RECONSTRUCT)
      await refusal(narrow).toThrow(/as many outputs as inputs \(4\); this one has 3/)
      await refusal({ ...narrow, ...RECONSTRUCT, topology: seen.topology, layout: seen.layout }).toThrow(
        /an autoencoder must end in an Activation layer sigmoid of its own; this one ends in Activation softmax/,
      )
    })
  })
}
